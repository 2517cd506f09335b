"""Cast and CastLike between float types: only rounding differs, as long as nothing overflows.

An affine that crosses a cast is computed in the other type. Where that is narrower, what the affine
makes of the values has to be within its range too. The values are not known, so the affine may take
up half of the range, in powers (256 of a half's 65504), and leaves the other half to them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normswap.dtypes import is_float, largest
from normswap.folding.answers import UNREAD, Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.graph.extremes import magnitude
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class Cast(Operator):
    """Carries an affine between float types where no range is lost."""

    ops = ("Cast", "CastLike")

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        self._require_room(node, affine, up=True)
        return Answer(goals=(Up(Use(node, 0), affine),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            return UNREAD  # CastLike takes the type from it
        self._require_room(node, affine, up=False)
        return Answer(goals=(Down(node.out, affine),))

    def _require_room(self, node: Node, affine: Affine, *, up: bool) -> None:
        value = node.inputs[0]
        before = None if value is None else value.data_type
        after = node.attr("to", None) if node.op == "Cast" else node.out.data_type
        if before is None or after is None or not is_float(before) or not is_float(after):
            raise self.blocked(node, "does not convert between float types", Reason.ELEMENT_TYPE)
        was, now = (after, before) if up else (before, after)
        room = math.sqrt(largest(now))
        if (
            largest(now) < largest(was)
            and max(magnitude(affine.scale), magnitude(affine.shift)) > room
        ):
            detail = "has a type of smaller range on its other side, where the values may overflow"
            raise self.blocked(node, detail, Reason.OVERFLOW)
