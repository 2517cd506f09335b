"""Whole small networks whose channels may be permuted."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.folding import assert_same_function
from support.permuting import check_permutes, normalized, spaces_of

from normswap.groupnorm.planner import network_of
from normswap.model import load, stage
from normswap.permuting.permute import permute
from normswap.permuting.spaces import find_spaces


def residual():
    """A trunk of sums, and a branch of its own in each block."""
    b = Builder(seed=1)
    x = b.conv(b.input("N", 3, 6, 6), 3, 8, pads=[1, 1, 1, 1])
    x = b.node("Relu", b.bn(x, 8, out="stem"))
    for block in range(2):
        y = b.node("Relu", b.bn(b.conv(x, 8, 6, pads=[1] * 4), 6, out=f"inner{block}"))
        y = b.bn(b.conv(y, 6, 8, pads=[1] * 4, bias=False), 8, out=f"outer{block}")
        x = b.node("Relu", b.node("Add", x, y))
    head = b.node("Gemm", b.node("Flatten", b.node("GlobalAveragePool", x)), b.normal(8, 5))
    return b.output(head).model(), ["stem", "inner0", "inner1", "outer0", "outer1"]


def depthwise():
    b = Builder(seed=2)
    x = b.node("Clip", b.bn(b.conv(b.input(2, 3, 8, 8), 3, 6, kernel=(1, 1)), 6, out="a"))
    x = b.bn(b.conv(x, 6, 6, group=6), 6, out="b")
    x = b.node("PRelu", x, b.normal(6, 1, 1))
    x = b.bn(b.conv(x, 6, 12, group=6, kernel=(1, 1)), 12, out="c")
    x = b.node("Mul", x, b.node("Sigmoid", b.node("ReduceMean", x, axes=[2, 3])))
    return b.output(b.conv(x, 12, 4, kernel=(1, 1))).model(), ["a", "b"]


def groups():
    """Two groups: channels move within them."""
    b = Builder(seed=3)
    x = b.node("Relu", b.bn(b.conv(b.input(1, 4, 5, 5), 4, 8), 8, out="a"))
    x = b.node("Relu", b.bn(b.conv(x, 8, 12, group=2, kernel=(1, 1)), 12, out="b"))
    return b.output(b.conv(x, 12, 2, kernel=(1, 1))).model(), ["a", "b"]


def concat():
    b = Builder(seed=4)
    x = b.input(2, 3, 6, 6)
    first = b.node("Relu", b.bn(b.conv(x, 3, 4), 4, out="a"))
    second = b.node("MaxPool", b.bn(b.conv(x, 3, 6), 6, out="b"), kernel_shape=[1, 1])
    joined = b.bn(b.node("Concat", first, second, first, axis=1), 14, out="c")
    return b.output(b.conv(joined, 14, 5, kernel=(1, 1))).model(), ["a", "b", "c"]


def split():
    b = Builder(opset=18, seed=5)
    x = b.bn(b.conv(b.input(2, 3, 6, 6), 3, 12), 12, out="a")
    left, right = b.node("Split", x, outputs=2, axis=1, num_outputs=2)
    x = b.node("Add", b.node("Relu", left), b.bn(right, 6, out="b"))
    end = b.const(np.array([4], np.int64))
    axis = b.const(np.array([1], np.int64))
    part = b.node("Slice", x, b.const(np.array([0], np.int64)), end, axis)
    y = b.node("Add", b.conv(x, 6, 5, kernel=(1, 1)), b.conv(part, 4, 5, kernel=(1, 1)))
    return b.output(y).model(), ["a", "b"]


def sequence():
    """A split as torch's newer exporter writes it."""
    b = Builder(opset=18, seed=17)
    x = b.bn(b.conv(b.input(2, 3, 6, 6), 3, 10), 10, out="a")
    parts = b.node("SplitToSequence", x, b.const(np.array([6, 4])), axis=1)
    left, right = (b.node("SequenceAt", parts, b.const(np.array(i))) for i in (0, -1))
    left = b.bn(b.node("Relu", left), 6, out="b")
    x = b.node("Concat", right, left, axis=1)
    return b.output(b.conv(x, 10, 5, kernel=(1, 1))).model(), ["a", "b"]


def squeeze_excite():
    b = Builder(seed=6)
    x = b.node("HardSwish", b.bn(b.conv(b.input("N", 3, 6, 6), 3, 8), 8, out="a"))
    s = b.node("Relu", b.conv(b.node("GlobalAveragePool", x), 8, 4, kernel=(1, 1)))
    s = b.node("HardSigmoid", b.conv(s, 4, 8, kernel=(1, 1)))
    flat = b.node("Gemm", b.node("Flatten", b.node("GlobalAveragePool", x)), b.normal(8, 8))
    gate = b.node("Reshape", b.node("Sigmoid", flat), b.const(np.array([-1, 8, 1, 1], np.int64)))
    x = b.node("Mul", b.node("Mul", x, s), gate)
    return b.output(b.conv(x, 8, 2, kernel=(1, 1))).model(), ["a"]


