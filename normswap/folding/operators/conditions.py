"""Conditions that several operators set an affine, and how each is told to the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.graph.reasons import Block, Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node

NAMED = 5
"""How many channels are named at most."""


def negative_scale(node: Node, affine: Affine) -> Block | None:
    """Say in which channels the scale is negative, for an operator that goes by order."""
    if affine.is_nonnegative:
        return None
    return _block(
        node,
        f"keeps order, and the scale is negative in {entries(affine.scale < 0)}",
        Reason.NEGATIVE_SCALE,
    )


def shift(node: Node, affine: Affine, why: str, reason: Reason = Reason.SHIFT) -> Block | None:
    """Say in which channels there is a shift, for an operator that only a scale can pass."""
    if not affine.has_shift:
        return None
    return _block(node, f"{why}, and the shift is not 0 in {entries(affine.shift != 0)}", reason)


def beyond(node: Node, affine: Affine, *axes: int) -> Block | None:
    """Say that an affine varies along other axes than those that the operator can take."""
    if affine.varies_only_along(*axes):
        return None
    varying = [axis for axis in range(affine.ndim) if affine.varies_along(axis)]
    listed = ", ".join(str(axis) for axis in varying)
    where = "axis" if len(varying) == 1 else "axes"
    return _block(node, f"would need it along {where} {listed} of its tensor", Reason.AXIS)


def entries(mask: np.ndarray) -> str:
    """Count and name the channels (or elements) of which something is true."""
    which = np.flatnonzero(mask)
    listed = ", ".join(str(channel) for channel in which[:NAMED])
    more = ", ..." if which.size > NAMED else ""
    return f"{which.size} of {mask.size} channels ({listed}{more})"


def _block(node: Node, detail: str, reason: Reason) -> Block:
    return Block(reason, node.out.name, f"{node.op} {node.title} {detail}")
