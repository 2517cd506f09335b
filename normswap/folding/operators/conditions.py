"""Conditions that several operators set an affine: who does not meet one is blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.operators.base import Operator
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node

NAMED = 5
"""How many channels are named at most."""


def require_no_negative_scale(node: Node, affine: Affine) -> None:
    """Let pass what is scaled by no negative number, for an operator that goes by order."""
    if not affine.is_nonnegative:
        detail = (
            f"takes only a scale >= 0, and the scale is negative in {entries(affine.scale < 0)}"
        )
        raise Operator.blocked(node, detail, Reason.NEGATIVE_SCALE)


def require_no_shift(node: Node, affine: Affine, why: str, reason: Reason = Reason.SHIFT) -> None:
    """Let pass what is not shifted, for an operator that only a scale can pass."""
    if affine.has_shift:
        detail = (
            f"{why}, so it can't take a shift, "
            f"and the shift is not 0 in {entries(affine.shift != 0)}"
        )
        raise Operator.blocked(node, detail, reason)


def require_only_along(node: Node, affine: Affine, *axes: int) -> None:
    """Let pass what varies along no other axes than those that the operator can take."""
    if not affine.varies_only_along(*axes):
        varying = [axis for axis in range(affine.ndim) if affine.varies_along(axis)]
        listed = ", ".join(str(axis) for axis in varying)
        where = "axis" if len(varying) == 1 else "axes"
        detail = f"can't take a scale or shift that varies along {where} {listed} of its tensor"
        raise Operator.blocked(node, detail, Reason.AXIS)


def entries(mask: np.ndarray) -> str:
    """Count and name the channels (or elements) of which something is true."""
    which = np.flatnonzero(mask)
    listed = ", ".join(str(channel) for channel in which[:NAMED])
    more = ", ..." if which.size > NAMED else ""
    return f"{which.size} of {mask.size} channels ({listed}{more})"
