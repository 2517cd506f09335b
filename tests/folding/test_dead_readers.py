"""Nodes of which an edit has left nothing to be read are in nobody's way."""

import numpy as np
from support.build import Builder
from support.folding import assert_same_function, fold_model
from support.graphs import live_ops

C = 4


def test_what_nobody_reads_in_the_first_place_reads_on():
    b = Builder(17)
    y = b.conv(b.input(2, 3, 7, 7), 3, C)
    b.node("Relu", y)
    folded, plan = fold_model(b.output(b.bn(y, C)).model())
    assert [node.op_type for node in folded.graph.node].count("Relu") == 1
    assert len(plan.kept) == 1


def test_the_size_of_a_constant_that_goes_reads_nothing():
    b = Builder(17, "float64")
    y = b.bn(b.conv(b.input(2, 3, 7, 7), 3, C), C)
    size = b.node("Shape", y)
    y = b.node("Div", y, b.node("Expand", b.const(np.array(1.5)), size))
    model = b.output(b.bn(y, C)).model()
    for leftover in ("keep", "affine"):
        folded, _ = fold_model(model, leftover=leftover)
        assert_same_function(model, folded)
        again, second = fold_model(folded, leftover=leftover)
        assert not second.edits
        assert again == folded
    assert live_ops(folded).count("BatchNormalization") == 0
