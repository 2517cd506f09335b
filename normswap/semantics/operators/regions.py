"""Regions of interest: cut out, pooled, and chosen between.

Source: ONNX operators RoiAlign-10 to -22, MaxRoiPool-1 and -22, NonMaxSuppression-10 and -11.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence


@operator("RoiAlign", since=(10, 16, 22))
def roi_align(
    x: np.ndarray,
    rois: np.ndarray,
    batches: np.ndarray,
    *,
    coordinate_transformation_mode: str | None = None,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    opset: int,
) -> np.ndarray:
    """Return (regions, C, output_height, output_width): samples of every bin, averaged.

    Since opset 16 pixels have their values in their middle (``half_pixel``), half a pixel off what
    they were before it, when a region was also never smaller than a pixel. The mode ``max`` is the
    maximum over the four weighted neighbours of all samples, as onnxruntime has it and
    ONNX's own cases do.
    """
    half = (coordinate_transformation_mode or ("half_pixel" if opset >= 16 else "")) == "half_pixel"
    shape = (output_height, output_width)
    y = np.zeros((len(rois), x.shape[1], *shape))
    for number, (roi, batch) in enumerate(zip(rois, batches, strict=True)):
        corners = roi * spatial_scale - (0.5 if half else 0.0)
        samples = []
        for axis in (0, 1):  # rows, then columns; a region is x1, y1, x2, y2
            first, last = corners[1 - axis], corners[3 - axis]
            extent = last - first if half else max(last - first, 1.0)
            count = sampling_ratio if sampling_ratio > 0 else math.ceil(extent / shape[axis])
            at = (np.arange(shape[axis] * count) + 0.5) / count if count > 0 else np.zeros(0)
            places = first + at * (extent / shape[axis])
            samples.append((count, _between(places, x.shape[2 + axis])))
        (rows, down), (columns, across) = samples
        if rows <= 0 or columns <= 0:
            continue
        bins = (x.shape[1], shape[0], rows, shape[1], columns)
        if mode == "avg":
            whole = np.einsum("rh,chw,sw->crs", down.sum(0), x[batch], across.sum(0))
            y[number] = whole.reshape(bins).mean(axis=(2, 4))
        else:
            corner = np.einsum("irh,chw,jsw->ijcrs", down, x[batch], across).max(axis=(0, 1))
            y[number] = corner.reshape(bins).max(axis=(2, 4))
    return y


def _between(places: np.ndarray, size: int) -> np.ndarray:
    """Return (2, places, size): the weights of the two neighbours; none more than 1 outside."""
    inside = (places >= -1.0) & (places <= size)
    places = np.clip(places, 0.0, size - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    weights = np.zeros((2, places.size, size))
    rows = np.arange(places.size)
    weights[0, rows, low] = np.where(inside, 1 - (places - low), 0.0)
    weights[1, rows, high] = np.where(inside, places - low, 0.0)
    return weights


@operator("MaxRoiPool", since=(1, 22))
def max_roi_pool(
    x: np.ndarray,
    rois: np.ndarray,
    *,
    pooled_shape: Sequence[int],
    spatial_scale: float = 1.0,
) -> np.ndarray:
    """Return (regions, C, *pooled_shape): maxima of whole pixels; 0 where a bin has none."""
    y = np.zeros((len(rois), x.shape[1], *pooled_shape))
    for number, roi in enumerate(rois):
        # Halves are rounded away from 0, as C does.
        corners = np.trunc(roi[1:] * spatial_scale + np.copysign(0.5, roi[1:])).astype(np.int64)
        spans = []
        for axis in (0, 1):
            first, last = corners[1 - axis], corners[3 - axis]
            step = max(last - first + 1, 1) / pooled_shape[axis]
            size = x.shape[2 + axis]
            spans.append(
                [
                    (
                        min(max(math.floor(k * step) + first, 0), size),
                        min(max(math.ceil((k + 1) * step) + first, 0), size),
                    )
                    for k in range(pooled_shape[axis])
                ]
            )
        for i, (top, bottom) in enumerate(spans[0]):
            for j, (left, right) in enumerate(spans[1]):
                if top < bottom and left < right:
                    part = x[int(roi[0]), :, top:bottom, left:right]
                    y[number, :, i, j] = part.max(axis=(1, 2))
    return y


@operator("NonMaxSuppression", since=(10, 11))
def non_max_suppression(
    boxes: np.ndarray,
    scores: np.ndarray,
    max_output_boxes_per_class: np.ndarray | None = None,
    iou_threshold: np.ndarray | None = None,
    score_threshold: np.ndarray | None = None,
    *,
    center_point_box: int = 0,
) -> np.ndarray:
    """Return rows of batch, class and box: the best ones that overlap no better one too much."""
    limit = _scalar(max_output_boxes_per_class, 0.0)
    overlap, least = _scalar(iou_threshold, 0.0), _scalar(score_threshold, -math.inf)
    chosen = []
    for batch, of_batch in enumerate(scores):
        corners = _corners(boxes[batch], centred=bool(center_point_box))
        for category, values in enumerate(of_batch):
            kept: list[int] = []
            for box in np.argsort(-values, kind="stable"):
                if len(kept) >= limit or not values[box] > least:
                    break
                if all(_overlap(corners[box], corners[other]) <= overlap for other in kept):
                    kept.append(int(box))
            chosen += [(batch, category, box) for box in kept]
    return np.array(chosen, np.int64).reshape(-1, 3)


def _scalar(value: np.ndarray | None, default: float) -> float:
    return default if value is None or value.size == 0 else float(value.reshape(-1)[0])


def _corners(boxes: np.ndarray, *, centred: bool) -> np.ndarray:
    """Return boxes (count, 4) as two low and two high coordinates."""
    if centred:
        middle, half = boxes[:, :2], boxes[:, 2:] / 2
        return np.concatenate([middle - half, middle + half], axis=1)
    first, second = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection of two boxes over their union."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    shared = float(np.prod(sides))
    areas = float(np.prod(a[2:] - a[:2])), float(np.prod(b[2:] - b[:2]))
    return shared / (sum(areas) - shared) if min(areas) > 0 else 0.0
