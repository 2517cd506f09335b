"""What every operator of the fold is: a class that answers two questions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

from normswap.graph.reasons import Blocked, Reason

if TYPE_CHECKING:
    from collections.abc import Container

    from normswap.folding.answers import Answers
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node

ALL = range(sys.maxsize)
"""Every output."""


class Operator:
    """An operator (family) that an affine may meet on its way.

    A subclass names the operators that it speaks for in :attr:`ops` and overrides :meth:`up`,
    :meth:`down` or both. It is found by being in this folder. It reads the node and edits nothing.

    Of several outputs it answers for the first alone, unless it says otherwise: where another one
    is read, by whomever, it is not asked, and the node stays as it is.

    Attributes
    ----------
    ops : tuple of str
    domain : str
    ways_up : container of int
        The outputs by which an affine may come up.
    right_up, right_down : container of int
        Further outputs that are what they shall be after every answer of :meth:`up` (other than the
        one by which the affine comes) or :meth:`down`: it leaves them alone, or sees to them.
    """

    ops: ClassVar[tuple[str, ...]] = ()
    domain: ClassVar[str] = ""
    ways_up: ClassVar[Container[int]] = (0,)
    right_up: ClassVar[Container[int]] = ()
    right_down: ClassVar[Container[int]] = ()

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        """Answer an affine that shall be applied to output ``index`` of the node.

        The output has no other reader that would notice, and no further output is read that is not
        in :attr:`right_up`.

        Raises
        ------
        Blocked
            If it can be neither absorbed nor carried.
        """
        raise self.blocked(node, "does not pass a scale and shift on to its input")

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        """Answer an affine that shall be applied to input ``slot`` of the node.

        No further output is read that is not in :attr:`right_down`.

        Raises
        ------
        Blocked
            If it can be neither absorbed nor carried.
        """
        raise self.blocked(node, "does not pass a scale and shift on to its output")

    @staticmethod
    def blocked(node: Node, detail: str, reason: Reason = Reason.OPERATOR) -> Blocked:
        """Make a refusal that names the node."""
        return Blocked(reason, node.out.name, f"{node.op} {node.title} {detail}")
