"""Forms of operators that have a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.proof.evaluate import widened
from normswap.proof.forms.known import plain, varying
from normswap.proof.maps import LinearOperator, Map, MapBlock, NoMapError, Trail

if TYPE_CHECKING:
    from normswap.proof.flat import FlatNode
    from normswap.proof.forms.known import Known


def _weighed(known: Known, node: FlatNode, axis: int, channels: int) -> tuple[Map, np.ndarray]:
    """Return what an operator reads, as scaled channels, and its weight."""
    weight = known.weight(node)
    if known.length(node.inputs[0], axis) != channels:
        raise NoMapError("its weight is for another number of channels")
    made = known.map(node).along(axis, channels)
    if any(block.operator.name for block in made.blocks):
        raise NoMapError("one operator is behind another")
    return made, weight


def _weighted(
    block: MapBlock,
    operator: LinearOperator,
    weight: np.ndarray,
    scale: np.ndarray,
    size: np.ndarray,
) -> MapBlock:
    """Return what an operator makes of scaled channels."""
    factor = None if (scale == 1).all() else scale
    if (np.abs(scale) == size).all():
        return MapBlock(block.kind, operator, 0, weight, factor=factor)
    return MapBlock(block.kind, operator, 0, weight, np.abs(weight) * size, factor)


def _convolved(known: Known, node: FlatNode) -> list[Map]:
    shape = _weight_shape(known, node)
    group = int(node.attributes.get("group", 1))
    made, weight = _weighed(known, node, 1, shape[1] * group)
    rank = weight.ndim - 2
    given = node.attributes
    automatic = given.get("auto_pad", "NOTSET")
    pads = tuple(given.get("pads") or (0,) * (2 * rank))
    if automatic == "VALID":
        automatic, pads = "NOTSET", (0,) * (2 * rank)
    if tuple(given.get("kernel_shape") or weight.shape[2:]) != weight.shape[2:]:
        raise NoMapError("its weight has another size than it says")
    padding = automatic if automatic != "NOTSET" else ""
    if (any(pads) or padding) and np.any(made.bias != 0):
        raise NoMapError("what it pads is shifted before")
    strides = tuple(given.get("strides") or (1,) * rank)
    dilations = tuple(given.get("dilations") or (1,) * rank)
    m, each = weight.shape[:2]
    taps = (1,) * rank
    blocks = []
    for block in made.blocks:
        first, last = block.start, block.start + block.count
        if group > 1 and (first, last) != (0, each * group):
            raise NoMapError("it reads groups of channels of several tensors")
        operator = LinearOperator(
            "Conv",
            group,
            (strides, dilations, pads, padding),
            block.operator.offset,
            block.operator.trail + made.trail,
        )
        part = weight if group > 1 else weight[:, first:last]
        scale, size = (
            a.reshape(1, -1, *taps)
            if group == 1
            else np.repeat(a.reshape(group, -1), m // group, axis=0).reshape(m, -1, *taps)
            for a in (block.weight, block.size)
        )
        blocks.append(_weighted(block, operator, part, scale, size))
    bias, size = np.zeros((2, m))
    if made.magnitude.any():
        rows, sizes = (
            np.repeat(a.reshape(group, -1), m // group, axis=0).reshape(m, -1)
            for a in (made.bias, made.magnitude)
        )
        # A shift is shared by the taps of its channel; each tap was rounded by itself.
        windows = tuple(range(2, weight.ndim))
        whole = weight.sum(axis=windows, dtype=np.float64)
        squares = np.square(weight, dtype=np.float64).sum(axis=windows)
        bias = (whole * rows).sum(axis=1)
        size = _together(bias, np.maximum(np.square(whole), squares) * np.square(sizes))
    own = _own_bias(known, node, m)
    return [Map(1, tuple(blocks), bias + own, size + np.abs(own))]


def _together(total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return the magnitude of sums of many terms, each of which was rounded by itself."""
    size: np.ndarray = np.maximum(np.abs(total), np.sqrt(squares.sum(axis=1)))
    return size


def _own_bias(known: Known, node: FlatNode, channels: int) -> np.ndarray:
    bias = known.vector(node, 2)
    if bias is not None and bias.shape != (channels,):
        raise NoMapError("its bias has another shape than its channels")
    return np.zeros(channels) if bias is None else bias


