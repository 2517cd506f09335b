"""Where the size that ONNX infers is not the size that runtimes make.

ONNX's inference and onnxruntime have a formula each for what a window, a slice or a transposed
convolution makes of a size, and these differ at the edges: a pooling that rounds up counts a last
window that lies in the padding for ONNX, and not for onnxruntime. A size is believed where both
formulas give the same, or else it is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx

if TYPE_CHECKING:
    from collections.abc import Sequence

Constants = Callable[[str], "Sequence[float] | None"]
"""Gives the values of a constant by its name."""

Dim = int | str | None
"""A static size, the name of a symbolic one, or None where unknown."""


class TensorType(NamedTuple):
    """Element type (``TensorProto.DataType``) and shape of a tensor, None where unknown."""

    data_type: int | None
    shape: tuple[Dim, ...] | None


DOUBT = "?"
"""What the name of a size starts with that ONNX infers as a number, and perhaps another one."""

WHOLE = -1
"""In the place of axes: not even the rank is sure."""

TO_THE_END = frozenset({2**31 - 1, 2**63 - 1})
"""Ends of a Slice that onnxruntime takes for "as far as there is something", in any direction."""


def is_in_doubt(size: Dim) -> bool:
    """Whether a runtime that infers sizes as ONNX does may take a size for another one."""
    return isinstance(size, str) and size.startswith(DOUBT)


def axes_in_doubt(shape: Sequence[Dim] | None) -> frozenset[int]:
    """Return the axes of which a size is in doubt."""
    return frozenset([axis for axis, size in enumerate(shape or ()) if is_in_doubt(size)])


def doubtful_axes(
    node: onnx.NodeProto,
    opset: int,
    shapes: Sequence[Sequence[Dim] | None],
    constant: Constants,
) -> tuple[int, ...]:
    """Return the axes of a node's first input from which ONNX may infer another size than is made.

    Parameters
    ----------
    node : onnx.NodeProto
        Of the default domain, its operator one of :data:`DOUBTFUL`.
    shapes : sequence of sequence of int, str or None, or of None
        Of the inputs, as far as they are known.
    constant : callable
        Returns the values of a small constant by its name, None where it is none.

    Returns
    -------
    tuple of int
        Empty where the size is beyond doubt, :data:`WHOLE` alone where even the rank is not.
    """
    return DOUBTFUL[node.op_type](_Node(node, opset, shapes, constant))


class _Node:
    """A node, and what is known of its inputs.

    In the body of a function some attributes are known to a call only.
    """

    def __init__(
        self,
        node: onnx.NodeProto,
        opset: int,
        shapes: Sequence[Sequence[Dim] | None],
        constant: Constants,
    ) -> None:
        self.op, self.opset, self.shapes = node.op_type, opset, shapes
        self._inputs, self._constant = node.input, constant
        self._given = {item.name: item for item in node.attribute}

    @property
    def shape(self) -> Sequence[Dim] | None:
        """Of the first input."""
        return self.shapes[0]

    def reads(self, slot: int) -> bool:
        """Whether there is an input."""
        return slot < len(self._inputs) and bool(self._inputs[slot])

    def constant(self, slot: int) -> Sequence[float] | None:
        """Return the values of an input, None where they are not known or there is none."""
        return self._constant(self._inputs[slot]) if self.reads(slot) else None

    def get(self, name: str, default: Any) -> Any:
        """Return a value, the default where it is left out, None where a call says it."""
        item = self._given.get(name)
        if item is None:
            return default
        if item.ref_attr_name:
            return None
        value = onnx.helper.get_attribute_value(item)
        return value.decode() if isinstance(value, bytes) else value

    def is_left_open(self, *names: str) -> bool:
        """Whether a call says what one of them is."""
        return any(name in self._given and self._given[name].ref_attr_name for name in names)


_WINDOW = ("ceil_mode", "auto_pad", "kernel_shape", "strides", "dilations", "pads")


def _pool(node: _Node) -> tuple[int, ...]:
    """Poolings: rounding up beside padding, and SAME padding beside dilation.

    ``ceil((in + pads - reach) / stride) + 1`` windows, less one in onnxruntime if the last would
    start beyond the input and the padding in front of it. With SAME padding onnxruntime pads as
    if there were no dilation, and ONNX rounds up twice if ``ceil_mode`` is set.
    """
    if node.is_left_open(*_WINDOW):
        return (WHOLE,)
    kernel, shape = node.get("kernel_shape", []), node.shape
    count = len(kernel)
    ceil, auto = node.get("ceil_mode", 0), node.get("auto_pad", "NOTSET") or "NOTSET"
    strides = node.get("strides", [1] * count)
    dilations = node.get("dilations", [1] * count)
    pads = node.get("pads", [0] * 2 * count) if auto == "NOTSET" else [0] * 2 * count
    if not len(strides) == len(dilations) == len(pads) // 2 == count:
        return (WHOLE,)
    found = []
    for axis, (k, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        if auto.startswith("SAME"):
            doubt = (dilation > 1 and k > 1) or (ceil and stride > 1)
        elif not ceil or stride == 1:
            doubt = False
        else:
            size = shape[axis + 2] if shape is not None and len(shape) == count + 2 else None
            before, behind, reach = pads[axis], pads[axis + count], (k - 1) * dilation + 1
            if isinstance(size, int):
                last = -((reach - size - before - behind) // stride) * stride
                doubt = last >= size + before
            else:
                # Whatever the size is, the last window starts less than a stride behind the last
                # one that fits, so within the input if a window is no shorter than that.
                doubt = behind + stride > reach
        if doubt:
            found.append(axis + 2)
    return tuple(found)


def _conv_transpose(node: _Node) -> tuple[int, ...]:
    """ConvTranspose: ``output_padding`` beside SAME padding, an ``output_shape`` that shrinks.

    onnxruntime lets SAME padding decide the size alone, where ONNX adds the output padding to it;
    and ONNX stops at an ``output_shape`` that is smaller than the input.
    """
    names = ("auto_pad", "output_padding", "output_shape")
    if node.is_left_open(*names):
        return (WHOLE,)
    auto, given = node.get("auto_pad", "NOTSET"), node.get("output_shape", [])
    shape = node.shape
    if given:
        sizes = [] if shape is None else shape[-len(given) :]
        fits = len(sizes) == len(given) and all(
            isinstance(size, int) and wanted >= size
            for size, wanted in zip(sizes, given, strict=True)
        )
        return () if fits else (WHOLE,)
    if (auto or "NOTSET").startswith("SAME") and any(node.get("output_padding", [])):
        return (WHOLE,) if shape is None else tuple(range(2, len(shape)))
    return ()


def _slice(node: _Node) -> tuple[int, ...]:
    """Slice: a negative step to an end that means "as far as there is something".

    For onnxruntime the largest int32 and int64 are that in both directions; for ONNX it is the far
    end of the axis, which a negative step does not reach.
    """
    if node.opset < 10 or not node.reads(4):
        return ()
    ends, steps = node.constant(2), node.constant(4)
    if ends is None or steps is None:
        return ()  # and ONNX infers no size
    backward = any(step < 0 and end in TO_THE_END for end, step in zip(ends, steps, strict=False))
    return (WHOLE,) if backward else ()


def _resize(node: _Node) -> tuple[int, ...]:
    """Resize, Upsample: ``floor(size * scale)``, which is another number in float32 and float64.

    Of 5 elements and a scale of 2.6 ONNX makes 12, in float64, and onnxruntime 13, in float32.
    Cut-outs and aspect ratios are computed with factors that are rounded once more.
    """
    shape = node.shape
    cut_out = node.get("coordinate_transformation_mode", "") in ("tf_crop_and_resize", None)
    if cut_out or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return (WHOLE,) if shape is None else tuple(range(len(shape)))
    if node.op == "Upsample" and node.opset < 9:
        scales = node.get("scales", [])
    else:
        slot = 1 if node.op == "Upsample" or node.opset < 11 else 2
        scales = node.constant(slot) or []  # unknown ones leave ONNX nothing to infer
    axes = node.get("axes", range(len(scales or [])))
    if scales is None or axes is None:
        return (WHOLE,)
    found = []
    for axis, scale in zip(axes, scales, strict=False):
        place = axis if axis >= 0 or shape is None else axis + len(shape)
        size = shape[place] if shape is not None and 0 <= place < len(shape) else None
        narrow = np.float32(scale)
        if isinstance(size, int):
            doubt = math.floor(np.float32(size) * narrow) != math.floor(size * float(narrow))
        else:
            doubt = not float(narrow * 256).is_integer()  # a product of few digits is exact
        if doubt:
            found.append(place)
    return tuple(found) if all(axis >= 0 for axis in found) else (WHOLE,)


def _squeeze(node: _Node) -> tuple[int, ...]:
    """Squeeze, Unsqueeze: axes from the end before they were allowed to be; unsorted ones.

    Before opset 11 ONNX overlooks negative axes, which onnxruntime takes for what they are, and
    it takes axes to be removed for sorted.
    """
    if node.opset >= 11:
        return ()
    axes = node.get("axes", [])
    unsure = axes is None or min(axes, default=0) < 0
    unsorted = node.op == "Squeeze" and axes is not None and list(axes) != sorted(axes)
    return (WHOLE,) if unsure or unsorted else ()


def _einsum(node: _Node) -> tuple[int, ...]:
    """Einsum: an axis of length 1 in one operand and longer in another.

    onnxruntime broadcasts it, and ONNX infers the length that it has met first.
    """
    equation = node.get("equation", None)
    if equation is None:
        return (WHOLE,)
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    lengths: dict[str, set[Dim]] = {}
    for term, shape in zip(terms, node.shapes, strict=False):
        if "..." in term or (shape is not None and len(shape) != len(term)):
            known = shape is not None and all(size != 1 for size in shape)
            if not known and len(terms) > 1:
                return (WHOLE,)
            continue
        for letter, size in zip(term, [None] * len(term) if shape is None else shape, strict=True):
            lengths.setdefault(letter, set()).add(size)
    # One that is met as 1 alone is 1; one that is never 1 has one length, whatever it is called.
    unsure = any(len(sizes) > 1 and (1 in sizes or None in sizes) for sizes in lengths.values())
    return (WHOLE,) if unsure else ()


DOUBTFUL = {
    "AveragePool": _pool,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "LpPool": _pool,
    "MaxPool": _pool,
    "Resize": _resize,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _squeeze,
    "Upsample": _resize,
}
"""The rules, by the operators from which there is one."""
