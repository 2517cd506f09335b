"""What an affine passes as it is: an element of the output depends on elements of equal affine."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.graph.network import Node, Use

if TYPE_CHECKING:
    from normswap.graph.affine import Affine


class Carrier(Operator):
    """Carries an affine of its first operand, where :meth:`require` lets it pass.

    Attributes
    ----------
    takes : str
        What its other operands are, which no affine may change; empty where it has none.
    """

    takes: ClassVar[str] = ""

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        self.require(node, affine)
        return Answer(goals=(Up(Use(node, 0), affine),))

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0 and self.takes:
            raise self.blocked(node, f"uses {node.operand(slot).name} as its {self.takes}")
        self.require(node, affine)
        return Answer(goals=(Down(node.out, affine),))

    def require(self, node: Node, affine: Affine) -> None:
        """Let pass which affines can; all, where it is not overridden."""