def _weight_shape(known: Known, node: FlatNode) -> tuple[int, ...]:
    shape: tuple[int, ...] = known.shapes(node.inputs[1])[0]
    if len(shape) < 2:
        raise NoMapError("its weight has too few axes")
    return shape


def _transposed(known: Known, node: FlatNode) -> list[Map]:
    shape = _weight_shape(known, node)
    made, weight = _weighed(known, node, 1, shape[0])
    given = node.attributes
    group = int(given.get("group", 1))
    block = made.blocks[0]
    if np.any(made.bias != 0) or len(made.blocks) > 1:
        raise NoMapError("what it reads is shifted or joined before")
    names = ("strides", "dilations", "pads", "auto_pad", "output_padding", "output_shape")
    geometry = tuple((name, plain(given[name])) for name in names if _says(name, given.get(name)))
    operator = LinearOperator(
        "ConvTranspose", group, geometry, block.operator.offset, block.operator.trail + made.trail
    )
    ones = (-1, *(1,) * (weight.ndim - 1))
    scale, size = (a.reshape(ones) for a in (block.weight, block.size))
    bias = _own_bias(known, node, weight.shape[1] * group)
    made_of = _weighted(block, operator, weight, scale, size)
    return [Map(1, (made_of,), bias, np.abs(bias))]


def _says(name: str, value: Any) -> bool:
    """Whether an attribute of a ConvTranspose says what its absence does not."""
    if value is None or value == "NOTSET":
        return False
    if name in {"strides", "dilations"}:
        return any(step != 1 for step in value)
    return name in {"auto_pad", "output_shape"} or any(value)


def _multiplied(known: Known, node: FlatNode) -> list[Map]:
    """MatMul and Gemm by a matrix."""
    given = node.attributes
    shape = _weight_shape(known, node)
    last = known.rank(node.inputs[0]) - 1
    across = node.op == "Gemm" and given.get("transB", 0)
    if len(shape) != 2 or last < 1 or given.get("transA", 0):
        raise NoMapError("it is no product with one matrix")
    made, weight = _weighed(known, node, last, shape[1 if across else 0])
    weight = weight.T if across else weight
    trail: Trail = made.trail
    behind: Trail = ()
    if trail and trail[-1][0] == "Reshape" and not made.blocks[0].operator.trail:
        # Where the last axis stays what it is, the order of the others makes no difference.
        before, after = trail[-1][1:]
        channels = {shape[-1] if shape else 0 for shape in (*before, *after)}
        if channels == {weight.shape[0]} and all(len(shape) == len(before[0]) for shape in before):
            count = (weight.shape[1],)
            moved = [tuple((*s[:-1], *count) for s in shapes) for shapes in (before, after)]
            trail, behind = trail[:-1], (("Reshape", *moved),)
    first = len(_shape_before(behind)) - 1 if behind else last
    if node.op == "Gemm" and given.get("alpha", 1.0) != 1.0:
        weight = widened(weight) * float(given["alpha"])
    blocks = []
    for block in made.blocks:
        part = weight[block.start : block.start + block.count]
        operator = LinearOperator(
            "MatMul", 1, (first,), block.operator.offset, block.operator.trail + trail
        )
        scale, size = (a[:, np.newaxis] for a in (block.weight, block.size))
        blocks.append(_weighted(block, operator, part, scale, size))
    bias, sizes = np.zeros((2, weight.shape[1]))
    if made.magnitude.any():
        bias = made.bias @ weight
        sizes = _together(bias, np.square(weight.T, dtype=np.float64) * np.square(made.magnitude))
    own = known.vector(node, 2) if node.op == "Gemm" else None
    if own is not None:
        vector, axis = varying(own * float(given.get("beta", 1.0)), last + 1)
        if axis not in {None, last}:
            raise NoMapError("what it adds varies along another axis")
        bias, sizes = bias + vector, sizes + np.abs(vector)
    return [Map(last, tuple(blocks), bias, sizes, behind)]


def _shape_before(trail: Trail) -> tuple[int, ...]:
    """Return the shape that a Reshape begins with, at the first size."""
    shape: tuple[int, ...] = trail[-1][1][0]
    return shape


RULES = {
    "Conv": _convolved,
    "ConvTranspose": _transposed,
    "Gemm": _multiplied,
    "MatMul": _multiplied,
}
