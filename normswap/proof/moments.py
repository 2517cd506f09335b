"""Normalizations in a region, recognized by what they compute and not by how they are written.

A tensor that is normalized is divided into *runs*: rows of elements that lie one behind another in
its own order, each normalized by itself. How a graph gets there differs (Reshape and an operator,
means of means, dot products, a second mean), but all of it is arithmetic with few quantities of a
run. With n elements x, mean m and population variance v::

    ReduceMean(x) = m            x - m = d            ReduceMean(d) = 0
    ReduceMean(d * d) = v        d . d = n * v        sqrt(k * v + c) = sqrt(k) * sqrt(v + c / k)

So the nodes of a region are gone through with values of these kinds, exactly, and what comes out
of one that divides d by the last is ``(x - m) / sqrt(v + epsilon)`` with an epsilon that is known.
To the rest of the region that is a tensor like those that it begins with
(:mod:`normswap.proof.reading`), and two of them are compared by what is normalized, by the runs,
and by epsilon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import is_float
from normswap.proof.flat import NONE
from normswap.proof.maps import NoMapError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side

Shapes = tuple[tuple[int, ...], ...]
"""The shape of a tensor, at each of the model's sizes."""

BySize = tuple[float, ...]
"""A number for each of the model's sizes."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a tensor is, in terms of the runs of another.

    Attributes
    ----------
    kind : str
        ``view``: its elements in their order. ``mean``, ``zero`` and ``power``: a number for
        each run, m, 0 or ``(k * v + c) ** exponent``. ``centred`` and ``square``: an element for
        each of its, d or d squared. ``normal``: d / sqrt(v + epsilon).
    base : int
        The tensor.
    runs : tuple of int
        How many runs it has, at each size; empty of a view.
    factor, shift : numpy.ndarray
        What all of that is multiplied by, and what is added: for each of so many equal parts of a
        sample, (parts,).
    k, c : tuple of float
    exponent : float
    epsilon : float
    """

    kind: str
    base: int
    runs: tuple[int, ...] = ()
    factor: np.ndarray = field(default_factory=lambda: np.ones(1))
    shift: np.ndarray | None = None
    k: BySize = ()
    c: BySize = ()
    exponent: float = 1.0
    epsilon: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether nothing is multiplied or added."""
        return self.shift is None and bool((self.factor == 1).all())

    def times(self, factor: np.ndarray) -> Moment:
        """Return it times a number for each part of a sample."""
        shift = None if self.shift is None else _parts(np.multiply, self.shift, factor)
        return replace(self, factor=_parts(np.multiply, self.factor, factor), shift=shift)

    def plus(self, shift: np.ndarray) -> Moment:
        """Return it plus a number for each part of a sample."""
        before = np.zeros(1) if self.shift is None else self.shift
        return replace(self, shift=_parts(np.add, before, shift))


class Moments:
    """What is known of a region's tensors in terms of runs.

    Parameters
    ----------
    side : Side
    varying : mapping of int
        The tensors that are no constants, as far as more is known of them; filled in meanwhile.
    constant : callable
        Returns a constant in float64.

    Attributes
    ----------
    found : dict of int to Moment
    """

    def __init__(
        self, side: Side, varying: Mapping[int, Any], constant: Callable[[int], np.ndarray]
    ) -> None:
        self._side = side
        self._varying = varying
        self._constant = constant
        self.found: dict[int, Moment] = {}

    def read(self, node: FlatNode) -> Moment | None:
        """Note and return what a node makes, None where that is nothing of runs."""
        rule = _RULES.get((node.domain, node.op))
        if rule is None or any(n != NONE for n in node.outputs[1:]):
            return None
        try:
            made = self.found[node.outputs[0]] = rule(self, node)
        except _NoMomentError:
            return None
        return made

    # ------------------------------------------------------------------------------- what is read

    def shapes(self, number: int) -> Shapes:
        """Return the shapes of a tensor."""
        found = tuple(sizes.shapes.get(number) for sizes in self._side.sizes)
        if None in found:
            raise _NoMomentError
        return found  # type: ignore[return-value] # none of them is None

    def counts(self, number: int) -> tuple[int, ...]:
        """Return how many elements a tensor has."""
        return tuple(math.prod(shape) for shape in self.shapes(number))

    def of(self, number: int) -> Moment:
        """Return what an input is; a tensor of which nothing is known is a view of itself."""
        found = self.found.get(number)
        if found is not None:
            return found
        if number == NONE or self.is_constant(number):
            raise _NoMomentError
        return Moment("view", number)

    def is_constant(self, number: int) -> bool:
        """Whether a tensor is the same whatever the region begins with."""
        return number not in self.found and number not in self._varying

    def scalar(self, number: int) -> BySize:
        """Return a single number, which may depend on sizes."""
        values = [sizes.values.get(number) for sizes in self._side.sizes]
        if any(value is None for value in values):
            values = [self.vector(number)] * len(values)
        if any(value is None or value.size != 1 for value in values):
            raise _NoMomentError
        return tuple(float(value.reshape(-1)[0]) for value in values if value is not None)

    def vector(self, number: int) -> np.ndarray:
        """Return a constant, flat; of one that is filled with a number only that."""
        maker = self._side.flat.makers[number]
        if maker is not None and maker.op == "ConstantOfShape" and maker.is_standard:
            value = maker.attributes.get("value", np.zeros(1, np.float32))
            return np.asarray(value, np.float64).reshape(1)
        try:
            return np.asarray(self._constant(number), np.float64).reshape(-1)
        except (NoMapError, TypeError, ValueError) as error:
            raise _NoMomentError from error

    def parts(self, number: int, like: Shapes, samples: tuple[int, ...]) -> np.ndarray:
        """Return a constant that is combined with a tensor: a number for each part of a sample."""
        values = self.vector(number)
        if not values.size:
            raise _NoMomentError
        if (values == values[0]).all():
            return values[:1]
        own = self.shapes(number)[0]
        for shape, count in zip(like, samples, strict=True):
            padded = (1,) * (len(shape) - len(own)) + own
            if len(padded) != len(shape) or shape[0] != count or padded[0] != 1:
                raise _NoMomentError
            last = max(axis for axis, size in enumerate(padded) if size != 1)
            if padded[1 : last + 1] != shape[1 : last + 1]:
                raise _NoMomentError
        return values

    def samples(self, base: int) -> tuple[int, ...]:
        """Return the length of the first axis of what is normalized."""
        shapes = self.shapes(base)
        if any(len(shape) < 2 or 0 in shape for shape in shapes):
            raise _NoMomentError
        return tuple(shape[0] for shape in shapes)

    def require_aligned(self, small: int, made: int) -> None:
        """Refuse an operand that is not repeated along the last axes only."""
        for own, whole in zip(self.shapes(small), self.shapes(made), strict=True):
            padded = (1,) * (len(whole) - len(own)) + own
            if any(a not in {1, b} for a, b in zip(padded, whole, strict=True)):
                raise _NoMomentError
            repeated = [a != b for a, b in zip(padded, whole, strict=True)]
            first = repeated.index(True) if True in repeated else len(whole)
            if any(a != 1 for a in padded[first:]):
                raise _NoMomentError

    def reduced(self, node: FlatNode) -> tuple[int, ...]:
        """Return how many runs a reduction over the last axes makes, at each size."""
        shapes = self.shapes(node.inputs[0])
        axes: Any = node.attributes.get("axes")
        if len(node.inputs) > 1 and node.inputs[1] != NONE:
            axes = self.vector(node.inputs[1]).astype(int).tolist()
        if not axes:
            raise _NoMomentError
        found = []
        for shape in shapes:
            over = {int(axis) % len(shape) for axis in axes}
            first = min(over)
            if any(shape[axis] != 1 for axis in range(first, len(shape)) if axis not in over):
                raise _NoMomentError
            found.append(math.prod(shape[:first]))
        return tuple(found)


class _NoMomentError(Exception):
    """A node makes nothing that has a form in runs."""


def _parts(operator: Callable[..., np.ndarray], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Combine numbers for parts of a sample that may be divided in two ways."""
    count = math.lcm(one.size, other.size)
    if count > max(one.size, other.size):
        raise _NoMomentError
    return operator(*(np.repeat(each, count // each.size) for each in (one, other)))


def _lengths(moments: Moments, moment: Moment) -> BySize:
    """Return how many elements a run has."""
    counts = moments.counts(moment.base)
    if any(count % runs for count, runs in zip(counts, moment.runs, strict=True)):
        raise _NoMomentError
    return tuple(count / runs for count, runs in zip(counts, moment.runs, strict=True))


# --------------------------------------------------------------------------------- operators


def _viewed(moments: Moments, node: FlatNode) -> Moment:
    """Reshape, Flatten, Squeeze, Unsqueeze; Cast, if it does not narrow, which was seen to."""
    if node.op == "Cast" and not is_float(node.attributes.get("to", 0)):
        raise _NoMomentError
    moment = moments.of(node.inputs[0])
    if moments.counts(node.outputs[0]) != moments.counts(node.inputs[0]):
        raise _NoMomentError
    return moment


def _turned(moments: Moments, node: FlatNode) -> Moment:
    """Transpose, as far as it moves only axes of length 1."""
    for shape in moments.shapes(node.inputs[0]):
        order = node.attributes.get("perm") or range(len(shape))[::-1]
        long = [axis for axis in order if shape[axis] != 1]
        if long != sorted(long):
            raise _NoMomentError
    return moments.of(node.inputs[0])


def _meaned(moments: Moments, node: FlatNode) -> Moment:
    """ReduceMean."""
    moment, runs = moments.of(node.inputs[0]), moments.reduced(node)
    if moment.kind in {"view", "mean"} and moment.is_plain:
        return Moment("mean", moment.base, runs)  # of means of as many elements each
    if moment.runs != runs or moment.factor.size != 1:
        raise _NoMomentError
    if moment.kind == "centred":
        return Moment("zero", moment.base, runs)
    if moment.kind == "square":
        k = (float(moment.factor[0]),) * len(runs)
        return Moment("power", moment.base, runs, k=k, c=(0.0,) * len(runs))
    raise _NoMomentError


def _squares_summed(moments: Moments, node: FlatNode) -> Moment:
    """ReduceSumSquare of d, and ReduceSum of its squares."""
    moment, runs = moments.of(node.inputs[0]), moments.reduced(node)
    wanted = "centred" if node.op == "ReduceSumSquare" else "square"
    if moment.kind != wanted or moment.runs != runs or moment.factor.size != 1:
        raise _NoMomentError
    factor = float(moment.factor[0]) ** (2 if wanted == "centred" else 1)
    k = tuple(factor * length for length in _lengths(moments, moment))
    return Moment("power", moment.base, runs, k=k, c=(0.0,) * len(runs))


def _multiplied(moments: Moments, node: FlatNode) -> Moment:
    """MatMul of d as a row with d as a column."""
    one, other = (moments.of(n) for n in node.inputs)
    alike = one.kind == other.kind == "centred" and one.factor.size == other.factor.size == 1
    if not alike or (one.base, one.runs) != (other.base, other.runs):
        raise _NoMomentError
    lengths = _lengths(moments, one)
    row, column = (moments.shapes(n) for n in node.inputs)
    for a, b, runs, length in zip(row, column, one.runs, lengths, strict=True):
        if a[-2:] != (1, length) or b[-2:] != (length, 1) or a[:-2] != b[:-2]:
            raise _NoMomentError
        if math.prod(a[:-2]) != runs:
            raise _NoMomentError
    factor = float(one.factor[0] * other.factor[0])
    k = tuple(factor * length for length in lengths)
    return Moment("power", one.base, one.runs, k=k, c=(0.0,) * len(k))


def _added(moments: Moments, node: FlatNode) -> Moment:
    """Add and Sub."""
    a, b = node.inputs
    sign = -1.0 if node.op == "Sub" else 1.0
    if moments.is_constant(a):
        if node.op == "Sub":
            moment = moments.of(b)
            return _shifted(moments, node, replace(moment, **_negative(moment)), b, a)
        return _shifted(moments, node, moments.of(b), b, a)
    if moments.is_constant(b):
        return _shifted(moments, node, moments.of(a), a, b, sign)
    one, other = moments.of(a), moments.of(b)
    made = node.outputs[0]
    if one.kind == "zero" and node.op == "Add":
        one, other, a, b = other, one, b, a
    if other.kind == "zero" and moments.shapes(made) == moments.shapes(a):
        moments.require_aligned(b, made)
        if other.shift is None:
            return one
        if one.kind != "normal" or one.base != other.base:
            raise _NoMomentError
        return one.plus(sign * other.shift)
    if node.op == "Sub" and one.kind == "view" and other.kind == "mean":
        if one.base != other.base or moments.shapes(a) != moments.shapes(made):
            raise _NoMomentError
        moments.require_aligned(b, made)
        if other.is_plain and one.is_plain and moments.counts(a) == moments.counts(one.base):
            return Moment("centred", one.base, other.runs)
    raise _NoMomentError


def _negative(moment: Moment) -> dict[str, Any]:
    if moment.kind == "power" and moment.exponent == 1:
        return {"k": tuple(-k for k in moment.k), "c": tuple(-c for c in moment.c)}
    shift = None if moment.shift is None else -moment.shift
    return {"factor": -moment.factor, "shift": shift}


def _shifted(
    moments: Moments, node: FlatNode, moment: Moment, number: int, constant: int, sign: float = 1.0
) -> Moment:
    if moment.kind == "power" and moment.exponent == 1:
        added = moments.scalar(constant)
        return replace(moment, c=tuple(c + sign * a for c, a in zip(moment.c, added, strict=True)))
    made = node.outputs[0]
    if moment.kind == "zero":
        # Nothing but the constant is left, for each part of a sample.
        values = moments.parts(constant, moments.shapes(made), moments.samples(moment.base))
        return moment.plus(sign * values)
    if moment.kind != "normal" or moments.shapes(made) != moments.shapes(number):
        raise _NoMomentError
    values = moments.parts(constant, moments.shapes(made), moments.samples(moment.base))
    return moment.plus(sign * values)


def _scaled(moments: Moments, node: FlatNode) -> Moment:
    """Mul and Div."""
    a, b = node.inputs
    if moments.is_constant(a) or moments.is_constant(b):
        return _by_constant(moments, node)
    one, other = moments.of(a), moments.of(b)
    made = node.outputs[0]
    if (one.base, one.runs) != (other.base, other.runs):
        raise _NoMomentError
    if node.op == "Mul":
        if {one.kind, other.kind} == {"centred"} and one.factor.size == other.factor.size == 1:
            if moments.shapes(a) != moments.shapes(b):
                raise _NoMomentError
            return replace(one, kind="square", factor=one.factor * other.factor)
        for zero in (one, other):
            if zero.kind == "zero" and zero.shift is None:
                return Moment("zero", zero.base, zero.runs)
        if other.kind == "centred":
            one, other, a, b = other, one, b, a
    exponent = other.exponent if node.op == "Mul" else -other.exponent
    if one.kind != "centred" or other.kind != "power" or exponent != -0.5:
        raise _NoMomentError
    if node.op == "Div" and not other.is_plain:
        raise _NoMomentError
    if moments.shapes(made) != moments.shapes(a) or other.shift is not None:
        # Factors by channel make of a number for each run one for each channel, and so on.
        raise _NoMomentError
    moments.require_aligned(b, made)
    return _normal(one, other).times(other.factor)


def _normal(centred: Moment, power: Moment) -> Moment:
    """Return d * (k * v + c) ** -0.5."""
    if min(power.k) <= 0:
        raise _NoMomentError
    epsilons = [c / k for c, k in zip(power.c, power.k, strict=True)]
    roots = [math.sqrt(k) for k in power.k]
    # What depends on the size of a run would be another function at another size.
    if any(not math.isclose(r, roots[0], rel_tol=1e-12) for r in roots):
        raise _NoMomentError
    if any(not math.isclose(e, epsilons[0], rel_tol=1e-12) for e in epsilons):
        raise _NoMomentError
    found = Moment("normal", centred.base, centred.runs, epsilon=epsilons[0])
    return found.times(centred.factor / roots[0])


def _by_constant(moments: Moments, node: FlatNode) -> Moment:
    a, b = node.inputs
    number, constant = (b, a) if moments.is_constant(a) else (a, b)
    moment = moments.of(number)
    made = node.outputs[0]
    inverse = node.op == "Div" and number == a
    if node.op == "Div" and not inverse:  # a constant by what varies
        if moment.kind != "power" or moment.exponent == 1 or not moment.is_plain:
            raise _NoMomentError
        moment = replace(moment, exponent=-moment.exponent)
    if moment.kind == "power" and moment.exponent == 1:
        values = moments.scalar(constant)
        values = tuple(1 / v if v else math.nan for v in values) if inverse else values
        k, c = (
            tuple(x * v for x, v in zip(each, values, strict=True)) for each in (moment.k, moment.c)
        )
        return replace(moment, k=k, c=c)
    if moment.kind == "view":
        raise _NoMomentError
    shapes = moments.shapes(made)
    grown = moments.counts(made) != moments.counts(number)
    if grown:  # (N, G, 1) and (G, C / G): from now on a number for each channel
        if moment.kind not in {"power", "zero"}:
            raise _NoMomentError
        moments.require_aligned(number, made)
    factor = moments.parts(constant, shapes, moments.samples(moment.base))
    return moment.times(1 / factor if inverse else factor)


def _rooted(moments: Moments, node: FlatNode) -> Moment:
    """Sqrt and Reciprocal."""
    moment = moments.of(node.inputs[0])
    if moment.kind != "power" or not moment.is_plain:
        raise _NoMomentError
    if node.op == "Reciprocal":
        return replace(moment, exponent=-moment.exponent)
    return replace(moment, exponent=moment.exponent / 2)


def _powered(moments: Moments, node: FlatNode) -> Moment:
    """Pow by 2, and by 0.5 and -0.5."""
    moment = moments.of(node.inputs[0])
    exponent = moments.scalar(node.inputs[1])[0]
    if moment.kind == "centred" and exponent == 2 and moment.factor.size == 1:
        return replace(moment, kind="square", factor=moment.factor**2)
    if moment.kind != "power" or not moment.is_plain or abs(exponent) != 0.5:
        raise _NoMomentError
    return replace(moment, exponent=moment.exponent * exponent)


def _negated(moments: Moments, node: FlatNode) -> Moment:
    moment = moments.of(node.inputs[0])
    if moment.kind == "view":
        raise _NoMomentError
    return replace(moment, **_negative(moment))


# --------------------------------------------------------------------------------- normalizations


def _by_operator(moments: Moments, node: FlatNode) -> Moment:
    """LayerNormalization, InstanceNormalization and GroupNormalization."""
    moment = moments.of(node.inputs[0])
    if moment.kind != "view" or moments.counts(node.inputs[0]) != moments.counts(moment.base):
        raise _NoMomentError
    shapes, samples = moments.shapes(node.inputs[0]), moments.samples(moment.base)
    rank = len(shapes[0])
    given = node.attributes
    if node.op == "LayerNormalization":
        axis = int(given.get("axis", -1)) % rank
        runs = tuple(math.prod(shape[:axis]) for shape in shapes)
    elif node.op == "InstanceNormalization":
        axis, runs = 1, tuple(math.prod(shape[:2]) for shape in shapes)
    else:
        axis, runs = 1, tuple(shape[0] * int(given["num_groups"]) for shape in shapes)
    epsilon = float(np.float32(given.get("epsilon", 1e-5)))
    made = Moment("normal", moment.base, runs, epsilon=epsilon)
    for slot in (1, 2):
        if slot >= len(node.inputs) or node.inputs[slot] == NONE:
            continue
        if not moments.is_constant(node.inputs[slot]):
            raise _NoMomentError
        values = moments.vector(node.inputs[slot])
        if (values == values[0]).all():
            values = values[:1]
        elif axis != 1 or any(s[0] != n for s, n in zip(shapes, samples, strict=True)):
            raise _NoMomentError
        made = made.times(values) if slot == 1 else replace(made, shift=values)
    return made


_RULES: dict[tuple[str, str], Callable[[Moments, FlatNode], Moment]] = {
    ("", "Add"): _added,
    ("", "Cast"): _viewed,
    ("", "Div"): _scaled,
    ("", "Flatten"): _viewed,
    ("", "GroupNormalization"): _by_operator,
    ("", "InstanceNormalization"): _by_operator,
    ("", "LayerNormalization"): _by_operator,
    ("", "MatMul"): _multiplied,
    ("", "Mul"): _scaled,
    ("", "Neg"): _negated,
    ("", "Pow"): _powered,
    ("", "Reciprocal"): _rooted,
    ("", "ReduceMean"): _meaned,
    ("", "ReduceSum"): _squares_summed,
    ("", "ReduceSumSquare"): _squares_summed,
    ("", "Reshape"): _viewed,
    ("", "Sqrt"): _rooted,
    ("", "Squeeze"): _viewed,
    ("", "Sub"): _added,
    ("", "Transpose"): _turned,
    ("", "Unsqueeze"): _viewed,
}
