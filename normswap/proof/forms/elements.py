"""Forms of operators that work element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.dtypes import is_float
from normswap.proof.forms.known import ZERO, varying
from normswap.proof.maps import Map, NoMapError, total

if TYPE_CHECKING:
    from normswap.proof.flat import FlatNode
    from normswap.proof.forms.known import Known


def _sum(known: Known, node: FlatNode) -> list[Map]:
    """Add, Sub and Sum, of maps and constants."""
    _refuse_opset6(node)
    known.require_no_growth(node)
    out = node.outputs[0]
    made = []
    for slot, number in enumerate(node.inputs):
        sign = np.array(-1.0 if node.op == "Sub" and slot else 1.0)
        if number in known.maps:
            each = known.maps[number]
            made.append(each.affine(sign, ZERO, ZERO) if sign < 0 else each)
        else:
            value, axis = varying(known.constant(number) * sign, known.rank(out))
            made.append(Map(axis, (), value, np.abs(value)))
    axis = next((each.axis for each in made if each.axis is not None), None)
    if axis is not None:
        made = [each.along(axis, known.length(out, axis)) for each in made]
    return [total(made)]


def _product(known: Known, node: FlatNode) -> list[Map]:
    """Mul and Div by a constant."""
    _refuse_opset6(node)
    known.require_no_growth(node)
    slot = 0 if node.inputs[0] in known.maps else 1
    if node.inputs[1 - slot] in known.maps or (node.op == "Div" and slot):
        raise NoMapError("it is no affine map")
    made = known.map(node, slot)
    scale, axis = varying(known.constant(node.inputs[1 - slot]), known.rank(node.outputs[0]))
    if axis is not None:
        made = made.along(axis, known.length(node.outputs[0], axis))
    with np.errstate(divide="ignore", invalid="ignore"):
        return [made.affine(1 / scale if node.op == "Div" else scale, ZERO, ZERO)]


def _refuse_opset6(node: FlatNode) -> None:
    if node.attributes:
        raise NoMapError("it broadcasts in the way of opset 6")


def _negative(known: Known, node: FlatNode) -> list[Map]:
    return [known.map(node).affine(np.array(-1.0), ZERO, ZERO)]


def _cast(known: Known, node: FlatNode) -> list[Map]:
    """Cast to a float type as wide: narrower ones have been refused."""
    if not is_float(node.attributes.get("to", 0)):
        raise NoMapError("it casts to what is no float")
    return [known.map(node)]


def _normalized(known: Known, node: FlatNode) -> list[Map]:
    """BatchNormalization in inference."""
    if node.attributes.get("training_mode", 0) or node.opset < 9:
        raise NoMapError("it normalizes by what it reads")
    parameters = [known.vector(node, slot) for slot in range(1, 5)]
    if any(value is None or value.ndim != 1 for value in parameters):
        raise NoMapError("its parameters are left out")
    scale, shift, mean, var = (value for value in parameters if value is not None)
    made = known.map(node).along(1, known.length(node.inputs[0], 1))
    epsilon = float(np.float32(node.attributes.get("epsilon", 1e-5)))
    with np.errstate(all="ignore"):
        s = scale / np.sqrt(var + epsilon)
        return [made.affine(s, shift - mean * s, np.abs(shift) + np.abs(mean * s))]


RULES = {
    "Add": _sum,
    "BatchNormalization": _normalized,
    "Cast": _cast,
    "Div": _product,
    "Mul": _product,
    "Neg": _negative,
    "Sub": _sum,
    "Sum": _sum,
}
