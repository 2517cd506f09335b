"""Let one of several BatchNormalizations that are the same of the same tensor do it for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.folding.edits import Merge
from normswap.folding.plan import Folded, Step
from normswap.graph.reasons import unless_blocked

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.folding.record import Record
    from normswap.graph.affine import Affine
    from normswap.graph.network import Graph, Value


def merge_twins(draft: Draft, graph: Graph) -> bool:
    """Merge those that apply the same affine to the same tensor."""
    start = draft.mark()
    twins: dict[tuple[Value, Affine], list[Record]] = {}
    for record in draft.left(graph):
        node = record.whole.source.node
        value = node.input(0)
        if not record.whole.is_batchnorm or value is None or len(value.readers) < 2:
            continue
        if node.out.captured:
            continue
        affine = unless_blocked(record.whole.affine)
        if affine is not None:
            twins.setdefault((value, affine), []).append(record)
    for first, *others in twins.values():
        node = first.whole.source.node
        for other in others:
            if node.out.is_output and other.whole.result.is_output:
                continue  # both names must stay
            draft.commit([Merge(other.whole.key, node.key)])
            note = "identical to this node"
            step = Step("up", "absorb", node.op, node.title, other.site.output, note)
            draft.enter(other, fate=Folded(other.site, (step,)))
    return bool(draft.since(start))
