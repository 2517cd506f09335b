"""Models whose channels were permuted, proved tensor by tensor by hints that are not believed."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.permuting import permuted
from support.proving import proof_of

from normswap.proof.reordered import Reordered
from normswap.proof.result import Standing

LINEAR = {"Conv", "BatchNormalization"}


@pytest.fixture(scope="module")
def pair():
    """A trunk of four blocks, which is one region without hints."""
    b = Builder(seed=2)
    x = b.conv(b.input("N", 3, 5, 5), 3, 8, pads=[1] * 4)
    for _ in range(4):
        y = b.node("Relu", b.bn(b.conv(x, 8, 6, kernel=(1, 1)), 6))
        x = b.node("Add", x, b.bn(b.conv(y, 6, 8, kernel=(1, 1)), 8))
    model = b.output(b.conv(x, 8, 2, kernel=(1, 1))).model()
    return model, *permuted(model)


def test_each_tensor_is_a_cut_point(pair, tmp_path):
    proof = proof_of(*pair[:2], tmp_path, orders=pair[2])
    assert proof.is_whole
    linear = {n.output[0] for n in pair[0].graph.node if n.op_type in LINEAR}
    others = {order.tensor for order in pair[2]} - linear  # whose weights are in order again
    assert others == {region.tensor for region in proof.regions}
    assert max(len(region.before) for region in proof.regions) == 1
    plain = proof_of(*pair[:2], tmp_path)
    assert max((len(region.before) for region in plain.regions), default=99) > 10


@pytest.mark.parametrize("exchange", [0, 5])
def test_a_weight_in_another_order_is_told(pair, tmp_path, exchange):
    model, result, orders = pair
    wrong = onnx.ModelProto.FromString(result.SerializeToString())
    weights = [t for t in wrong.graph.initializer if len(t.dims) == 4 and t.dims[1] > 1]
    values = onnx.numpy_helper.to_array(weights[exchange]).copy()
    values[:, [0, 1]] = values[:, [1, 0]]
    weights[exchange].CopyFrom(onnx.numpy_helper.from_array(values, weights[exchange].name))
    proof = proof_of(model, wrong, tmp_path, orders=orders)
    assert not proof.is_whole
    assert [output.standing for output in proof.outputs] == [Standing.APART]


def test_a_wrong_hint_proves_nothing_wrong(pair, tmp_path):
    """Another order of one tensor: whatever is said of it, the models are the same or open."""
    model, result, orders = pair
    for number in range(0, len(orders), 3):
        other = replace(orders[number], places=np.roll(orders[number].places, 1))
        given = [*orders[:number], other, *orders[number + 1 :]]
        proof = proof_of(model, result, tmp_path, orders=given)
        assert other.tensor not in {region.tensor for region in proof.regions}


@pytest.mark.parametrize("places", [[0, 1, 2, 3], [0, 0, 1, 2, 3, 4, 5, 6], [*range(1, 9)]])
def test_an_order_is_one_of_all_channels(pair, tmp_path, places):
    model, result, orders = pair
    first = next(order for order in orders if len(order.places) == 8)
    hint = Reordered("", first.tensor, 1, np.array(places))
    proof = proof_of(model, result, tmp_path, orders=[hint])
    assert not proof.outputs
    assert f"the new channel order of {first.tensor} " in proof.reason


def kinds():
    """Operators whose parameters are put in order, and some that look like them."""
    b = Builder(seed=5)
    x = b.node("Relu", b.bn(b.conv(b.input("N", 3, 6, 6), 3, 6), 6))
    x = b.node("Relu", b.conv(x, 6, 12, group=6, kernel=(1, 1)))  # two of each
    x = b.node("Relu", b.conv(b.bn(x, 12), 12, 8, group=2, kernel=(1, 1)))
    x = b.node("ConvTranspose", b.bn(x, 8), b.normal(8, 5, 2, 2), b.normal(5))
    x = b.node("Relu", b.bn(x, 5))
    x = b.node("Gemm", b.node("Flatten", x), b.normal(6, 125), b.normal(1, 6), transB=1)
    x = b.node("Gemm", b.node("Relu", b.bn(x, 6)), b.normal(6, 7), b.normal(1), alpha=2.0)
    x = b.node("MatMul", b.node("Relu", b.bn(x, 7)), b.normal(7, 3))
    return b.output(x).model()


def test_parameters_of_every_kind(tmp_path):
    model = kinds()
    result, orders = permuted(model)
    proof = proof_of(model, result, tmp_path, orders=orders)
    assert proof.is_whole
    assert max(len(region.before) for region in proof.regions) == 1
    found = [n for n, t in enumerate(result.graph.initializer) if "_permuted" in t.name]
    weights = [n for n in found if len(result.graph.initializer[n].dims) > 1]
    assert len(weights) == 8
    for number in (*weights, found[-1]):
        wrong = onnx.ModelProto.FromString(result.SerializeToString())
        tensor = wrong.graph.initializer[number]
        values = onnx.numpy_helper.to_array(tensor)
        rolled = np.roll(values, 1, int(np.argmax(values.shape)))
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(rolled), tensor.name))
        assert not proof_of(model, wrong, tmp_path, orders=orders).is_whole, tensor.name
