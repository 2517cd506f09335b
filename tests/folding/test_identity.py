"""A normalization of Convs of a tensor and the tensor itself, and what only looks like it."""

import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept, count
from support.graphs import live_ops

from normswap.graph.reasons import Reason

C = 6


def start(b, *shape):
    """A tensor that can absorb nothing."""
    return b.node("Softmax", b.input(*(shape or (2, C, 7, 8))), axis=-1)


def same(b, x, kernel=3, group=1, **attrs):
    """A Conv that keeps the size."""
    if "auto_pad" not in attrs:
        attrs.setdefault("pads", [kernel // 2] * 4)
    return b.conv(x, C, C, kernel=(kernel, kernel), group=group, **attrs)


def normalized(b, y):
    b.output(b.node("Sigmoid", b.bn(y, C)))
    return b.model()


SUMS = {
    "Conv and identity": lambda b, x, g: b.node("Add", same(b, x, group=g), x),
    "identity and Conv": lambda b, x, g: b.node("Add", x, same(b, x, group=g)),
    "two Convs and identity": lambda b, x, g: b.node(
        "Add", b.node("Add", same(b, x, group=g), x), same(b, x, 1, group=g)
    ),
    "Sum": lambda b, x, g: b.node("Sum", x, same(b, x, 1, group=g), same(b, x, 5, group=g)),
    "RepViT": lambda b, x, g: b.node(
        "Add", b.node("Add", b.bn(same(b, x, group=g), C), same(b, x, 1, group=g)), x
    ),
    "Conv less identity": lambda b, x, g: b.node("Sub", same(b, x, group=g), x),
    "identity less Conv": lambda b, x, g: b.node("Sub", x, same(b, x, group=g)),
    "twice": lambda b, x, g: b.node("Add", b.node("Add", same(b, x, group=g), x), x),
    "SAME": lambda b, x, g: b.node("Add", same(b, x, group=g, auto_pad="SAME_LOWER"), x),
    "dilated": lambda b, x, g: b.node(
        "Add", same(b, x, group=g, pads=[2] * 4, dilations=[2, 2]), x
    ),
    "even kernel": lambda b, x, g: b.node("Add", same(b, x, 4, group=g, pads=[1, 1, 2, 2]), x),
    "a copy": lambda b, x, g: b.node("Add", same(b, x, group=g), b.node("Identity", x)),
}


@pytest.mark.parametrize("group", [1, 2, C])
@pytest.mark.parametrize("branches", SUMS.values(), ids=SUMS)
def test_it_becomes_one_conv(branches, group):
    b = Builder(seed=group)
    folded, plan = check_folds(normalized(b, branches(b, start(b), group)))
    assert live_ops(folded) == ["Softmax", "Conv", "Sigmoid"]
    assert len(plan.merged) == 1


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_every_type(dtype):
    b = Builder(dtype=dtype)
    x = start(b)
    check_folds(normalized(b, b.node("Add", same(b, x), x)))


def test_blocks_in_a_row():
    b = Builder()
    y = start(b)
    for _ in range(3):
        y = b.node("Relu", b.bn(b.node("Add", b.node("Add", same(b, y), y), same(b, y, 1)), C))
    b.output(y)
    folded, plan = check_folds(b.model())
    assert count(folded, "Conv") == 3
    assert len(plan.merged) == 3


def test_a_copy_that_goes_leaves_nobody_behind_that_reads_the_tensor():
    """The normalization before it goes down into the one Conv, as it would in another fold."""
    b = Builder()
    x = b.bn(start(b), C)
    y = b.node("Sub", b.node("Identity", x), b.conv(x, C, C, kernel=(1, 1)))
    check_folds(normalized(b, y))


def test_space_of_unknown_size():
    b = Builder()
    x = start(b, "N", C, "H", "W")
    check_folds(normalized(b, b.node("Add", same(b, x), x)), sizes={"H": 5, "W": 4})


def other_tensor(b):
    return b.node("Add", same(b, start(b)), b.node("Tanh", b.input(2, C, 7, 8, name="z")))


def other_type(b):
    x = start(b)
    half = b.node("Cast", b.node("Cast", x, to=10), to=1)
    return b.node("Add", same(b, x), half)


def grown_space(b):
    """The padding makes (N, C, 3, 3) of (N, C, 1, 1), to which the identity is broadcast."""
    x = start(b, 2, C, 1, 1)
    return b.node("Add", b.conv(x, C, C, kernel=(1, 1), pads=[1] * 4), x)


def grown_channels(b):
    x = start(b, 2, 1, 7, 8)
    return b.node("Add", b.conv(x, 1, C, pads=[1] * 4), x)


def strided(b):
    """An axis of length 1 has one step of any stride; of another length it would not add up."""
    x = start(b, 2, C, 1, 1)
    return b.node("Add", same(b, x, strides=[2, 2]), x)


def quantity_at_run_time(b):
    x = start(b)
    w = b.node("Mul", b.normal(C, C, 3, 3), b.node("ReduceMean", x, keepdims=0))
    return b.node("Add", b.node("Conv", x, w, pads=[1] * 4), x)


def read_elsewhere(b):
    x = start(b)
    y = b.node("Add", same(b, x), x)
    b.output(b.node("Tanh", y))
    return y


KEPT = {
    "another tensor": (other_tensor, Reason.OPERATOR),
    "through another type": (other_type, Reason.SEVERAL_READERS),
    "broadcast along space": (grown_space, Reason.SEVERAL_READERS),
    "broadcast along channels": (grown_channels, Reason.AXIS),
    "a stride": (strided, Reason.SEVERAL_READERS),
    "a weight that is computed": (quantity_at_run_time, Reason.NOT_CONSTANT),
    "a sum that is read elsewhere": (read_elsewhere, Reason.SEVERAL_READERS),
}


@pytest.mark.parametrize(("branches", "reason"), KEPT.values(), ids=KEPT)
def test_look_alikes(branches, reason):
    b = Builder()
    check_kept(normalized(b, branches(b)), reason)


def test_a_merger_that_does_not_help_is_taken_back():
    """The sum could be one Conv, but its result is also added to what nothing is known of."""
    b = Builder()
    x = start(b)
    y = b.node("Add", b.node("Add", same(b, x), x), b.node("Tanh", b.input(2, C, 7, 8, name="z")))
    model = normalized(b, y)
    plan = check_kept(model, Reason.OPERATOR)
    assert not plan.merged


def test_a_constant_that_does_not_fit_its_type():
    b = Builder(dtype="float16")
    x = start(b)
    w = b.const(np.full((C, C, 1, 1), 6e4))
    y = b.node("Add", b.node("Conv", x, w), x)
    stats = [np.full(C, v) for v in (4.0, 0.0, 0.0, 1.0)]
    b.output(b.node("Sigmoid", b.bn(y, C, stats=stats)))
    check_kept(b.model(), Reason.SEVERAL_READERS)
