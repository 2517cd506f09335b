"""Which rank and sizes an input must have, by the weights of the operators that read it.

The walk starts at the input and goes on through operators whose result has the same sizes, up to
the first ones that say something: a Conv has the rank of its weight and as many channels as that, a
Gemm has rank 2, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from normswap.semantics.families import ARITHMETIC, CONTINUOUS, GLOBAL_POOLS, POOLS

if TYPE_CHECKING:
    from collections.abc import Mapping

    Readers = Mapping[str, list[tuple[Any, int]]]
    Shapes = Mapping[str, tuple[int, ...]]

# What makes of its first input something of the same sizes.
_KEEPING = CONTINUOUS | {
    "BatchNormalization", "Cast", "CastLike", "Ceil", "DequantizeLinear", "Dropout", "Floor",
    "GroupNormalization", "Identity", "InstanceNormalization", "LRN", "LayerNormalization",
    "LogSoftmax", "LpNormalization", "MeanVarianceNormalization", "Optional", "OptionalGetElement",
    "PRelu", "QuantizeLinear", "Round", "SequenceAt", "Sign", "Softmax",
}  # fmt: skip
# Those of two inputs, where the other one is a constant of no higher rank.
_WITH_A_CONSTANT = ARITHMETIC | {"Max", "Min", "Pow"}
_RANK_OF_AN_IMAGE = 4


@dataclass(slots=True)
class Demands:
    """What is known of the sizes of an input.

    Attributes
    ----------
    rank : int or None
    sizes : dict of int to int
        By axis; an axis counted from the end is negative.
    """

    rank: int | None = None
    sizes: dict[int, int] = field(default_factory=dict)


def demands(start: str, readers: Readers, shapes: Shapes) -> Demands:
    """Return what the operators ask for that an input reaches; the nearest ones count.

    Parameters
    ----------
    start : str
        Name of the input.
    readers : Mapping of str to list of (onnx.NodeProto, int)
        The nodes that read a tensor, and at which of their inputs, by its name.
    shapes : Mapping of str to tuple of int
        Of weights.
    """
    found = Demands()
    guess: int | None = None
    names, seen = [start], {start}
    for name in names:  # which grows
        for node, slot in readers.get(name, ()):
            if slot == 0:
                rank, sizes = _asked(node, shapes)
                found.rank = found.rank or rank
                for axis, size in sizes.items():
                    found.sizes.setdefault(axis, size)
                guess = guess or (_RANK_OF_AN_IMAGE if node.op_type in GLOBAL_POOLS else None)
            if _keeps(node, slot, shapes):
                fresh = set(node.output[:1]) - seen
                names += fresh
                seen |= fresh
            if node.op_type in _WITH_A_CONSTANT:
                guess = guess or max((len(shapes.get(i, ())) for i in node.input), default=0)
    channels = any(axis > 0 for axis in found.sizes)
    found.rank = found.rank or guess or (_RANK_OF_AN_IMAGE if channels else None)
    if found.rank is None and found.sizes:
        found.rank = 2
    return found


def _keeps(node: Any, slot: int, shapes: Shapes) -> bool:
    if node.op_type in _WITH_A_CONSTANT:
        return any(name in shapes for i, name in enumerate(node.input) if i != slot)
    return slot == 0 and node.op_type in _KEEPING


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _count(node: Any, name: str) -> int:
    return next((len(a.ints) for a in node.attribute if a.name == name), 0)


def _asked(node: Any, shapes: Shapes) -> tuple[int | None, dict[int, int]]:
    """Return the rank and the sizes, by axis, that a node demands of its first input."""
    if node.op_type in POOLS:
        count = _count(node, "kernel_shape")
        return (count + 2 if count else None), {}
    if node.op_type == "Transpose":
        return _count(node, "perm") or None, {}
    weight = shapes.get(node.input[1]) if len(node.input) > 1 else None
    if not weight:
        return None, {}
    if node.op_type == "Conv" and len(weight) > 1:
        return len(weight), {1: weight[1] * _attribute(node, "group", 1)}
    if node.op_type == "ConvTranspose":
        return len(weight), {1: weight[0]}
    if node.op_type in {"BatchNormalization", "InstanceNormalization"}:
        return None, {1: weight[0]}
    if node.op_type == "Gemm" and len(weight) == 2:
        size = weight[1] if _attribute(node, "transB", 0) else weight[0]
        return 2, {0 if _attribute(node, "transA", 0) else 1: size}
    if node.op_type == "MatMul" and len(weight) >= 2:
        return None, {-1: weight[-2]}
    if node.op_type in {"RNN", "GRU", "LSTM"} and len(weight) == 3:
        return 3, {2: weight[2]}
    return None, {}
