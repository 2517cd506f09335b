"""Trees of Add, Sub and Sum: the terms that they add up, and how one is taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Up
from normswap.folding.edits import Bypass, Omit
from normswap.folding.route import Router
from normswap.graph.affine import Affine
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Blocked, Reason
from normswap.graph.removal import name_block
from normswap.semantics.families import SUMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.folding.draft import Draft
    from normswap.graph.network import Value


@dataclass(frozen=True, slots=True)
class Term:
    """One of the tensors that a tree of Add, Sub and Sum adds up, with its sign.

    Attributes
    ----------
    use : Use or None
        Where it is read; None where it is the total itself, being the only term that is left.
    """

    value: Value
    sign: int
    use: Use | None


def total_of(value: Value) -> Value:
    """Return the sum of which a tensor is a term; itself if it is in none."""
    while (reader := _sum_of(value)) is not None:
        value = reader.out
    return value


def is_term(value: Value) -> bool:
    """Whether a tensor is there for a sum alone."""
    return _sum_of(value) is not None


def _sum_of(value: Value) -> Node | None:
    reader = next(iter(value.readers.values())).node if value.is_private else None
    return reader if is_sum(reader) else None


def is_sum(node: Node | None) -> bool:
    """Whether a node adds up or subtracts, each operand broadcast as in NumPy."""
    return (
        node is not None
        and node.op in SUMS
        and not node.domain
        and not node.attr("broadcast", 0)
        and len(node.inputs) > 1
    )


def terms_of(total: Value, whole: Value | None = None) -> Iterator[Term]:
    """Yield what a sum adds up, in order; one of them as a whole even if it is a sum itself."""
    pending = [Term(total, 1, None)]
    while pending:
        term = pending.pop()
        node = term.value.producer
        inner = term.use is None or term.value.is_private
        if term.value is whole or node is None or not inner or not is_sum(node):
            yield term
            continue
        for slot in reversed(range(len(node.inputs))):
            value = node.inputs[slot]
            if value is not None:
                sign = -term.sign if node.op == "Sub" and slot == 1 else term.sign
                pending.append(Term(value, sign, Use(node, slot)))


def term_of(value: Value, total: Value) -> Term | None:
    """Return a tensor as a term of a sum, None if it is none."""
    terms = terms_of(total, value)
    return next((term for term in terms if term.value is value and term.use), None)


def sign_of(total: Value, host: Node) -> int:
    """Return with which sign a sum has what a node makes.

    Raises
    ------
    Blocked
        If that is no term of it.
    """
    for term in terms_of(total):
        if term.value is host.out:
            return term.sign
    raise Blocked(Reason.NO_BRANCH, host.out.name, f"{host.out.name} is not a term of the sum")


def detach(draft: Draft, total: Value, term: Term) -> Value:
    """Take a term out of a sum, and return what then is the total.

    The term goes into another one of the same shape, which stays in the sum; so what is left is
    broadcast to the same shape as before.

    Raises
    ------
    Blocked
        If it can't go; the draft is then as it was.
    """
    if term.use is None:
        detail = f"{term.value.name} is the only term of its sum"
        raise Blocked(Reason.NO_BRANCH, term.value.name, detail)
    node, slot = term.use
    if len(node.inputs) > 2:
        draft.commit([Omit(node.key, slot)])
        return total
    other = 1 - slot
    block = name_block([Use(node, other)])
    if block is not None:
        raise Blocked.by(block)
    if node.op == "Sub" and slot == 0:
        outcome = Router(draft).solve([Up(Use(node, 1), Affine(-np.ones(()), np.zeros(())))])
        if outcome.block is not None:
            raise Blocked.by(outcome.block)
    rest = node.inputs[other]
    if rest is None:
        raise AssertionError("a sum has no operand that is left out")
    draft.commit([Bypass(node.key, other)])
    return rest if total is node.out else total
