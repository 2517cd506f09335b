"""Whether the constants that a route makes can be stored as their formulas say, and be loaded.

They can't where a constant that goes into one is not finite, where a value is beyond the range of
its type, or so small that the type has too few digits for it (:mod:`normswap.graph.precision`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.dtypes import NUMPY_DTYPES, largest
from normswap.folding.edits import Edit, Insert, Replace
from normswap.graph.flaws import FACTORS
from normswap.graph.precision import lost_digits, smallest_normal
from normswap.graph.reasons import Block, Reason
from normswap.semantics.families import ARITHMETIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from normswap.graph.expressions import Expression
    from normswap.graph.network import Node


BROADCASTING = ARITHMETIC | {"Max", "Mean", "Min", "Sum", "Where"}
"""Operators whose operands ONNX compares size by size."""


def unsound(edits: Iterable[Edit], nodes: Mapping[int, Node]) -> Block | None:
    """Say which new constant would not be what its formula says, or None.

    Parameters
    ----------
    edits : iterable of Edit
    nodes : Mapping[int, Node]
        By key, those that the edits name.
    """
    for edit in edits:
        if isinstance(edit, Replace):
            node = nodes[edit.node]
            factor = not node.domain and edit.slot in FACTORS.get(node.op, ())
        elif isinstance(edit, Insert):
            factor = 1 in FACTORS.get(edit.op, ())
        else:
            continue
        block = _unsound(edit.constant, edit.hint, factor=factor)
        if block is not None:
            return block
    return None


def misfit(edits: Iterable[Edit], nodes: Mapping[int, Node]) -> Block | None:
    """Say which new constant has a size where ONNX may infer another one, or None.

    Where ONNX infers another size than runtimes make (:mod:`normswap.graph.sizes`), a Mul whose
    constant has as many elements as there are in truth is an error for ONNX, and a runtime does not
    load it. A scalar fits whatever is inferred, and no other constant may come into its place.
    """
    for edit in edits:
        if isinstance(edit, Insert):
            value = nodes[edit.node].outputs[edit.output]
        elif isinstance(edit, Replace):
            node = nodes[edit.node]
            value = node.out if node.op in BROADCASTING and not node.domain else None
        else:
            continue
        if value is not None and value.is_doubtful_along(edit.constant.shape):
            detail = (
                f"ONNX may infer another shape for {value.name} than the new {edit.hint} needs, "
                "and runtimes then refuse the model"
            )
            return Block(Reason.SHAPE_UNKNOWN, value.name, detail)
    return None


def _unsound(constant: Expression, hint: str, *, factor: bool) -> Block | None:
    what = f"the new {hint}"
    match constant.problem():
        case "layout":
            return Block(Reason.SHAPE_UNKNOWN, hint, f"{what} does not fit its new shape")
        case "non-finite":
            flaw = constant.flaw()
            name = hint if flaw is None else flaw.name
            return Block(
                Reason.NON_FINITE, name, str(flaw or f"{what} would have NaN or infinite values")
            )
        case "overflow":
            dtype, most = NUMPY_DTYPES[constant.data_type].name, largest(constant.data_type)
            return Block(
                Reason.OVERFLOW,
                hint,
                f"{what} would exceed the range of {dtype}, whose largest value is {most:g}",
            )
    if not factor or constant.least() >= smallest_normal(constant.data_type):
        return None
    lost = lost_digits(constant.wide(), constant.data_type)
    if lost is None:
        return None
    dtype = NUMPY_DTYPES[constant.data_type].name
    detail = (
        f"{dtype} has too few digits for {what}: "
        f"rounding would change its values by up to {lost:.2%}"
    )
    return Block(Reason.UNDERFLOW, hint, detail)
