"""Linear layers as matrix products: the columns that a layer's weight is multiplied with.

For every group of channels (one, but in grouped convolutions)::

    y[c, r] = sum_k matrix[k, c] * columns[k, r] + bias[c]

where r runs over samples and positions. The columns of a Conv are the patches of its padded input
(im2col); those of a ConvTranspose are the patches of its input with zeros between the elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from normswap.groupnorm.reference import normalize
from normswap.semantics.operators.convolution import crop_of, patches
from normswap.semantics.operators.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]

ELEMENTS = 1 << 23
"""Of the columns at a time: 64 MiB."""


class Product(Protocol):
    """A layer that is linear in its weight."""

    @property
    def gain(self) -> float:
        """What the layer multiplies its bias by."""
        ...

    def chunks(self, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[Float64, Float64]]:
        """Yield columns ``(G, K, R)``, and ``(G, C, R)`` of what has the shape of the result."""
        ...

    def matrix(self, weight: np.ndarray) -> Float64:
        """Return a weight as ``(G, K, C)``."""
        ...

    def weight(self, matrix: Float64) -> Float64:
        """Return ``(G, K, C)`` as the weight that it is of."""
        ...


@dataclass(frozen=True, slots=True)
class Convolution:
    """Conv: weight ``(M, C / group, *kernel)``.

    Attributes
    ----------
    shape : tuple of int
        Of the weight.
    group : int
    attributes : mapping
        ``auto_pad``, ``dilations``, ``pads`` and ``strides`` of the node.
    """

    shape: tuple[int, ...]
    group: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    gain: float = 1.0

    def chunks(
        self, x: np.ndarray, y: np.ndarray, dtype: type = np.float64
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield columns and results."""
        window = Window.over(x.shape[2:], self.shape[2:], **self.attributes)
        yield from _windowed(window.pad(x, 0.0), window, self.group, y, dtype)

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Return all columns at once, in the type of what comes in, the samples innermost."""
        window = Window.over(x.shape[2:], self.shape[2:], **self.attributes)
        view = np.moveaxis(patches(window.pad(x, 0.0), window), 0, -1)
        size = view.shape[0] // self.group * math.prod(window.kernel)
        return np.ascontiguousarray(view).reshape(self.group, size, -1)

    def matrix(self, weight: np.ndarray) -> Float64:
        """Return a weight as a matrix for each group."""
        per_group = weight.reshape(self.group, self.shape[0] // self.group, -1)
        return np.swapaxes(per_group, 1, 2).astype(np.float64)

    def weight(self, matrix: Float64) -> Float64:
        """Return the weight that a matrix for each group is of."""
        return np.swapaxes(matrix, 1, 2).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class TransposedConvolution:
    """ConvTranspose: weight ``(C, M / group, *kernel)``.

    Attributes
    ----------
    shape : tuple of int
        Of the weight.
    group : int
    attributes : mapping
        Of the node: ``auto_pad``, ``dilations``, ``output_padding``, ``output_shape``, ``pads`` and
        ``strides``.
    """

    shape: tuple[int, ...]
    group: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    gain: float = 1.0

    def chunks(
        self, x: np.ndarray, y: np.ndarray, dtype: type = np.float64
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield columns and results."""
        kernel, spatial = self.shape[2:], x.shape[2:]
        rank = len(kernel)
        strides = tuple(self.attributes.get("strides") or (1,) * rank)
        dilations = tuple(self.attributes.get("dilations") or (1,) * rank)
        reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        between = [(size - 1) * s + 1 for size, s in zip(spatial, strides, strict=True)]
        _, crop = self.canvas(spatial)
        spread = np.zeros((*x.shape[:2], *between), x.dtype)
        placed: Any = (..., *(slice(None, None, s) for s in strides))
        spread[placed] = x
        begin = tuple(r - part.start for r, part in zip(reach, crop, strict=True))
        output = tuple(part.stop - part.start for part in crop)
        end = tuple(
            positions - 1 + r + 1 - size - before
            for positions, r, size, before in zip(output, reach, between, begin, strict=True)
        )
        window = Window(tuple(kernel), (1,) * rank, dilations, begin, end, output)
        yield from _windowed(window.pad(spread, 0.0), window, self.group, y, dtype)

    def canvas(self, spatial: Sequence[int]) -> tuple[list[int], tuple[slice, ...]]:
        """Return the sizes of all that the elements add to, and what of it is the result."""
        kernel, given = self.shape[2:], self.attributes
        ones = (1,) * len(kernel)
        strides = tuple(given.get("strides") or ones)
        dilations = tuple(given.get("dilations") or ones)
        extra = tuple(given.get("output_padding") or (0,) * len(kernel))
        full = [
            (size - 1) * s + d * (k - 1) + 1
            for size, s, d, k in zip(spatial, strides, dilations, kernel, strict=True)
        ]
        crop = crop_of(
            spatial,
            full,
            strides,
            extra,
            pads=given.get("pads"),
            auto_pad=given.get("auto_pad", "NOTSET"),
            output_shape=given.get("output_shape"),
        )
        return full, crop

    def matrix(self, weight: np.ndarray) -> Float64:
        """Return a weight as a matrix for each group: the taps the other way round."""
        channels, each = self.shape[:2]
        turned = np.flip(weight, axis=tuple(range(2, weight.ndim)))
        taps = turned.reshape(self.group, channels // self.group, each, -1)
        columns = np.swapaxes(taps, 2, 3).reshape(self.group, -1, each)
        return columns.astype(np.float64)

    def weight(self, matrix: Float64) -> Float64:
        """Return the weight that a matrix for each group is of."""
        channels, each, *kernel = self.shape
        taps = matrix.reshape(self.group, channels // self.group, math.prod(kernel), each)
        weight = np.swapaxes(taps, 2, 3).reshape(self.shape)
        return np.flip(weight, axis=tuple(range(2, weight.ndim)))


@dataclass(frozen=True, slots=True)
class MatrixProduct:
    """MatMul and Gemm with a matrix as weight.

    Attributes
    ----------
    turned : bool
        Whether the weight is ``(C, K)``, not ``(K, C)``.
    first : bool
        Whether the weight is the first operand of a MatMul: ``y = weight @ x``.
    upright : bool
        Whether x is ``(K, R)``: Gemm's ``transA``.
    factor, gain : float
        Gemm's ``alpha`` and ``beta``.
    """

    turned: bool = False
    first: bool = False
    upright: bool = False
    factor: float = 1.0
    gain: float = 1.0

    def chunks(self, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[Float64, Float64]]:
        """Yield columns and results."""
        columns, results = (
            np.moveaxis(v, -2, 0).reshape(v.shape[-2], -1)
            if self.first and v.ndim > 1
            else v.reshape(-1, v.shape[-1]).T
            for v in (x.T if self.upright else x, y)
        )
        step = max(1, ELEMENTS // max(len(columns), 1))
        for start in range(0, columns.shape[1], step):
            part = slice(start, start + step)
            wide = self.factor * columns[:, part].astype(np.float64)
            yield wide[None], results[:, part].astype(np.float64)[None]

    def matrix(self, weight: np.ndarray) -> Float64:
        """Return a weight as ``(1, K, C)``."""
        return (weight.T if self.turned else weight).astype(np.float64)[None]

    def weight(self, matrix: Float64) -> Float64:
        """Return the weight that ``(1, K, C)`` is of."""
        weight: Float64 = matrix[0].T if self.turned else matrix[0]
        return weight


@dataclass(frozen=True, slots=True)
class Scaling:
    """The affine of a group normalization: its scale ``(C,)`` on what it has normalized.

    Attributes
    ----------
    num_groups : int
    epsilon : float
    """

    num_groups: int
    epsilon: float
    gain: float = 1.0

    def chunks(self, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[Float64, Float64]]:
        """Yield columns and results: every channel is a group."""
        normalized = normalize(x, num_groups=self.num_groups, epsilon=self.epsilon)
        channels, axes = x.shape[1], x.ndim - 2
        yield _by_group(normalized, channels, axes), _by_group(y, channels, axes)

    def matrix(self, weight: np.ndarray) -> Float64:
        """Return a scale as ``(C, 1, 1)``."""
        return weight.astype(np.float64).reshape(-1, 1, 1)

    def weight(self, matrix: Float64) -> Float64:
        """Return the scale that ``(C, 1, 1)`` is of."""
        return matrix.reshape(-1)


def _windowed(
    x: np.ndarray, window: Window, group: int, y: np.ndarray, dtype: type
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the patches of a padded array: of some samples, or of some rows of one, at a time."""
    view, axes = patches(x, window), len(window.output)
    size = x.shape[1] * math.prod(window.kernel) * math.prod(window.output)
    samples = max(1, ELEMENTS // max(size, 1))
    rows = window.output[0] if axes else 1
    step = max(1, rows * ELEMENTS // max(size, 1)) if axes and size > ELEMENTS else rows
    every = (slice(None),)
    for start in range(0, len(x), samples):
        for row in range(0, rows, step):
            part = (slice(row, row + step),) * min(axes, 1)
            some = (slice(start, start + samples), *every)
            yield (
                _by_group(view[(*some, *every * axes, *part)], group, axes, dtype),
                _by_group(y[(*some, *part)], group, axes, dtype),
            )


def _by_group(values: np.ndarray, group: int, axes: int, dtype: type = np.float64) -> np.ndarray:
    """Return ``(N, group * A, *B, *spatial)`` as ``(group, A * B, N * spatial)``."""
    split = values.reshape(len(values), group, values.shape[1] // group, *values.shape[2:])
    turned = np.moveaxis(split, 0, split.ndim - 1 - axes)
    wide: np.ndarray = np.ascontiguousarray(turned, dtype=dtype)
    return wide.reshape(group, -1, len(values) * math.prod(values.shape[values.ndim - axes :]))
