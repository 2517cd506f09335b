"""Open sizes of several inputs that must agree, although nothing in the file says so.

What is added to a map that a Conv has halved has to be of half the size, and how large that is
only the operators between tell. So ONNX's shape inference is run on the sizes that habit gives, and
where two tensors then don't fit each other, one open size after the other is moved until they do.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normswap.inputs.signature import inferred
from normswap.semantics.families import ARITHMETIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from normswap.inputs.signature import Shape

    Sizes = Mapping[str, int]
    Conclude = Callable[[Sizes], dict[str, Shape]]

_BROADCASTING = ARITHMETIC | {
    "And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min",
    "Mod", "Or", "Pow", "Sum", "Where", "Xor",
}  # fmt: skip
_CONFLICTS = 16  # that are resolved, one after the other
_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class _Conflict:
    """Two axes, each of a tensor, that should be of one size; `node` counts along the graph."""

    node: int
    one: tuple[str, int]
    other: tuple[str, int]

    @property
    def place(self) -> tuple[int, int]:
        """Where it is, along the graph and from the left."""
        return self.node, self.one[1]

    def gap(self, shapes: Mapping[str, Shape]) -> int | None:
        """Return by how much they differ, None where that isn't known."""
        sizes = []
        for name, axis in (self.one, self.other):
            shape = shapes.get(name, ())
            if len(shape) < -axis or not shape[axis]:
                return None
            sizes.append(shape[axis])
        return sizes[0] - sizes[1]


def agreeing(structure: bytes, conclude: Conclude, sizes: Sizes, free: Sequence[str]) -> Sizes:
    """Return sizes on which the tensors of a graph fit each other, as far as they can be had.

    Parameters
    ----------
    structure : bytes
        Of a model, see :attr:`normswap.inputs.signature.Signature.structure`.
    conclude : callable
        Returns the shapes of the inputs that follow from sizes.
    sizes : Mapping of str to int
        By symbol.
    free : sequence of str
        The symbols whose size may be another.
    """

    def conflict_of(trial: Sizes) -> _Conflict | None:
        return _first_conflict(structure, tuple(conclude(trial).items()))

    def close(conflict: _Conflict, sizes: Sizes, symbol: str) -> int | None:
        def gap(size: int) -> int | None:
            found = inferred(structure, conclude({**sizes, symbol: size}))
            return None if found is None else conflict.gap(found[1])

        return _closing(gap, sizes[symbol])

    for _ in range(_CONFLICTS):
        conflict = conflict_of(sizes)
        if conflict is None:
            break
        closed = {symbol: close(conflict, sizes, symbol) for symbol in free}
        trials = [(size, {**sizes, symbol: size}) for symbol, size in closed.items() if size]
        for _, trial in sorted(trials, key=lambda pair: pair[0]):
            after = conflict_of(trial)
            if after is None or after.place > conflict.place:
                sizes = trial
                break
        else:
            break
    return sizes


def fits(structure: bytes, shapes: Mapping[str, Shape]) -> bool:
    """Whether the tensors of a graph fit each other on inputs of some shapes, as far as is known.

    Parameters
    ----------
    structure : bytes
        As of :func:`agreeing`.
    shapes : Mapping of str to tuple of int
        Of the inputs.
    """
    return _first_conflict(structure, tuple(shapes.items())) is None


def _closing(gap: Callable[[int], int | None], size: int) -> int | None:
    """Return the size at which a gap closes, None where there is none.

    A gap grows or shrinks with the size, or has nothing to do with it.
    """
    first = gap(size)
    if first is None:
        return None
    for step in (0.5, 2.0):
        inner, outer = size, round(size * step)
        while 1 <= outer <= _LARGEST:
            there = gap(outer)
            if there == 0:
                return outer
            if there is None:
                break
            if (there > 0) != (first > 0):
                return _between(gap, inner, outer, positive=first > 0)
            if abs(there) >= abs(first):
                break
            inner, outer = outer, round(outer * step)
    return None


def _between(
    gap: Callable[[int], int | None], inner: int, outer: int, *, positive: bool
) -> int | None:
    while abs(outer - inner) > 1:
        middle = (inner + outer) // 2
        there = gap(middle)
        if not there:
            return middle if there == 0 else None
        if (there > 0) == positive:
            inner = middle
        else:
            outer = middle
    return None


@functools.lru_cache(maxsize=64)
def _first_conflict(structure: bytes, given: tuple[tuple[str, Shape], ...]) -> _Conflict | None:
    """Return the first two axes, along the graph and from the left, that don't fit."""
    found = inferred(structure, dict(given))
    if found is None:
        return None
    graph, shapes = found
    for number, node in enumerate(graph.node):
        for one, other in _pairs(node, shapes):
            conflict = _Conflict(number, one, other)
            if conflict.gap(shapes):
                return conflict
    return None


def _pairs(
    node: Any, shapes: Mapping[str, Shape]
) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Yield axes of the inputs of a node that must be of one size; axes count from the end."""
    if node.op_type not in _BROADCASTING and node.op_type not in ("Concat", "MatMul"):
        return
    known = [(name, shapes[name]) for name in node.input if shapes.get(name)]
    for (one, a), (other, b) in itertools.combinations(known, 2):
        if node.op_type == "MatMul":
            if len(a) > 1 and len(b) > 1:
                yield (one, -1), (other, -2)
            continue
        along = next((item.i for item in node.attribute if item.name == "axis"), None)
        for axis in range(-min(len(a), len(b)), 0):
            if node.op_type == "Concat":
                if along not in (axis, axis + len(a)):
                    yield (one, axis), (other, axis)
            elif 1 not in (a[axis], b[axis]):
                yield (one, axis), (other, axis)
