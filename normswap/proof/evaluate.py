"""A region of a flat model in float64, node by node, by what the operators mean."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from normswap.dtypes import NUMPY_DTYPES, is_float, is_floating
from normswap.proof.flat import CHOICE, NONE, OWN
from normswap.proof.perturbation import NOT_WEIGHTS, perturbed
from normswap.semantics.registry import meaning_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side
    from normswap.proof.regions import Cone


class UnjudgedError(Exception):
    """A region can't be evaluated; the message says why."""


def evaluate_node(node: FlatNode, inputs: Sequence[Any]) -> Sequence[Any]:
    """Return what a node makes, floats in float64.

    Raises
    ------
    UnjudgedError
        If its operator is not known, or takes no such inputs.
    """
    if node.domain == OWN:
        if node.op != CHOICE:
            raise UnjudgedError(f"{node.title} runs a subgraph, which is not evaluated here")
        condition = np.asarray(inputs[0])
        if condition.size != 1:
            raise UnjudgedError(f"{node.title} has a condition that is not a single value")
        return [inputs[1] if condition.reshape(-1)[0] else inputs[2]]
    meaning = meaning_of(node.op, node.domain, node.opset)
    if meaning is None or meaning.function is None:
        raise UnjudgedError(f"{node.title} is not supported in float64")
    used = [slot for slot, number in enumerate(node.outputs) if number != NONE]
    try:
        with np.errstate(all="ignore"):
            made = meaning.evaluate(inputs, node.attributes, node.opset, max(used, default=0) + 1)
    except Exception as error:
        raise UnjudgedError(f"{node.title}: {error}") from error
    return [widened(value) for value in made]


def widened(value: Any) -> Any:
    """Return a value with its floats in float64."""
    if isinstance(value, list):
        return [widened(item) for item in value]
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype != np.float64 and is_floating(value.dtype):
        return value.astype(np.float64)
    return value


def evaluate(
    side: Side,
    cone: Cone,
    values: Mapping[int, Any],
    *,
    sample: int = 0,
    own: bool = False,
    moving: Collection[int] | None = None,
    numbers: Container[tuple[str, float]] = frozenset(),
    see: Callable[[FlatNode, Sequence[Any], Sequence[Any]], None] | None = None,
) -> Any:
    """Return what a region makes.

    Parameters
    ----------
    side : Side
        The model that it is of.
    cone : Cone
    values : mapping of int to numpy.ndarray
        Of the frontier; floats in float64.
    sample : int
        0 for the region as it is; any other number moves every weight, and some numbers among the
        attributes, at random within half a unit in the last place of its type.
    own : bool
        Whether what constants alone make is moved, by some roundoffs of their own type at the scale
        of the tensor: by what folding them in the arithmetic of that type may be off.
    moving : collection of int, optional
        Moves, of the constants, only these.
    numbers : container of (str, float)
        The attributes that are moved, each with its value.
    see : callable, optional
        Told of each node with what it reads and makes.

    Raises
    ------
    UnjudgedError
        If it can't be evaluated on these values.
    """
    known = dict(values)
    exempt = not_weights(cone.nodes)

    def value(number: int) -> Any:
        if number == NONE:
            return None
        if number not in known:
            moves = number not in exempt and (moving is None or number in moving)
            known[number] = constant_of(side, number, sample if moves else 0)
            if own and number not in side.flat.tensors:
                known[number] = _shaken(side, number, known[number])
        return known[number]

    constants = _made_of_constants(cone) if own else set()
    for node in cone.nodes:
        inputs = [value(number) for number in node.inputs]
        made = evaluate_node(moved(node, sample, numbers), inputs)
        if not constants.isdisjoint(node.outputs):
            made = [_shaken(side, n, v) for n, v in zip(node.outputs, made, strict=False)]
        known.update(zip(node.outputs, made, strict=False))
        if see is not None:
            see(node, inputs, made)
    return value(cone.target)


def folds(side: Side, cone: Cone) -> bool:
    """Whether a region has floats that are made of constants alone."""
    made = _made_of_constants(cone)
    made.update(n for n in cone.constants if n not in side.flat.tensors)
    return any(side.flat.types[n] in NUMPY_DTYPES for n in made if n != NONE)


def _made_of_constants(cone: Cone) -> set[int]:
    made: set[int] = set()
    for node in cone.nodes:
        if all(n == NONE or n in made or n in cone.constants for n in node.inputs):
            made.update(node.outputs)
    return made


def _shaken(side: Side, number: int, value: Any) -> Any:
    """Return floats moved by what arithmetic in their own type may be off."""
    data_type = side.flat.types[number] if number != NONE else 0
    if data_type not in NUMPY_DTYPES or not isinstance(value, np.ndarray) or not value.size:
        return value
    unit = float(ml_dtypes.finfo(NUMPY_DTYPES[data_type]).eps) / 2
    sign = np.random.default_rng(number).integers(2, size=value.shape) * 2.0 - 1.0
    return value + sign * (_FOLDED * unit * float(np.abs(value).max()))


