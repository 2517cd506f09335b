"""How an operator becomes a map: ``RULES`` of a file a family, by the name of the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.proof.forms import elements, moves, weighted
from normswap.proof.maps import NoMapError

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.proof.flat import FlatNode
    from normswap.proof.forms.known import Known
    from normswap.proof.maps import Map

    Rule = Callable[[Known, FlatNode], list[Map]]

_RULES: dict[str, Rule] = {**elements.RULES, **weighted.RULES, **moves.RULES}


def rule_of(node: FlatNode) -> Rule:
    """Return how the form of an operator is read.

    Raises
    ------
    NoMapError
        It has none.
    """
    rule = _RULES.get(node.op) if node.is_standard else None
    if rule is None:
        raise NoMapError(f"{node.op} has no form")
    return rule
