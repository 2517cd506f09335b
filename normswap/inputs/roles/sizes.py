"""Which sizes, shapes and scales fit what an operator does with them."""

from __future__ import annotations

import itertools
import math
from typing import Any

from normswap.inputs.roles.rule import Allowed, Slot, rule, vector

SMALL_SIZE = 3  # of a tensor whose size is an input


@rule(("ConstantOfShape", 0))
def _new_shape(slot: Slot) -> Allowed:
    made = slot.made(slot.count)
    sizes = made if made is not None else slot.rng.integers(1, 4, size=slot.count)
    return vector(sizes, 1, SMALL_SIZE)


@rule(("Reshape", 1))
def _other_shape(slot: Slot) -> Allowed:
    made = slot.made(slot.count)
    if made is not None:
        return vector(made, 1, 1)
    shape = slot.data()
    if shape is None or 0 in shape or slot.count == 0:
        return vector([-1, *[1] * (slot.count - 1)], 1, 1)
    sizes = [*shape[1:], *shape[:1]]  # another order of the axes is another shape
    while len(sizes) > slot.count:
        last = sizes.pop()
        sizes[-1] *= last
    return vector([*sizes, *[1] * (slot.count - len(sizes))], 1, 1)


@rule(("Expand", 1))
def _larger_shape(slot: Slot) -> Allowed:
    shape = slot.data()
    if shape is None:
        return vector([1] * slot.count, 1, 1)
    padded = (1,) * (slot.count - len(shape)) + tuple(shape)
    padded = padded[len(padded) - slot.count :]
    made = slot.made(slot.count)
    grown = slot.rng.integers(2, 4, size=slot.count)
    sizes = [grown[i] if size == 1 else max(size, 1) for i, size in enumerate(padded)]
    if made is not None:
        sizes = list(made)
    return vector(sizes, 1, 1)


