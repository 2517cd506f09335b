"""Adjoints: a pull agrees with what outputs do when inputs are moved, rule by rule."""

from __future__ import annotations

import numpy as np
import pytest

from normswap.groupnorm.refit.adjoints.base import Step
from normswap.groupnorm.refit.adjoints.rules import RULES
from normswap.semantics.registry import meaning_of

RNG = np.random.default_rng(7)


def draw(*shape):
    """Values away from kinks and poles."""
    values = RNG.uniform(0.2, 1.5, shape)
    return values * RNG.choice([-1, 1], shape)


def ints(*values):
    return np.array(values, np.int64)


X = (2, 4, 5, 6)
WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 0, 1]}
CASES = {
    "Relu": ([draw(*X)], {}),
    "HardSigmoid": ([draw(*X)], {"alpha": 0.7, "beta": 0.4}),
    "Clip": ([draw(*X), np.array(-0.7), np.array(0.9)], {}),
    "Sigmoid": ([draw(*X)], {}),
    "Sqrt": ([np.abs(draw(*X))], {}),
    "Add": ([draw(*X), draw(4, 1, 1)], {}),
    "Mul": ([draw(*X), draw(2, 4, 1, 1)], {}),
    "Div": ([draw(1, 4, 5, 6), draw(2, 1, 1, 6)], {}),
    "Sub": ([draw(6), draw(*X)], {}),
    "Pow": ([np.abs(draw(*X)), np.array(1.7)], {}),
    "Where": ([RNG.random(X) > 0.5, draw(*X), draw(6)], {}),
    "BatchNormalization": ([draw(*X), draw(4), draw(4), draw(4), np.abs(draw(4))], {}),
    "Reshape": ([draw(*X), ints(2, -1, 3)], {}),
    "Transpose": ([draw(*X)], {"perm": [0, 2, 3, 1]}),
    "Concat": ([draw(2, 3, 4), draw(2, 2, 4)], {"axis": 1}),
    "Slice": ([draw(*X), ints(3, 0), ints(0, 9), ints(2, 1), ints(-2, 3)], {}),
    "Pad": ([draw(2, 3), ints(1, 0, 2, -1), np.array(5.0)], {}),
    "Gather": ([draw(3, 4), ints(1, 1, 0, -1)], {"axis": 1}),
    "Expand": ([draw(3, 1), ints(2, 3, 4)], {}),
    "Cast": ([draw(3)], {"to": 11}),
    "MaxPool": ([draw(*X)], WINDOW),
    "AveragePool": ([draw(*X)], {**WINDOW, "ceil_mode": 1}),
    "MatMul": ([draw(3, 2, 4), draw(4, 5)], {}),
    "Gemm": ([draw(4, 3), draw(5, 4), draw(5)], {"transA": 1, "transB": 1, "alpha": 0.5}),
    "Conv": (
        [draw(2, 4, 6, 5), draw(6, 2, 3, 2), draw(6)],
        {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]},
    ),
    "ConvTranspose": (
        [draw(2, 4, 3, 4), draw(4, 3, 3, 2), draw(6)],
        {"group": 2, "strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]},
    ),
    "ReduceMean": ([draw(*X)], {"axes": [1, 3], "keepdims": 0}),
    "ReduceSum": ([draw(*X), ints(2)], {}),
    "ReduceSumSquare": ([draw(*X)], {"axes": [1], "keepdims": 0}),
    "ReduceL2": ([draw(*X)], {"axes": [1]}),
    "ReduceMax": ([draw(*X)], {"axes": [2], "keepdims": 0}),
    "GlobalAveragePool": ([draw(*X)], {}),
    "Softmax": ([draw(3, 4, 2)], {"axis": 1}),
    "LogSoftmax": ([draw(3, 4)], {}),
    "InstanceNormalization": ([draw(*X), draw(4), draw(4)], {"epsilon": 1e-2}),
    "LayerNormalization": ([draw(2, 3, 4), draw(3, 4), draw(3, 4)], {"axis": 1}),
    "GroupNormalization": ([draw(*X), draw(4), draw(4)], {"num_groups": 2}),
}
MORE = [
    ("Conv", [draw(1, 3, 7), draw(6, 1, 3)], {"group": 3, "auto_pad": "SAME_UPPER"}),  # depthwise
    ("Split", [draw(2, 7)], {"axis": 1}),
    ("MatMul", [draw(4), draw(2, 4, 3)], {}),
    ("MatMul", [draw(2, 3, 4), draw(4)], {}),
    ("HardSwish", [4 * draw(*X)], {}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), [(o, *c) for o, c in CASES.items()] + MORE)
def test_a_pull_is_the_adjoint(op, inputs, attributes):
    opset = 13 if "axes" in attributes else 21  # an input from 18 on, but of ReduceSum
    inputs = [np.asarray(value) for value in inputs]
    active = frozenset(slot for slot, value in enumerate(inputs) if value.dtype.kind == "f")
    rule, slots = RULES["", op]
    active = active if slots is None else active & slots
    count = 2 if op == "Split" else 1
    meaning = meaning_of(op, "", opset)

    def run(values):
        return meaning.evaluate(values, attributes, opset, count)

    outputs = run(inputs)
    pull = rule(Step(op, "", opset, attributes, tuple(inputs), outputs, active))
    g = [RNG.normal(size=np.shape(value)) for value in outputs]
    found = pull(g)
    assert found.keys() == active
    for slot in active:
        assert found[slot].shape == inputs[slot].shape
        move = 1e-6 * RNG.normal(size=inputs[slot].shape)
        low, high = (
            run([*inputs[:slot], inputs[slot] + s * move, *inputs[slot + 1 :]]) for s in (-1, 1)
        )
        seen = sum(np.sum(w * (b - a)) / 2 for w, a, b in zip(g, low, high, strict=True))
        assert np.sum(found[slot] * move) == pytest.approx(seen, rel=1e-4, abs=1e-9)


def test_every_rule_is_of_an_operator_that_is_known():
    for domain, op in RULES:
        assert meaning_of(op, domain, 1 if domain else 24) is not None
