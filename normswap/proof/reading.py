"""How the nodes of a region become a map (:mod:`normswap.proof.maps`), operator by operator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import is_float, is_floating
from normswap.proof.evaluate import UnjudgedError, evaluate_node, narrowing, widened
from normswap.proof.flat import NONE
from normswap.proof.maps import (
    Block,
    Map,
    NoMapError,
    Normal,
    Operator,
    Trail,
    joined,
    reduced,
    total,
)
from normswap.proof.moments import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from normswap.proof.flat import Node
    from normswap.proof.moments import Moment
    from normswap.proof.numbering import Side
    from normswap.proof.regions import Cone

_ZERO = np.zeros(())


def map_of(side: Side, cone: Cone) -> Map:
    """Return the map that a region is.

    Parameters
    ----------
    side : Side
        The model that it is of.
    cone : Cone

    Raises
    ------
    NoMapError
        If it is none, or not of the kind that has a form here.
    """
    reading = _Reading(side, cone)
    for node in cone.nodes:
        reading.node(node)
    found = reading.maps.get(cone.target)
    if found is None:
        raise NoMapError("it is a constant")
    return replace(found, normals=tuple(reading.normals))


class _Constants(dict[int, np.ndarray]):
    """Constants by number, in float64, each read when it is asked for.

    They are apart from what reads a region: a circle of references would keep them, which may be
    gigabytes, until Python looks for some.
    """

    def __init__(self, side: Side) -> None:
        super().__init__()
        self._side = side

    def __missing__(self, number: int) -> np.ndarray:
        value = self._side.value(number)
        if value is None and number in self._side.constants:
            value = self._side.constants.load(number)
        if value is None:
            raise NoMapError("it reads what is neither constant nor known")
        found: np.ndarray = widened(value)
        self[number] = found
        return found


class _Reading:
    """Goes through the nodes of a region."""

    def __init__(self, side: Side, cone: Cone) -> None:
        self._side = side
        self.maps: dict[int, Map] = {}
        self._constants = _Constants(side)
        self.moments = Moments(side, self.maps, self._constants.__getitem__)
        self.normals: list[Normal] = []
        self._kinds: dict[Any, int] = {}
        self._narrowing = narrowing(side, cone)
        one = np.ones(())
        for number, kind in cone.frontier.items():
            self.shapes(number)
            self.maps[number] = Map(None, (Block(kind, Operator(), 0, one),), _ZERO, _ZERO)

    def node(self, node: Node) -> None:
        """Note what a node makes."""
        made_of = [n for n in node.outputs if n != NONE]
        if all(n in sizes.values for n in made_of for sizes in self._side.sizes):
            return  # what sizes determine is known
        if not any(n in self.maps or n in self.moments.found for n in node.inputs):
            if node.op == "ConstantOfShape" and node.is_standard:
                return  # whose number is all that may be asked for
            for number, value in zip(node.outputs, self._evaluated(node), strict=False):
                self._constants[number] = value
            return
        if node.index in self._narrowing:
            raise NoMapError(f"{node.op} has no form")
        moment = self.moments.read(node)
        if moment is not None and moment.kind == "normal":
            self._normal(node.outputs[0], moment)
            return
        try:
            made = _rule(node)(self, node)
        except NoMapError:
            if moment is None:
                raise
            return
        for number, each in zip(node.outputs, made, strict=False):
            if number != NONE:
                self.maps[number] = each
        if any(number != NONE for number in node.outputs[len(made) :]):
            raise NoMapError(f"{node.op} has no form with all its outputs")

    def _normal(self, number: int, moment: Moment) -> None:
        """Note what is normalized as something that is read, where it has its own shape again."""
        base = self.maps.get(moment.base)
        if base is None or self.shapes(number) != self.shapes(moment.base):
            return
        channels = self.length(number, 1)
        shift = np.zeros(1) if moment.shift is None else moment.shift
        if any(channels % part.size for part in (moment.factor, shift)):
            raise NoMapError("it normalizes with numbers for parts of a channel")
        key = (moment.base, moment.runs, moment.epsilon)
        if key not in self._kinds:
            self._kinds[key] = -2 - len(self.normals)
            shapes = self.shapes(number)
            each = {runs / shape[0] for runs, shape in zip(moment.runs, shapes, strict=True)}
            count = each.pop() if len(each) == 1 else 0.0
            # Runs of several samples, or of a size, are none of a sample.
            count = int(count) if count == int(count) else 0
            self.normals.append(reduced(base, moment.runs, count, moment.epsilon))
        kind = self._kinds[key]
        signs = self.normals[-2 - kind].sign
        factor, shift, signs = (
            np.repeat(part, channels // part.size) for part in (moment.factor, shift, signs)
        )
        block = Block(kind, Operator(), 0, factor * signs)
        self.maps[number] = Map(1, (block,), shift, np.abs(shift))

    def _evaluated(self, node: Node) -> Sequence[Any]:
        try:
            inputs = [None if n == NONE else self.constant(n) for n in node.inputs]
            return evaluate_node(node, inputs)
        except UnjudgedError as error:
            raise NoMapError(str(error)) from error

    def constant(self, number: int) -> np.ndarray:
        """Return a constant in float64."""
        return self._constants[number]

    def weight(self, node: Node) -> np.ndarray:
        """Return what an operator multiplies by, in the type that it is stored in.

        Of large ones there is no other copy.
        """
        number = node.inputs[1]
        if number in self._constants or number not in self._side.constants:
            found = self.vector(node, 1)
            if found is None:
                raise NoMapError("it has no weight")
            return found
        if number in self.maps:
            raise NoMapError(f"input 1 of {node.op} is no constant")
        stored = self._side.constants.load(number)
        return stored if stored.dtype.kind == "f" else widened(stored)

    def shapes(self, number: int) -> Trail:
        """Return the shapes of a tensor, at each of the model's sizes."""
        found = tuple(sizes.shapes.get(number) for sizes in self._side.sizes)
        if None in found:
            raise NoMapError("a shape is not known")
        return found

    def rank(self, number: int) -> int:
        """Return the number of axes of a tensor."""
        return len(self.shapes(number)[0])

    def length(self, number: int, axis: int) -> int:
        """Return the length of an axis, the same at all sizes."""
        lengths = {shape[axis] for shape in self.shapes(number)}
        if len(lengths) != 1:
            raise NoMapError("the number of channels is not fixed")
        return int(lengths.pop())

    def map(self, node: Node, slot: int = 0) -> Map:
        """Return the map that makes an input."""
        found = self.maps.get(node.inputs[slot])
        if found is None:
            raise NoMapError(f"input {slot} of {node.op} is constant")
        return found

    def vector(self, node: Node, slot: int) -> np.ndarray | None:
        """Return a constant input, None where it is left out."""
        if slot >= len(node.inputs) or node.inputs[slot] == NONE:
            return None
        if node.inputs[slot] in self.maps:
            raise NoMapError(f"input {slot} of {node.op} is no constant")
        return self.constant(node.inputs[slot])

    def require_no_growth(self, node: Node) -> None:
        """Refuse a node that broadcasts what varies."""
        made = self.shapes(node.outputs[0])
        if any(self.shapes(n) != made for n in node.inputs if n in self.maps):
            raise NoMapError(f"{node.op} broadcasts")


