"""Operators that move elements and never compute with them: seen by where each of them goes.

Run on numbers in place of values, an operator tells for every element that it makes which one it
was; 0 is none, such as padding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.groupnorm.refit.adjoints.base import rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.groupnorm.refit.adjoints.base import Array, Pull, Step

# fmt: off
_OPERATORS = (
    "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
    "Trilu", "Unsqueeze",
)
# fmt: on


@rule(*_OPERATORS)
def moving(step: Step) -> Pull:
    """Return the pull of an operator that moves what it is given."""
    padding = {"value": 0.0} if step.op == "Pad" else {}  # which is an input from opset 11 on
    numbers: list[Array | None] = []
    starts: dict[int, int] = {}
    count = 1
    for slot, value in enumerate(step.inputs):
        if value is None or value.dtype.kind != "f":
            numbers.append(value)
            continue
        starts[slot] = count
        numbers.append(np.arange(count, count + value.size).reshape(value.shape))
        count += value.size
    made = step.evaluate(numbers, len(step.outputs), **padding)
    return _back(step, made, starts, count)


@rule("Concat")
def concat(step: Step) -> Pull:
    """Return the pull of a concatenation: to each its part."""
    axis = step.attributes["axis"]
    sizes = [step.given(slot).shape[axis] for slot in range(len(step.inputs))]
    bounds = np.cumsum(sizes)[:-1]

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        if g[0] is None:
            return {}
        parts = np.split(g[0], bounds, axis)
        return {slot: parts[slot] for slot in step.active}

    return pull


@rule("Cast")
def cast(step: Step) -> Pull:
    """Return the pull of a change of type."""
    dtype = step.given(0).dtype

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        return {} if g[0] is None else {0: g[0].astype(dtype)}

    return pull


@rule("MaxPool")
def max_pool(step: Step) -> Pull:
    """Return the pull of a pooling that picks the largest."""
    x = step.given(0)
    at = step.evaluate([x.astype(np.float64)], 2, storage_order=0)[1]
    return _back(step, (at + 1,), {0: 1}, x.size + 1)


def _back(step: Step, made: Sequence[Array], starts: dict[int, int], count: int) -> Pull:
    """Return a pull that brings every element back to where it came from."""
    kept = [at.reshape(-1) for at in made]
    shapes, dtype = {slot: step.given(slot).shape for slot in step.active}, step.made.dtype
    if len(kept) == 1 and len(starts) == 1 and np.array_equal(kept[0], np.arange(1, count)):
        return lambda g: {s: g[0].reshape(shape) for s, shape in shapes.items() if g[0] is not None}

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        total = np.zeros(count)
        for part, at in zip(g, kept, strict=True):
            if part is not None:
                total += np.bincount(at, part.reshape(-1), count)
        found = {}
        for slot, shape in shapes.items():
            part = total[starts[slot] : starts[slot] + math.prod(shape)]
            found[slot] = part.reshape(shape).astype(dtype)
        return found

    return pull
