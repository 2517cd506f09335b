"""Random inputs that a model can be fed: seeded, of the right types, sizes and ranges."""

from __future__ import annotations

import enum
import math
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from normswap.dtypes import is_floating
from normswap.errors import UsageError
from normswap.inputs.roles import Allowed, Known, allowed
from normswap.inputs.roles.indices import SEQUENCE_LENGTH
from normswap.runtime.arrays import Feeds, Value, dtype_of
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.inputs.signature import Port, Signature

_WORDS = ("norm", "swap", "batch", "group", "channel", "", "Ω", "a longer string with spaces")
_INTEGERS = 100  # the largest of those of no known meaning


class Distribution(str, enum.Enum):
    """How the numbers of an input are drawn.

    NORMAL is what follows a normalization, UNIFORM on [0, 1) a scaled image, LARGE_MEAN a signal
    that never was centred, SPARSE what follows a Relu, CONSTANT an input without variance, and
    EXTREMES has values far out on both sides.
    """

    NORMAL = "normal"
    UNIFORM = "uniform"
    LARGE_MEAN = "large mean"
    SPARSE = "sparse"
    CONSTANT = "constant"
    EXTREMES = "extremes"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Case:
    """One set of inputs.

    Attributes
    ----------
    name : str
    distribution : Distribution
    feeds : dict of str to Value
        What the model is fed.
    expected : dict of str to Value
        Outputs that came with the inputs, if any.
    remarks : tuple of str
        What came with the inputs and is not used.
    weight : float
        How often a sum over all samples has to take this one in; see
        :meth:`normswap.inputs.data.Dataset.cases`.
    sampled : tuple of str
        Inputs that have the samples along their first axis.
    units : tuple
        What each sample belongs to, where the data says so.
    """

    name: str
    distribution: Distribution
    feeds: Feeds
    expected: Feeds = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    weight: float = 1.0
    sampled: tuple[str, ...] = ()
    units: tuple[Any, ...] = ()

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self.feeds[self.sampled[0]]) if self.sampled else 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors among the inputs."""
        return {n: tuple(v.shape) for n, v in self.feeds.items() if isinstance(v, np.ndarray)}


@dataclass(frozen=True, slots=True)
class Draw:
    """How the values of a set of inputs are drawn.

    Attributes
    ----------
    distribution : Distribution
    scale, offset : float
        What the numbers drawn are multiplied by, and what is added then.
    flipped : bool
        Booleans are the opposite of what they would be.
    integers : (int, int) or None
        The only range that integers of no known meaning are drawn from.
    step : float
        What all floats are multiples of, so that some are equal; 0 for none.
    """

    distribution: Distribution
    scale: float = 1.0
    offset: float = 0.0
    flipped: bool = False
    integers: tuple[int, int] | None = None
    step: float = 0.0

    def __str__(self) -> str:
        text = self.distribution.value
        if self.scale != 1.0:
            text += f" x {self.scale:g}"
        if self.offset:
            text += f" {'+' if self.offset > 0 else '-'} {abs(self.offset):g}"
        if self.step:
            text += f" in steps of {self.step:g}"
        if self.flipped:
            text += ", flipped"
        if self.integers is not None:
            text += f", integers of {self.integers[0]} to {self.integers[1]}"
        return text


def make_case(
    signature: Signature,
    shapes: Mapping[str, tuple[int, ...]],
    draw: Draw | Distribution,
    *,
    seed: int,
    ranges: Mapping[str, tuple[float, float]],
) -> Case:
    """Draw one value for every input of a model.

    Each input has a generator of its own, seeded by `seed`, its name and how it is drawn, so
    that neither the order of inputs nor their number matters.

    Raises
    ------
    UsageError
        A range names no input, or an input is of a kind that cannot be drawn.
    """
    if isinstance(draw, Distribution):
        draw = Draw(draw)
    if all(port.dtype != "bool" for port in signature.inputs):
        draw = replace(draw, flipped=False)
    names = {port.name for port in signature.inputs}
    for name in ranges:
        if name and name not in names:
            raise UsageError(
                f"A range is given for input {name!r}, but the model has no such input.",
                tip=did_you_mean(name, names)
                or f"Its inputs are {', '.join(sorted(names)) or 'none'}.",
            )
    known = Known.of(signature, shapes)
    feeds: Feeds = {}
    for port in signature.inputs:
        # Other numbers for every scale, but of booleans the very opposite where they are flipped.
        how = draw.distribution.value if port.dtype == "bool" else str(draw)
        rng = np.random.default_rng([seed, zlib.crc32(f"{port.name}\0{how}".encode())])
        shape = shapes.get(port.name, ())
        if port.kind != "tensor":
            inner = tuple(dim if isinstance(dim, int) else 2 for dim in port.shape or ())
            shape = shapes.get(port.name, inner)
        meaning = allowed(signature.semantics[port.name], shape, known, rng)
        bounds = ranges.get(port.name, ranges.get(""))
        if bounds is not None:
            meaning = Allowed(*bounds)  # a person knows better
        feeds[port.name] = _draw(port, port.kind, shape, draw=draw, meaning=meaning, rng=rng)
    batch = "x".join(map(str, next(iter(shapes.values()), ())))
    name = f"{draw} {batch}, seed {seed}" if batch else f"{draw}, seed {seed}"
    if not signature.inputs:
        name = f"no inputs, seed {seed}"
    return Case(name, draw.distribution, feeds)


def _draw(
    port: Port,
    kind: str,
    shape: tuple[int, ...],
    **how: Any,
) -> Value:
    head, _, inner = kind.partition(":")
    if head == "sequence":
        return [_draw(port, inner, shape, **how) for _ in range(SEQUENCE_LENGTH)]
    if head == "optional":
        return _draw(port, inner, shape, **how)
    if head != "tensor":
        raise UsageError(
            f"Input {port.name!r} is of kind {head}, for which no random values can be made.",
            tip="Give real inputs (check --load-inputs, bn-to-gn --calibrate), or skip the "
            "check (--no-check).",
        )
    return tensor(port.name, port.dtype, shape, **how)


def tensor(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    *,
    draw: Draw,
    meaning: Allowed | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a tensor.

    Parameters
    ----------
    name : str
        Of the input; tells a mask, or lengths, where the graph does not.
    dtype : str
        As in `Port`.
    shape : tuple of int
    draw : Draw
    meaning : Allowed or None
        What the operators that read it ask for, or a person does.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of `shape` and `dtype`
    """
    if dtype == "string":
        choices = (meaning.choices if meaning is not None else None) or _WORDS
        if draw.integers is not None:
            choices = choices[:2]  # few of them, so that some are equal
        words = np.empty(math.prod(shape), dtype=object)
        words[:] = [str(choices[i]) for i in rng.integers(len(choices), size=words.size)]
        return words.reshape(shape)
    kind = dtype_of(dtype)
    if meaning is not None and meaning.values is not None:
        return np.asarray(meaning.values).reshape(shape).astype(kind)
    if meaning is not None and meaning.choices and not isinstance(meaning.choices[0], str):
        chosen = rng.integers(len(meaning.choices), size=shape)
        return np.asarray(meaning.choices)[chosen].astype(kind).reshape(shape)
    low, high = (None, None) if meaning is None else (meaning.low, meaning.high)
    if kind == np.bool_:
        if low is not None and low == high:
            return np.full(shape, bool(low))
        return np.asarray((rng.random(shape) < 0.5) != draw.flipped)
    if is_floating(kind):
        values = draw.scale * _floats(draw.distribution, shape, rng, _reach(kind)) + draw.offset
        if draw.step:
            values = np.round(values / draw.step) * draw.step
        if low is not None and high is not None:
            values = low + (high - low) * rng.random(shape)
        most = float(ml_dtypes.finfo(kind).max)
        return np.asarray(np.clip(values, -most, most)).astype(kind)
    if kind.kind == "c":
        real = _floats(draw.distribution, shape, rng, 1e3)
        imaginary = _floats(draw.distribution, shape, rng, 1e3)
        return np.asarray(draw.scale * (real + 1j * imaginary) + draw.offset).astype(kind)
    return _integers(name, kind, shape, draw=draw, meaning=meaning, rng=rng)