def _rule(node: Node) -> Callable[[_Reading, Node], list[Map]]:
    """Return how the form of an operator is read."""
    rule = _RULES.get(node.op) if node.is_standard else None
    if rule is None:
        raise NoMapError(f"{node.op} has no form")
    return rule


# ---------------------------------------------------------------------------- by elements


def _vector(value: np.ndarray, rank: int) -> tuple[np.ndarray, int | None]:
    """Return a constant that varies along one axis at most as a vector."""
    if not is_floating(value.dtype) or value.ndim > rank:
        raise NoMapError("a constant is of another kind")
    long = [axis for axis, size in enumerate(value.shape) if size != 1]
    if not long:
        return value.reshape(()), None
    if len(long) > 1:
        raise NoMapError("a constant varies along two axes")
    return value.reshape(-1), long[0] + rank - value.ndim


def _sum(reading: _Reading, node: Node) -> list[Map]:
    """Add, Sub and Sum, of maps and constants."""
    _refuse_opset6(node)
    reading.require_no_growth(node)
    out = node.outputs[0]
    made = []
    for slot, number in enumerate(node.inputs):
        sign = np.array(-1.0 if node.op == "Sub" and slot else 1.0)
        if number in reading.maps:
            each = reading.maps[number]
            made.append(each.affine(sign, _ZERO, _ZERO) if sign < 0 else each)
        else:
            value, axis = _vector(reading.constant(number) * sign, reading.rank(out))
            made.append(Map(axis, (), value, np.abs(value)))
    axis = next((each.axis for each in made if each.axis is not None), None)
    if axis is not None:
        made = [each.along(axis, reading.length(out, axis)) for each in made]
    return [total(made)]


