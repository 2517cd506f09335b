"""An operand that lets a tensor grow is no affine of it: what it is part of keeps its shape."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.folding import assert_same_function, count, fold_model
from support.graphs import live_ops

C = 4
OPS = ["Mul", "Div", "Add", "Sub", "Sum", "Max", "Min", "Where", "Expand"]
PAIRS = [(op, "static") for op in OPS] + [(op, "dynamic") for op in ("Mul", "Add", "Where")]
SHAPES = {
    "space": (1, 1, 5, 5),
    "width": (5,),
    "batch": (2, 1, 1, 1),
    "batch and space": (2, 1, 3, 1),
    "rank": (1, 1, 1, 1, 1),
    "rank and batch": (2, 1, 1, 1, 1),
    "none": (1, 1, 1, 1),
    "channels alone": (C, 1, 1),
}


def applied(b, op, y, shape, *, ones, left):
    """Add an operator by which y is broadcast to a shape."""
    if op == "Expand":
        return b.node("Expand", y, b.const(np.array(shape, dtype=np.int64)))
    k = b.const(np.ones(shape) if ones else b.rng.uniform(0.5, 1.5, shape))
    if op == "Where":
        condition = b.const(b.rng.integers(0, 2, shape).astype(bool))
        return b.node("Where", condition, *((k, y) if left else (y, k)))
    return b.node(op, *((k, y) if left else (y, k)))


def right(model, **options):
    """Fold a model and assert all that must be true of it; return what comes out."""
    folded, _ = fold_model(model, **options)
    onnx.checker.check_model(folded, full_check=True)
    assert_same_function(model, folded, sizes={"N": 1, "H": 1})
    again, second = fold_model(folded, **options)
    assert not second.edits
    assert again == folded
    return folded


def small(b, first, space):
    """A tensor of (1, C, 1, 1), of known sizes or not."""
    batch, height = (1, 1) if space == "static" else ("N", "H")
    x = b.input(batch, C, height, height)
    return b.conv(x, C, C, kernel=(1, 1)) if first == "Conv" else b.node(first, x)


@pytest.mark.parametrize(("op", "space"), PAIRS)
@pytest.mark.parametrize("grown", SHAPES)
def test_up(op, grown, space):
    if "rank" in grown:
        # Over five axes the channels are elsewhere: the normalization is over the old batch.
        channels, shape = 1, SHAPES[grown]
    else:
        channels, shape = C, SHAPES[grown]
    for ones, left in ((True, False), (False, op not in ("Div", "Expand"))):
        b = Builder()
        y = applied(b, op, small(b, "Conv", space), shape, ones=ones, left=left)
        y = b.bn(y, channels, positive=True)
        right(b.output(b.node("Sigmoid", y), [None] * max(4, len(shape))).model())


@pytest.mark.parametrize(("op", "space"), PAIRS)
@pytest.mark.parametrize("grown", [name for name in SHAPES if "rank" not in name])
def test_down(op, grown, space):
    for ones, left in ((True, False), (False, op not in ("Div", "Expand"))):
        b = Builder()
        y = b.bn(small(b, "Sigmoid", space), C, positive=True)
        y = applied(b, op, y, SHAPES[grown], ones=ones, left=left)
        right(b.output(b.conv(y, C, 3, kernel=(1, 1)), [None] * 4).model())


@pytest.mark.parametrize("op", ["Mul", "Div"])
@pytest.mark.parametrize("grown", ["space", "width", "batch", "batch and space"])
def test_the_operator_stays(op, grown):
    b = Builder()
    y = b.node("GlobalAveragePool", b.conv(b.input(1, 3, 5, 5), 3, C))
    y = applied(b, op, y, SHAPES[grown], ones=True, left=False)
    folded = right(b.output(b.bn(y, C)).model())
    assert live_ops(folded) == ["Conv", "GlobalAveragePool", op, "Add"]


@pytest.mark.parametrize("op", ["Mul", "Div"])
@pytest.mark.parametrize("grown", ["none", "channels alone"])
def test_the_operator_goes_where_nothing_grows(op, grown):
    b = Builder()
    y = b.node("GlobalAveragePool", b.conv(b.input(1, 3, 5, 5), 3, C))
    y = applied(b, op, y, SHAPES[grown], ones=False, left=False)
    folded = right(b.output(b.bn(y, C)).model())
    assert live_ops(folded) == ["Conv", "GlobalAveragePool"]


@pytest.mark.parametrize("grown", ["space", "batch", "channels"])
def test_written_out_arithmetic(grown):
    # A chain of which one link lets the tensor grow.
    shape = (C, 1, 1) if grown == "channels" else SHAPES[grown]
    channels = 1 if grown == "channels" else C
    for grows_first in (True, False):
        b = Builder()
        y = b.conv(b.input(1, 3, 1, 1), 3, channels, kernel=(1, 1))
        by = [shape, (1,)] if grows_first else [(1,), shape]
        y = b.node("Mul", y, b.const(b.rng.uniform(0.5, 1.5, by[0])))
        y = b.node("Add", y, b.const(b.rng.normal(size=by[1])))
        model = b.output(y).model()
        right(model)
        right(model, leftover="affine")


def test_channels_that_are_not_known_may_be_one():
    b = Builder()
    x = b.input(1, "K", 3, 3)
    y = b.node("Mul", x, b.const(b.rng.uniform(1, 2, (C, 1, 1))))
    y = b.node("Add", y, b.const(b.rng.normal(size=(1,))))
    model = b.output(b.node("Sigmoid", y), [None] * 4).model()
    for leftover in ("keep", "affine"):
        folded, _ = fold_model(model, leftover=leftover)
        assert_same_function(model, folded, sizes={"K": 1})
        assert_same_function(model, folded, sizes={"K": C})


@pytest.mark.parametrize("grown", ["space", "width", "batch", "batch and space"])
@pytest.mark.parametrize("ones", [True, False])
def test_a_branch_that_grows(grown, ones):
    b = Builder()
    x = b.input(1, 3, 1, 1)
    grows = applied(b, "Mul", b.conv(x, 3, C, kernel=(1, 1)), SHAPES[grown], ones=ones, left=False)
    b.output(b.node("Add", grows, b.conv(x, 3, C, kernel=(1, 1))))
    folded = right(b.model(), merge_branches=True)
    assert "Mul" in live_ops(folded)


def test_a_sum_that_another_term_lets_grow():
    # The branches become one, of one pixel; the third term makes the sum as large as it was.
    b = Builder()
    x = b.input(1, 3, 1, 1)
    y = b.node("Add", b.conv(x, 3, C, kernel=(1, 1)), b.input(2, C, 5, 5, name="z"))
    b.output(b.node("Add", y, b.conv(x, 3, C, kernel=(1, 1))))
    folded = right(b.model(), merge_branches=True)
    assert sorted(live_ops(folded)) == ["Add", "Conv"]


# Names, captures and further readers: every node that goes passes the same gate


def scaled_branch(*, through="output"):
    """A Conv times ones, added to its own input; both of the results have another reader."""
    b = Builder()
    x = b.input(1, C, 5, 5)
    conv = b.conv(x, C, C, kernel=(1, 1))
    ones = b.node("Mul", conv, b.const(np.ones(1)))
    total = b.node("Add", ones, x)
    if through == "output":
        b.output(ones)
    elif through == "node":
        b.output(b.node("Neg", ones))
    else:
        b.inputs.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
        graphs = {}
        for branch in ("then", "else"):
            node = helper.make_node("Neg", [ones], [f"{branch}_out"])
            info = helper.make_tensor_value_info(f"{branch}_out", TensorProto.FLOAT, None)
            graphs[f"{branch}_branch"] = helper.make_graph([node], branch, [], [info])
        b.output(b.node("If", "condition", **graphs))
    b.output(total).output(b.node("Relu", conv))
    return b.model()


@pytest.mark.parametrize("through", ["output", "node", "subgraph"])
def test_ones_that_others_read(through):
    model = scaled_branch(through=through)
    folded = right(model, merge_branches=True)
    assert [info.name for info in folded.graph.output] == [i.name for i in model.graph.output]
    assert (count(folded, "Mul") == 1) == (through == "output")


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum"])
@pytest.mark.parametrize("read", ["branch", "scaled", "sum", "input"])
@pytest.mark.parametrize("merge_branches", [False, True])
def test_outputs_on_the_way_of_a_merge(op, read, merge_branches):
    b = Builder()
    x = b.node("Sigmoid", b.input(1, C, 5, 5))
    first = b.conv(x, C, C, kernel=(1, 1))
    scaled = b.node("Mul", first, b.const(b.rng.uniform(1, 2, (C, 1, 1))))
    total = b.node(op, scaled, b.bn(x, C))
    whole = b.node("Add", total, b.conv(x, C, C, kernel=(1, 1)))
    b.output({"branch": first, "scaled": scaled, "sum": total, "input": x}[read])
    b.output(whole)
    right(b.model(), merge_branches=merge_branches)