def _reach(dtype: np.dtype[Any]) -> float:
    """Return how far out an extreme value may lie without every activation overflowing."""
    return 1e3 if float(ml_dtypes.finfo(dtype).max) > 1e30 else 20.0


def _floats(
    distribution: Distribution, shape: tuple[int, ...], rng: np.random.Generator, reach: float
) -> np.ndarray:
    normal = np.asarray(rng.standard_normal(shape))
    if distribution is Distribution.UNIFORM:
        return np.asarray(rng.random(shape))
    if distribution is Distribution.LARGE_MEAN:
        return normal + 10.0
    if distribution is Distribution.SPARSE:
        return np.maximum(normal, 0.0) * (rng.random(shape) < 0.2)
    if distribution is Distribution.CONSTANT:
        levels = rng.standard_normal(shape[:1] or ())
        return np.broadcast_to(levels.reshape(shape[:1] + (1,) * (len(shape) - 1)), shape)
    if distribution is Distribution.EXTREMES:
        outliers = rng.random(shape) < 0.01
        return np.where(outliers, np.sign(normal) * reach, normal)
    return normal


def _integers(
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    *,
    draw: Draw,
    meaning: Allowed | None,
    rng: np.random.Generator,
) -> np.ndarray:
    info = ml_dtypes.iinfo(dtype)
    least, most = int(info.min), int(info.max)
    free = meaning is None or meaning.low is None or meaning.high is None or meaning.guess
    if draw.integers is not None and free:
        low, high = draw.integers
    elif meaning is not None and meaning.low is not None and meaning.high is not None:
        low, high = math.ceil(meaning.low), math.floor(meaning.high)
    elif "mask" in name.lower() and (meaning is None or meaning.zero):
        return _mask(shape, rng).astype(dtype)
    elif "length" in name.lower():
        low, high = 1, max(shape[0] if shape else 1, 1)
    elif dtype.itemsize == 1:
        low, high = least, most
    else:
        low, high = sorted((0, round(_INTEGERS * draw.scale + draw.offset)))
    low, high = max(low, least), min(max(high, low), most)
    values = np.asarray(rng.integers(low, high, size=shape, endpoint=True))
    if meaning is not None and not meaning.zero:
        values = np.where(values == 0, min(max(high, 1), most), values)
    return values.astype(dtype)


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return ones followed, along the last axis, by zeros: what padding a batch leaves."""
    if not shape:
        return np.ones((), dtype=np.int64)
    length = shape[-1]
    kept = rng.integers((length + 1) // 2, length, size=(*shape[:-1], 1), endpoint=True)
    return np.asarray(np.arange(length) < kept).astype(np.int64)
