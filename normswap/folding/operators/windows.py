"""Windows that slide over space, and whether they may reach beyond the border."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.graph.network import Node


def is_padded(node: Node, kernel: Sequence[int]) -> bool:
    """Whether padding is (or may be) within reach of a Conv's or pooling's windows.

    Parameters
    ----------
    node : Node
        With the attributes ``pads``, ``auto_pad``, ``strides`` and ``dilations``.
    kernel : sequence of int
        Size of the window along each spatial axis.
    """
    auto = node.attr("auto_pad", "NOTSET") or "NOTSET"
    if auto == "NOTSET":
        return any(pad > 0 for pad in node.attr("pads", []))
    if auto == "VALID":
        return False
    ones = [1] * len(kernel)
    strides, dilations = node.attr("strides", ones), node.attr("dilations", ones)
    value = node.inputs[0]
    shape = None if value is None else value.shape
    for axis, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        reach = (size - 1) * dilation  # SAME pads as much as the last window reaches too far
        length = None if shape is None else shape[axis + 2]
        if reach == 0:
            continue
        if not isinstance(length, int) or (-(-length // stride) - 1) * stride + reach + 1 > length:
            return True
    return False
