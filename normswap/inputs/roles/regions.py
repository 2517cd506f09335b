"""Which boxes lie within an image, and what is asked of their scores."""

from __future__ import annotations

import numpy as np

from normswap.inputs.roles.rule import Allowed, Slot, rule


@rule(("RoiAlign", 2))
def _image_of_region(slot: Slot) -> Allowed:
    return Allowed(0, slot.size(0) - 1)


@rule(("RoiAlign", 1), ("MaxRoiPool", 1))
def _regions(slot: Slot) -> Allowed:
    """Allow boxes within the image: left, top, right, bottom."""
    scale = slot.attribute("spatial_scale", 1.0)
    regions = slot.shape[0] if slot.shape else 0
    room = [slot.size(-1) / scale, slot.size(-2) / scale]
    first = slot.rng.random((regions, 2)) * 0.5 * room
    last = first + (0.2 + 0.8 * slot.rng.random((regions, 2))) * (np.array(room) - first)
    boxes = np.concatenate([first, last], axis=1)
    if slot.use.op_type == "MaxRoiPool":
        images = slot.rng.integers(slot.size(0), size=(regions, 1))
        boxes = np.concatenate([images, boxes.round()], axis=1)
    return Allowed(0, min(room), boxes)