def _product(reading: _Reading, node: Node) -> list[Map]:
    """Mul and Div by a constant."""
    _refuse_opset6(node)
    reading.require_no_growth(node)
    slot = 0 if node.inputs[0] in reading.maps else 1
    if node.inputs[1 - slot] in reading.maps or (node.op == "Div" and slot):
        raise NoMapError("it is no affine map")
    made = reading.map(node, slot)
    scale, axis = _vector(reading.constant(node.inputs[1 - slot]), reading.rank(node.outputs[0]))
    if axis is not None:
        made = made.along(axis, reading.length(node.outputs[0], axis))
    with np.errstate(divide="ignore", invalid="ignore"):
        return [made.affine(1 / scale if node.op == "Div" else scale, _ZERO, _ZERO)]


def _refuse_opset6(node: Node) -> None:
    if node.attributes:
        raise NoMapError("it broadcasts in the way of opset 6")


def _negative(reading: _Reading, node: Node) -> list[Map]:
    return [reading.map(node).affine(np.array(-1.0), _ZERO, _ZERO)]


def _cast(reading: _Reading, node: Node) -> list[Map]:
    """Cast to a float type as wide: narrower ones have been refused."""
    if not is_float(node.attributes.get("to", 0)):
        raise NoMapError("it casts to what is no float")
    return [reading.map(node)]


def _normalized(reading: _Reading, node: Node) -> list[Map]:
    """BatchNormalization in inference."""
    if node.attributes.get("training_mode", 0) or node.opset < 9:
        raise NoMapError("it normalizes by what it reads")
    parameters = [reading.vector(node, slot) for slot in range(1, 5)]
    if any(value is None or value.ndim != 1 for value in parameters):
        raise NoMapError("its parameters are left out")
    scale, shift, mean, var = (value for value in parameters if value is not None)
    made = reading.map(node).along(1, reading.length(node.inputs[0], 1))
    epsilon = float(np.float32(node.attributes.get("epsilon", 1e-5)))
    with np.errstate(all="ignore"):
        s = scale / np.sqrt(var + epsilon)
        return [made.affine(s, shift - mean * s, np.abs(shift) + np.abs(mean * s))]


# ---------------------------------------------------------------------------- with a weight


def _weighed(reading: _Reading, node: Node, axis: int, channels: int) -> tuple[Map, np.ndarray]:
    """Return what an operator reads, as scaled channels, and its weight."""
    weight = reading.weight(node)
    if reading.length(node.inputs[0], axis) != channels:
        raise NoMapError("its weight is for another number of channels")
    made = reading.map(node).along(axis, channels)
    if any(block.operator.name for block in made.blocks):
        raise NoMapError("one operator is behind another")
    return made, weight


def _weighted(
    block: Block, operator: Operator, weight: np.ndarray, scale: np.ndarray, size: np.ndarray
) -> Block:
    """Return what an operator makes of scaled channels."""
    factor = None if (scale == 1).all() else scale
    if (np.abs(scale) == size).all():
        return Block(block.kind, operator, 0, weight, factor=factor)
    return Block(block.kind, operator, 0, weight, np.abs(weight) * size, factor)


