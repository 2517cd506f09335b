"""Long chains, wide sums, and the order of nodes: what a plan must not depend on."""

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.folding import check_folds, count, fold_model
from support.graphs import live_ops

C = 2
LONG = 1500


def small(b, positive=True):
    return (
        b.rng.uniform(0.95, 1.05, C) * (1 if positive else -1),
        b.rng.normal(size=C) * 0.01,
        b.rng.normal(size=C) * 0.01,
        b.rng.uniform(0.95, 1.05, C),
    )


def test_a_long_chain_of_convs():
    b = Builder()
    x = b.input(1, C, 2, 2)
    for _ in range(LONG):
        x = b.bn(b.node("Conv", x, b.const(np.eye(C).reshape(C, C, 1, 1))), C, stats=small(b))
    b.output(x)
    folded, plan = fold_model(b.model())
    assert live_ops(folded) == ["Conv"] * LONG
    assert len(plan.folded) == LONG


@pytest.mark.parametrize("first", ["Conv", "Softmax"])
def test_a_long_chain_of_batchnorms(first):
    b = Builder()
    x = b.input(1, C, 2, 2)
    x = b.conv(x, C, C, kernel=(1, 1)) if first == "Conv" else b.node("Softmax", x)
    for _ in range(LONG):
        x = b.bn(x, C, stats=small(b))
    b.output(x)
    folded, _ = fold_model(b.model())
    assert live_ops(folded) == (["Conv"] if first == "Conv" else ["Softmax", "BatchNormalization"])


def test_a_long_chain_of_arithmetic():
    b = Builder()
    x = b.conv(b.input(1, C, 2, 2), C, C, kernel=(1, 1))
    for _ in range(LONG):
        x = b.node(
            "Add", b.node("Mul", x, b.const(small(b)[0].reshape(C, 1, 1))), b.const(np.zeros(1))
        )
    b.output(x)
    folded, plan = fold_model(b.model())
    assert live_ops(folded) == ["Conv"]
    assert len(plan.folded) == 1


def test_a_wide_sum_of_branches():
    b = Builder()
    x = b.node("Softmax", b.input(1, C, 2, 2))
    branches = [b.conv(x, C, C, kernel=(1, 1)), *(b.bn(x, C, stats=small(b)) for _ in range(60))]
    y = b.node("Sum", *branches[:30])
    for branch in branches[30:]:
        y = b.node("Add", branch, y)
    b.output(y)
    folded, plan = check_folds(b.model())
    assert live_ops(folded) == ["Softmax", "Conv"]
    assert len(plan.folded) == 60


def test_a_wide_concat():
    b = Builder()
    x = b.input(1, C, 2, 2)
    y = b.node("Concat", *(b.conv(x, C, 1, kernel=(1, 1)) for _ in range(300)), axis=1)
    b.output(b.bn(y, 300))
    folded, _ = check_folds(b.model())
    assert count(folded, "Conv") == 300


def shuffled(model, seed):
    """The same model with its nodes in another order that ONNX allows."""
    rng = np.random.default_rng(seed)
    waiting = list(model.graph.node)
    known = {info.name for info in model.graph.input} | {t.name for t in model.graph.initializer}
    known.add("")
    order = []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        node = ready[rng.integers(len(ready))]
        waiting.remove(node)
        order.append(node)
        known.update(node.output)
    result = onnx.ModelProto.FromString(model.SerializeToString())
    del result.graph.node[:]
    result.graph.node.extend(order)
    return result


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("merge_branches", [False, True])
def test_order_of_nodes(seed, merge_branches):
    b = Builder()
    x = b.node("Softmax", b.input(2, 4, 7, 7), axis=-1)
    twins = [b.const(v) for v in b.statistics(4)]
    for _ in range(2):
        y = b.node("Add", b.bn(b.conv(x, 4, 4, pads=[1] * 4), 4), b.bn(x, 4))
        z = b.node("Add", b.conv(x, 4, 4, kernel=(1, 1)), b.conv(x, 4, 4, kernel=(1, 1)))
        y = b.node("Add", b.node("Mul", y, b.normal(4, 1, 1)), b.normal(4, 1, 1))
        x = b.node("Relu", b.node("Sub", y, z))
        x = b.node("Add", x, b.node("BatchNormalization", b.node("Relu", x), *twins))
    b.output(b.node("BatchNormalization", x, *twins)).output(
        b.node("Neg", b.node("BatchNormalization", x, *twins))
    )
    model = b.model()
    first = fold_model(model, merge_branches=merge_branches)[1].to_dict()
    other = fold_model(shuffled(model, seed), merge_branches=merge_branches)[1].to_dict()
    assert other == first
