"""Random inputs that a model can be fed: seeded, of the right types, sizes and ranges."""

from __future__ import annotations

import enum
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from normswap.check.wire import Feeds, Value, dtype_of
from normswap.dtypes import is_floating
from normswap.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.check.semantics import Semantics
    from normswap.check.signature import Port, Signature

_WORDS = ("norm", "swap", "batch", "group", "channel", "", "Ω", "a longer string with spaces")
_SEQUENCE_LENGTH = 3


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
    """

    name: str
    distribution: Distribution
    feeds: Feeds
    expected: Feeds = field(default_factory=dict)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors among the inputs."""
        return {n: tuple(v.shape) for n, v in self.feeds.items() if isinstance(v, np.ndarray)}


def make_case(
    signature: Signature,
    shapes: Mapping[str, tuple[int, ...]],
    distribution: Distribution,
    *,
    seed: int,
    ranges: Mapping[str, tuple[float, float]],
) -> Case:
    """Draw one value for every input of a model.

    Each input has a generator of its own, seeded by `seed`, its name and the distribution, so
    that neither the order of inputs nor their number matters.

    Raises
    ------
    UsageError
        A range names no input, or an input is of a kind that cannot be drawn.
    """
    names = {port.name for port in signature.inputs}
    for name in ranges:
        if name and name not in names:
            raise UsageError(f"The model has no input {name!r} to give a range to.")
    feeds: Feeds = {}
    for port in signature.inputs:
        key = f"{port.name}\0{distribution.value}".encode()
        rng = np.random.default_rng([seed, zlib.crc32(key)])
        bounds = ranges.get(port.name, ranges.get(""))
        shape = shapes.get(port.name, ())
        meaning = signature.semantics[port.name]
        feeds[port.name] = _draw(
            port,
            port.kind,
            shape,
            distribution=distribution,
            meaning=meaning,
            bounds=bounds,
            rng=rng,
        )
    batch = "x".join(map(str, next(iter(shapes.values()), ())))
    name = f"{distribution.value} {batch}, seed {seed}" if batch else f"no inputs, seed {seed}"
    return Case(name, distribution, feeds)


def _draw(
    port: Port,
    kind: str,
    shape: tuple[int, ...],
    **how: Any,
) -> Value:
    head, _, inner = kind.partition(":")
    if head == "sequence":
        return [_draw(port, inner, _inner_shape(port), **how) for _ in range(_SEQUENCE_LENGTH)]
    if head == "optional":
        return _draw(port, inner, _inner_shape(port), **how)
    if head != "tensor":
        raise UsageError(
            f"Input {port.name!r} is a {head}, which cannot be drawn at random.",
            tip="Give real inputs with --load-inputs.",
        )
    return tensor(port.name, port.dtype, shape, **how)


def _inner_shape(port: Port) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else 2 for dim in port.shape or ())


def tensor(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    *,
    distribution: Distribution,
    meaning: Semantics,
    bounds: tuple[float, float] | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a tensor.

    Parameters
    ----------
    name : str
        Of the input; tells a mask where the graph does not.
    dtype : str
        As in `Port`.
    shape : tuple of int
    distribution : Distribution
    meaning : Semantics
    bounds : (float, float) or None
        Range that a person asked for, both ends included for integers.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of `shape` and `dtype`
    """
    if dtype == "string":
        words = np.empty(int(np.prod(shape)), dtype=object)
        words[:] = [_WORDS[i] for i in rng.integers(len(_WORDS), size=words.size)]
        return words.reshape(shape)
    kind = dtype_of(dtype)
    if kind == np.bool_:
        return np.asarray(rng.random(shape) < 0.5)
    if is_floating(kind):
        values = _floats(distribution, shape, rng, _reach(kind))
        if meaning.index_limit is not None:
            values = rng.integers(meaning.index_limit, size=shape).astype(np.float64)
        elif bounds is not None:
            values = bounds[0] + (bounds[1] - bounds[0]) * rng.random(shape)
        return np.asarray(values).astype(kind)
    if kind.kind == "c":
        real = _floats(distribution, shape, rng, 1e3)
        return np.asarray(real + 1j * _floats(distribution, shape, rng, 1e3)).astype(kind)
    low, high = _integer_bounds(name, kind, shape, meaning, bounds)
    if "mask" in name.lower() and bounds is None and meaning.index_limit is None:
        return _mask(shape, rng).astype(kind)
    return np.asarray(rng.integers(low, high, size=shape, endpoint=True)).astype(kind)


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


def _integer_bounds(
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    meaning: Semantics,
    bounds: tuple[float, float] | None,
) -> tuple[int, int]:
    if bounds is not None:
        return int(bounds[0]), int(bounds[1])
    if meaning.index_limit is not None:
        return 0, meaning.index_limit - 1
    if meaning.is_shape:
        return 1, 2
    if meaning.is_length or "length" in name.lower():
        return 1, max(shape[0] if shape else 1, 1)
    info = ml_dtypes.iinfo(dtype)
    if dtype.itemsize == 1:
        return int(info.min), int(info.max)
    return 0, min(100, int(info.max))


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return ones followed, along the last axis, by zeros: what padding a batch leaves."""
    if not shape:
        return np.ones((), dtype=np.int64)
    length = shape[-1]
    kept = rng.integers((length + 1) // 2, length, size=(*shape[:-1], 1), endpoint=True)
    return np.asarray(np.arange(length) < kept).astype(np.int64)
