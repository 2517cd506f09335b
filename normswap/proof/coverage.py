"""Which sides of a model's kinks its inputs have reached.

A limit of a Clip that no value reached, a branch of an If that no input took, an operand of a Min
that no value came from: whatever is wrong there, a comparison of outputs does not see it. The
arbiter, which has every value in its hands anyway, notes for every such place which of its sides
were seen, channel by channel. What was not is driven with other inputs (`normswap.check.driving`)
or named in the verdict.

Only what depends on the values of inputs counts; what a graph computes from shapes is the same
whatever the input. Of an If the branches count that depend on the shapes of inputs, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx

from normswap.runtime.arrays import dtype_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_BEYOND = 3.38e38  # a limit of this size, the largest of its type, is none
_LARGE = 4  # times an integer that is large, and its type has no such number
_ENDLESS = 2**31 - 1  # as the end of a Slice: that of the axis, however long
_OF_SHAPES = frozenset({"Shape", "Size"})
UNTOLD = ""
"""A side that is worth an input that reaches it, and no word if there is none."""

_BY_LENGTH = frozenset({"Slice", "Trilu"})


@dataclass(frozen=True, slots=True)
class Unseen:
    """One side of a kink that no value was on.

    Attributes
    ----------
    what : str
        In words, with the node's operator and name.
    missing, channels : int
        In how many channels, of how many; both 1 where the node as a whole has one answer.
    """

    what: str
    missing: int = 1
    channels: int = 1

    @property
    def whole(self) -> bool:
        """Whether no value at all was there."""
        return self.missing == self.channels

    def __str__(self) -> str:
        if self.whole:
            return self.what
        return f"{self.what} in {self.missing} of {self.channels} channels"


class _Kink:
    """The sides of one node, each with the channels that were on it."""

    def __init__(self) -> None:
        self.sides: dict[str, np.ndarray] = {}

    @property
    def done(self) -> bool:
        return bool(self.sides) and all(seen.all() for seen in self.sides.values())

    def add(self, what: str, seen: np.ndarray) -> bool:
        """Add the channels that were on a side; return whether one of them is new."""
        before = self.sides.get(what)
        if before is None:
            self.sides[what] = seen
            return bool(seen.any())
        if before.shape != seen.shape:  # the axis is one of samples or positions
            before, seen = (np.atleast_1d(one.any()) for one in (before, seen))
        after = before | seen
        self.sides[what] = after
        return bool((after != before).any())


@dataclass(slots=True)
class Coverage:
    """What was seen so far.

    Attributes
    ----------
    by_value, by_shape : frozenset of str
        The values that depend on the values of inputs, and those that depend on them or on their
        shapes (`varying`).
    by_length : frozenset of str
        The latter, where inputs may be of other sizes.
    path : list of str
        The nodes whose subgraph or function is being evaluated, outermost first.
    gained : bool
        Whether something new was seen since it was last set to False.
    """

    by_value: frozenset[str]
    by_shape: frozenset[str]
    by_length: frozenset[str] = frozenset()
    path: list[str] = field(default_factory=list)
    gained: bool = False
    _kinks: dict[tuple[str, ...], _Kink] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any) -> Coverage:
        """Return the coverage of a model of which nothing was evaluated yet."""
        by_shape = varying(model, shapes=True)
        sizes = (dim for port in model.graph.input for dim in port.type.tensor_type.shape.dim)
        is_open = any(dim.dim_value <= 0 for dim in sizes)
        return cls(varying(model), by_shape, by_shape if is_open else frozenset())

    def see(self, node: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Take note of one evaluation of a node.

        Parameters
        ----------
        node : onnx.NodeProto
        inputs, outputs : sequence of numpy.ndarray
            None for those that are left out.
        """
        sides = _SIDES.get(node.op_type)
        if sides is None or node.domain not in {"", "ai.onnx"}:
            return
        reached = self._reached(node.op_type)
        if reached.isdisjoint(node.input):
            return
        kink = self._kinks.setdefault((*self.path, node.op_type, node.output[0]), _Kink())
        if kink.done:
            return
        label = label_of(node, self.path)
        try:
            found = list(sides(_Site(node, label, inputs, outputs)))
        except (AttributeError, IndexError, TypeError, ValueError):
            return  # of a kind of value that has no sides: a sequence, a string, a limit of many
        for what, mask in found:
            self.gained |= kink.add(what, _by_channel(np.asarray(mask)))

    def _reached(self, op: str) -> frozenset[str]:
        if op in _BY_LENGTH:
            return self.by_length
        return self.by_shape if op in {"If", "Loop"} else self.by_value

    def unseen(self) -> list[Unseen]:
        """Return the sides that no value was on, those that nothing was on at all first."""
        found = [
            Unseen(what, int(np.count_nonzero(~seen)), seen.size)
            for kink in self._kinks.values()
            for what, seen in kink.sides.items()
            if not seen.all()
        ]
        return sorted(found, key=lambda item: not item.whole)


