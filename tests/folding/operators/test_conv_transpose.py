import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept

from normswap.graph.reasons import Reason

SPATIAL = {1: (9,), 2: (5, 6), 3: (3, 4, 3)}


def deconv_bn(b, *, rank=2, c_in=4, c_out=6, group=1, bias=True, **attrs):
    x = b.input("N", c_in, *SPATIAL[rank])
    inputs = [x, b.normal(c_in, c_out // group, *(3,) * rank)]
    if bias:
        inputs.append(b.normal(c_out))
    y = b.node("ConvTranspose", *inputs, group=group, **attrs)
    b.output(b.bn(y, c_out))
    return b.model()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_folds_every_type_and_rank(dtype, rank):
    if dtype == "bfloat16" and rank == 3:
        pytest.skip("the reference evaluator has no 3d ConvTranspose")
    check_folds(deconv_bn(Builder(17, dtype, seed=rank), rank=rank))


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2]},
        {"strides": [2, 1], "pads": [1, 0, 1, 1], "output_padding": [1, 0]},
        {"dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"group": 2},
        {"group": 4, "c_out": 4},
        {"group": 2, "c_in": 6, "c_out": 4, "strides": [3, 3]},
        {"group": 4, "c_out": 8, "bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("opset", [7, 11, 22])
def test_folds_with_every_attribute(attributes, opset):
    check_folds(deconv_bn(Builder(opset), **attributes))


def test_weight_computed_at_run_time_is_kept():
    b = Builder()
    w = b.input(4, 6, 3, 3, name="w")
    b.output(b.bn(b.node("ConvTranspose", b.input(2, 4, 5, 5), w), 6))
    check_kept(b.model(), Reason.NOT_CONSTANT, tensor="w")


# Down


def bn_deconv(b, *, rank=2, c_in=4, c_out=6, kernel=2, shift=True, group=1, bias=True, **attrs):
    x = b.input("N", c_in, *attrs.pop("spatial", SPATIAL[rank]))
    scale, B, mean, var = b.statistics(c_in)
    if not shift:
        B, mean = B * 0, mean * 0
    w = attrs.pop("w", None)
    inputs = [
        b.bn(x, c_in, stats=(scale, B, mean, var)),
        b.normal(c_in, c_out // group, *(kernel,) * rank) if w is None else b.const(w),
    ]
    if bias:
        inputs.append(b.normal(c_out))
    b.output(b.node("ConvTranspose", *inputs, group=group, **attrs))
    return b.model()


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_down_a_kernel_of_one(dtype, rank, bias):
    tolerance = 1e-2 if dtype == "float16" else None
    model = bn_deconv(Builder(17, dtype), rank=rank, kernel=1, bias=bias)
    folded, _ = check_folds(model, tolerance=tolerance)
    assert [node.op_type for node in folded.graph.node] == ["ConvTranspose"]


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_down_without_a_shift(group, kernel):
    attrs = {"strides": [2, 2], "pads": [1, 0, 0, 0], "output_padding": [1, 0], "group": group}
    check_folds(bn_deconv(Builder(), kernel=kernel, shift=False, **attrs))


@pytest.mark.parametrize("group", [1, 2])
def test_down_groups_of_a_kernel_of_one(group):
    check_folds(bn_deconv(Builder(), kernel=1, group=group, c_in=6, c_out=4))


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("rank", [1, 2])
def test_down_a_kernel_as_large_as_its_stride(group, rank):
    # Each place in a block has one tap, with a shift of its own: an Add repeats them.
    model = bn_deconv(Builder(), rank=rank, group=group, strides=[2] * rank)
    folded, _plan = check_folds(model)
    assert [node.op_type for node in folded.graph.node] == ["ConvTranspose", "Add"]


@pytest.mark.parametrize("spatial", [("H", "W"), (200, 200)], ids=str)
def test_down_too_many_or_unknown_blocks_are_kept(spatial):
    check_kept(bn_deconv(Builder(), strides=[2, 2], spatial=spatial), Reason.SHIFT)


@pytest.mark.parametrize(
    "attrs",
    [
        {"kernel": 3},
        {"kernel": 3, "strides": [2, 2]},
        {"kernel": 2, "strides": [3, 3]},
        {"kernel": 1, "strides": [2, 2]},
        {"kernel": 2, "strides": [2, 2], "output_padding": [1, 1]},
        {"kernel": 2, "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel": 2, "strides": [2, 2], "dilations": [2, 2]},
        {"kernel": 2, "strides": [2, 2], "output_shape": [11, 12]},
        {"kernel": 2, "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ],
    ids=str,
)
def test_down_other_taps_at_the_border_are_kept(attrs):
    check_kept(bn_deconv(Builder(), **attrs), Reason.ZERO_PADDING)


def test_down_into_a_weight_is_kept():
    b = Builder()
    w = b.bn(b.input(4, 6, 3, 3, name="w"), 6)
    b.output(b.node("ConvTranspose", b.input("N", 4, 5, 5), w))
    check_kept(b.model(), Reason.NOT_CONSTANT)