def flatten():
    """Pixels before a Gemm, and pixels made of its output."""
    b = Builder(seed=7)
    x = b.node("Relu", b.bn(b.conv(b.input("N", 2, 5, 5), 2, 6), 6, out="a"))
    x = b.node("Gemm", b.node("Flatten", x), b.normal(10, 54), b.normal(10), transB=1, alpha=0.5)
    x = b.node("MatMul", b.node("Relu", b.bn(x, 10, out="b")), b.normal(10, 12))
    x = b.node("Add", x, b.normal(12))
    x = b.node("Reshape", b.node("Relu", b.bn(x, 12, out="c")), b.const([0, 3, 2, 2]))
    x = b.bn(x, 3, out="d")
    return b.output(b.conv(x, 3, 2, kernel=(2, 2))).model(), ["a", "b", "d"]


def transposed():
    b = Builder(seed=8)
    x = b.node("LeakyRelu", b.bn(b.conv(b.input(1, 3, 6, 6), 3, 8), 8, out="a"))
    x = b.node("ConvTranspose", x, b.normal(8, 6, 2, 2), b.normal(6), strides=[2, 2])
    x = b.node("Relu", b.bn(x, 6, out="b"))
    x = b.node("ConvTranspose", x, b.normal(6, 4, 2, 2), group=2)
    x = b.bn(x, 8, out="c")
    x = b.node("ConvTranspose", x, b.normal(8, 1, 2, 2), b.normal(8), group=8)
    scales = b.const(np.array([1, 1, 2, 2], np.float32), dtype=np.float32)
    x = b.node("Resize", b.bn(x, 8, out="d"), "", scales, mode="nearest")
    x = b.node("Pad", x, b.const(np.array([0, 0, 1, 1, 0, 0, 1, 1])), mode="reflect")
    return b.output(b.conv(x, 8, 2)).model(), ["a", "b", "c", "d"]


def channels_last():
    b = Builder(seed=9)
    x = b.bn(b.conv(b.input("N", 3, 4, 4), 3, 6), 6, out="a")
    x = b.node("Transpose", x, perm=[0, 2, 3, 1])
    x = b.node("LayerNormalization", x, b.normal(6), b.normal(6))
    x = b.node("Relu", b.node("Add", b.node("MatMul", x, b.normal(6, 8)), b.normal(8)))
    x = b.node("Reshape", x, b.const([0, 4, 8]))
    x = b.bn(b.node("Transpose", x, perm=[0, 2, 1]), 8, out="b")
    return b.output(b.node("Einsum", x, b.normal(8, 3), equation="ncp,co->npo")).model(), ["a", "b"]


def pixels():
    b = Builder(seed=10)
    x = b.bn(b.conv(b.input(1, 3, 6, 6), 3, 12), 12, out="a")
    x = b.bn(b.node("DepthToSpace", x, blocksize=2, mode="DCR"), 3, out="b")
    x = b.bn(b.conv(x, 3, 12), 12, out="c")
    x = b.bn(b.node("DepthToSpace", x, blocksize=2, mode="CRD"), 3, out="d")
    x = b.node("SpaceToDepth", x, blocksize=2)
    return b.output(b.conv(x, 12, 2, kernel=(1, 1))).model(), ["b", "d"]


def shared():
    """Two towers with one weight, and a bias that several layers happen to have."""
    b = Builder(seed=11)
    w, zeros = b.normal(6, 6, 1, 1), b.const(np.arange(6.0))
    x = b.input(1, 3, 4, 4)
    first = b.bn(b.conv(x, 3, 6), 6, out="a")
    second = b.bn(b.conv(x, 3, 6), 6, out="b")
    first = b.bn(b.node("Conv", b.node("Relu", first), w, zeros), 6, out="c")
    second = b.bn(b.node("Conv", b.node("Relu", second), w, zeros), 6, out="d")
    y = b.node("Concat", first, second, axis=1)
    y = b.bn(b.node("Conv", y, b.normal(6, 12, 1, 1), zeros), 6, out="e")
    return b.output(b.conv(y, 6, 2, kernel=(1, 1))).model(), ["a", "b", "c", "d", "e"]


def quantized():
    b = Builder(seed=12)
    x = b.bn(b.conv(b.input(1, 3, 4, 4), 3, 4), 4, out="a")
    w = b.const(b.rng.integers(-99, 99, (6, 4, 1, 1)).astype(np.int8))
    scale = b.const(b.rng.uniform(0.01, 0.1, 6))
    w = b.node("DequantizeLinear", w, scale, b.const(np.zeros(6, np.int8)), axis=0)
    x = b.bn(b.node("Conv", x, w), 6, out="b")
    return b.output(b.conv(x, 6, 2, kernel=(1, 1))).model(), ["a", "b"]


