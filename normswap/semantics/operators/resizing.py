"""Resize and Upsample: along every axis a small matrix of weights, applied one after another.

A resized length is whole, whether it is given or comes of a scale. It is found in float32, which
scales are declared in, as are the places that `nearest` rounds: there the last bit decides.

Source: ONNX operators Resize-10 to -19, Upsample-7 and -9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: its size, the resized length, the scale, and where its region of interest is."""

    number: int
    size: int
    length: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    def places(self, mode: str, dtype: Any = np.float64) -> np.ndarray:
        """Return the place in the source of every element of the result."""
        at = np.arange(self.length, dtype=dtype)
        scale, half = dtype(self.scale), dtype(0.5)
        last = dtype(self.size - 1)
        if mode == "half_pixel":
            return (at + half) / scale - half
        if mode == "pytorch_half_pixel":
            return (at + half) / scale - half if self.length > 1 else np.zeros(1, dtype)
        if mode == "half_pixel_symmetric":
            adjustment = dtype(self.length) / (scale * dtype(self.size))
            offset = dtype(self.size) / dtype(2) * (dtype(1) - adjustment)
            return offset + (at + half) / scale - half
        if mode == "asymmetric":
            return at / scale
        if mode == "align_corners":
            steps = dtype(self.length - 1)
            return at * last / steps if self.length > 1 else np.zeros(1, dtype)
        if mode == "tf_crop_and_resize":
            start, end = dtype(self.start), dtype(self.end)
            if self.length == 1:
                return half * (start + end) * last + np.zeros(1, dtype)
            return start * last + at * (end - start) * last / dtype(self.length - 1)
        raise ValueError(f"its coordinate_transformation_mode {mode!r} is not defined by ONNX")


@operator("Resize", since=(11, 13, 18, 19))
def resize(
    x: np.ndarray,
    roi: np.ndarray | None = None,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> np.ndarray:
    """Interpolate `x` to other sizes."""
    chosen = [a % x.ndim for a in axes] if axes is not None else list(range(x.ndim))
    crops = coordinate_transformation_mode == "tf_crop_and_resize"
    y = x
    outside = []
    for axis in _axes(x, chosen, scales, sizes, keep_aspect_ratio_policy, roi if crops else None):
        if axis.scale == 1.0 and not crops:
            continue
        if mode == "nearest":
            places = axis.places(coordinate_transformation_mode, np.float32)
            y = np.take(y, _nearest(places, axis.size, nearest_mode), axis=axis.number)
        else:
            places = axis.places(coordinate_transformation_mode)
            stretch = min(axis.scale, 1.0) if antialias else 1.0
            exclude = bool(exclude_outside)
            weights = _weights(places, axis.size, mode, cubic_coeff_a, stretch, exclude=exclude)
            y = np.moveaxis(np.tensordot(weights, y, axes=(1, axis.number)), 0, axis.number)
        if crops:
            outside.append((axis.number, (places < 0) | (places > axis.size - 1)))
    for number, beyond in outside:
        shape = [1] * y.ndim
        shape[number] = -1
        y = np.where(beyond.reshape(shape), np.asarray(extrapolation_value, y.dtype), y)
    return y


def _axes(
    x: np.ndarray,
    chosen: Sequence[int],
    scales: np.ndarray | None,
    sizes: np.ndarray | None,
    policy: str,
    roi: np.ndarray | None,
) -> list[_Axis]:
    """Return what becomes of every axis that is resized."""
    bounds = np.zeros(0) if roi is None else np.asarray(roi)
    if scales is not None and scales.size:
        factors = [np.float32(scale) for scale in scales.reshape(-1)]
        lengths = [int(x.shape[a] * s) for a, s in zip(chosen, factors, strict=True)]
    elif sizes is not None:
        lengths = [int(size) for size in sizes.reshape(-1)]
        factors = [
            np.float32(length) / np.float32(x.shape[a])
            for a, length in zip(chosen, lengths, strict=True)
        ]
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor] * len(chosen)
            lengths = [int(np.floor(factor * x.shape[a] + np.float32(0.5))) for a in chosen]
    else:
        raise ValueError("it has neither scales nor sizes")
    half = len(chosen)
    return [
        _Axis(
            number,
            x.shape[number],
            length,
            float(factor),
            *((float(bounds[i]), float(bounds[half + i])) if bounds.size else ()),
        )
        for i, (number, length, factor) in enumerate(zip(chosen, lengths, factors, strict=True))
    ]


def _nearest(places: np.ndarray, size: int, mode: str) -> np.ndarray:
    rounded = {
        "round_prefer_floor": np.ceil(places - np.float32(0.5)),
        "round_prefer_ceil": np.floor(places + np.float32(0.5)),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }[mode]
    return np.clip(rounded, 0, size - 1).astype(np.int64)


def _weights(
    places: np.ndarray, size: int, mode: str, a: float, stretch: float, *, exclude: bool
) -> np.ndarray:
    """Return the matrix (places, size) of interpolation weights along an axis.

    A kernel that is stretched, by a `stretch` below 1, has its weights divided by their sum.
    """
    if mode not in {"linear", "cubic"}:
        raise ValueError(f"its mode {mode!r} is not defined by ONNX")
    reach = 1 if mode == "linear" else 2
    floor = np.floor(places)
    first = int(np.floor(-reach / stretch)) + 1
    matrix = np.zeros((places.size, size))
    rows = np.arange(places.size)
    for offset in range(first, 2 - first):
        index = floor + offset
        distance = np.abs(places - index) * stretch
        weight = np.maximum(1 - distance, 0.0) if mode == "linear" else _cubic(distance, a)
        if exclude:
            weight = np.where((index >= 0) & (index < size), weight, 0.0)
        np.add.at(matrix, (rows, np.clip(index, 0, size - 1).astype(np.int64)), weight)
    return matrix / matrix.sum(axis=1, keepdims=True) if exclude or stretch < 1 else matrix


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    """Return Keys' convolution kernel at distances `d`."""
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@operator("Upsample", since=(7, 9))
def upsample(
    x: np.ndarray,
    given: np.ndarray | None = None,
    *,
    mode: str = "nearest",
    scales: Sequence[float] = (),
) -> np.ndarray:
    """Interpolate `x` as Resize does with asymmetric coordinates and rounding down."""
    return resize(
        x,
        None,
        np.asarray(scales) if given is None else given,
        coordinate_transformation_mode="asymmetric",
        mode="nearest" if mode == "nearest" else "linear",
        nearest_mode="floor",
    )
