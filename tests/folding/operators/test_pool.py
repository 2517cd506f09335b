import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, upward

from normswap.graph.reasons import Reason


def pool(op, **attrs):
    if not op.startswith("Global"):
        attrs.setdefault("kernel_shape", [2, 3])
    return lambda b, y: b.node(op, y, **attrs)


both = pytest.mark.parametrize("build", [upward, downward])


@both
@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER"},
        {"ceil_mode": 1, "strides": [2, 2]},
        {"dilations": [2, 1]},
    ],
    ids=str,
)
def test_max(build, attrs):
    check_folds(build(pool("MaxPool", **attrs), signs="nonnegative"))


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ["GlobalMaxPool", "GlobalAveragePool", "AveragePool"])
def test_types(build, op, dtype):
    def add(b, y):
        y = pool(op, **({} if op[0] == "G" else {"kernel_shape": [2, 2]}))(b, y)
        if op[0] == "G" and build is downward:  # something for the Conv to slide over
            y = b.node("Pad", y, b.const([0, 0, 1, 1, 0, 0, 0, 0]), mode="edge")
        return y

    check_folds(build(add, signs="nonnegative" if "Max" in op else "mixed", dtype=dtype))


@both
@pytest.mark.parametrize("op", ["MaxPool", "GlobalMaxPool"])
def test_max_of_negative_scales_is_kept(build, op):
    def add(b, y):
        y = pool(op)(b, y)
        return b.node("Expand", y, b.const([1, 1, 2, 2])) if op[0] == "G" else y

    check_kept(build(add), Reason.NEGATIVE_SCALE)


def test_indices_of_the_maximum_are_kept():
    b = Builder()
    y = b.conv(b.input(2, 4, 7, 7), 4, C)
    y, indices = b.node("MaxPool", y, outputs=2, kernel_shape=[2, 2])
    b.output(b.node("Sigmoid", b.bn(y, C, positive=True))).output(indices, elem_type=7)
    check_kept(b.model(), Reason.OPERATOR)


def test_indices_that_nobody_reads():
    b = Builder()
    y, _ = b.node("MaxPool", b.conv(b.input(2, 4, 7, 7), 4, C), outputs=2, kernel_shape=[2, 2])
    b.output(b.node("Sigmoid", b.bn(y, C, positive=True)))
    check_folds(b.model())


@both
@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"pads": [1, 1, 1, 1]},
        {"pads": [1, 0, 1, 1], "count_include_pad": 0},
        {"count_include_pad": 1},
        {"count_include_pad": 1, "auto_pad": "VALID"},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"ceil_mode": 1, "strides": [2, 2]},
        {"kernel_shape": [1, 1], "count_include_pad": 1, "auto_pad": "SAME_UPPER"},
    ],
    ids=str,
)
def test_average_without_counted_padding(build, attrs):
    check_folds(build(pool("AveragePool", **attrs)))


COUNTED = [
    {"pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"pads": [0, 0, 0, 1], "count_include_pad": 1},
    {"auto_pad": "SAME_UPPER", "count_include_pad": 1},
    {"ceil_mode": 1, "strides": [2, 2], "count_include_pad": 1},
]


@both
@pytest.mark.parametrize("attrs", COUNTED, ids=str)
def test_average_that_counts_padding_takes_a_scale_only(build, attrs):
    check_kept(build(pool("AveragePool", **attrs)), Reason.ZERO_PADDING)
    check_folds(build(pool("AveragePool", **attrs), shift=False))


@both
@pytest.mark.parametrize("p", [1, 2])
def test_norm(build, p):
    check_folds(build(pool("LpPool", p=p), signs="nonnegative", shift=False))
    check_kept(build(pool("LpPool", p=p), signs="nonnegative"), Reason.NONLINEAR)


def test_norm_of_the_whole_space():
    model = upward(pool("GlobalLpPool"), signs="nonnegative", shift=False)
    check_folds(model)
    check_kept(upward(pool("GlobalLpPool"), signs="nonnegative"), Reason.NONLINEAR)


def test_norm_of_negative_scales():
    check_kept(upward(pool("LpPool"), shift=False), Reason.NEGATIVE_SCALE)
    check_folds(downward(pool("LpPool"), shift=False))


@both
def test_an_affine_over_space_is_kept(build):
    def add(b, y):
        y = b.node("Transpose", y, perm=[0, 2, 1, 3])
        return b.node(
            "Transpose", pool("AveragePool", kernel_shape=[1, 2])(b, y), perm=[0, 2, 1, 3]
        )

    check_kept(build(add), Reason.AXIS)


def test_pooled_tensor_with_another_reader():
    b = Builder()
    y = pool("AveragePool")(b, b.conv(b.input("N", 4, 7, 7), 4, C))
    b.output(b.node("Sigmoid", b.bn(y, C))).output(b.node("Sigmoid", y))
    check_kept(b.model(), Reason.SEVERAL_READERS)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "AveragePool"])
def test_down_into_a_classifier(op):
    b = Builder()
    y = b.bn(b.node("Relu", b.input("N", C, 3, 3)), C)
    y = b.node(op, y, **({"kernel_shape": [3, 3]} if op[0] == "A" else {}))
    b.output(b.node("Gemm", b.node("Flatten", y), b.normal(C, 4), b.normal(4)))
    check_folds(b.model())
