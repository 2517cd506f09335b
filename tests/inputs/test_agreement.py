"""Sizes that the graph asks for, although no input says so: ranks, channels, and what must fit."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.swapping import run_ort

from normswap.inputs.dims import RequestedSizes, solve
from normswap.inputs.random import Distribution, make_case
from normswap.inputs.signature import read_signature

NOTHING = RequestedSizes({}, {})


def signature_of(model, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return read_signature(path)


def taken(model, tmp_path, requested=NOTHING):
    """Return the shapes of inputs that are made for a model, which the runtime takes."""
    signature = signature_of(model, tmp_path)
    shapes = solve(signature, requested, batch=2)
    feeds = make_case(signature, shapes, Distribution.NORMAL, seed=0, ranges={}).feeds
    run_ort(model, optimized=False, **feeds)
    return shapes


def of_no_rank(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


READERS = {
    "conv": (lambda b, x: b.conv(x, 5, 4), (2, 5, 64, 64)),
    "groups": (lambda b, x: b.conv(x, 6, 4, group=2), (2, 6, 64, 64)),
    "conv-1d": (lambda b, x: b.conv(x, 5, 4, kernel=(3,)), (2, 5, 64)),
    "conv-3d": (lambda b, x: b.conv(x, 5, 4, kernel=(3, 3, 3)), (2, 5, 16, 16, 16)),
    "behind-relu": (lambda b, x: b.conv(b.node("Relu", x), 5, 4), (2, 5, 64, 64)),
    "scaled": (
        lambda b, x: b.conv(b.node("Sub", b.const(1.0), b.node("Mul", x, b.normal(1))), 5, 4),
        (2, 5, 64, 64),
    ),
    "behind-bn": (lambda b, x: b.conv(b.bn(x, 5), 5, 4, kernel=(3,)), (2, 5, 64)),
    "bn": (lambda b, x: b.bn(x, 5), (2, 5, 64, 64)),
    "gemm": (lambda b, x: b.node("Gemm", x, b.normal(7, 4)), (2, 7)),
    "matmul": (lambda b, x: b.node("MatMul", x, b.normal(7, 4)), (2, 7)),
    "pool": (lambda b, x: b.node("MaxPool", x, kernel_shape=[2, 2]), (2, 3, 64, 64)),
    "global-pool": (lambda b, x: b.node("GlobalMaxPool", x), (2, 3, 64, 64)),
    "add": (lambda b, x: b.node("Add", x, b.normal(1, 3, 64, 64)), (2, 3, 64, 64)),
    "nothing": (lambda b, x: b.node("Relu", x), ()),
}


@pytest.mark.parametrize("name", READERS)
def test_an_input_of_unknown_rank(name, tmp_path):
    reader, wanted = READERS[name]
    b = Builder()
    b.output(reader(b, b.input(*wanted)))
    assert taken(of_no_rank(b.model()), tmp_path) == {"x": wanted}


def test_a_shape_that_was_asked_for_has_any_rank(tmp_path):
    b = Builder()
    b.output(b.node("Relu", b.input(3, 4)))
    requested = RequestedSizes({"x": (3, 4)}, {})
    assert taken(of_no_rank(b.model()), tmp_path, requested) == {"x": (3, 4)}


def test_channels_behind_what_keeps_them(tmp_path):
    b = Builder()
    b.output(b.conv(b.node("Relu", b.input("N", "C", 8, 8)), 5, 4))
    assert taken(b.model(), tmp_path) == {"x": (2, 5, 8, 8)}


def test_a_sequence_of_tensors_of_which_the_sizes_are_open(tmp_path):
    b = Builder()
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ("N", "C", "H", "W"))
    b.inputs.append(helper.make_value_info("list", helper.make_sequence_type_proto(tensor)))
    first = b.node("SequenceAt", "list", b.const(np.int64(0)))
    b.output(b.conv(first, 5, 4))
    model = b.model()
    signature = signature_of(model, tmp_path)
    shapes = solve(signature, NOTHING, batch=2)
    assert shapes == {"list": (2, 5, 64, 64)}
    (case,) = [make_case(signature, shapes, Distribution.NORMAL, seed=0, ranges={})]
    assert {item.shape for item in case.feeds["list"]} == {(2, 5, 64, 64)}


# ------------------------------------------------------------------------------ several inputs


def two(b, *, one=("N", 4, "h", "w"), other=("M", 4, "p", "q")):
    return b.input(*one, name="one"), b.input(*other, name="other")


def test_what_is_added_to_a_map_of_half_the_size(tmp_path):
    b = Builder()
    one, other = two(b)
    b.output(b.node("Add", b.conv(one, 4, 6, strides=[2, 2]), b.conv(other, 4, 6, kernel=(1, 1))))
    assert taken(b.model(), tmp_path) == {"one": (2, 4, 64, 64), "other": (2, 4, 31, 31)}


def test_it_fits_what_was_asked_for(tmp_path):
    b = Builder()
    one, other = two(b)
    b.output(b.node("Add", b.conv(one, 4, 6, strides=[2, 2]), b.conv(other, 4, 6, kernel=(1, 1))))
    requested = RequestedSizes({"one": (3, 4, 21, 17)}, {})
    found = taken(b.model(), tmp_path, requested)
    assert found["one"] == (3, 4, 21, 17)
    assert found["other"][2:] == (10, 8)


@pytest.mark.parametrize("levels", [1, 3])
def test_a_pyramid(levels, tmp_path):
    """Every level is added to the one before it, upsampled; only the first says how large it is."""
    b = Builder()
    total = b.input(1, 2, 8, 8, name="level_0")
    for level in range(1, levels + 1):
        x = b.input(1, 2, f"h{level}", f"w{level}", name=f"level_{level}")
        scales = b.const(np.array([1.0, 1, 2, 2]), dtype=np.float32)
        total = b.node("Add", x, b.node("Resize", total, "", scales))
    b.output(total)
    found = taken(b.model(), tmp_path)
    assert found[f"level_{levels}"] == (1, 2, 8 * 2**levels, 8 * 2**levels)


def test_what_is_concatenated(tmp_path):
    b = Builder()
    one, other = two(b, other=("M", 3, "p", "q"))
    pooled = b.node("MaxPool", one, kernel_shape=[4, 4], strides=[4, 4])
    b.output(b.node("Concat", pooled, b.conv(other, 3, 4), axis=1))
    assert taken(b.model(), tmp_path)["other"] == (2, 3, 18, 18)


def test_what_is_multiplied(tmp_path):
    b = Builder()
    one, other = two(b, one=("N", 5, "k"), other=("M", 7, "j"))
    b.output(b.node("MatMul", one, b.node("Transpose", other, perm=[0, 2, 1])))
    found = taken(b.model(), tmp_path)
    assert found["one"][2] == found["other"][2]


def test_features_that_a_constant_tells(tmp_path):
    b = Builder()
    b.output(b.node("Add", b.input("N", "features"), b.normal(10)))
    assert taken(b.model(), tmp_path) == {"x": (2, 10)}


def test_sizes_that_fit_stay_what_habit_says(tmp_path):
    b = Builder()
    one, other = two(b, other=("N", 4, "h", "w"))
    b.output(b.node("Add", one, other))
    assert taken(b.model(), tmp_path) == {"one": (2, 4, 64, 64), "other": (2, 4, 64, 64)}


def test_sizes_that_can_not_be_had_stay_too(tmp_path):
    b = Builder()
    one, other = two(b, one=("N", 4, 6, 6), other=("N", 4, "p", "q"))
    grown = b.node("Pad", other, b.const(np.array([0, 0, 4, 4, 0, 0, 4, 4])))
    b.output(b.node("Add", one, grown))
    signature = signature_of(b.model(), tmp_path)
    assert solve(signature, NOTHING, batch=2)["other"] == (2, 4, 64, 64)


@pytest.mark.parametrize(
    ("expression", "size"),
    [
        ("past+16", 32),
        ("past-99", 0),
        ("past/0", 16),
        ("+".join(["past"] * 40), 640),
        ("+".join(["past"] * 3000), 16),
        ("(" * 3000 + "past" + ")" * 3000, 16),
        ("past//", 16),
    ],
)
def test_sizes_that_are_told_as_expressions(expression, size, tmp_path):
    b = Builder()
    b.input(1, "past", name="one")
    b.input(1, expression, name="other")
    b.output(b.node("Concat", "one", "other", axis=1))
    signature = signature_of(b.model(), tmp_path)
    assert solve(signature, NOTHING, batch=1) == {"one": (1, 16), "other": (1, size)}
