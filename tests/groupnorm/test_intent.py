"""The network that a swap should come to: group normalization as it is defined, wherever it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.proving import proof_of
from support.swapping import distance, run_ort, swap_options
from support.swapping import swap_model as swap_of

from normswap.errors import ModelError
from normswap.groupnorm.intent import Intent, batchnorm_places, intents_of, write_out
from normswap.groupnorm.options import FittedAffine
from normswap.groupnorm.planner import plan_swap
from normswap.groupnorm.reference import group_normalization
from normswap.model import load

SHAPES = [(3, 8), (2, 8, 5), (2, 8, 5, 4), (2, 8, 3, 2, 2)]


def one_batchnorm(shape, *, opset=17, dtype="float32", dims=None, ir_version=None, epsilon=1e-3):
    b = Builder(opset, dtype)
    stats = b.statistics(shape[1])
    dims = shape if dims is None else dims
    y = b.bn(b.input(*dims), shape[1], stats=stats, out="y", name="bn", epsilon=epsilon)
    b.output(y, dims)
    model = b.model() if ir_version is None else b.model(ir_version=ir_version)
    return model, [np.asarray(v).astype(b.np_dtype) for v in stats]


def written_out(model, intents, weights=None):
    made = onnx.ModelProto.FromString(model.SerializeToString())
    write_out(made, intents, weights)
    onnx.checker.check_model(made, full_check=True)
    return made


def read_as(model, groups=2, **fields):
    """Return what a swap by some options should come to."""
    loaded = load(model.SerializeToString())
    plan = plan_swap(loaded, swap_options(groups, **fields))
    intents = intents_of(plan, plan, batchnorm_places(loaded))
    return written_out(model, intents)


def data(shape, dtype=np.float32, seed=1):
    return (np.random.default_rng(seed).normal(size=shape) * 2 + 3).astype(dtype)


@pytest.mark.parametrize("opset", [7, 9, 13, 17, 18, 22])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"rank{len(s)}")
def test_it_is_group_normalization(shape, opset):
    x = data(shape)
    for groups in (1, 2, 8 if len(shape) > 2 else 4):
        model, stats = one_batchnorm(shape, opset=opset, ir_version=3 if opset == 7 else None)
        made = read_as(model, groups)
        assert not any(node.op_type == "BatchNormalization" for node in made.graph.node)
        wanted = group_normalization(
            x, stats[0], stats[1], num_groups=groups, epsilon=np.float32(1e-3)
        )
        (y,) = run_ort(made, x=x)
        assert (y == wanted.astype(np.float32)).all()


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_are_rounded_once(dtype):
    model, stats = one_batchnorm((2, 8, 5, 4), dtype=dtype)
    x = data((2, 8, 5, 4), dtype)
    wanted = group_normalization(x, stats[0], stats[1], num_groups=2, epsilon=np.float32(1e-3))
    (y,) = run_ort(read_as(model), x=x)
    assert y.dtype == x.dtype
    assert distance(y, wanted.astype(dtype)) <= (0 if dtype == "float16" else 1e-14)


def test_an_unknown_rank():
    b = Builder(17)
    x = b.node("Reshape", b.input("size"), b.input("rank", name="shape", elem_type=7))
    stats = b.statistics(8)
    y = b.bn(x, 8, stats=stats, epsilon=1e-3)
    b.output(b.node("Reshape", y, b.const(np.array([-1])), out="y"), ["size"])
    made = read_as(b.model())
    for shape in ((2, 8, 5), (2, 8, 3, 4)):
        x = data(shape)
        (y,) = run_ort(made, x=x.ravel(), shape=np.array(shape))
        typed = [np.asarray(v, np.float32) for v in stats]
        wanted = group_normalization(x, *typed[:2], num_groups=2, epsilon=np.float32(1e-3))
        assert distance(y.reshape(shape), wanted) < 1e-6


@pytest.mark.parametrize("kept", [(True, False), (False, True), (False, False)])
def test_what_is_dropped(kept):
    model, stats = one_batchnorm((2, 8, 5, 4))
    made = read_as(model, keep_scale=kept[0], keep_bias=kept[1])
    x = data((2, 8, 5, 4))
    scale, bias = (value if keep else None for value, keep in zip(stats[:2], kept, strict=True))
    wanted = group_normalization(x, scale, bias, num_groups=2, epsilon=np.float32(1e-3))
    assert distance(run_ort(made, x=x)[0], wanted) < 1e-6


def test_what_was_fitted_is_given_in_numbers():
    model, _ = one_batchnorm((2, 8, 5, 4))
    scale, bias = np.random.default_rng(3).normal(size=(2, 8))
    fitted = {("", "y"): FittedAffine(scale, bias, 4)}
    x = data((2, 8, 5, 4))
    wanted = group_normalization(
        x,
        scale.astype(np.float32),
        bias.astype(np.float32),
        num_groups=4,
        epsilon=np.float32(1e-3),
    )
    assert distance(run_ort(read_as(model, affines=fitted), x=x)[0], wanted) < 1e-6


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("opset", [9, 15, 18])
def test_statistics_that_still_come_first(opset, normalized):
    model, stats = one_batchnorm((2, 8, 5, 4), opset=opset)
    intent = Intent(0, "y", "FLOAT", 4, 8, 2, 1e-3, normalized=normalized)
    made = written_out(model, [intent])
    x = data((2, 8, 5, 4))
    z = x
    if normalized:
        assert sum(node.op_type == "BatchNormalization" for node in made.graph.node) == 1
        mean, var = (v.astype(np.float64).reshape(-1, 1, 1) for v in stats[2:])
        z = (x - mean) / np.sqrt(var + np.float32(1e-3))
    wanted = group_normalization(z, *stats[:2], num_groups=2, epsilon=np.float32(1e-3))
    assert distance(run_ort(made, x=x)[0], wanted) < 1e-5


def test_statistics_that_went_into_the_operator_before(tmp_path):
    """As a swap writes it that leaves the network as near to the original as it can."""
    b = Builder(17)
    x = b.conv(b.input("N", 3, 6, 6), 3, 8, out="c")
    b.output(b.bn(x, 8, out="y", name="bn", epsilon=1e-3, positive=True))
    model = b.model()
    original = written_out(model, [Intent(0, "y", "FLOAT", 4, 8, 2, 1e-3, normalized=True)])
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    conv, norm = model.graph.node
    mean, var = (stored[name].astype(np.float64) for name in norm.input[3:])
    s = 1 / np.sqrt(var + np.float32(1e-3))
    _, weight, bias = conv.input
    values = {
        weight: stored[weight] * s.reshape(-1, 1, 1, 1),
        bias: (stored[bias] - mean) * s,
    }
    folded = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in folded.graph.initializer:
        if tensor.name in values:
            value = values[tensor.name].astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    right, _ = swap_of(folded, 2)
    proof = proof_of(original, right, tmp_path)
    assert proof.is_whole, proof
    wrong, _ = swap_of(model, 2)
    assert not proof_of(original, wrong, tmp_path).is_whole


def test_other_weights():
    b = Builder(17)
    weight = b.const(np.ones((8, 3, 1, 1)), "weight")
    b.output(b.bn(b.node("Conv", b.input(2, 3, 4, 4), weight), 8, out="y", epsilon=1e-3))
    model = b.model()
    intents = [Intent(0, "y", "FLOAT", 4, 8, 2, 1e-3)]
    other = np.random.default_rng(0).normal(size=(8, 3, 1, 1)).astype(np.float32)
    made = written_out(model, intents, {"weight": other})
    (stored,) = (t for t in made.graph.initializer if t.name == "weight")
    assert (numpy_helper.to_array(stored) == other).all()
    with pytest.raises(ModelError, match="no initializer 'nothing'"):
        written_out(model, intents, {"nothing": other})


def test_a_node_that_is_not_there():
    model, _ = one_batchnorm((2, 8, 5, 4))
    with pytest.raises(ModelError, match="no BatchNormalization that makes 'y'"):
        written_out(model, [Intent(1, "y", "FLOAT", 4, 8, 2, 1e-3)])
    with pytest.raises(
        ModelError, match="The node that makes 'z' is not the BatchNormalization to swap"
    ):
        written_out(model, [Intent(0, "z", "FLOAT", 4, 8, 2, 1e-3)])


def test_names_that_are_taken():
    b = Builder(17)
    taken = b.node("Relu", b.input(2, 8, 4, 4), out="y/intended/mean", name="y/intended/mean_node")
    b.output(b.bn(taken, 8, out="y", epsilon=1e-3))
    read_as(b.model())  # and valid


def test_external_data_is_only_referred_to(tmp_path):
    model, _ = one_batchnorm((2, 8, 5, 4))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    (tmp_path / "m.onnx").rename(tmp_path / "moved.onnx")
    bare = onnx.load(tmp_path / "moved.onnx", load_external_data=False)
    write_out(bare, [Intent(0, "y", "FLOAT", 4, 8, 2, 1e-3)])
    assert all(t.data_location == TensorProto.EXTERNAL for t in bare.graph.initializer)


def scopes():
    """A normalization in each branch, in the graph between two of them, in a function's body."""
    b = Builder(17)
    x, flag = b.input("N", 8, 6, 6), b.input(name="flag", elem_type=TensorProto.BOOL)
    branches = {}
    for name in ("then_branch", "else_branch"):
        parameters = [b.const(v) for v in b.statistics(8)]
        node = helper.make_node("BatchNormalization", [x, *parameters], [f"{name}_y"], name)
        info = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, ["N", 8, 6, 6])
        branches[name] = helper.make_graph([node], name, [], [info])
    y = b.node("If", flag, name="choice", **branches)
    y = b.bn(y, 8, name="between", out="between")
    arguments = [b.const(v) for v in b.statistics(8)]
    node = helper.make_node("BatchNormalization", list("xsbmv"), ["y"], "bn", epsilon=1e-3)
    opsets = [helper.make_opsetid("", 17)]
    b.functions.append(helper.make_function("local", "Block", list("xsbmv"), ["y"], [node], opsets))
    b.extra_opsets.append(helper.make_opsetid("local", 1))
    b.output(b.node("Block", y, *arguments, domain="local", out="y"), ["N", 8, 6, 6])
    return b.model()


def test_bodies_and_functions():
    loaded = load(scopes().SerializeToString())
    plan = plan_swap(loaded, swap_options(2))
    intents = intents_of(plan, plan, batchnorm_places(loaded))
    assert [intent.node for intent in intents] == [0, 1, 2, 3]
    outputs = [intent.output for intent in intents]
    assert (outputs[0], outputs[3]) == ("between", "y")
    assert set(outputs[1:3]) == {"then_branch_y", "else_branch_y"}
    made = written_out(scopes(), intents)
    bodies = [a.g.node for node in made.graph.node for a in node.attribute if a.name != "value"]
    for nodes in (made.graph.node, made.functions[0].node, *bodies):
        assert not any(node.op_type == "BatchNormalization" for node in nodes)
    swapped, _ = swap_of(scopes(), 2)
    x = data((2, 8, 6, 6))
    for flag in (True, False):
        one, other = (run_ort(m, x=x, flag=np.array(flag))[0] for m in (made, swapped))
        assert distance(one, other) < 1e-4
