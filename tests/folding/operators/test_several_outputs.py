"""Operators with several outputs answer for each one that is read, in both directions."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.folding import assert_same_function, count, fold_model
from support.routes import C, ints, statistics

from normswap.folding.operators import registry
from normswap.graph.reasons import Reason

SEVERAL = {
    schema.name
    for schema in onnx.defs.get_all_schemas_with_history()
    if not schema.domain and schema.max_output > 1
}
"""Operators that have or had more than one output."""


def split(b, x):
    parts = ints(b, 1, 2, C - 3)
    return b.node("Split", x, parts, axis=1, outputs=3), [TensorProto.FLOAT] * 2


def split_along_space(b, x):
    return b.node("Split", x, ints(b, 2, 3), axis=3, outputs=2), [TensorProto.FLOAT]


def dropout(b, x):
    return b.node("Dropout", x, b.const(np.array(0.4)), outputs=2), [TensorProto.BOOL]


def max_pool(b, x):
    names = b.node("MaxPool", x, kernel_shape=[1, 1], outputs=2)
    return names, [TensorProto.INT64]


def layer_norm(b, x, axis=-1):
    parameters = [b.normal(*(C, 5, 5)[axis % 4 - 1 :]) for _ in range(2)]
    names = b.node("LayerNormalization", x, *parameters, axis=axis, epsilon=0.1, outputs=3)
    return names, [TensorProto.FLOAT] * 2


def layer_norm_over_channels(b, x):
    return layer_norm(b, x, axis=1)


def batch_norm(b, x):
    parameters = [b.const(v) for v in b.statistics(C, positive=True)]
    names = b.node("BatchNormalization", x, *parameters, outputs=5)
    return names, [TensorProto.FLOAT] * 4


MAKERS = {
    split: ("Split", 17),
    split_along_space: ("Split", 17),
    dropout: ("Dropout", 17),
    max_pool: ("MaxPool", 17),
    layer_norm: ("LayerNormalization", 17),
    layer_norm_over_channels: ("LayerNormalization", 17),
    batch_norm: ("BatchNormalization", 9),
}

OUTPUTS = [
    (maker, which)
    for maker, outputs in (
        (split, 3),
        (split_along_space, 2),
        (dropout, 2),
        (max_pool, 2),
        (layer_norm, 3),
        (layer_norm_over_channels, 3),
        (batch_norm, 5),
    )
    for which in range(1, outputs)
]

FOLDS_UP = {split, dropout, layer_norm_over_channels}
"""Where the further outputs stay what they are, or take the identity.