def numbers_of(nodes: Iterable[FlatNode]) -> frozenset[tuple[str, float]]:
    """Return the attributes of nodes that are numbers in float32, each with its value."""
    return frozenset(
        (name, value)
        for node in nodes
        for name, value in node.attributes.items()
        if isinstance(value, float)
    )


def moved(node: FlatNode, sample: int, numbers: Container[tuple[str, float]]) -> FlatNode:
    """Return a node with numbers among its attributes as another rounding leaves them."""
    if not sample:
        return node
    values = {
        name: float(perturbed(np.array(value), name, sample + node.index, _FLOAT32))
        for name, value in node.attributes.items()
        if isinstance(value, float) and (name, value) in numbers
    }
    if not values:
        return node
    return replace(node, attributes={**node.attributes, **values})


def constant_of(side: Side, number: int, sample: int = 0) -> Any:
    """Return a constant, its floats in float64, those of a sample moved.

    Raises
    ------
    UnjudgedError
        If it is none.
    """
    if number in side.flat.tensors:
        stored = side.constants.load(number)
        wide = widened(stored)
        if sample and isinstance(wide, np.ndarray):
            return perturbed(wide, str(number), sample, stored.dtype)
        return wide
    found = side.value(number)
    if found is None:
        raise UnjudgedError(f"nothing makes {side.flat.names[number]!r} in the region")
    wide = widened(found)
    if sample and isinstance(wide, np.ndarray) and wide.dtype == np.float64:
        types = [NUMPY_DTYPES[kind] for kind in stored_types(side, number)]
        coarsest = max(types, key=lambda kind: float(ml_dtypes.finfo(kind).eps), default=None)
        if coarsest is not None:
            return perturbed(wide, str(number), sample, coarsest)
    return wide


def stored_types(side: Side, number: int) -> set[int]:
    """Return the float types that a constant was rounded to: its own, and of what it is made of."""
    found: set[int] = set()
    pending, seen = [number], {number}
    while pending:
        each = pending.pop()
        if is_float(side.flat.types[each]):
            found.add(side.flat.types[each])
        maker = side.flat.makers[each]
        for read in () if maker is None else maker.inputs:
            fixed = read in side.flat.tensors or side.value(read) is not None
            if read != NONE and read not in seen and fixed:
                seen.add(read)
                pending.append(read)
    return found


def not_weights(nodes: Iterable[FlatNode]) -> set[int]:
    """Return what nodes read that is no weight: sizes, exponents, limits."""
    return {
        node.inputs[slot]
        for node in nodes
        for slot in NOT_WEIGHTS.get(node.op, ())
        if slot < len(node.inputs)
    }


def narrowing(side: Side, cone: Cone, given: Collection[int] = ()) -> dict[int, int]:
    """Return the nodes, by index, that round floats to a narrower type, with that type.

    What was widened, and then gets back the type of all that the region begins with, is rounded no
    more than operators of that type round it. That type is the original's: `given` has those of
    what its region begins with.
    """
    types = side.flat.types
    before = given or [types[n] for n in cone.frontier]
    own = {kind for kind in before if is_float(kind) or not kind}
    varying = set(cone.frontier)
    found = {}
    for node in cone.nodes:
        varies = not varying.isdisjoint(node.inputs)
        if varies:
            varying.update(n for n in node.outputs if n != NONE)
        if narrows(node, side):
            after = types[node.outputs[0]]
            if not (varies and own and all(_holds(after, kind) for kind in own)):
                found[node.index] = after
    return found


def _holds(data_type: int, other: int) -> bool:
    """Whether a float type has all values of another."""
    if data_type == other:
        return True
    known = data_type in NUMPY_DTYPES and other in NUMPY_DTYPES
    return known and width(data_type) > width(other)


def narrows(node: FlatNode, side: Side) -> bool:
    """Whether a node makes of floats those of a narrower type."""
    if node.op not in {"Cast", "CastLike"} or not node.is_standard:
        return False
    before, after = (side.flat.types[n] for n in (node.inputs[0], node.outputs[0]))
    if before not in NUMPY_DTYPES or after not in NUMPY_DTYPES:
        return before in NUMPY_DTYPES or not before
    return width(after) < width(before) or {before, after} == _HALVES


def width(data_type: int) -> int:
    """Return the bytes of an element of a float type."""
    return NUMPY_DTYPES[data_type].itemsize


_FOLDED = 4.0  # roundoffs, of the largest element, that a constant is off by if a tool folded it
_FLOAT32 = np.dtype(np.float32)
_HALVES = {number for number, dtype in NUMPY_DTYPES.items() if dtype.itemsize == 2}
