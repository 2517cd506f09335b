"""How much work a model is, from its graph alone, and how to make it less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normswap.graph.work import OPERANDS, work_of
from normswap.inputs.signature import Shape, inferred

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normswap.inputs.signature import Signature

_LEAST_SIDE = 16


def multiply_adds(structure: bytes, shapes: Mapping[str, Shape]) -> int | None:
    """Return the multiply-adds of a model's convolutions and matrix products.

    Parameters
    ----------
    structure : bytes
        Of the model, see :class:`~normswap.inputs.signature.Signature`.
    shapes : Mapping of str to tuple of int
        Shapes of the inputs.

    Returns
    -------
    int or None
        None where shape inference does not get through.
    """
    found = inferred(structure, shapes)
    if found is None:
        return None
    graph, known = found
    total = 0
    for node in graph.node:
        work = _work(node, known)
        if work is None:
            return None
        total += work
    return total


def _work(node: Any, known: Mapping[str, Shape]) -> int | None:
    """Return the multiply-adds of a node; None where a size is unknown."""
    slots = OPERANDS.get(node.op_type)
    if slots is None:
        return 0
    left, right = (known.get(node.input[slot], ()) for slot in slots)
    out = known.get(node.output[0], ())
    if not left or not right or not out or 0 in {*left, *right, *out}:
        return None
    transposed = any(item.name == "transA" and item.i for item in node.attribute)
    return work_of(node.op_type, left, right, out, transposed=transposed)


def smaller(
    signature: Signature, shapes: Mapping[str, Shape], budget: int
) -> Iterator[dict[str, Shape]]:
    """Yield shapes that make the model cheap enough, the cheapest first, and none if they are.

    Only the spatial axes of images and volumes shrink; whether the model takes the smaller ones
    is seen when it is evaluated.
    """
    work = multiply_adds(signature.structure, shapes)
    images = {
        port.name
        for port in signature.inputs
        if port.name in shapes and len(shapes[port.name]) in {4, 5} and port.dtype != "string"
    }
    if work is None or work <= budget or not images:
        return
    sizes = []
    for divisor in (2, 4, 8):
        candidate = {
            name: _divided(shape, divisor) if name in images else shape
            for name, shape in shapes.items()
        }
        sizes.append(candidate)
        if work / divisor**2 <= budget:
            break
    yield from reversed(sizes)


def _divided(shape: Shape, divisor: int) -> Shape:
    """Return a shape with smaller spatial axes, each a multiple of 16 where it was."""
    spatial = []
    for size in shape[2:]:
        less = max(size // divisor, min(size, _LEAST_SIDE))
        rounded = -(-less // 16) * 16 if size % 16 == 0 else less
        spatial.append(min(size, rounded))
    return (*shape[:2], *spatial)
