"""Branches of one tensor, added and subtracted in any tree, stay the same function when merged."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import Builder
from support.folding import assert_same_function, fold_model

C = 4
LEAVES = ["conv3", "conv1", "grouped", "strange", "bn", "arithmetic", "x", "other", "conv-bn"]


class Tree:
    """Builds a random sum."""

    def __init__(self, draw, b, x):
        self.draw, self.b, self.x = draw, b, x
        self.shared = []

    def leaf(self):
        b, x = self.b, self.x
        match self.draw(st.sampled_from(LEAVES)):
            case "conv3":
                return b.conv(x, C, C, pads=[1] * 4, bias=self.draw(st.booleans()))
            case "conv1":
                return b.conv(x, C, C, kernel=(1, 1), bias=self.draw(st.booleans()))
            case "grouped":
                return b.conv(x, C, C, pads=[1] * 4, group=2)
            case "strange":  # even kernel, one-sided padding
                return b.conv(x, C, C, kernel=(2, 3), pads=[0, 2, 1, 0])
            case "bn":
                return b.bn(x, C)
            case "arithmetic":
                return b.node("Add", b.node("Mul", x, b.normal(C, 1, 1)), b.normal(C, 1, 1))
            case "conv-bn":
                return b.bn(b.conv(x, C, C, pads=[1] * 4), C)
            case "other":
                return b.node("Sigmoid", x)
        return x

    def term(self, depth):
        kinds = ["leaf", "leaf", "Add", "Sub", "Sum", "scaled", "bn"]
        kind = self.draw(st.sampled_from(kinds)) if depth else "leaf"
        if kind == "leaf":
            value = self.leaf()
        elif kind == "Sum":
            count = self.draw(st.integers(2, 4))
            value = self.b.node("Sum", *(self.term(depth - 1) for _ in range(count)))
        elif kind == "scaled":
            value = self.b.node("Mul", self.term(depth - 1), self.b.normal(C, 1, 1))
        elif kind == "bn":
            value = self.b.bn(self.term(depth - 1), C)
        else:
            value = self.b.node(kind, self.term(depth - 1), self.term(depth - 1))
        if self.draw(st.integers(0, 9)) == 0:
            self.shared.append(value)
        return value


@st.composite
def models(draw):
    b = Builder(seed=draw(st.integers(0, 2**16)))
    x = b.node("Softmax", b.input(2, C, 5, 6), axis=-1)
    tree = Tree(draw, b, x)
    y = tree.b.node(draw(st.sampled_from(["Add", "Sub"])), tree.term(3), tree.term(3))
    b.output(b.node("Relu", y) if draw(st.booleans()) else y)
    for value in dict.fromkeys(tree.shared):
        b.output(b.node("Neg", value))
    return b.model()


@given(models(), st.booleans(), st.sampled_from(["keep", "affine", "normalize"]))
@settings(max_examples=60, deadline=None)
def test_sums(model, merge_branches, leftover):
    options = {"merge_branches": merge_branches, "leftover": leftover}
    folded, plan = fold_model(model, **options)
    assert_same_function(model, folded, tolerance=2e-5, seeds=(0,))
    batchnorms = [e for e in (*plan.folded, *plan.kept) if e.site.op == "BatchNormalization"]
    assert len(batchnorms) == sum(n.op_type == "BatchNormalization" for n in model.graph.node)
    again, second = fold_model(folded, **options)
    assert not second.folded
    assert not second.merged
    assert again == folded
