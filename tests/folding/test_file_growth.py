"""What a fold adds to the file: told before it is written, and kept within bounds."""

import pytest
from onnx import helper
from support.build import Builder
from support.folding import check_folds, count, fold_model

from normswap.graph.reasons import Reason
from normswap.model import load

C, HEADS = 16, 5


def heads(count=HEADS, *, shared=True, through=None):
    """Convs of one weight (or of one each), with a BatchNormalization behind each."""
    b = Builder()
    weight = b.normal(C, C, 3, 3)
    for number in range(count):
        x = b.input(1, C, 5, 5, name=f"x{number}")
        w = weight if shared else b.normal(C, C, 3, 3)
        w = w if through is None else b.node(through, w)
        b.output(b.bn(b.node("Conv", x, w), C))
    return b.model()


def growth(model, **options):
    folded, plan = fold_model(model, **options)
    values = [tensor.raw_data for m in (model, folded) for tensor in m.graph.initializer]
    before = sum(map(len, values[: len(model.graph.initializer)]))
    return folded, plan, sum(map(len, values)) - 2 * before


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("through", [None, "Identity"])
def test_what_is_told_is_what_is_written(shared, through):
    _, plan, added = growth(heads(shared=shared, through=through))
    assert len(plan.folded) == HEADS
    assert plan.added_bytes == added
    assert (added > 0) == shared
    weight = C * C * 9 * 4
    told = [(copy.copies, copy.added_bytes) for copy in plan.copied]
    assert told == ([(HEADS, (HEADS - 1) * weight)] if shared else [])


def test_one_reader_that_needs_no_copy_counts_too():
    b = Builder()
    x, w = b.input(1, C, 5, 5), b.normal(C, C, 3, 3)
    b.output(b.bn(b.node("Conv", x, w), C)).output(b.node("Conv", x, w))
    _, plan, added = growth(b.model())
    assert [(copy.tensor, copy.copies) for copy in plan.copied] == [(w, 2)]
    assert plan.added_bytes == added


@pytest.mark.parametrize(("factor", "left"), [(1.0, 5), (1.2, 5), (2.0, 4), (2.5, 3), (6.0, 0)])
def test_what_would_grow_beyond_a_factor_is_kept(factor, left):
    model = heads()
    folded, plan, added = growth(model, max_growth=factor)
    assert (len(plan.kept), count(folded)) == (left, left)
    assert {entry.reason for entry in plan.kept} <= {Reason.GROWTH}
    assert added <= (factor - 1) * load(model.SerializeToString()).size
    again, _ = fold_model(model, max_growth=factor)
    assert again == folded


def test_a_fold_that_adds_nothing_is_made_at_any_factor():
    _, plan = check_folds(heads(shared=False), max_growth=1.0)
    assert len(plan.folded) == HEADS


def test_the_way_that_copies_nothing_is_taken():
    # Up is a weight that another one reads; down is one for it alone.
    b = Builder()
    x, w = b.input(1, C, 5, 5), b.normal(C, C, 3, 3)
    y = b.bn(b.node("Conv", x, w), C)
    b.output(b.node("Conv", y, b.normal(C, C, 1, 1))).output(b.node("Conv", x, w))
    up, down = (fold_model(b.model(), max_growth=factor)[1] for factor in (None, 1.1))
    assert [plan.folded[0].route[0].direction for plan in (up, down)] == ["up", "down"]


@pytest.mark.parametrize("shared", [True, False])
def test_a_weight_that_calls_give(shared):
    body = [
        helper.make_node("Conv", ["a", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
    ]
    names = ["a", "w", "s", "b", "m", "v"]
    layer = helper.make_function("own", "Layer", names, ["y"], body, [helper.make_opsetid("", 17)])
    b, channels = Builder(), 16  # so that a weight is more than all parameters that go
    y, weight = b.input(1, channels, 9, 9), b.normal(channels, channels, 1, 1)
    for _ in range(3):
        w = weight if shared else b.normal(channels, channels, 1, 1)
        y = b.node("Layer", y, w, *(b.const(v) for v in b.statistics(channels)), domain="own")
    b.functions.append(layer)
    b.extra_opsets.append(helper.make_opsetid("own", 1))
    model = b.output(y).model()
    _, plan = fold_model(model)
    assert len(plan.folded) == 3
    assert (plan.added_bytes > 0) == shared
    kept = fold_model(model, max_growth=1.0)[1].kept
    assert bool(kept) == shared


def test_a_fold_may_make_the_file_smaller():
    model = heads(1)
    assert (
        fold_model(model)[1].added_bytes == C * 4 - 4 * C * 4
    )  # a bias, and no BatchNormalization
