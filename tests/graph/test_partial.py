"""Constants that hang on sizes: of a weight, or of a tensor of which not all sizes are known."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from support.build import Builder
from support.folding import assert_same_function, check_folds, check_kept, count, fold_model

from normswap.graph import partial
from normswap.graph.reasons import Reason

C = 4


def ints(b, *values):
    return b.const(np.array(values, np.int64))


def index(b, value):
    return b.const(np.array(value, np.int64))


def filled(b, shape, value=1.5):
    return b.node("ConstantOfShape", shape, value=numpy_helper.from_array(np.float32([value])))


def one_by_one(b, x):
    """Its length in a scalar, computed with, and made a vector again."""
    count = b.node("Gather", b.node("Shape", x), index(b, 1))
    count = b.node("Div", b.node("Mul", count, index(b, 6)), index(b, 6))
    return b.node("Concat", b.node("Unsqueeze", count, ints(b, 0)), axis=0)


def chosen(b, x):
    sizes = b.node("Shape", x)
    known = b.node("Where", b.node("Equal", sizes, ints(b, -1)), ints(b, 1, 1, 1, 1), sizes)
    return b.node("Slice", known, ints(b, 1), ints(b, 2))


def through_floats(b, x):
    sizes = b.node("Cast", b.node("Shape", x), to=TensorProto.FLOAT)
    doubled = b.node("Floor", b.node("Mul", sizes, b.const(np.float32(1))))
    return b.node("Slice", b.node("Cast", doubled, to=TensorProto.INT64), ints(b, 1), ints(b, 2))


LENGTHS = {
    "Gather": lambda b, x: b.node("Gather", b.node("Shape", x), ints(b, 1)),
    "Slice": lambda b, x: b.node("Slice", b.node("Shape", x), ints(b, 1), ints(b, 2)),
    "Slice from behind": lambda b, x: b.node("Slice", b.node("Shape", x), ints(b, -3), ints(b, -2)),
    "Shape of a part": lambda b, x: b.node("Shape", x, start=1, end=-2),
    "Split": lambda b, x: b.node("Split", b.node("Shape", x), ints(b, 1, 1, 2), outputs=3)[1],
    "arithmetic": one_by_one,
    "Where": chosen,
    "floats": through_floats,
}
"""The number of channels, as a vector of one element, of a tensor (N, 4, H, W)."""


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_a_bias_as_long_as_an_open_input_has_channels(length):
    b = Builder()
    x = b.input("N", C, "H", "W")
    y = b.node("Conv", x, b.normal(C, C, 3, 3), filled(b, length(b, x)), pads=[1, 1, 1, 1])
    b.output(b.bn(y, C))
    folded, _ = check_folds(b.model(), sizes={"H": 7, "W": 5})
    assert [node.op_type for node in folded.graph.node] == ["Conv"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_bias_as_torch_writes_it(dtype):
    b = Builder(18, dtype)
    x, w = b.input("N", 3, "H", "W"), b.normal(C, 3, 3, 3)
    length = b.node("Expand", b.node("Shape", w, start=0, end=1), ints(b, 1))
    zero = b.node("CastLike", b.const(np.float64(0), dtype=np.float64), x)
    y = b.node("Conv", x, w, b.node("Expand", zero, length), pads=[1, 1, 1, 1])
    b.output(b.bn(y, C))
    folded, _ = check_folds(b.model(), sizes={"H": 7, "W": 5})
    assert [node.op_type for node in folded.graph.node] == ["Conv"]


def test_parameters_as_long_as_an_open_tensor_has_channels():
    """A BatchNormalization without scale and bias of its own."""
    b = Builder()
    y = b.conv(b.input("N", 3, "H", "W"), 3, C)
    length = b.node("Shape", y, start=1, end=2)
    _, _, mean, var = b.statistics(C)
    ones, zeros = filled(b, length, 1), filled(b, length, 0)
    y = b.node("BatchNormalization", y, ones, zeros, b.const(mean), b.const(var))
    b.output(b.node("Sigmoid", y))
    check_folds(b.model(), sizes={"H": 7, "W": 5})


SPREADS = {
    "Add of an expanded bias": lambda b, y, k: b.node(
        "Add", y, b.node("Expand", k, b.node("Shape", y))
    ),
    "Add of an expanded scalar": lambda b, y, _: b.node(
        "Add", y, b.node("Expand", b.const(np.float32(0.7)), b.node("Shape", y))
    ),
    "Add of zeros": lambda b, y, _: b.node("Add", y, filled(b, b.node("Shape", y), 0)),
    "Sub from ones": lambda b, y, _: b.node("Sub", filled(b, b.node("Shape", y)), y),
    "Mul by ones": lambda b, y, _: b.node("Mul", filled(b, b.node("Shape", y)), y),
    "Mul by an expanded scale": lambda b, y, k: b.node(
        "Mul", y, b.node("Expand", k, b.node("Shape", y))
    ),
    "Div by twos": lambda b, y, _: b.node("Div", y, filled(b, b.node("Shape", y), 2)),
}
"""What is done to a tensor with a constant of its own size, which is open."""


@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
def test_an_operand_that_is_constant_but_for_its_size(spread):
    b = Builder()
    y = b.conv(b.input("N", 3, "H", "W"), 3, C)
    b.output(b.node("Sigmoid", b.bn(spread(b, y, b.normal(1, C, 1, 1)), C)))
    check_folds(b.model(), sizes={"H": 7, "W": 5})


@pytest.mark.parametrize("op", ["Add", "Mul", "Div"])
@pytest.mark.parametrize("how", ["filled", "expanded"])
def test_an_operand_that_lets_the_tensor_grow_stays(op, how):
    """Without it the pooled tensor would stay (N, C, 1, 1)."""
    b = Builder()
    x = b.input("N", 3, "H", "W")
    y = b.node("GlobalAveragePool", b.conv(x, 3, C))
    size = b.node("Concat", ints(b, 1, 1), b.node("Shape", x, start=2), axis=0)
    k = filled(b, size) if how == "filled" else b.node("Expand", b.const(np.float32(1.5)), size)
    b.output(b.node("Sigmoid", b.bn(b.node(op, y, k), C)))
    folded, plan = fold_model(b.model())
    assert_same_function(b.model(), folded, sizes={"H": 7, "W": 5})
    assert count(folded, op) == 1
    assert len(plan.kept) == (op == "Add")


def test_a_size_that_only_the_runtime_knows():
    b = Builder()
    x = b.input("N", 3, 5, 5)
    length = b.node("Shape", x, start=0, end=1)
    y = b.node("Conv", x, b.normal(3, 3, 1, 1), filled(b, length))
    b.output(b.bn(y, 3))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_a_place_that_only_the_runtime_knows():
    b = Builder()
    x, place = b.input(C, C, 5, 5), b.input(1, name="place", elem_type=TensorProto.INT64)
    y = b.node(
        "Conv", x, b.normal(C, C, 1, 1), filled(b, b.node("Gather", b.node("Shape", x), place))
    )
    b.output(b.bn(y, C))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_a_size_of_which_onnx_and_the_runtime_think_otherwise():
    """A pooling that rounds up makes 4 of 7, where ONNX infers 5."""
    b = Builder()
    x = b.input(1, 3, 7, 7)
    pooled = b.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[1] * 4, ceil_mode=1)
    length = b.node("Shape", pooled, start=2, end=3)
    y = b.node("Conv", x, b.normal(4, 3, 1, 1), filled(b, length))
    b.output(b.bn(y, 4))
    check_kept(b.model(), Reason.NOT_CONSTANT)


def test_the_size_of_a_weight_that_a_caller_may_replace():
    b = Builder()
    x, w = b.input("N", 3, 5, 5), b.normal(C, 3, 1, 1)
    b.inputs.append(onnx.helper.make_tensor_value_info(w, TensorProto.FLOAT, ["M", 3, 1, 1]))
    y = b.node("Conv", x, b.normal(C, 3, 1, 1), filled(b, b.node("Shape", w, start=0, end=1)))
    b.output(b.bn(y, C))
    check_kept(b.model(), Reason.OVERRIDABLE)


def test_integers_of_a_size_that_is_open_are_no_operand():
    b = Builder()
    x = b.input("N", 3, 5, 5)
    y = b.bn(b.conv(x, 3, C), C)
    seven = numpy_helper.from_array(np.array([7], np.int64))
    sevens = b.node("ConstantOfShape", b.node("Shape", x), value=seven)
    z = b.node("Add", b.node("Mul", b.node("Cast", x, to=7), sevens), sevens)
    b.output(b.node("Sigmoid", y)).output(z, ("N", 3, 5, 5), TensorProto.INT64)
    check_folds(b.model())


OPEN = np.ma.MaskedArray(np.array([0, 4, 0, 5]), [True, False, True, False])


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "wanted"),
    [
        ("Add", [OPEN, np.array(2)], {}, [None, 6, None, 7]),
        ("Mul", [OPEN, np.array([1, 2, 3, 4])], {}, [None, 8, None, 20]),
        ("Div", [np.array(20), OPEN], {}, [None, 5, None, 4]),
        ("Concat", [OPEN, np.array([9])], {"axis": 0}, [None, 4, None, 5, 9]),
        ("Gather", [OPEN, np.array([3, 0])], {}, [5, None]),
        ("Slice", [OPEN, np.array([1]), np.array([3])], {}, [4, None]),
        ("Equal", [OPEN, np.array(4)], {}, [None, True, None, False]),
    ],
)  # fmt: skip
def test_what_is_known_of_a_result(op, inputs, attributes, wanted):
    (result,) = partial.evaluate(op, 17, inputs, attributes, 1)
    assert np.ma.asarray(result).tolist() == wanted


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Gather", [np.array([1, 2, 3]), OPEN]),
        ("Range", [np.array(0), OPEN[0], np.array(1)]),
        ("ReduceProd", [OPEN]),
        ("Reshape", [np.array([1, 2]), OPEN]),
        ("Expand", [OPEN, np.array([4000, 4])]),
    ],
)
def test_what_is_not_known(op, inputs):
    assert partial.evaluate(op, 17, inputs, {}, 1) is None


def test_what_is_known_as_a_whole_has_no_mask():
    (result,) = partial.evaluate("Gather", 17, [OPEN, np.array([1, 3])], {}, 1)
    assert not isinstance(result, np.ma.MaskedArray)
