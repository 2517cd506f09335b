"""Transposes around a BatchNormalization go with it; others stay."""

import pytest
from support.build import Builder
from support.folding import assert_same_function, count, fold_model


def around(perms, *, between=True, output=False):
    """A linear layer over tokens, and a normalization of its channels."""
    b = Builder(17)
    x = b.node("MatMul", b.input("N", 5, 3), b.normal(3, 4))
    first = b.node("Transpose", x, perm=perms[0])
    y = b.bn(first, 4) if between else first
    y = b.node("Transpose", y, **({} if perms[1] is None else {"perm": perms[1]}))
    b.output(b.node("Relu", y), None)
    return (b.output(first, None) if output else b).model()


@pytest.mark.parametrize(
    ("model", "left"),
    [
        (around([[0, 2, 1], [0, 2, 1]]), 0),
        (around([[0, 2, 1], [1, 0, 2]]), 2),
        (around([[0, 2, 1], None]), 2),
        (around([[0, 2, 1], [0, 2, 1]], output=True), 2),
        (around([[0, 2, 1], [0, 2, 1]], between=False), 2),
    ],
    ids=["undone", "turned", "reversed", "read", "there before"],
)
def test_pairs(model, left):
    folded, _ = fold_model(model)
    assert count(folded, "Transpose") == left
    assert_same_function(model, folded)
    assert fold_model(folded)[0] == folded
