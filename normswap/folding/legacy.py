"""Edits of models of opset 6 and before, where broadcasting was asked for by attributes.

The planner sees constant operands as NumPy would need them (:mod:`normswap.graph.opset6`); what
becomes of one is laid back when an edit is recorded.

Source: ONNX operators Add-1, Add-6 and the like, Gemm-1 and Gemm-6.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.edits import Edit, Insert, Replace, SetAttribute
from normswap.graph.expressions import Expression, Reshaped
from normswap.graph.formulas import Scaled
from normswap.semantics.families import ARITHMETIC

if TYPE_CHECKING:
    from normswap.graph.network import Node, Value


def recorded(edit: Edit, node: Node, value: Value | None, new_key: int) -> list[Edit]:
    """Return an edit as it is made on the model.

    Parameters
    ----------
    edit : Edit
        As the planner means it.
    node : Node
        The node that it names.
    value : Value or None
        The tensor to which a new constant is broadcast: the first operand, or what is inserted
        upon.
    new_key : int
        Key of the node that an Insert makes.
    """
    if node.opset >= 7:
        return [edit]
    if isinstance(edit, Insert):
        constant, axis = _laid_back(edit.constant, value)
        made = Insert(edit.node, edit.output, edit.op, constant, edit.hint)
        return [made, *_broadcast(new_key, axis)]
    if not isinstance(edit, Replace) or node.domain:
        return [edit]
    if node.op == "Gemm" and edit.slot == 2:
        return [edit, SetAttribute(edit.node, "broadcast", 1)]
    if node.op not in ARITHMETIC or edit.slot != 1:
        return [edit]
    constant, axis = _laid_back(edit.constant, value)
    return [Replace(edit.node, 1, constant, edit.hint), *_broadcast(edit.node, axis)]


def _broadcast(key: int, axis: int | None) -> list[Edit]:
    edits: list[Edit] = [SetAttribute(key, "broadcast", 1)]
    return edits if axis is None else [*edits, SetAttribute(key, "axis", axis)]


def _laid_back(constant: Expression, value: Value | None) -> tuple[Expression, int | None]:
    """Drop the axes of length 1 at both ends of a constant, and say where its axes begin.

    Those between must be written out: opset 6 repeats nothing there. Where the sizes for that are
    not known, the constant that is returned has no place for its values.
    """
    if math.prod(constant.shape) == 1:
        return Reshaped(constant, (1,)), None
    nowhere = Reshaped(constant, ()), None
    if value is None or value.shape is None or len(constant.shape) > len(value.shape):
        return nowhere
    rank = len(value.shape)
    shape = [1] * (rank - len(constant.shape)) + list(constant.shape)
    varying = [axis for axis, size in enumerate(shape) if size != 1]
    first, last = varying[0], varying[-1] + 1
    full: list[int] = []
    for axis in range(first, last):
        size = value.shape[axis] if shape[axis] == 1 else shape[axis]
        if not isinstance(size, int):
            return nowhere
        full.append(size)
    written = Scaled(Reshaped(constant, tuple(shape[first:last])), np.ones(full))
    return written, first
