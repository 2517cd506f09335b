"""Cast between float types: only rounding differs.

To a narrower type, what is scaled before the cast may be beyond its range where what was cast
before was not; so an affine goes up through a cast only to a type with at least the range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.answers import Answer, Block, Down, Up
from normswap.dtypes import is_float, largest
from normswap.graph import Node, Use
from normswap.operators.base import Answers, Operator
from normswap.reasons import Reason

if TYPE_CHECKING:
    from normswap.affine import Affine


class Cast(Operator):
    """Carries an affine between float types where no range is lost."""

    ops = ("Cast",)

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        yield self._blocked(node, up=True) or Answer(goals=(Up(Use(node, 0), affine),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        del slot
        yield self._blocked(node, up=False) or Answer(goals=(Down(node.out, affine),))

    def _blocked(self, node: Node, *, up: bool) -> Block | None:
        value = node.inputs[0]
        before = None if value is None else value.data_type
        after = int(node.attr("to", 0))
        if before is None or not is_float(before) or not is_float(after):
            return self.block(node, "is not between float types", Reason.ELEMENT_TYPE)
        # Up, the affine is computed in the type before the cast; down, in the one after it.
        was, now = (after, before) if up else (before, after)
        if largest(now) < largest(was):
            return self.block(node, "would have it computed in a narrower type", Reason.OVERFLOW)
        return None
