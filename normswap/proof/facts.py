"""What is known of the values of a tensor, whatever the input: bounds, and rows that sum to 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.proof.flat import CHOICE, NONE, OWN
from normswap.semantics.families import BLOCKS, MOVES

if TYPE_CHECKING:
    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side

Bounds = tuple[float, float]

_NOTHING: Bounds = (-math.inf, math.inf)
_RANGES: dict[str, Bounds] = {
    "Abs": (0.0, math.inf),
    "Cos": (-1.0, 1.0),
    "Erf": (-1.0, 1.0),
    "Exp": (0.0, math.inf),
    "HardSigmoid": (0.0, 1.0),
    "Hardmax": (0.0, 1.0),
    "ReduceL1": (0.0, math.inf),
    "ReduceL2": (0.0, math.inf),
    "ReduceSumSquare": (0.0, math.inf),
    "Relu": (0.0, math.inf),
    "Sigmoid": (0.0, 1.0),
    "Sin": (-1.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Softplus": (0.0, math.inf),
    "Softsign": (-1.0, 1.0),
    "Sqrt": (0.0, math.inf),
    "Tanh": (-1.0, 1.0),
}
_WITHIN = MOVES | BLOCKS | {
    "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMean", "ReduceMin",
}  # fmt: skip
"""Operators that make nothing beyond the least and the largest that they read."""
_DEEPEST = 24


class Facts:
    """What is known of a model's tensors, each worked out when it is asked for."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._known: dict[int, Bounds] = {}

    def bounds(self, number: int, depth: int = 0) -> Bounds:
        """Return the least and the greatest value that a tensor may have."""
        found = self._known.get(number)
        if found is None:
            maker = self._side.flat.makers[number]
            found = _NOTHING
            if maker is not None and depth < _DEEPEST:
                found = self._made(maker, depth + 1)
            self._known[number] = found
        return found

    def sums_to_one(self, number: int) -> bool:
        """Whether a tensor sums to 1 along its last axis, as what a Softmax makes."""
        maker = self._side.flat.makers[number]
        shape = self._side.sizes[0].shapes.get(number)
        if maker is None or maker.op != "Softmax" or not maker.is_standard or not shape:
            return False
        default = -1 if maker.opset >= 13 else 1
        return int(maker.attributes.get("axis", default)) in {-1, len(shape) - 1}

    def _made(self, node: FlatNode, depth: int) -> Bounds:
        if node.domain == OWN:
            if node.op != CHOICE:
                return _NOTHING
            return self._hull(node.inputs[1:], depth)
        if node.domain:
            return _NOTHING
        if node.op in _RANGES:
            low, high = _RANGES[node.op]
            if node.op == "Relu":
                return 0.0, max(self.bounds(node.inputs[0], depth)[1], 0.0)
            return low, high
        if node.op == "Clip":
            return self._clipped(node)
        if node.op in _WITHIN:
            data = node.inputs if node.op == "Concat" else node.inputs[:1]
            return self._hull(data, depth)
        if node.op == "AveragePool":
            low, high = self._hull(node.inputs[:1], depth)
            return min(low, 0.0), max(high, 0.0)  # pads may count
        if node.op in {"Add", "Sum", "Mul"}:
            return self._combined(node, depth)
        if node.op == "Pow":
            exponent = self._constant(node.inputs[1])
            even = exponent is not None and bool((exponent % 2 == 0).all())
            return (0.0, math.inf) if even else _NOTHING
        return _NOTHING

    def _hull(self, numbers: list[int], depth: int) -> Bounds:
        each = [self._of(number, depth) for number in numbers]
        return min(low for low, _ in each), max(high for _, high in each)

    def _of(self, number: int, depth: int) -> Bounds:
        constant = self._constant(number)
        if constant is not None and constant.size and constant.dtype.kind in "fiu":
            low, high = float(constant.min()), float(constant.max())
            return _NOTHING if math.isnan(low + high) else (low, high)
        return self.bounds(number, depth)

    def _combined(self, node: FlatNode, depth: int) -> Bounds:
        if node.op == "Mul" and len(set(node.inputs)) == 1:
            return 0.0, math.inf
        each = [self._of(number, depth) for number in node.inputs]
        if any(low < 0 for low, _ in each):
            return _NOTHING
        if node.op == "Mul":
            return 0.0, math.inf
        return sum(low for low, _ in each), math.inf

    def _clipped(self, node: FlatNode) -> Bounds:
        limits = []
        for slot, name in ((1, "min"), (2, "max")):
            limit = node.attributes.get(name)
            if slot < len(node.inputs) and node.inputs[slot] != NONE:
                value = self._constant(node.inputs[slot])
                if value is None:
                    return _NOTHING
                limit = float(value.reshape(-1)[0])
            limits.append(limit)
        low = -math.inf if limits[0] is None else float(limits[0])
        high = math.inf if limits[1] is None else float(limits[1])
        return (low, high) if low <= high else _NOTHING

    def _constant(self, number: int) -> np.ndarray | None:
        side = self._side
        if number in side.flat.tensors and number not in side.overridable:
            if np.prod(side.constants.shape(number)) > 1 << 16:
                return None
            return side.constants.load(number)
        return side.value(number)
