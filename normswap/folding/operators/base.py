"""What every operator of the fold is: a class that answers two questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from normswap.folding.answers import Answer, Block
from normswap.folding.reasons import Reason

if TYPE_CHECKING:
    from normswap.folding.affine import Affine
    from normswap.folding.graph import Node

Answers = Iterator[Answer | Block]


class Operator:
    """An operator (family) that an affine may meet on its way.

    A subclass names the operators that it speaks for in :attr:`ops` and overrides :meth:`up`,
    :meth:`down` or both. It is found by being in this folder. It reads the node and edits nothing.
    """

    ops: ClassVar[tuple[str, ...]] = ()
    domain: ClassVar[str] = ""

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        """Answer an affine that shall be applied to output ``index`` of the node.

        The output has no other reader that would notice.
        """
        del index, affine
        yield self.block(node, "does not pass an affine up")

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        """Answer an affine that shall be applied to input ``slot`` of the node."""
        del slot, affine
        yield self.block(node, "does not pass an affine down")

    @staticmethod
    def block(node: Node, detail: str, reason: Reason = Reason.OPERATOR) -> Block:
        """Make a block that names the node."""
        return Block(reason, node.out.name, f"{node.op} {node.title} {detail}")
