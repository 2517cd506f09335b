"""Go on with new constants as they will be read from the file, where digits were in the way.

Whether a constant that takes in an affine has all its digits hangs on the last place of what it was
before. That is exact as long as it is a formula, and rounded once it is read from the file; so what
a formula can't take in, what was rounded may, and the other way round. A fold of the result reads
the rounded ones, and is to find nothing: they have the last word here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.plan import Kept
from normswap.graph.expressions import Expression, Leaf, Stored
from normswap.graph.reasons import OF_NUMBERS

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.folding.record import Record
    from normswap.graph.network import Graph


def store(draft: Draft, graph: Graph) -> bool:
    """Round the formulas of a graph, for what is kept for their sake; say whether there are any."""
    if not any(map(_hangs_on_digits, draft.left(graph))):
        return False
    formulas = {
        value: value.source
        for node in graph.nodes
        if not node.removed
        for value in node.inputs
        if value is not None
        and isinstance(value.source, Expression)
        and not isinstance(value.source, Leaf | Stored)
    }
    for value, formula in formulas.items():
        draft.give(value, Stored(formula))
    return bool(formulas)


def _hangs_on_digits(record: Record) -> bool:
    kept = record.fate
    return isinstance(kept, Kept) and any(
        reason in OF_NUMBERS for reason in (kept.reason, *(a.reason for a in kept.attempts))
    )
