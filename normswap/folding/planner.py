"""Plan a fold: find every normalization of a model, and the cheapest complete route for each.

The planner is pure. It works on a mirror of the model's graphs and returns a :class:`Plan`.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from normswap.folding.answers import Down, Goal, Up
from normswap.folding.branches import Merger
from normswap.folding.draft import Draft
from normswap.folding.edits import Bypass, Merge, Replace, Specialise
from normswap.folding.functions import Library
from normswap.folding.identity import merge_sum, sum_before
from normswap.folding.inlining import Inliner
from normswap.folding.leftover import rewrite
from normswap.folding.plan import Attempt, Folded, Kept, Plan, Step
from normswap.folding.route import Outcome, Router
from normswap.graph.affine import Affine
from normswap.graph.build import build_network
from normswap.graph.decomposed import affine_of_link, link
from normswap.graph.normalization import Normalization, normalizations
from normswap.graph.reasons import Block, Blocked, Reason, unless_blocked
from normswap.graph.removal import removal_block

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from normswap.folding.functions import Callee
    from normswap.folding.inlining import Path
    from normswap.folding.leftover import Form
    from normswap.graph.network import Graph, Node, Value
    from normswap.graph.normalization import Site
    from normswap.model import Model


OF_NUMBERS = frozenset({Reason.NON_FINITE, Reason.OVERFLOW, Reason.UNDERFLOW})
"""Reasons that lie in the values of constants, and not in the graph."""


def make_plan(
    model: Model,
    *,
    assume_constant: bool = False,
    merge_branches: bool = False,
    leftover: Form = "keep",
) -> Plan:
    """Decide for every normalization of a model whether and how it is folded.

    Parameters
    ----------
    model : Model
        Is not changed.
    assume_constant : bool
        Fold initializers that are also graph inputs, which a caller could override. Up to IR
        version 3 they are constants in any case.
    merge_branches : bool
        Merge parallel branches into one Conv everywhere, not only where that removes a
        normalization.
    leftover : {"keep", "affine", "normalize"}
        The form of what stays, see :mod:`normswap.folding.leftover`.

    Returns
    -------
    Plan
        Every BatchNormalization of the main graph, of subgraphs and functions is in it once, and
        so is every chain of arithmetic that is one (:mod:`normswap.graph.decomposed`).
    """
    network = build_network(model, assume_constant=assume_constant)
    planner = _Planner(
        Draft(network), Library(model, network), merge_branches=merge_branches, leftover=leftover
    )
    planner.plan(network.graphs)
    planner.functions()
    reported = planner.present() - planner.late
    return Plan(
        model.fingerprint(),
        tuple(entry for key, entry in planner.folded.items() if key in reported),
        tuple(
            entry
            for key, entry in planner.kept.items()
            if key in reported and key not in planner.uncertain
            # What has made a constant, of which a fold has made another one, goes.
            if entry.reason is not Reason.CONSTANT or planner.draft.nodes[key].is_used
        ),
        planner.merger.report(planner.present()),
        tuple(planner.draft.edits),
    )


KNOWN = (
    *("folded", "kept", "found", "sites", "rewritten"),
    *("uncertain", "late", "copies", "specialised"),
)
"""What a planner knows of normalizations and calls, by key."""


class _State(NamedTuple):
    """Where a planner was: its place in the history of the draft, and what it knew."""

    mark: int
    known: dict[str, Any]
    merged: dict[int, list[str]]


class _Planner:
    def __init__(
        self, draft: Draft, library: Library, *, merge_branches: bool, leftover: Form
    ) -> None:
        self.draft = draft
        self.library = library
        self.merge_branches = merge_branches
        self.leftover = leftover
        self.router = Router(draft)
        self.merger = Merger(draft, self.router)
        self.folded: dict[int, Folded] = {}
        self.kept: dict[int, Kept] = {}
        self.found: dict[int, Normalization] = {}
        self.sites: dict[int, Site] = {}  # of what was found, as it was then
        self.rewritten: dict[int, Kept] = {}  # what has been given another form, as it was kept
        self.uncertain: set[int] = set()  # count only if they fold
        self.late: set[int] = set()  # what edits have made, and the model did not have
        self.copies: dict[Callee, int] = {}  # first keys of the functions' copies
        self.specialised: dict[int, int] = {}  # the same, by key of the call
        self.called = {number for _, number in library.calls(draft.network.graphs)}

    def plan(self, graphs: Iterable[Graph]) -> None:
        """Fold, merge and rewrite what is in some graphs, until there is nothing left to be done.

        Each of these may make way for the others: what is rewritten is arithmetic, which can take
        in more. A fold of what comes out would find nothing, since the last round has found
        nothing and looks at the graph as it then is.
        """
        for graph in list(graphs):
            mark = self.draft.mark()
            self.fold(list(normalizations(graph)))
            while (
                self._tidy(graph, mark)
                or (self.merge_branches and self.merger.merge_everywhere(graph))
                or self._rewrite(graph)
            ):
                self.fold(self._left(graph))

    def functions(self) -> None:
        """Specialise functions; inline calls that routes go across, where that folds more."""
        root, start = self.draft.network.graphs[0], self._state()
        self.specialise()
        kept, inliner = self._count_kept(root), Inliner(self.draft, self.library)
        if not kept or not any(self.library.calls(root.family())):
            return
        wanted: set[Path] | None = None
        fewest = self._inlined(inliner, start, wanted)
        if fewest is not None and fewest < kept:
            wanted = inliner.touched(self.draft.edits[start.mark :])
            if self._inlined(inliner, start, wanted) != fewest:
                self._inlined(inliner, start, None)
            return
        self._restore(start)
        self.specialise()

    def _inlined(self, inliner: Inliner, start: _State, wanted: set[Path] | None) -> int | None:
        """Plan with some calls inlined, all by default, and return how many normalizations stay."""
        self._restore(start)
        root = self.draft.network.graphs[0]
        if not inliner.inline(root, wanted):
            return None
        self.plan(root.family())
        self.specialise()
        return self._count_kept(root)

    def _state(self) -> _State:
        """Return what is known, to come back to."""
        merged = {key: list(titles) for key, titles in self.merger.merged.items()}
        return _State(self.draft.mark(), {name: copy(vars(self)[name]) for name in KNOWN}, merged)

    def _restore(self, state: _State) -> None:
        self.draft.rollback(state.mark)
        vars(self).update({name: copy(value) for name, value in state.known.items()})
        self.merger.merged = {key: list(titles) for key, titles in state.merged.items()}

    def specialise(self) -> None:
        """Specialise functions for the calls of them where that folds more than in place."""
        for body in self.draft.network.bodies:
            self._specialise_calls(body)
        self._specialise_calls(self.draft.network.graphs[0])

    def _rewrite(self, graph: Graph) -> bool:
        """Give what stays in a graph the form that is asked for, and say whether any has it now."""
        start = self.draft.mark()
        for key, entry in list(self.kept.items()):
            whole = self.found[key]
            normalization = whole.present() if whole.graph is graph and whole.certain else None
            new = normalization and rewrite(self.draft, normalization, self.leftover)
            if not new:
                continue
            # From now on it is known by what it has become, and told as what it was.
            del self.kept[key], self.found[key]
            self.found[new.key], self.sites[new.key] = new, self.sites[key]
            self.kept[new.key] = self.rewritten[new.key] = replace(entry, form=self.leftover)
            for keys in (self.late, self.uncertain):
                if key in keys:
                    keys.add(new.key)
        return self.draft.mark() > start

    def present(self) -> set[int]:
        """Return the keys of the nodes of all graphs that will be in the model."""
        graphs = self.draft.network.graphs
        bodies = self.draft.network.bodies
        pending = [graphs[0]]
        pending += [body for number, body in enumerate(bodies) if number not in self.called]
        seen: set[int] = set()
        keys: set[int] = set()
        while pending:
            root = pending.pop()
            if id(root) in seen:
                continue
            seen.add(id(root))
            family = root.family()
            keys.update(node.key for graph in family for node in graph.nodes)
            pending += [self._callee(node, number) for node, number in self.library.calls(family)]
        return keys

    def _callee(self, node: Node, number: int) -> Graph:
        """Return the body that a call has: that of a copy, or of the function itself."""
        first = self.specialised.get(node.key)
        return self.draft.network.bodies[number] if first is None else self.draft.nodes[first].graph

    def _specialise_calls(self, root: Graph) -> None:
        for node, number in list(self.library.calls(root.family())):
            before = self._count_kept(self.draft.network.bodies[number])
            callee = self.library.callee(node) if before else None
            if callee is None:
                continue
            first = self.copies.get(callee)
            if first is not None:
                self.draft.commit([Specialise(node.key, number, first)])
                self.specialised[node.key] = first
                continue
            mark, first = self.draft.mark(), self.draft.network.keys
            graphs = self.library.instantiate(node, number)
            self.draft.specialise(Specialise(node.key, number, first), graphs)
            self.plan(graphs)
            self._specialise_calls(graphs[0])
            if self._count_kept(graphs[0]) < before:
                self.copies[callee] = self.specialised[node.key] = first
                continue
            self.draft.rollback(mark)
            self._forget(first)

    def _count_kept(self, root: Graph) -> int:
        """Return how many normalizations stay in a graph, its subgraphs and what they call."""
        total, pending = 0, [root]
        while pending:
            family = pending.pop().family()
            total += sum(node.key in self.kept for graph in family for node in graph.nodes)
            pending += [self._callee(node, number) for node, number in self.library.calls(family)]
        return total

    def _forget(self, first: int) -> None:
        """Drop what is known of nodes that are no more: all keys from ``first`` on."""
        tables = (self.folded, self.kept, self.found, self.sites, self.rewritten)
        for known in (*tables, self.merger.merged):
            for key in [key for key in known if key >= first]:
                del known[key]
        self.uncertain = {key for key in self.uncertain if key < first}
        self.late = {key for key in self.late if key < first}
        self.copies = {callee: key for callee, key in self.copies.items() if key < first}
        self.specialised = {
            call: key for call, key in self.specialised.items() if call < first and key < first
        }

    def fold(self, found: Sequence[Normalization]) -> None:
        """Fold what was found in a graph, again as long as that may help what was kept.

        Branches are merged last: what is left of them then is simplest.
        """
        # Each by itself, a BatchNormalization goes into arithmetic before it and not vice versa.
        pending = list(found)
        while pending:
            pending.sort(key=lambda normalization: not normalization.is_batchnorm)
            new = [n for n in pending if n.key not in self.found]
            self.uncertain.update(n.key for n in new if not n.certain)
            self.sites.update((n.key, n.site()) for n in new)
            self.found.update((n.key, n) for n in pending)
            self._merge_twins(pending)
            pending = [n for n in pending if n.key not in self.folded]
            before = self.draft.mark()
            for attempt in (self._fold, self._merge, self._join):
                for normalization in pending:
                    attempt(normalization)
                if self.draft.mark() > before:
                    break
            else:
                return
            pending = self._left(pending[0].source.node.graph)

    def _left(self, graph: Graph) -> list[Normalization]:
        """Return what is still to be folded in a graph, as it is by now.

        What was folded may have brought operators together that now are a normalization, and may
        have made of one that is known a longer or a shorter one.
        """
        fresh = {n.key: n for n in normalizations(graph)}
        known = [n for n in self.found.values() if n.key in self.kept and n.graph is graph]
        left = [fresh.pop(n.key, n) for n in known]
        new = [n for n in fresh.values() if n.key not in self.folded]
        self.late.update(n.key for n in new if n.key not in self.found)
        return [*left, *new]

    def _tidy(self, graph: Graph, mark: int) -> bool:
        """Fold single operators by constants that routes have gone into since a mark.

        Nobody asks for a Mul or Add by itself to go; but where a normalization has just made it
        what it is, it goes the rest of the way if that costs nothing.
        """
        start = self.draft.mark()
        edits = self.draft.edits[mark:]
        edited = dict.fromkeys(edit.node for edit in edits if isinstance(edit, Replace))
        taken = {use.node.key for found in self.found.values() for use in found.chain}
        for key in edited:
            node = self.draft.nodes[key]
            use = None if key in taken or node.graph is not graph else link(node)
            if use is None:
                continue
            mark = self.draft.mark()
            outcome = self.router.solve([Up(use, affine_of_link(use))])
            if outcome.block or outcome.cost or removal_block([use]):
                self.draft.rollback(mark)
            else:
                self.draft.commit([Bypass(key, use.slot)])
        return self.draft.mark() > start

    def _merge_twins(self, found: Sequence[Normalization]) -> None:
        """Let one of several nodes that apply the same affine to the same tensor do it for all."""
        twins: dict[tuple[Value, Affine], list[Normalization]] = {}
        for normalization in found:
            node = normalization.source.node
            value = node.input(0)
            if not normalization.is_batchnorm or value is None or len(value.readers) < 2:
                continue
            if node.out.captured:
                continue
            affine = unless_blocked(normalization.affine)
            if affine is not None:
                twins.setdefault((value, affine), []).append(normalization)
        for first, *others in twins.values():
            for other in others:
                if first.result.is_output and other.result.is_output:
                    continue  # both names must stay
                site = self.sites[other.key]
                self.draft.commit([Merge(other.key, first.key)])
                node = first.source.node
                note = "the same of the same"
                step = Step("up", "absorb", node.op, node.title, site.output, note)
                self.folded[other.key] = Folded(site, (step,))

    def _fold(self, whole: Normalization) -> None:
        """Fold a normalization along the cheapest complete route."""
        normalization = whole.present()
        if normalization is None:
            # A route of another one has taken it apart. What was rewritten before is told all the
            # same, as it was: by then it is no normalization of the model any more.
            if whole.key not in self.rewritten:
                self.kept.pop(whole.key, None)
            return
        self.kept.pop(whole.key, None)
        site = self.sites[whole.key]
        try:
            affine = normalization.affine()
        except Blocked as refusal:
            self._keep(whole.key, site, refusal.block, ())
            return
        attempts: list[Attempt] = []
        best: tuple[list[Goal], Outcome] | None = None
        mark = self.draft.mark()
        for direction, goals in _candidates(normalization, affine):
            outcome = self.router.solve(goals)
            block = outcome.block or removal_block(normalization.chain)
            removed = len(normalization.chain)
            if block is None and not normalization.is_batchnorm and outcome.cost >= removed:
                detail = f"{normalization.result.name} would cost as many nodes as it has"
                block = Block(Reason.COST, normalization.result.name, detail)
            if block is not None:
                self.draft.rollback(mark)
                attempts.append(
                    Attempt(direction, block.reason, block.tensor, block.detail, outcome.steps)
                )
                continue
            if best is None or outcome.cost < best[1].cost:
                best = (goals, outcome)
            if outcome.cost == 0:
                break
            self.draft.rollback(mark)
        if best is None:
            # Where only the numbers were in the way of a direction, that is what there is to know.
            numbers = (attempt for attempt in attempts if attempt.reason in OF_NUMBERS)
            first = next(numbers, attempts[0])
            block = Block(first.reason, first.tensor, first.detail)
            if normalization.is_batchnorm and affine.ndim > 2:
                detail = f"spatial=0, and {first.detail}"
                block = Block(Reason.PER_ACTIVATION, first.tensor, detail)
            self._keep(whole.key, site, block, tuple(attempts))
            return
        goals, outcome = best
        if outcome.cost:  # it was taken back, to look for a cheaper one
            self.draft.rollback(mark)
            self.router.solve(goals)
        self.draft.commit(Bypass(use.node.key, use.slot) for use in reversed(normalization.chain))
        self.folded[whole.key] = Folded(site, outcome.steps, outcome.cost)

    def _merge(self, whole: Normalization) -> None:
        """Merge a normalization that found no route into a Conv beside it."""
        entry, normalization = self.kept.get(whole.key), whole.present()
        if entry is None or normalization is None:
            return
        site = self.sites[whole.key]
        route: tuple[Step, ...] | None = None
        block: Block | None = None
        for candidate in (normalization, normalization.extended()):
            affine = unless_blocked(candidate.affine)
            if affine is None:
                return
            try:
                route = self.merger.absorb(candidate, affine)
            except Blocked as refusal:
                block = refusal.block
            else:
                block = None
            if route is not None:
                break
        if block is not None:
            attempt = Attempt("beside", block.reason, block.tensor, block.detail)
            known = tuple(a for a in entry.attempts if a.direction != "beside")
            entry = replace(entry, attempts=(*known, attempt))
            self.kept[whole.key] = entry
            self._gather(whole, normalization, entry)
        if route is None:
            return
        del self.kept[whole.key]
        self.folded[whole.key] = Folded(site, route)

    def _gather(self, whole: Normalization, normalization: Normalization, entry: Kept) -> None:
        """Fold a normalization together with its own input, where that is added to it."""
        mark = self.draft.mark()
        if not self.merger.gather(normalization):
            return
        self._fold(whole)
        if whole.key in self.kept and not self.merge_branches:
            self.draft.rollback(mark)
            self.kept[whole.key] = entry

    def _join(self, whole: Normalization) -> None:
        """Fold a normalization that found no route into the one Conv that its source becomes."""
        entry, normalization = self.kept.get(whole.key), whole.present()
        total = sum_before(normalization) if entry and normalization else None
        if entry is None or total is None:
            return
        mark, merged = self.draft.mark(), {k: list(v) for k, v in self.merger.merged.items()}
        if not merge_sum(self.merger, total):
            return
        self._fold(whole)
        if whole.key in self.kept and not self.merge_branches:
            self.draft.rollback(mark)
            self.kept[whole.key], self.merger.merged = entry, merged

    def _keep(self, key: int, site: Site, block: Block, attempts: tuple[Attempt, ...]) -> None:
        entry = Kept(site, block.reason, block.tensor, block.detail, attempts)
        self.kept[key] = self.rewritten.get(key, entry)


def _candidates(normalization: Normalization, affine: Affine) -> Iterator[tuple[str, list[Goal]]]:
    """Yield the ways that an affine can go, the preferred one first.

    All the way up or down; or in two parts, of which the one that goes down is applied last:
    ``y = s*x + t`` is x scaled, then shifted, and (where no s is 0) x shifted by t/s, then scaled.
    """
    source, result = normalization.source, normalization.result
    yield "up", [Up(source, affine)]
    yield "down", [Down(result, affine)]
    if not (affine.has_scale and affine.has_shift):
        return
    yield (
        "scale up, shift down",
        [Up(source, affine.scale_only()), Down(result, affine.shift_only())],
    )
    if (affine.scale != 0).all():
        scale, shift = affine.at(affine.ndim)
        before = Affine(np.ones(()), shift / scale)
        if before.is_finite:
            yield "shift up, scale down", [Up(source, before), Down(result, affine.scale_only())]
