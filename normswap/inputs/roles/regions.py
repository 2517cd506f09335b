"""Which boxes lie within an image, and what is asked of their scores."""

from __future__ import annotations

import numpy as np

from normswap.inputs.roles.rule import Allowed, Place, rule


@rule(("RoiAlign", 2))
def _image_of_region(place: Place) -> Allowed:
    return Allowed(0, place.size(0) - 1)


@rule(("RoiAlign", 1), ("MaxRoiPool", 1))
def _regions(place: Place) -> Allowed:
    """Allow boxes within the image: left, top, right, bottom."""
    scale = place.attribute("spatial_scale", 1.0)
    regions = place.shape[0] if place.shape else 0
    room = [place.size(-1) / scale, place.size(-2) / scale]
    first = place.rng.random((regions, 2)) * 0.5 * room
    last = first + (0.2 + 0.8 * place.rng.random((regions, 2))) * (np.array(room) - first)
    boxes = np.concatenate([first, last], axis=1)
    if place.use.op_type == "MaxRoiPool":
        images = place.rng.integers(place.size(0), size=(regions, 1))
        boxes = np.concatenate([images, boxes.round()], axis=1)
    return Allowed(0, min(room), boxes)


@rule(("NonMaxSuppression", 2))
def _boxes_kept(_: Place) -> Allowed:
    return Allowed(1, 5)


@rule(("NonMaxSuppression", 0), ("NonMaxSuppression", 1), ("NonMaxSuppression", 3))
def _of_unit(_: Place) -> Allowed:
    return Allowed(0, 1)


@rule(("NonMaxSuppression", 4))
def _score(_: Place) -> Allowed:
    return Allowed(0, 0.5)