def _convolved(reading: _Reading, node: Node) -> list[Map]:
    shape = _weight_shape(reading, node)
    group = int(node.attributes.get("group", 1))
    made, weight = _weighed(reading, node, 1, shape[1] * group)
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
        operator = Operator(
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
    own = _own_bias(reading, node, m)
    return [Map(1, tuple(blocks), bias + own, size + np.abs(own))]


def _together(total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return the magnitude of sums of many terms, each of which was rounded by itself."""
    size: np.ndarray = np.maximum(np.abs(total), np.sqrt(squares.sum(axis=1)))
    return size


def _own_bias(reading: _Reading, node: Node, channels: int) -> np.ndarray:
    bias = reading.vector(node, 2)
    if bias is not None and bias.shape != (channels,):
        raise NoMapError("its bias has another shape than its channels")
    return np.zeros(channels) if bias is None else bias


def _weight_shape(reading: _Reading, node: Node) -> tuple[int, ...]:
    shape: tuple[int, ...] = reading.shapes(node.inputs[1])[0]
    if len(shape) < 2:
        raise NoMapError("its weight has too few axes")
    return shape


def _transposed(reading: _Reading, node: Node) -> list[Map]:
    shape = _weight_shape(reading, node)
    made, weight = _weighed(reading, node, 1, shape[0])
    given = node.attributes
    group = int(given.get("group", 1))
    block = made.blocks[0]
    if np.any(made.bias != 0) or len(made.blocks) > 1:
        raise NoMapError("what it reads is shifted or joined before")
    names = ("strides", "dilations", "pads", "auto_pad", "output_padding", "output_shape")
    geometry = tuple((name, _plain(given[name])) for name in names if _says(name, given.get(name)))
    operator = Operator(
        "ConvTranspose", group, geometry, block.operator.offset, block.operator.trail + made.trail
    )
    ones = (-1, *(1,) * (weight.ndim - 1))
    scale, size = (a.reshape(ones) for a in (block.weight, block.size))
    bias = _own_bias(reading, node, weight.shape[1] * group)
    made_of = _weighted(block, operator, weight, scale, size)
    return [Map(1, (made_of,), bias, np.abs(bias))]


def _says(name: str, value: Any) -> bool:
    """Whether an attribute of a ConvTranspose says what its absence does not."""
    if value is None or value == "NOTSET":
        return False
    if name in {"strides", "dilations"}:
        return any(step != 1 for step in value)
    return name in {"auto_pad", "output_shape"} or any(value)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _multiplied(reading: _Reading, node: Node) -> list[Map]:
    """MatMul and Gemm by a matrix."""
    given = node.attributes
    shape = _weight_shape(reading, node)
    last = reading.rank(node.inputs[0]) - 1
    across = node.op == "Gemm" and given.get("transB", 0)
    if len(shape) != 2 or last < 1 or given.get("transA", 0):
        raise NoMapError("it is no product with one matrix")
    made, weight = _weighed(reading, node, last, shape[1 if across else 0])
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
        operator = Operator(
            "MatMul", 1, (first,), block.operator.offset, block.operator.trail + trail
        )
        scale, size = (a[:, np.newaxis] for a in (block.weight, block.size))
        blocks.append(_weighted(block, operator, part, scale, size))
    bias, sizes = np.zeros((2, weight.shape[1]))
    if made.magnitude.any():
        bias = made.bias @ weight
        sizes = _together(bias, np.square(weight.T, dtype=np.float64) * np.square(made.magnitude))
    own = reading.vector(node, 2) if node.op == "Gemm" else None
    if own is not None:
        vector, axis = _vector(own * float(given.get("beta", 1.0)), last + 1)
        if axis not in {None, last}:
            raise NoMapError("what it adds varies along another axis")
        bias, sizes = bias + vector, sizes + np.abs(vector)
    return [Map(last, tuple(blocks), bias, sizes, behind)]


def _shape_before(trail: Trail) -> tuple[int, ...]:
    """Return the shape that a Reshape begins with, at the first size."""
    shape: tuple[int, ...] = trail[-1][1][0]
    return shape


# ---------------------------------------------------------------------------- channels


def _concat(reading: _Reading, node: Node) -> list[Map]:
    rank = reading.rank(node.outputs[0])
    axis = int(node.attributes.get("axis", 1)) % rank
    if any(number not in reading.maps for number in node.inputs):
        raise NoMapError("it joins a constant")
    return [joined([reading.maps[n].along(axis, reading.length(n, axis)) for n in node.inputs])]


def _split(reading: _Reading, node: Node) -> list[Map]:
    axis = int(node.attributes.get("axis", 0)) % reading.rank(node.inputs[0])
    made = reading.map(node).along(axis, reading.length(node.inputs[0], axis))
    found, low = [], 0
    for number in node.outputs:
        high = low + reading.length(number, axis)
        found.append(made.part(low, high))
        low = high
    return found


def _slice(reading: _Reading, node: Node) -> list[Map]:
    """Slice of neighbouring channels."""
    values = [reading.vector(node, slot) for slot in range(1, 5)]
    starts, _, axes, steps = values
    if starts is None or axes is None or starts.size != 1 or axes.size != 1:
        raise NoMapError("it slices several axes")
    if steps is not None and int(steps.reshape(-1)[0]) != 1:
        raise NoMapError("it slices with a step")
    axis = int(axes.reshape(-1)[0]) % reading.rank(node.inputs[0])
    count = reading.length(node.inputs[0], axis)
    low = int(starts.reshape(-1)[0])
    low = min(max(low + count if low < 0 else low, 0), count)
    made = reading.map(node).along(axis, count)
    return [made.part(low, low + reading.length(node.outputs[0], axis))]


# ---------------------------------------------------------------------------- moves


def _reshaped(reading: _Reading, node: Node) -> list[Map]:
    """Reshape, Flatten, Squeeze and Unsqueeze, which keep the order of elements."""
    made = reading.map(node)
    before, after = reading.shapes(node.inputs[0]), reading.shapes(node.outputs[0])
    if before == after:
        return [made]
    axis = None
    if made.axis is not None:
        places = {_place(b, a, made.axis) for b, a in zip(before, after, strict=True)}
        if len(places) != 1 or None in places:
            raise NoMapError("it divides channels")
        axis = places.pop()
    trail = made.trail
    if trail and trail[-1][0] == "Reshape":  # one after another is one
        before, trail = trail[-1][1], trail[:-1]
    step = () if before == after else (("Reshape", before, after),)
    return [replace(made, axis=axis, trail=trail + step)]


def _place(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """Return which axis is left of one by a new shape."""
    lead = int(np.prod(before[:axis], dtype=np.int64))
    for place, size in enumerate(after):
        if size == before[axis] and int(np.prod(after[:place], dtype=np.int64)) == lead:
            return place
    return None


def _turned(reading: _Reading, node: Node) -> list[Map]:
    """Transpose."""
    made = reading.map(node)
    rank = reading.rank(node.inputs[0])
    order = tuple(node.attributes.get("perm") or range(rank)[::-1])
    axis = None if made.axis is None else order.index(made.axis)
    trail = made.trail
    if trail and trail[-1][0] == "Transpose":  # one after another is one
        order, trail = tuple(trail[-1][1][i] for i in order), trail[:-1]
    step = () if order == tuple(range(rank)) else (("Transpose", order),)
    return [replace(made, axis=axis, trail=trail + step)]


def _averaged(reading: _Reading, node: Node) -> list[Map]:
    """AveragePool and GlobalAveragePool, of each channel alone."""
    made = reading.map(node)
    if made.axis not in {None, 1}:
        raise NoMapError("it averages over channels")
    given = node.attributes
    pads = any(given.get("pads") or ()) or given.get("auto_pad", "NOTSET") not in {
        "NOTSET",
        "VALID",
    }
    if np.any(made.bias != 0) and (pads or given.get("ceil_mode", 0)):
        raise NoMapError("what it pads is shifted before")
    what = tuple(sorted((name, _plain(value)) for name, value in given.items()))
    return [replace(made, trail=(*made.trail, (node.op, what, node.opset)))]


def _meaned(reading: _Reading, node: Node) -> list[Map]:
    """ReduceMean over axes that are none of channels."""
    made = reading.map(node)
    rank = reading.rank(node.inputs[0])
    given = reading.vector(node, 1)
    axes = node.attributes.get("axes") if given is None else given.reshape(-1).tolist()
    if not axes:
        raise NoMapError("it averages over all axes, or none")
    over = sorted(int(axis) % rank for axis in axes)
    axis = made.axis
    if axis in over:
        raise NoMapError("it averages over channels")
    keeps = bool(node.attributes.get("keepdims", 1))
    if axis is not None and not keeps:
        axis -= sum(other < axis for other in over)
    step = ("ReduceMean", tuple(over), keeps)
    return [replace(made, axis=axis, trail=(*made.trail, step))]


_RULES: dict[str, Callable[[_Reading, Node], list[Map]]] = {
    "Add": _sum,
    "AveragePool": _averaged,
    "BatchNormalization": _normalized,
    "Cast": _cast,
    "Concat": _concat,
    "Conv": _convolved,
    "ConvTranspose": _transposed,
    "Div": _product,
    "Flatten": _reshaped,
    "Gemm": _multiplied,
    "GlobalAveragePool": _averaged,
    "MatMul": _multiplied,
    "Mul": _product,
    "Neg": _negative,
    "ReduceMean": _meaned,
    "Reshape": _reshaped,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshaped,
    "Sub": _sum,
    "Sum": _sum,
    "Transpose": _turned,
    "Unsqueeze": _reshaped,
}
