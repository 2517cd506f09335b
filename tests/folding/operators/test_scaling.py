"""How often operators are asked, in graphs that are long or wide."""

import numpy as np
import pytest
from support.build import Builder
from support.folding import count, fold_model

from normswap.folding import route

C = 4


@pytest.fixture
def asked(monkeypatch):
    calls = []
    original = route._operator_answers

    def counted(node, index, goal):
        calls.append(node.op)
        return original(node, index, goal)

    monkeypatch.setattr(route, "_operator_answers", counted)
    return calls


def test_a_chain_of_ten_thousand_carriers(asked):
    b = Builder()
    y = b.conv(b.input("N", C, 4, 4), C, C)
    for _ in range(10_000):
        y = b.node("Identity", y)
    b.output(b.node("Sigmoid", b.bn(y, C)))
    folded, _ = fold_model(b.model())
    assert count(folded) == 0
    assert len(asked) < 11_000


@pytest.mark.parametrize("up", [True, False])
def test_a_concat_of_a_thousand(asked, up):
    b = Builder()
    x = b.input("N", C, 4, 4)
    parts = []
    for _ in range(1000):
        y = b.conv(x, C, 2, kernel=(1, 1)) if up else b.node("Relu", x)
        parts.append(y if up else b.bn(y, C))
    y = b.node("Concat", *parts, axis=1)
    if up:
        b.output(b.node("Sigmoid", b.bn(y, 2000)))
    else:
        b.output(b.conv(y, 1000 * C, 2, kernel=(1, 1)))
    folded, plan = fold_model(b.model())
    assert count(folded) == 0
    assert len(plan.folded) == (1 if up else 1000)
    assert len(asked) < 10_000


def test_a_thousand_folds_into_one_weight_are_one_formula():
    from normswap.graph.expressions import Leaf
    from normswap.graph.formulas import Scaled, Summed

    b = Builder()
    y = b.input("N", C, 4, 4)
    for index in range(1500):
        y = b.bn(
            y,
            C,
            stats=(np.full(C, 1.0 + (-1) ** index / 1000), np.ones(C), np.zeros(C), np.ones(C)),
        )
    b.output(b.conv(y, C, 2, kernel=(1, 1)))
    folded, plan = fold_model(b.model())
    assert [node.op_type for node in folded.graph.node] == ["Conv"]
    weights = [edit.constant for edit in plan.edits if hasattr(edit, "constant")]
    assert all(isinstance(w.base, Leaf) for w in weights if isinstance(w, Scaled))
    assert any(isinstance(w, Scaled | Summed) for w in weights)


def test_a_long_residual_trunk(asked):
    # Every shift goes down past all the blocks that follow; each of them is asked once.
    blocks = 40
    b = Builder()
    y = b.input("N", C, 4, 4)
    for _ in range(blocks):
        z = b.node("Relu", b.conv(y, C, C, kernel=(1, 1)))
        y = b.node("Add", b.bn(z, C, positive=True), y)
    b.output(b.conv(y, C, 2, kernel=(1, 1)))
    folded, _ = fold_model(b.model())
    assert count(folded) == 0
    assert len(asked) < 20 * blocks**2
