import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept

from normswap.reasons import Reason

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
