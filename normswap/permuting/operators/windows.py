"""Operators that treat each channel of an image by itself: pooling, resampling, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import Reason, unless_blocked
from normswap.permuting.operators.at import X, Y
from normswap.semantics.families import GLOBAL_POOLS, POOLS

if TYPE_CHECKING:
    from normswap.permuting.operators.at import At


def _each_channel(at: At) -> None:
    if at.node.output(1) is not None:
        raise at.blocked("returns indices that count channels")
    _passes(at, X)


def _resize(at: At) -> None:
    if at.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise at.blocked("crops each axis (tf_crop_and_resize)")
    if at.axis in [int(a) % at.rank for a in at.attr("axes", range(at.rank))]:
        _require_same(at)
    _passes(at, X)


def _require_same(at: At) -> None:
    """Let pass a resampling that leaves an axis as it is."""
    if at.size(X, at.axis) != at.size(Y, at.axis):
        raise at.blocked(f"resamples axis {at.axis}")
    scales = at.attr("scales", None)
    if at.node.opset >= 9:
        operand = at.node.input(1 if at.node.op == "Upsample" or at.node.opset < 11 else 2)
        known = None if operand is None else unless_blocked(constant_source, operand)
        if operand is not None and known is None:
            raise at.blocked("has scales that are not constant", Reason.NOT_CONSTANT)
        scales = None if known is None else known.load().reshape(-1)
    axes = [int(a) % at.rank for a in at.attr("axes", range(at.rank))]
    if scales is not None and len(scales) and scales[axes.index(at.axis)] != 1:
        raise at.blocked(f"resamples axis {at.axis}")


def _pad(at: At) -> None:
    pads = at.known(1) if at.node.opset >= 11 else np.array(at.attr("pads", ()))
    axes = list(range(at.rank))
    if at.node.input(3) is not None:
        axes = [axis % at.rank for axis in at.integers(3)]
    if at.axis in axes:
        around = pads[axes.index(at.axis) :: len(axes)]
        if np.ma.is_masked(around):
            raise at.blocked("has pads that are not constant", Reason.NOT_CONSTANT)
        if around.any():
            raise at.blocked(f"pads axis {at.axis}")
    for port in (X, Y):  # whose sizes hang on pads of other axes
        at.learn(port, at.axis, len(at.labels))
        at.tie(port, at.axis, at.labels)


def _of_image(at: At) -> None:
    if at.port not in (X, Y):
        raise at.blocked("uses the tensor as its positions")
    _passes(at, X)


def _passes(at: At, image: tuple[bool, int]) -> None:
    places = ("", "c", *[""] * (len(at.shape(image)) - 2))
    at.roles({image: places, Y: places})


FOLLOW = {
    **dict.fromkeys(POOLS | GLOBAL_POOLS, _each_channel),
    **dict.fromkeys(("GridSample", "MaxRoiPool", "RoiAlign"), _of_image),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Pad": _pad,
}