def label_of(node: Any, path: Iterable[str] = ()) -> str:
    """Return what to call a node: its operator and name, and where it is."""
    return " in ".join([f"{node.op_type} {node.name or node.output[0]}", *reversed(list(path))])


def _by_channel(mask: np.ndarray) -> np.ndarray:
    """Return, channel by channel, whether anything is set.

    Channels are along axis 1, in the last axis of what may be a sequence of features too.
    """
    if mask.ndim < 2:
        return np.atleast_1d(mask)
    axes = tuple(axis for axis in range(mask.ndim) if axis != 1)
    seen = mask.any(axis=axes)
    if mask.ndim == 3:
        seen = np.concatenate([seen, mask.any(axis=(0, 1))])
    return np.asarray(seen)


# ------------------------------------------------------------------------------------------- sides


@dataclass(frozen=True, slots=True)
class _Site:
    """One evaluation of a node."""

    node: Any
    label: str
    inputs: Sequence[Any]
    outputs: Sequence[Any]

    def attribute(self, name: str, default: Any) -> Any:
        for attribute in self.node.attribute:
            if attribute.name == name and not attribute.ref_attr_name:
                return onnx.helper.get_attribute_value(attribute)
        return default

    def scalar(self, slot: int, attribute: str, default: float) -> float:
        """Return a number that is an input in newer versions and an attribute in older ones."""
        if slot < len(self.inputs) and self.inputs[slot] is not None:
            return float(np.asarray(self.inputs[slot]).reshape(()))
        return float(self.attribute(attribute, default))

    def integers(self, slot: int, attribute: str) -> list[int]:
        """Return integers, which are the same; nothing where there are none."""
        if slot < len(self.inputs):
            given = self.inputs[slot]
            return [] if given is None else [int(each) for each in np.ravel(given)]
        return list(self.attribute(attribute, ()))


_Side = tuple[str, Any]
_Sides = Callable[[_Site], Iterator[_Side]]
_SIDES: dict[str, _Sides] = {}


def _kink(*names: str) -> Callable[[_Sides], _Sides]:
    def register(sides: _Sides) -> _Sides:
        for name in names:
            _SIDES[name] = sides
        return sides

    return register


def has_kinks(graph: Any) -> bool:
    """Whether a graph has an operator with sides to it, its subgraphs included."""
    return any(
        _SIDES.get(node.op_type, _of_integers) is not _of_integers
        or any(has_kinks(a.g) for a in node.attribute if a.type == a.GRAPH)
        for node in graph.node
    )


def _around(site: _Site, at: float) -> Iterator[_Side]:
    values = site.inputs[0]
    yield f"no input gave {site.label} a value below {at:g}", values < at
    yield f"no input gave {site.label} a value above {at:g}", values > at


@_kink("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Abs", "Sign")
def _at_zero(site: _Site) -> Iterator[_Side]:
    yield from _around(site, 0.0)


@_kink("ThresholdedRelu")
def _at_threshold(site: _Site) -> Iterator[_Side]:
    yield from _around(site, site.attribute("alpha", 1.0))


@_kink("Shrink")
def _at_both_thresholds(site: _Site) -> Iterator[_Side]:
    at = site.attribute("lambd", 0.5)
    yield from _within(site, -at, at)


def _within(site: _Site, low: float, high: float) -> Iterator[_Side]:
    values = site.inputs[0]
    if abs(low) < _BEYOND:
        yield f"no input reached the limit {low:g} of {site.label}", values < low
    if abs(high) < _BEYOND:
        yield f"no input reached the limit {high:g} of {site.label}", values > high
    if abs(low) < _BEYOND or abs(high) < _BEYOND:
        inside = (values >= low) & (values <= high)
        yield f"no value stayed within the limits of {site.label}", inside


@_kink("Clip")
def _limits(site: _Site) -> Iterator[_Side]:
    low, high = site.scalar(1, "min", -math.inf), site.scalar(2, "max", math.inf)
    if low <= high:
        yield from _within(site, low, high)


@_kink("HardSigmoid")
def _hard_sigmoid(site: _Site) -> Iterator[_Side]:
    alpha, beta = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    if alpha > 0:
        yield from _within(site, -beta / alpha, (1 - beta) / alpha)


@_kink("HardSwish")
def _hard_swish(site: _Site) -> Iterator[_Side]:
    yield from _within(site, -3.0, 3.0)


@_kink("QuantizeLinear")
def _saturation(site: _Site) -> Iterator[_Side]:
    """Yield the ends of the type, at which a quantization clips: many a Relu6 is part of one."""
    kind = site.outputs[0].dtype
    if kind.kind in "iu" or kind.name in {"int4", "uint4", "int2", "uint2"}:
        info = ml_dtypes.iinfo(dtype_of(kind.name))
        values = site.outputs[0].astype(np.int64)
        low, high = int(info.min), int(info.max)
        yield f"no input reached the limit {low} of {site.label}", values <= low
        yield f"no input reached the limit {high} of {site.label}", values >= high
        inside = (values > low) & (values < high)
        yield f"no value stayed within the limits of {site.label}", inside