@rule(("Tile", 1))
def _repeats(slot: Slot) -> Allowed:
    shape, made = slot.data(), slot.made(slot.count)
    if shape and made and len(shape) == slot.count and 0 not in shape:
        return vector([b // a for a, b in zip(shape, made, strict=True)], 1, 2)
    return Allowed(1, 2)


@rule(("Resize", 3))
def _resized(slot: Slot) -> Allowed:
    shape, made = slot.data(), slot.made()
    axes = slot.attribute("axes", range(len(shape or ())))
    sizes: list[Any]
    if made is not None and len(made) == len(shape or ()):
        return vector([made[axis] for axis in axes], 1, 4)
    if not shape or len(axes) != slot.count:
        return Allowed(1, 4)
    keep = max(len(shape) - 2, 0)  # interpolation is in the last axes, of images as of signals
    sizes = [
        shape[axis] if axis % len(shape) < keep else shape[axis] + slot.rng.integers(-1, 3)
        for axis in axes
    ]
    if slot.attribute("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        sizes = [shape[axis] * 2 for axis in axes]
    return vector([max(size, 1) for size in sizes], 1, 4)


@rule(("Resize", 2), ("Upsample", 1))
def _scales(slot: Slot) -> Allowed:
    shape = slot.data()
    made = slot.made()
    axes = slot.attribute("axes", range(len(shape or ())))
    if not shape or len(axes) != slot.count or 0 in shape:
        return vector([1.0] * slot.count, 1, 1)
    if made is not None and len(made) == len(shape):
        return vector([made[axis] / shape[axis] for axis in axes], 1, 2)
    keep = max(len(shape) - 2, 0)
    larger = (1.5, 2.0) if slot.use.op_type == "Upsample" else (0.6, 1.5, 2.0)
    scales = [
        1.0 if axis % len(shape) < keep else larger[slot.rng.integers(len(larger))] for axis in axes
    ]
    return vector(scales, 1, 2)


@rule(("Resize", 1))
def _scales_or_region(slot: Slot) -> Allowed:
    if len(slot.use.inputs) == 2:  # before opset 11
        return _scales(slot)
    half = slot.count // 2
    return vector([0.1] * half + [0.9] * (slot.count - half), 0, 1)


@rule(("Range", 0))
def _start(slot: Slot) -> Allowed:
    return Allowed(0, 2) if slot.made(1) is None else Allowed(1, 1)


@rule(("Range", 1))
def _limit(slot: Slot) -> Allowed:
    made = slot.made(1)
    return Allowed(4, 8) if made is None else Allowed(1 + made[0], 1 + made[0])


@rule(("Range", 2))
def _delta(slot: Slot) -> Allowed:
    return Allowed(1, 2) if slot.made(1) is None else Allowed(1, 1)


@rule(("TopK", 1))
def _of_the_largest(slot: Slot) -> Allowed:
    axis = slot.attribute("axis", -1)
    return slot.length_made(axis) or Allowed(1, slot.size(axis))


@rule(("OneHot", 1))
def _depth(slot: Slot) -> Allowed:
    return slot.length_made(slot.attribute("axis", -1)) or Allowed(2, 6)


@rule(("Pad", 1))
def _pads(slot: Slot) -> Allowed:
    """Allow pads of less than the data's size, which every mode takes."""
    shape, made = slot.data(), slot.made()
    if not shape:
        return Allowed(0, 0)
    axes = slot.constant(3)
    chosen = range(len(shape)) if axes is None else [int(axis) for axis in axes]
    sizes = [shape[axis] for axis in chosen] * 2
    if len(sizes) != slot.count:
        return Allowed(0, 1)
    if made is not None and axes is None and len(made) == len(shape):
        more = [max(b - a, 0) for a, b in zip(shape, made, strict=True)]
        return vector([n // 2 for n in more] + [n - n // 2 for n in more], 0, 1)
    return vector([slot.rng.integers(0, min(max(size, 1), 3)) for size in sizes], 0, 1)


@rule(("CenterCropPad", 1))
def _cropped(slot: Slot) -> Allowed:
    made = slot.made()
    axes = slot.attribute("axes", range(len(made or ())))
    if made is not None and len(axes) == slot.count:
        return vector([made[axis] for axis in axes], 1, 4)
    return Allowed(2, 8)


@rule(("AffineGrid", 1))
def _grid(slot: Slot) -> Allowed:
    sizes = slot.rng.integers(2, 5, size=slot.count)
    made = slot.made(slot.count)
    if made is not None:
        sizes[2:] = made[1:-1]
    sizes[:1] = slot.size(0)
    return vector(sizes, 1, 4)


@rule(("Split", 1), ("SplitToSequence", 1))
def _parts(slot: Slot) -> Allowed:
    size = slot.size(slot.attribute("axis", 0))
    if not slot.shape:
        return Allowed(1, size)
    made = [
        slot.known.declared.get(name) or slot.known.shapes.get(name, ())
        for name in slot.use.outputs
    ]
    axis = slot.attribute("axis", 0)
    parts = [shape[axis] if -len(shape) <= axis < len(shape) else 0 for shape in made]
    if sum(parts) != size or len(parts) != slot.count:
        parts = [size // max(slot.count, 1)] * slot.count
        parts[-1:] = [size - sum(parts[:-1])]
    return vector(parts, 0, 1)


@rule(("Trilu", 1))
def _diagonal(slot: Slot) -> Allowed:
    return Allowed(-slot.size(-2) + 1, slot.size(-1) - 1)


@rule(("DFT", 1))
def _transformed(slot: Slot) -> Allowed:
    axis = slot.attribute("axis", -2)
    return slot.length_made(axis) or Allowed(2, max(slot.size(axis), 2))


@rule(("HannWindow", 0), ("HammingWindow", 0), ("BlackmanWindow", 0))
def _window(slot: Slot) -> Allowed:
    made = slot.made(1)
    return Allowed(4, 10) if made is None else Allowed(made[0], made[0])


@rule(("STFT", 1))
def _step(slot: Slot) -> Allowed:
    frames = slot.made(4)
    width, length = slot.constant(3), slot.size(1)
    if frames is not None and width is not None and frames[1] > 1:
        step = (length - int(width)) // (frames[1] - 1)
        return Allowed(step, step)
    return Allowed(1, max(length // 4, 1))


@rule(("STFT", 3))
def _frame(slot: Slot) -> Allowed:
    window = slot.size(0, 2) if slot.data(2) else max(slot.size(1) // 4, 1)
    return Allowed(window, window)


_MEL = {0: 8, 1: 16, 2: 8192, 3: 0, 4: 4096}
"""Bins, length of the transform, sample rate, and the band of a MelWeightMatrix."""


@rule(*(("MelWeightMatrix", slot) for slot in _MEL))
def _mel(slot: Slot) -> Allowed:
    value, made = _MEL[slot.use.slot], slot.made(2)
    if made is not None and slot.use.slot < 2:
        value = made[1] if slot.use.slot == 0 else 2 * (made[0] - 1)
    return Allowed(value, value)


@rule(("Col2Im", 1), ("Col2Im", 2))
def _blocks(slot: Slot) -> Allowed:
    """Allow sizes of an image and of its blocks that make the columns there are."""
    rank = slot.count
    shape, made = slot.data(), slot.made(rank + 2)
    strides = slot.attribute("strides", [1] * rank)
    dilations = slot.attribute("dilations", [1] * rank)
    pads = slot.attribute("pads", [0] * 2 * rank)
    sides = range(1, 9)
    for block in itertools.product(sides, repeat=rank):
        if not shape or shape[1] % math.prod(block):
            continue
        if made is not None and math.prod(block) * made[1] != shape[1]:
            continue
        for image in [made[2:]] if made else itertools.product(sides, repeat=rank):
            columns = [
                (image[i] + pads[i] + pads[i + rank] - dilations[i] * (block[i] - 1) - 1)
                // strides[i]
                + 1
                for i in range(rank)
            ]
            if min(columns) > 0 and math.prod(columns) == shape[2]:
                return vector(image if slot.use.slot == 1 else block, 1, 1)
    return Allowed(1, 1)


@rule(("MaxUnpool", 2))
def unpooled(slot: Slot) -> Allowed:
    """Allow what was pooled: the least size that leads to the data's."""
    made = slot.made(slot.count)
    if made is not None:
        return vector(made, 1, 1)
    shape = slot.data() or ()
    strides = slot.attribute("strides", [1] * max(len(shape) - 2, 0))
    kernel = slot.attribute("kernel_shape", strides)
    least = [(n - 1) * s + k for n, s, k in zip(shape[2:], strides, kernel, strict=False)]
    return vector([*shape[:2], *least], 1, 1)
