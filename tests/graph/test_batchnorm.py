"""One decision whether a BatchNormalization may be rewritten, and the reasons of a swap."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from support.build import Builder
from support.folding import fold_model
from support.swapping import swap_options

from normswap.errors import ModelError
from normswap.graph.batchnorm import is_batchnorm, require_rewritable
from normswap.graph.build import build_network
from normswap.graph.reasons import Reason, blocked_by
from normswap.groupnorm.planner import plan_swap
from normswap.groupnorm.policy import GroupPolicy, OnIndivisible
from normswap.model import load

C = 10
FOLD = {}
SWAP = {"in_training": True, "by_channel": True}
RECALIBRATE = SWAP | {"with_statistics": True}


def model(opset=17, *, outputs=1, read=False, each=(), **attrs):
    """A BatchNormalization, of which a statistic may be read; `each` is what one value is for."""
    b = Builder(opset)
    statistics = (v.reshape(C, *[1] * len(each)) * np.ones(each) for v in b.statistics(C))
    parameters = [b.const(v) for v in statistics]
    x = b.input(2, C, 6, 6)
    made = b.node("BatchNormalization", x, *parameters, outputs=outputs, name="bn", **attrs)
    names = [made] if outputs == 1 else made
    b.output(names[0], None)
    if read:
        b.output(names[1], None)
    graph = helper.make_graph(b.nodes, "g", b.inputs, b.outputs, b.initializers)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7 if opset < 15 else 8)


def reason(model, asked):
    network = build_network(load(model.SerializeToString()))
    (node,) = (node for node in network.nodes() if is_batchnorm(node))
    block = blocked_by(require_rewritable, node, **asked)
    return block and block.reason


TRAINING = {"outputs": 3, "training_mode": 1}


@pytest.mark.parametrize(
    ("made", "fold", "swap", "recalibrated"),
    [
        ({}, None, None, None),
        (TRAINING, Reason.TRAINING_MODE, None, None),
        (TRAINING | {"read": True}, Reason.TRAINING_MODE, Reason.USED_STATISTICS, None),
        ({"opset": 9, "outputs": 5}, Reason.TRAINING_MODE, None, None),
        (
            {"opset": 9, "outputs": 5, "read": True},
            Reason.USED_STATISTICS,
            Reason.USED_STATISTICS,
            None,
        ),
        (
            {"opset": 7, "spatial": 0, "each": (6, 6)},
            None,
            Reason.PER_ACTIVATION,
            Reason.PER_ACTIVATION,
        ),
        ({"opset": 7, "spatial": 0}, None, None, None),  # one value a channel, for all its pixels
        ({"opset": 6, "is_test": 1}, None, Reason.OPSET, Reason.OPSET),
    ],
)
def test_each_rewrite_asks_the_same_function(made, fold, swap, recalibrated):
    made = model(**made)
    assert [reason(made, asked) for asked in (FOLD, SWAP, RECALIBRATE)] == [
        fold,
        swap,
        recalibrated,
    ]


def test_a_parameter_that_is_left_out_blocks_all():
    made = model()
    made.graph.node[-1].input[4] = ""
    assert {reason(made, asked) for asked in (FOLD, SWAP, RECALIBRATE)} == {Reason.MALFORMED}


def test_an_attribute_of_a_function_blocks_all():
    b = Builder(17)
    node = helper.make_node("BatchNormalization", list("xsbmv"), ["y"], name="bn")
    node.attribute.add(name="epsilon", type=1, ref_attr_name="eps")
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "Norm", list("xsbmv"), ["y"], [node], opsets, ["eps"])
    b.functions.append(function)
    b.extra_opsets = [helper.make_opsetid("local", 1)]
    parameters = [b.const(v) for v in b.statistics(C)]
    y = b.node("Norm", b.input(2, C, 6, 6), *parameters, domain="local", eps=0.1)
    b.output(y, (2, C, 6, 6))
    made = b.model()
    assert {reason(made, asked) for asked in (FOLD, SWAP, RECALIBRATE)} == {Reason.NOT_CONSTANT}


def swap_plan(fields):
    b = Builder(17)
    y = b.bn(b.conv(b.input(2, 3, 8, 8), 3, C), C, name="bn", out="y")
    b.output(y, None)
    return plan_swap(load(b.model().SerializeToString()), swap_options(2, **fields))


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"exclude": ("bn",)}, Reason.EXCLUDED, "excluded by 'bn'"),
        ({"only_kept": True}, Reason.FOLDABLE, "it can be folded"),
        (
            {"policy": GroupPolicy(groups=4, on_indivisible=OnIndivisible.KEEP)},
            Reason.INDIVISIBLE,
            "10 channels can't be divided into 4 groups",
        ),
    ],
)
def test_what_a_swap_leaves_has_a_reason(fields, reason, detail):
    (entry,) = swap_plan(fields).untouched
    assert (entry.reason, entry.detail) == (reason, detail)


def test_a_swap_says_the_opset():
    made = model(6, is_test=1)
    with pytest.raises(ModelError, match="bn: it is of opset 6"):
        plan_swap(load(made.SerializeToString()), swap_options(2))


def test_what_a_fold_keeps_says_which_output_is_used():
    (kept,) = fold_model(model(9, outputs=5, read=True))[1].kept
    assert kept.detail.startswith("its output ")
    assert "and only training mode has them" in kept.detail