def captured():
    """A body reads a tensor from outside, and what it makes goes on."""
    b = Builder(seed=13)
    x = b.bn(b.conv(b.input(1, 3, 4, 4), 3, 6), 6, out="a")
    branches = []
    for kind in ("Relu", "Neg"):
        inner = Builder(seed=14)
        inner.count = 100 * (1 + len(branches))
        y = inner.bn(inner.conv(inner.node(kind, x), 6, 6, kernel=(1, 1)), 6, out=f"in {kind}")
        inner.output(y)
        branches.append(helper.make_graph(inner.nodes, kind, [], inner.outputs, inner.initializers))
    condition = b.node("Greater", b.node("ReduceMean", x, keepdims=0), b.const(0.0))
    y = b.node("If", condition, then_branch=branches[0], else_branch=branches[1])
    b.value_info.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 6, 2, 2]))
    return b.output(b.conv(y, 6, 2, kernel=(1, 1))).model(), ["a", "in Relu", "in Neg"]


def outer():
    """Branches that read a weight, and a bias, of the main graph."""
    b = Builder(seed=16)
    x = b.bn(b.conv(b.input(1, 3, 4, 4), 3, 6), 6, out="a")
    w, bias = b.normal(6, 6, 1, 1), b.normal(6)
    branches = []
    for kind in ("Relu", "Neg"):
        inner = Builder()
        inner.count = 100 * (1 + len(branches))
        inner.output(inner.node("Conv", inner.node(kind, x), w, bias))
        branches.append(helper.make_graph(inner.nodes, kind, [], inner.outputs))
    condition = b.node("Greater", b.node("ReduceMean", x, keepdims=0), b.const(0.0))
    y = b.node("If", condition, then_branch=branches[0], else_branch=branches[1])
    b.value_info.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 6, 2, 2]))
    y = b.bn(b.node("Conv", y, w, bias), 6, out="b")
    return b.output(b.conv(y, 6, 2, kernel=(1, 1))).model(), ["a", "b"]


def constants():
    """A weight that nodes compute, and one that a Constant node makes."""
    b = Builder(seed=15)
    x = b.bn(b.node("Gemm", b.input("N", 5), b.normal(5, 6), b.const(1.0)), 6, out="a")
    w = b.node("Transpose", b.normal(4, 6), perm=[1, 0])
    x = b.bn(b.node("MatMul", b.node("Relu", x), w), 4, out="b")
    tensor = onnx.numpy_helper.from_array(b.rng.normal(size=(4, 3)).astype(np.float32))
    return b.output(b.node("MatMul", x, b.node("Constant", value=tensor))).model(), ["a", "b"]


NETWORKS = [
    residual,
    depthwise,
    groups,
    concat,
    split,
    sequence,
    squeeze_excite,
    flatten,
    transposed,
    channels_last,
    pixels,
    shared,
    quantized,
    captured,
    outer,
    constants,
]


@pytest.mark.parametrize("network", NETWORKS)
def test_all_of_them_move(network):
    model, moved = network()
    check_permutes(model, *moved)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_every_float_type(dtype):
    b = Builder(dtype=dtype, seed=1)
    x = b.bn(b.conv(b.input(1, 3, 5, 5), 3, 8), 8, out="a")
    x = b.node("Relu", b.bn(b.conv(b.node("Relu", x), 8, 6), 6, out="b"))
    check_permutes(b.output(b.conv(x, 6, 2, kernel=(1, 1))).model(), "a", "b")


def test_initializers_that_are_inputs_by_an_old_rule():
    b = Builder(opset=8, seed=1)
    x = b.bn(b.conv(b.input(1, 3, 5, 5), 3, 8), 8, out="a")
    check_permutes(b.output(b.conv(b.node("Relu", x), 8, 2)).model(), "a")


def test_constants_in_another_file(tmp_path):
    """They are read when the model is written, one by one, and so are permuted ones."""
    path = tmp_path / "model.onnx"
    onnx.save(residual()[0], path, save_as_external_data=True, size_threshold=0)
    loaded = load(path)
    network = network_of(loaded)
    spaces = find_spaces(network, {}, normalized(network).values())
    permute(loaded, spaces, {n: np.arange(len(s))[::-1] for n, s in enumerate(spaces.spaces)})
    with stage(loaded, tmp_path / "out.onnx") as staged:
        staged.commit()
    assert_same_function(residual()[0], onnx.load(tmp_path / "out.onnx"))


def test_an_order_is_a_permutation():
    _, spaces, _ = spaces_of(residual()[0])
    for wrong in ([0] * len(spaces.spaces[0]), [0, 1]):
        with pytest.raises(ValueError, match="not a permutation"):
            spaces.reordered({0: np.array(wrong)})