A part along space takes it too, but a Conv can't scale one part of space and not the other.
"""

FOLDS_DOWN = {split, split_along_space, dropout}


def test_every_operator_with_several_outputs_is_here():
    known = {op for domain, op in registry() if not domain}
    apart = {"Attention"}  # test_attention.py
    assert known & SEVERAL == {op for op, _ in MAKERS.values()} | apart


def test_every_output_is_here():
    for maker, (op, opset) in MAKERS.items():
        schema = onnx.defs.get_schema(op, opset)
        most = 3 if op == "Split" else schema.max_output
        if maker is not split_along_space:
            assert {which for made, which in OUTPUTS if made is maker} == set(range(1, most))


def test_only_split_declares_ways_up_other_than_the_first_output():
    for (_, op), operator in registry().items():
        assert (1 in operator.ways_up) == (op == "Split")
        if SEVERAL.isdisjoint(operator.ops):
            assert not operator.right_up, op
            assert not operator.right_down, op


def read(b, name, elem_type, how, shape=None):
    """Let a tensor be read: by the caller, by a node, or by a subgraph."""
    if how == "output":
        b.output(name, shape, elem_type=elem_type)
    elif how == "node":
        b.output(b.node("Cast", name, to=TensorProto.FLOAT), shape)
    else:
        b.inputs.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
        graphs = {}
        for branch in ("then", "else"):
            node = helper.make_node("Cast", [name], [f"{branch}_out"], to=TensorProto.FLOAT)
            info = helper.make_tensor_value_info(f"{branch}_out", TensorProto.FLOAT, shape)
            graphs[f"{branch}_branch"] = helper.make_graph([node], branch, [], [info])
        b.output(b.node("If", "condition", **graphs), shape)


def above(maker, which, how):
    """Conv, the operator, and a BatchNormalization of its first output."""
    b = Builder(MAKERS[maker][1])
    names, types = maker(b, b.conv(b.input(2, 4, 7, 7), 4, C))
    channels = {split: 1}.get(maker, C)
    nonnegative = statistics(b, C, signs="nonnegative")
    y = b.bn(names[0], channels, stats=[v[:channels] for v in nonnegative])
    b.output(b.node("Sigmoid", y))
    read(b, names[which], types[which - 1], how, (C,) if maker is batch_norm else None)
    return b.model()


def below(maker, which, how):
    """BatchNormalization, the operator, and a Conv of its first output."""
    b = Builder(MAKERS[maker][1])
    stats = (np.full(C, 2.0), *[np.zeros(C)] * 2, np.ones(C))
    if maker not in (layer_norm, layer_norm_over_channels):
        stats = statistics(b, C, signs="nonnegative")
    names, types = maker(b, b.bn(b.input(2, C, 5, 5), C, stats=stats, epsilon=0.0))
    b.output(b.conv(names[0], {split: 1}.get(maker, C), 3, kernel=(1, 1)))
    if types[which - 1] == TensorProto.FLOAT and maker in (split, split_along_space):
        part = (1, 2, C - 3)[which] if maker is split else C
        names[which] = b.conv(names[which], part, 3, kernel=(1, 1))
    read(b, names[which], types[which - 1], how, (C,) if maker is batch_norm else None)
    return b.model()


def check(model, *, folds):
    folded, plan = fold_model(model)
    gone = any(entry.site.op == "BatchNormalization" for entry in plan.folded)
    assert gone == folds, [(entry.reason, entry.detail) for entry in plan.kept]
    if folds:
        assert_same_function(model, folded)
        again, second = fold_model(folded)
        assert not second.edits
        assert again == folded
    else:
        assert folded == model
        assert count(folded) == count(model)


@pytest.mark.parametrize("how", ["output", "node", "subgraph"])
@pytest.mark.parametrize(("maker", "which"), OUTPUTS, ids=lambda v: getattr(v, "__name__", v))
def test_up(maker, which, how):
    check(above(maker, which, how), folds=maker in FOLDS_UP)


@pytest.mark.parametrize("how", ["output", "node", "subgraph"])
@pytest.mark.parametrize(("maker", "which"), OUTPUTS, ids=lambda v: getattr(v, "__name__", v))
def test_down(maker, which, how):
    check(below(maker, which, how), folds=maker in FOLDS_DOWN)


@pytest.mark.parametrize("which", [1, 2])
def test_what_is_read_is_named(which):
    model = below(layer_norm, which, "output")
    _, plan = fold_model(model)
    attempt = next(a for a in plan.kept[0].attempts if a.direction == "down")
    assert attempt.reason is Reason.OPERATOR
    assert model.graph.output[1].name in attempt.detail


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_outputs_that_nobody_reads_hinder_nothing(outputs):
    b = Builder()
    stats = (np.full(C, 2.0), *[np.zeros(C)] * 2, np.ones(C))
    y = b.bn(b.input(2, C, 5, 5), C, stats=stats)
    made = b.node("LayerNormalization", y, b.normal(5), b.normal(5), outputs=outputs)
    b.output(made if outputs == 1 else made[0])
    check(b.model(), folds=True)


def test_a_shift_that_the_mean_takes_away_is_in_the_mean():
    # Of the first output it is gone, so that its readers need no edit; the mean has it still.
    b = Builder()
    x = b.node("Identity", b.conv(b.input(2, 4, 7, 7), 4, C))
    one, zero = np.ones(C), np.zeros(C)
    b.output(b.node("Sigmoid", b.bn(x, C, stats=(one, b.rng.normal(size=C), zero, one))))
    names = b.node("LayerNormalization", x, b.normal(5), b.normal(5), outputs=2)
    b.output(names[0]).output(names[1])
    check(b.model(), folds=False)


@pytest.mark.parametrize("op", sorted(SEVERAL - {op for _, op in registry()}))
def test_others_are_not_known_at_all(op):
    assert ("", op) not in registry()
