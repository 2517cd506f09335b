"""Merge a normalization that found no route into a Conv or BatchNormalization beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.branches import conv_of, convs_of, diagonal, join, name_of
from normswap.folding.edits import Bypass, Replace
from normswap.folding.passes.branches import merge
from normswap.folding.plan import Attempt, Folded, Kept, Step
from normswap.folding.soundness import unsound
from normswap.folding.sums import Term, detach, sign_of, term_of, terms_of, total_of
from normswap.graph.batchnorm import affine_of, epsilon_of, is_batchnorm, is_per_activation
from normswap.graph.evaluate import constant_of
from normswap.graph.formulas import Scaled
from normswap.graph.reasons import Block, Blocked, Reason, unless_blocked

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.folding.record import Record
    from normswap.graph.affine import Affine
    from normswap.graph.network import Graph, Node, Value
    from normswap.graph.normalization import Normalization


def merge_beside(draft: Draft, graph: Graph) -> bool:
    """Merge what is kept in a graph, and is added to a Conv of the same tensor."""
    start = draft.mark()
    for record in draft.left(graph):
        if isinstance(record.fate, Kept):
            _merge(draft, record, record.fate)
    return bool(draft.since(start))


def _merge(draft: Draft, record: Record, kept: Kept) -> None:
    normalization = record.whole.present()
    if normalization is None:
        return
    block: Block | None = None
    for candidate in (normalization, normalization.extended()):
        affine = unless_blocked(candidate.affine)
        if affine is None:
            return
        try:
            route = _absorb(draft, candidate, affine)
        except Blocked as refusal:
            block = refusal.block
            continue
        block = None
        if route is not None:
            draft.enter(record, fate=Folded(record.site, route))
            return
    if block is not None:
        attempt = Attempt("beside", block.reason, block.tensor, block.detail)
        known = tuple(a for a in kept.attempts if a.direction != "beside")
        draft.enter(record, fate=replace(kept, attempts=(*known, attempt)))


def _absorb(draft: Draft, normalization: Normalization, affine: Affine) -> tuple[Step, ...] | None:
    """Merge the branch that a normalization is into a Conv beside it.

    Returns
    -------
    tuple of Step or None
        The route, whose edits are then in the draft; None if what the normalization makes is
        not added to anything.

    Raises
    ------
    Blocked
        If it is added to something, and can't be merged with that.
    """
    result, source = normalization.result, normalization.source
    value = source.node.inputs[source.slot]
    total = total_of(result)
    term = term_of(result, total)
    if term is None or value is None:
        return None
    if not affine.varies_only_along(1):
        raise Blocked(
            Reason.AXIS, result.name, "a Conv can absorb only one scale and shift per channel"
        )
    nodes = tuple(reversed(normalization.chain))
    title = normalization.chain[-1].node.title
    for other in convs_of(value, terms_of(total)):
        host = conv_of(other)
        branch = diagonal(host, affine, title, nodes) if host else None
        if host and branch:
            merge(draft, join(draft, total, term, other, branch))
            note = "W += s at the tap of the pixel itself, b += t"
            return (Step("beside", "absorb", "Conv", host.title, value.name, note),)
    for host in _batchnorms(total, value, term):
        add_to_batchnorm(draft, total, term, affine, host)
        draft.commit(Bypass(use.node.key, use.slot) for use in nodes)
        note = "scale += s * sqrt(var + epsilon), B += t + s*mean"
        return (Step("beside", "absorb", host.op, host.title, value.name, note),)
    detail = f"no Conv of {value.name} with an output of the same size is added to it"
    raise Blocked(Reason.NO_BRANCH, result.name, detail)


def _batchnorms(total: Value, value: Value, but: Term) -> list[Node]:
    """Return the other BatchNormalizations of a tensor among the terms of a sum."""
    nodes = [term.value.producer for term in terms_of(total) if term.value is not but.value]
    return [
        node
        for node in nodes
        if node is not None
        and is_batchnorm(node)
        and node.inputs[0] is value
        and unless_blocked(affine_of, node) is not None
        and not is_per_activation(node)
        and (node.out is total or node.out.is_private)
    ]


def add_to_batchnorm(draft: Draft, total: Value, term: Term, affine: Affine, host: Node) -> None:
    """Let a BatchNormalization of x, in a sum, take in another term of it, ``s*x + t``.

    Raises
    ------
    Blocked
        If it can't; the draft is then as it was.
    """
    with draft.trial():
        sign = sign_of(detach(draft, total, term), host)
        scale, bias, mean, var = (constant_of(value) for value in host.inputs[1:5])
        s, t = (sign * term.sign * vector for vector in affine.vectors(scale.shape[0]))
        deviation = np.sqrt(var.wide().astype(np.longdouble) + np.longdouble(epsilon_of(host)))
        shift = t + s * mean.wide().astype(np.longdouble)
        one = np.ones(())
        edits = (
            Replace(host.key, 1, Scaled(scale, one, s * deviation), name_of(host, 1, "scale")),
            Replace(host.key, 2, Scaled(bias, one, shift), name_of(host, 2, "bias")),
        )
        draft.commit(edits)
        block = unsound(edits, draft.nodes) or draft.outgrown(host.title)
        if block is not None:
            raise Blocked.by(block)
