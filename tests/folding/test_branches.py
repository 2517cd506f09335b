"""Parallel branches of one tensor that become one Conv, and those that only look like it."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.build import Builder
from support.folding import check_folds, check_kept, count, fold_model
from support.graphs import live_ops

from normswap.folding.branches import AxisWindow
from normswap.graph.reasons import Reason

C = 6
KERNELS = {1: (3,), 2: (3, 3), 3: (3, 3, 3)}
SPACE = {1: (9,), 2: (7, 8), 3: (5, 4, 5)}


def start(b, *, rank=2, channels=C, batch=2):
    """An input that can absorb nothing."""
    return b.node("Softmax", b.input(batch, channels, *SPACE[rank]), axis=-1)


def same(b, x, kernel=3, *, rank=2, group=1, channels=C, **attrs):
    """A Conv that keeps the size."""
    pads = attrs.pop("pads", [kernel // 2] * 2 * rank)
    return b.conv(x, channels, channels, kernel=(kernel,) * rank, group=group, pads=pads, **attrs)


def end(b, y):
    b.output(b.node("Relu", y))
    return b.model()


def weights(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_batchnorm_beside_a_conv(rank, group):
    b = Builder(seed=rank * group)
    x = start(b, rank=rank)
    model = end(b, b.node("Add", same(b, x, rank=rank, group=group), b.bn(x, C)))
    folded, plan = check_folds(model)
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]
    (step,) = plan.folded[0].route
    assert (step.direction, step.op) == ("beside", "Conv")
    assert len(plan.merged) == 1


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_every_type(dtype):
    b = Builder(dtype=dtype)
    x = start(b)
    check_folds(end(b, b.node("Add", same(b, x), b.bn(x, C))))


@pytest.mark.parametrize("order", ["repvgg", "identity first", "Sum"])
@pytest.mark.parametrize("group", [1, 3])
def test_repvgg(order, group):
    b = Builder(seed=group)
    x = start(b)
    branches = [
        b.bn(same(b, x, 3, group=group, bias=False), C),
        b.bn(same(b, x, 1, group=group, bias=False), C),
        b.bn(x, C),
    ]
    if order == "Sum":
        y = b.node("Sum", *branches)
    else:
        first, second, third = branches if order == "repvgg" else branches[::-1]
        y = b.node("Add", b.node("Add", first, second), third)
    folded, plan = check_folds(end(b, y))
    # Where branches are merged for a BatchNormalization, all are.
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]
    assert len(plan.merged[0].branches) == 2


def test_blocks_in_a_row():
    b = Builder()
    x = start(b)
    for _ in range(3):
        y = b.node("Add", b.bn(same(b, x, 3), C), b.bn(same(b, x, 1), C))
        x = b.node("Relu", b.node("Add", y, b.bn(x, C)))
    b.output(x)
    folded, _ = check_folds(b.model())
    assert live_ops(folded) == ["Softmax", *["Conv", "Relu"] * 3]


def test_mobileone():
    b = Builder()
    x = start(b)
    y = b.bn(x, C)
    for kernel in (3, 3, 1):
        y = b.node("Add", y, b.bn(same(b, x, kernel, group=C, bias=False), C))
    folded, _ = check_folds(end(b, y))
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]


def test_fastvit():
    b = Builder()
    x = start(b)
    mixed = b.node("Add", b.bn(same(b, x, 3, group=C), C), b.bn(x, C))
    y = b.node("Sub", mixed, b.bn(x, C))
    model = end(b, b.node("Add", x, b.node("Mul", b.normal(C, 1, 1), y)))
    folded, _ = check_folds(model)
    assert live_ops(folded) == ["Softmax", "Conv", "Mul", "Add", "Relu"]
    folded, plan = check_folds(model, merge_branches=True)
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]
    assert plan.merged[0].branches[-1] == x


@pytest.mark.parametrize("negated", ["conv", "bn"])
@pytest.mark.parametrize("nested", [False, True])
def test_difference(negated, nested):
    b = Builder()
    x = start(b)
    pair = [same(b, x), b.bn(x, C)]
    y = b.node("Sub", *(pair if negated == "bn" else pair[::-1]))
    if nested:
        y = b.node("Sub", same(b, x, 1), y)
    folded, _ = check_folds(end(b, y))
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]


def test_sum_of_three_loses_one_operand():
    b = Builder()
    x = start(b)
    y = b.node("Sum", b.node("Sigmoid", x), b.bn(x, C), same(b, x))
    folded, _ = check_folds(end(b, y))
    assert live_ops(folded) == ["Softmax", "Sigmoid", "Conv", "Sum", "Relu"]


def test_arithmetic_is_a_branch_too():
    b = Builder()
    x = start(b)
    y = b.node("Add", b.node("Mul", x, b.normal(C, 1, 1)), b.normal(C, 1, 1))
    folded, plan = check_folds(end(b, b.node("Add", y, same(b, x))))
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]
    assert plan.folded[0].site.op == "Mul+Add"


def test_batchnorm_after_the_sum():
    b = Builder()
    x = start(b)
    y = b.node("Add", same(b, x), b.bn(x, C))
    folded, _ = check_folds(end(b, b.bn(y, C)))
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        (3, {"pads": [0, 0, 2, 2]}),
        (3, {"pads": [2, 1, 0, 1]}),
        (3, {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        (5, {"pads": [2, 2, 2, 2]}),
        (2, {"pads": [0, 0, 1, 1]}),
        (2, {"pads": [1, 0, 0, 1]}),
        (2, {"auto_pad": "SAME_UPPER", "pads": None}),
        (2, {"auto_pad": "SAME_LOWER", "pads": None}),
        (3, {"auto_pad": "SAME_UPPER", "pads": None}),
        (1, {"auto_pad": "VALID", "pads": None}),
        (1, {"pads": [0, 0, 0, 0], "dilations": [3, 3]}),
    ],
    ids=str,
)
def test_the_tap_that_sees_the_pixel(kernel, attributes):
    b = Builder()
    x = start(b)
    attributes = {k: v for k, v in attributes.items() if v is not None}
    y = b.conv(x, C, C, kernel=(kernel, kernel), **attributes)
    folded, _ = check_folds(end(b, b.node("Add", y, b.bn(x, C))))
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]


def test_dynamic_sizes():
    b = Builder()
    x = b.node("Softmax", b.input("N", C, "H", "W"), axis=-1)
    folded, _ = check_folds(end(b, b.node("Add", same(b, x), b.bn(x, C))), sizes={"H": 5, "W": 7})
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]


# The switch


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": (1, 1), "strides": [2, 2], "pads": [0, 0, 0, 0]},
        {"kernel": (3, 1), "strides": [2, 2], "pads": [1, 0, 1, 0]},
        {"kernel": (2, 2), "strides": [2, 2], "pads": [0, 1, 1, 0]},
        {"kernel": (3, 3), "strides": [2, 2], "pads": [1, 1, 1, 1], "bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("first", [True, False])
def test_convs_are_merged_on_demand(other, first):
    b = Builder()
    x = start(b)
    pair = [b.conv(x, C, 4, kernel=(3, 3), strides=[2, 2], pads=[1] * 4)]
    pair.insert(int(first), b.conv(x, C, 4, **other))
    model = end(b, b.node("Add", *pair))
    kept, plan = fold_model(model)
    assert kept == model
    assert not plan.merged
    folded, plan = check_folds(model, merge_branches=True)
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]
    assert len(plan.merged) == 1


def test_same_padding_with_a_stride_needs_the_size():
    for size, merged in ((7, True), ("H", False)):
        b = Builder()
        x = b.node("Softmax", b.input(2, C, size, size), axis=-1)
        y = b.conv(x, C, 4, kernel=(3, 3), strides=[2, 2], auto_pad="SAME_UPPER")
        z = b.conv(x, C, 4, kernel=(1, 1), strides=[2, 2], auto_pad="SAME_UPPER")
        _, plan = check_folds(end(b, b.node("Add", y, z)), merge_branches=True, sizes={"H": 7})
        assert bool(plan.merged) is merged


def test_residual_input_is_merged_on_demand():
    b = Builder()
    x = start(b)
    model = end(b, b.node("Add", x, same(b, x, group=2)))
    assert not fold_model(model)[1].merged
    folded, _ = check_folds(model, merge_branches=True)
    assert live_ops(folded) == ["Softmax", "Conv", "Relu"]


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": (3, 3), "pads": [2] * 4, "dilations": [2, 2]},
        {"kernel": (3, 3), "pads": [1] * 4, "group": 2},
        {"kernel": (1, 5), "pads": [0, 2, 0, 2]},
    ],
    ids=["dilation", "group", "neither kernel contains the other"],
)
def test_convs_of_other_geometry_stay(other):
    b = Builder()
    x = start(b)
    model = end(b, b.node("Add", same(b, x), b.conv(x, C, C, **other)))
    folded, plan = fold_model(model, merge_branches=True)
    assert folded == model
    assert not plan.merged


def test_shared_weights_are_split():
    b = Builder()
    x = start(b)
    w, bias = b.normal(C, C, 3, 3, name="w"), b.normal(C, name="b")
    pair = [b.node("Conv", x, w, bias, pads=[1] * 4) for _ in range(2)]
    b.output(b.node("Relu", b.node("Add", pair[0], b.bn(x, C)))).output(b.node("Relu", pair[1]))
    folded, _ = check_folds(b.model())
    assert {"w", "b", "w_folded", "b_folded"} <= set(weights(folded))


# BatchNormalizations of one tensor, without a Conv


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum"])
def test_two_batchnorms_of_one_tensor_become_one(op):
    b = Builder()
    x = start(b)
    folded, plan = check_folds(end(b, b.node(op, b.bn(x, C), b.bn(x, C))), left=1)
    assert live_ops(folded) == ["Softmax", "BatchNormalization", "Relu"]
    assert plan.folded[0].route[0].op == "BatchNormalization"


def test_two_batchnorms_of_one_conv_go_into_it():
    b = Builder()
    y = b.conv(b.input(2, 4, 7, 7), 4, C)
    folded, _ = check_folds(end(b, b.node("Add", b.bn(y, C), b.bn(y, C))))
    assert live_ops(folded) == ["Conv", "Relu"]


@pytest.mark.parametrize("how", ["y + bn", "bn - y", "y - bn"])
def test_batchnorm_and_its_own_input_behind_a_conv(how):
    b = Builder()
    y = b.conv(b.input(2, 4, 7, 7), 4, C)
    z = b.bn(y, C)
    op = "Add" if "+" in how else "Sub"
    model = end(b, b.node(op, *((y, z) if how[0] == "y" else (z, y))))
    folded, _ = check_folds(model)
    assert live_ops(folded) == ["Conv", "Relu"]


def test_batchnorm_and_its_own_input_without_a_conv_stay():
    b = Builder()
    x = start(b)
    model = end(b, b.node("Add", x, b.bn(x, C)))
    check_kept(model, Reason.NO_BRANCH)
    folded, _ = check_folds(model, left=1, merge_branches=True)
    assert live_ops(folded) == ["Softmax", "BatchNormalization", "Relu"]


# Look-alikes


def trap(build):
    b = Builder()
    x = start(b)
    return end(b, build(b, x))


LOOK_ALIKES = {
    "another tensor": lambda b, x: b.node("Add", same(b, b.node("Sigmoid", x)), b.bn(x, C)),
    "product": lambda b, x: b.node("Mul", same(b, x), b.bn(x, C)),
    "relu on the batchnorm": lambda b, x: b.node(
        "Add", same(b, x), b.node("Relu", b.bn(x, C))
    ),
    "relu on the conv": lambda b, x: b.node("Add", b.node("Relu", same(b, x)), b.bn(x, C)),
    "one channel, broadcast": lambda b, x: b.node(
        "Add", b.conv(x, C, 1, pads=[1] * 4), b.bn(x, C)
    ),
    "one pixel, broadcast": lambda b, x: b.node(
        "Add", b.conv(x, C, C, kernel=SPACE[2]), b.bn(x, C)
    ),
    "a stride and more padding": lambda b, x: b.node(
        "Add", same(b, x, strides=[2, 2], pads=[4, 5, 5, 5]), b.bn(x, C)
    ),
    "even dilation between taps": lambda b, x: b.node(
        "Add", b.conv(x, C, C, kernel=(3, 3), dilations=[2, 2], pads=[1, 1, 3, 3]), b.bn(x, C)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_look_alikes_are_kept(name):
    plan = check_kept(trap(LOOK_ALIKES[name]), Reason.SEVERAL_READERS)
    assert plan.kept[0].attempts[0].direction == "up"


def test_conv_that_is_read_elsewhere():
    b = Builder()
    x = start(b)
    y = same(b, x)
    b.output(b.node("Relu", b.node("Add", y, b.bn(x, C)))).output(y)
    plan = check_kept(b.model(), Reason.NO_BRANCH)
    assert plan.kept[0].attempts[-1].direction == "beside"


def test_weight_that_is_computed():
    b = Builder()
    x, w = start(b), b.input(C, C, 3, 3, name="w")
    y = b.node("Conv", x, w, pads=[1] * 4)
    check_kept(end(b, b.node("Add", y, b.bn(x, C))), Reason.NO_BRANCH)


def test_overflow():
    b = Builder(dtype="float16")
    x = start(b)
    stats = (np.full(C, 6e4), np.zeros(C), np.zeros(C), np.ones(C))
    w = b.const(np.full((C, C, 1, 1), 6e4))
    model = end(b, b.node("Add", b.node("Conv", x, w), b.bn(x, C, stats=stats, epsilon=0.0)))
    folded, plan = fold_model(model)
    assert folded == model
    assert Reason.OVERFLOW in {attempt.reason for attempt in plan.kept[0].attempts}


def test_batchnorm_that_is_a_graph_output():
    b = Builder()
    x = start(b)
    y = b.bn(x, C)
    b.output(b.node("Add", same(b, x), y)).output(y)
    assert count(fold_model(b.model())[0]) == 1


def test_branches_in_a_subgraph():
    b = Builder()
    x = start(b)
    condition = b.input(name="condition", elem_type=onnx.TensorProto.BOOL)
    outer, b.nodes = b.nodes, []
    y = b.node("Add", same(b, x), b.bn(x, C), out="then_out")
    inner, b.nodes = b.nodes, outer
    info = onnx.helper.make_tensor_value_info
    then = onnx.helper.make_graph(inner, "then", [], [info(y, 1, None)])
    other = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", [x], ["else_out"])], "else", [], [info("else_out", 1, None)]
    )
    b.output(b.node("If", condition, then_branch=then, else_branch=other))
    check_folds(b.model())


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [
        (AxisWindow(3, before=1, after=1), AxisWindow(1), 1),
        (AxisWindow(3, before=1, after=1), AxisWindow(3, before=1, after=1), 0),
        (AxisWindow(3, before=0, after=2), AxisWindow(1), 0),
        (AxisWindow(3, dilation=2, before=2, after=2), AxisWindow(1, dilation=7), 1),
        (AxisWindow(5, before=2, after=2), AxisWindow(3, before=1, after=1), 1),
        (AxisWindow(3, stride=2, before=1, after=1), AxisWindow(1, stride=2), 1),
        (AxisWindow(1), AxisWindow(3, before=1, after=1), None),
        (AxisWindow(3, stride=2, before=1, after=1), AxisWindow(1), None),
        (AxisWindow(3), AxisWindow(1), None),
        (AxisWindow(3, dilation=2, before=1, after=3), AxisWindow(1), None),
        (AxisWindow(3, dilation=2, before=2, after=2), AxisWindow(3, before=1, after=1), None),
        (AxisWindow(3, before=3, after=-1), AxisWindow(1), None),
    ],
    ids=str,
)
def test_place_of_a_window_in_another(one, other, place):
    assert one.place(other) == place
