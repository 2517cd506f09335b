"""Resize and Upsample: along every axis a small matrix of weights, applied one after another.

Source: ONNX operators Resize-19, Upsample-9. Antialiasing and regions of interest are left to
the reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.check.arbiter.registry import Unhandled, operator

if TYPE_CHECKING:
    from collections.abc import Sequence


@operator("Resize")
def resize(
    x: np.ndarray,
    _roi: np.ndarray | None = None,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    opset: int,
) -> np.ndarray:
    """Interpolate `x` to other sizes."""
    unusual = antialias or keep_aspect_ratio_policy != "stretch"
    if opset < 11 or unusual or coordinate_transformation_mode == "tf_crop_and_resize":
        raise Unhandled
    chosen = [a % x.ndim for a in axes] if axes is not None else list(range(x.ndim))
    y = x
    for position, axis in enumerate(chosen):
        size = x.shape[axis]
        if scales is not None and scales.size:
            scale = float(scales[position])
            length = int(np.floor(size * scale))
        elif sizes is not None:
            length = int(sizes[position])
            scale = length / size
        else:
            raise Unhandled
        if scale == 1.0:
            continue
        # With scales the specification takes the length before it is rounded down.
        exact = size * scale if scales is not None and scales.size else float(length)
        source = _coordinates(coordinate_transformation_mode, length, exact, size, scale)
        if mode == "nearest":
            y = np.take(y, _nearest(source, size, nearest_mode), axis=axis)
        else:
            weights = _weights(source, size, mode, cubic_coeff_a, exclude=bool(exclude_outside))
            y = np.moveaxis(np.tensordot(weights, y, axes=(1, axis)), 0, axis)
    return y


def _coordinates(mode: str, length: int, exact: float, size: int, scale: float) -> np.ndarray:
    """Return, for each of `length` positions of the result, its place in the source."""
    at = np.arange(length, dtype=np.float64)
    if mode == "half_pixel":
        return (at + 0.5) / scale - 0.5
    if mode == "asymmetric":
        return at / scale
    if mode == "align_corners":
        return at * (size - 1) / (exact - 1) if exact > 1 else np.zeros(length)
    if mode == "pytorch_half_pixel":
        return (at + 0.5) / scale - 0.5 if length > 1 else np.zeros(length)
    if mode == "half_pixel_symmetric":
        adjustment = length / (size * scale)
        return size / 2 * (1 - adjustment) + (at + 0.5) / scale - 0.5
    raise Unhandled


def _nearest(source: np.ndarray, size: int, mode: str) -> np.ndarray:
    rounded = {
        "round_prefer_floor": np.ceil(source - 0.5),
        "round_prefer_ceil": np.floor(source + 0.5),
        "floor": np.floor(source),
        "ceil": np.ceil(source),
    }[mode]
    return np.clip(rounded, 0, size - 1).astype(np.int64)


def _weights(source: np.ndarray, size: int, mode: str, a: float, *, exclude: bool) -> np.ndarray:
    """Return the matrix (positions, size) of interpolation weights along an axis."""
    if mode not in {"linear", "cubic"}:
        raise Unhandled
    if mode == "linear":
        source = np.clip(source, 0, size - 1)
        offsets: Sequence[int] = (0, 1)
    else:
        offsets = (-1, 0, 1, 2)
    floor = np.floor(source)
    matrix = np.zeros((source.size, size))
    rows = np.arange(source.size)
    for offset in offsets:
        distance = np.abs(source - (floor + offset))
        weight = 1 - distance if mode == "linear" else _cubic(distance, a)
        index = floor + offset
        if exclude:
            weight = np.where((index >= 0) & (index < size), weight, 0.0)
        np.add.at(matrix, (rows, np.clip(index, 0, size - 1).astype(np.int64)), weight)
    return matrix / matrix.sum(axis=1, keepdims=True) if exclude else matrix


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    """Return Keys' convolution kernel at distances `d`."""
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@operator("Upsample")
def upsample(
    x: np.ndarray,
    scales: np.ndarray | None = None,
    *,
    mode: str = "nearest",
    opset: int,
) -> np.ndarray:
    """Interpolate `x` as Resize does with asymmetric coordinates and rounding down."""
    if scales is None or opset < 9:
        raise Unhandled
    return resize(
        x,
        None,
        scales,
        coordinate_transformation_mode="asymmetric",
        mode="nearest" if mode == "nearest" else "linear",
        nearest_mode="floor",
        opset=11,
    )