@_kink("Min", "Max")
def _operands(site: _Site) -> Iterator[_Side]:
    if len(site.inputs) < 2:
        return
    chosen = site.outputs[0]
    for name, operand in zip(site.node.input, site.inputs, strict=True):
        others = [other for other in site.inputs if other is not operand]
        alone = np.broadcast_to(np.asarray(operand) == chosen, chosen.shape)
        for other in others:  # a tie is nobody's
            alone = alone & (np.asarray(other) != chosen)
        yield f"no value of {site.label} came from its input {name}", alone


@_kink("Where")
def _choices(site: _Site) -> Iterator[_Side]:
    chosen = np.broadcast_to(np.asarray(site.inputs[0], bool), site.outputs[0].shape)
    yield f"no value of {site.label} came from its input {site.node.input[1]}", chosen
    yield f"no value of {site.label} came from its input {site.node.input[2]}", ~chosen


@_kink("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
def _answers(site: _Site) -> Iterator[_Side]:
    answer = np.asarray(site.outputs[0], bool)
    yield f"{site.label} was never true", answer
    yield f"{site.label} was never false", ~answer


@_kink("Add", "Sub", "Mul", "Div", "Mod", "Neg", "Abs")
def _of_integers(site: _Site) -> Iterator[_Side]:
    """Yield what integers do that numbers don't: they are cut off towards 0, and wrap around."""
    values = site.inputs[0]
    if values.dtype.kind not in "iu":
        return
    if site.node.op_type in {"Div", "Mod"} and values.dtype.kind == "i":
        yield f"no input gave {site.label} a negative number to divide", values < 0
    info = np.iinfo(values.dtype)
    yield UNTOLD, (values > info.max // _LARGE) | (values < info.min // _LARGE)


@_kink("Slice")
def _ends(site: _Site) -> Iterator[_Side]:
    """Yield the places at which something begins or ends, unless it is at an end of the axis."""
    rank = site.inputs[0].ndim
    axes = site.integers(3, "axes") or range(rank)
    for slot, attribute in ((1, "starts"), (2, "ends")):
        for axis, at in zip(axes, site.integers(slot, attribute), strict=False):
            if 0 < abs(at) < _ENDLESS:
                reached = site.inputs[0].shape[axis] >= abs(at)
                yield f"no input was as long as {site.label} asks for, with {abs(at)}", reached


@_kink("Trilu")
def _diagonal(site: _Site) -> Iterator[_Side]:
    at = abs(site.integers(1, "")[0]) if len(site.inputs) > 1 else 0
    reached = at < max(site.inputs[0].shape[-2:])
    yield f"no input was as long as {site.label} asks for, with {at}", reached


@_kink("If")
def _branches(site: _Site) -> Iterator[_Side]:
    taken = bool(np.asarray(site.inputs[0]).reshape(-1)[0])
    yield f"no input took the then-branch of {site.label}", taken
    yield f"no input took the else-branch of {site.label}", not taken


@_kink("Loop")
def _body(site: _Site) -> Iterator[_Side]:
    trips, goes_on = (*site.inputs, None)[:2]
    entered = (trips is None or int(trips) > 0) and (goes_on is None or bool(goes_on))
    yield f"no input entered the body of {site.label}", entered


# ----------------------------------------------------------------------------------------- varying


def varying(model: Any, *, shapes: bool = False) -> frozenset[str]:
    """Return the values of a model that depend on its inputs, in subgraphs and functions too.

    Parameters
    ----------
    model : onnx.ModelProto
    shapes : bool
        Whether to depend on the shape of an input counts.
    """
    given = {tensor.name for tensor in model.graph.initializer}
    reached = {value.name for value in model.graph.input} - given
    functions = {(f.domain, f.name): f for f in model.functions}
    _spread(model.graph.node, reached, functions, stop=frozenset() if shapes else _OF_SHAPES)
    return frozenset(reached)


def _spread(
    nodes: Iterable[Any],
    reached: set[str],
    functions: Mapping[tuple[str, str], Any],
    stop: frozenset[str],
    depth: int = 0,
) -> None:
    """Add the values that `nodes`, sorted topologically, make from what is reached."""
    for node in nodes:
        if node.op_type in stop:
            continue
        depends = not reached.isdisjoint(node.input)
        function = functions.get((node.domain, node.op_type))
        if function is not None and depth < len(functions):
            # Names in a function are its own; sharing one set with those outside can only make
            # more of them vary.
            formal = zip(function.input, node.input, strict=False)
            reached.update(inner for inner, outer in formal if outer in reached)
            _spread(function.node, reached, functions, stop, depth + 1)
            depends = depends or not reached.isdisjoint(function.output)
        for attribute in node.attribute:
            if attribute.type != attribute.GRAPH:
                continue
            body = attribute.g
            if node.op_type in {"Loop", "Scan"}:
                # What a turn makes is what the next one takes.
                reached.update(value.name for value in body.input)
            _spread(body.node, reached, functions, stop, depth)
            depends = depends or any(value.name in reached for value in body.output)
        if depends:
            reached.update(name for name in node.output if name)
