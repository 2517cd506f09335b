"""The sizes at which a region is driven: those of the model, or smaller ones that say as much.

A region of windows and of what is done element by element treats samples alone, and every place of
an image like any other, but for the borders. So an image large enough for each border by itself
and for an interior between them shows all that a large one would: twice the reach of all windows,
with what they pad. It leaves the same remainder as the model's by all strides together, for a last
window that does not fit, and paddings that depend on it, see nothing else of a size. Where the
model takes any size, the next larger images are driven too, which leave other remainders.

What else a region does (a Reshape, a Slice, a sum over an axis) is driven at the model's own sizes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normswap.proof.flat import NONE
from normswap.semantics.families import CONTINUOUS, WINDOWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side
    from normswap.proof.regions import Cone

Shape = tuple[int, ...]

_ALONE = CONTINUOUS | {"Cast", "QuickGelu", "Shrink", "ThresholdedRelu"}
_FOREIGN = frozenset({("com.microsoft", "Gelu"), ("com.microsoft", "QuickGelu")})
_TOGETHER = frozenset({"Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum"})
_WHOLE = frozenset({
    "BatchNormalization", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization",
    "InstanceNormalization",
})  # fmt: skip
_VALUES = 16  # of a channel at least, so that a floor can be told


class Layout:
    """The shapes that a region is driven with.

    Parameters
    ----------
    a, b : (Side, Cone)
    """

    def __init__(self, a: tuple[Side, Cone], b: tuple[Side, Cone]) -> None:
        self._sides = (a, b)
        self._numbers: dict[int, tuple[Side, int]] = {}
        for side, cone in (b, a):
            for number, kind in cone.frontier.items():
                self._numbers[kind] = (side, number)
        nodes = [(side, node, cone) for side, cone in self._sides for node in cone.nodes]
        self.is_local = all(_is_local(node, side, cone) for side, node, cone in nodes)
        self._windows = [(side, node) for side, node, _ in nodes if node.op in WINDOWS]

    def shape(self, kind: int, size: int) -> Shape | None:
        """Return the model's own shape of what has a class, at one of its sizes."""
        side, number = self._numbers[kind]
        return side.sizes[min(size, len(side.sizes) - 1)].shapes.get(number)

    @property
    def is_open(self) -> bool:
        """Whether the models take several sizes."""
        return any(len(side.sizes) > 1 for side, _ in self._sides)

    def plans(self, kinds: Sequence[int]) -> Iterator[Mapping[int, Shape]]:
        """Yield the shapes of a frontier's tensors; all of them are to be driven.

        Parameters
        ----------
        kinds : sequence of int
            The classes whose values are drawn.
        """
        small = self._small(kinds) if self.is_local else None
        if small is not None:
            yield from small
            return
        for size in range(max(len(side.sizes) for side, _ in self._sides)):
            shapes = {kind: self.shape(kind, size) for kind in kinds}
            if any(shape is None for shape in shapes.values()):
                return
            yield {kind: shape for kind, shape in shapes.items() if shape is not None}

    def probe(self, kinds: Sequence[int], batch: int) -> Mapping[int, Shape] | None:
        """Return the smallest shapes that show every tap of every window; None where none are."""
        if not self.is_local:
            return None
        return self._cut(kinds, self._reach(), batch, 0)

    def _small(self, kinds: Sequence[int]) -> list[Mapping[int, Shape]] | None:
        found = []
        for more in (0, 1, 2) if self.is_open else (0,):
            cut = self._cut(kinds, 2 * self._reach() + self._padding() + 1, 2, more)
            if cut is None:
                return None
            found.append(cut)
        return found

    def _cut(
        self, kinds: Sequence[int], least: int, batch: int, more: int
    ) -> Mapping[int, Shape] | None:
        """Return shapes with spatial axes of a size at least, proportions kept."""
        shapes = {kind: self.shape(kind, 0) for kind in kinds}
        known = [shape for shape in shapes.values() if shape is not None]
        ranks = {len(shape) for shape in known}
        if len(known) < len(shapes) or len(ranks) != 1 or min(ranks) < 2:
            return None
        rank = ranks.pop()
        step = math.lcm(*self._strides(), 1)
        sizes: list[dict[int, int]] = []
        for axis in range(2, rank):
            present = sorted({shape[axis] for shape in known} - {1})
            if not present:
                sizes.append({1: 1})
                continue
            largest = present[-1]
            if any(largest % size for size in present):
                return None
            part = math.lcm(step, *(largest // size for size in present))
            new = least + (largest - least) % part
            while any(new // (largest // size) < least // (largest // size) for size in present):
                new += part  # pragma: no cover - `least` is a bound already
            new = min(new, largest) if not more else new + more * (part if len(present) > 1 else 1)
            sizes.append({1: 1, **{size: new * size // largest for size in present}})
        places = math.prod(max(size.values()) for size in sizes)
        batch = max(batch, -(-_VALUES // max(places, 1))) if batch < _VALUES else batch
        return {
            kind: (batch, shape[1], *(size[n] for size, n in zip(sizes, shape[2:], strict=True)))
            for kind, shape in shapes.items()
            if shape is not None
        }

    def _reach(self) -> int:
        total = 1
        for side, node in self._windows:
            kernel = _kernel(side, node)
            dilations = node.attributes.get("dilations") or [1] * len(kernel)
            total += max(((k - 1) * d for k, d in zip(kernel, dilations, strict=False)), default=0)
        # Windows behind strides reach further in what is before them.
        return total * max(math.prod(self._strides()) // max(self._strides(), default=1), 1)

    def _padding(self) -> int:
        return sum(max(node.attributes.get("pads") or [0]) * 2 for _, node in self._windows)

    def _strides(self) -> list[int]:
        return [max(node.attributes.get("strides") or [1]) for _, node in self._windows]


def _kernel(side: Side, node: FlatNode) -> Sequence[int]:
    given = node.attributes.get("kernel_shape")
    if given:
        return list(given)
    shape = side.sizes[0].shapes.get(node.inputs[1]) if len(node.inputs) > 1 else None
    return list(shape[2:]) if shape else []


def _is_local(node: FlatNode, side: Side, cone: Cone) -> bool:
    """Whether a node treats samples alone, and places alike."""
    if not node.is_standard and (node.domain, node.op) not in _FOREIGN:
        return False
    constant = [n in cone.constants for n in node.inputs if n != NONE]
    if all(constant):
        return True
    if node.op in _ALONE or node.op in _WHOLE:
        return all(constant[1:]) and not node.attributes.get("training_mode", 0)
    if node.op == "Concat":
        return bool(node.attributes.get("axis") == 1) and not any(constant)
    if node.op == "Gather":
        return node.attributes.get("axis", 0) == 1 and all(constant[1:])
    if node.op == "Split":
        return bool(node.attributes.get("axis") == 1) and all(constant[1:])
    if node.op in WINDOWS:
        return all(constant[1:]) and "output_shape" not in node.attributes
    if node.op not in _TOGETHER or node.attributes:
        return False
    shape = side.sizes[0].shapes.get(node.outputs[0])
    if shape is None:
        return False
    for number, fixed in zip(node.inputs, constant, strict=False):
        own = side.sizes[0].shapes.get(number)
        if own is None or (not fixed and len(own) != len(shape)):
            return False
        padded = (1,) * (len(shape) - len(own)) + own
        if fixed and any(size != 1 for axis, size in enumerate(padded) if axis != 1):
            return False
    return True
