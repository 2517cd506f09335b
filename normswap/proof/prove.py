"""Whether two models are one function, by cut points.

The tensors of both models are numbered in one table (:mod:`normswap.proof.numbering`): what gets
a class that the original has is identical. A tensor of the rewritten model that gets a new one is
compared with candidates of the original, each by its region: what makes it from tensors that are
known (:mod:`normswap.proof.regions`). Where the two regions are one function
(:mod:`normswap.proof.judge`), the two tensors get one class, and the walk goes on from there. Where
they are not, the tensor is no cut point, and the region of the next one is larger; unless it is one
but for a scale and a shift of each channel (:mod:`normswap.proof.scaled`).

What is left at the end has a tensor that a candidate was found for, and that is plainly another
function. If the models are the same once these two are taken for equal, that is where they differ.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from normswap.dtypes import is_float
from normswap.progress import Progress, silent
from normswap.proof.budget import Budget
from normswap.proof.candidates import MORE, Candidates
from normswap.proof.conversion import narrowed_to
from normswap.proof.facts import Facts
from normswap.proof.flat import NONE
from normswap.proof.judge import RegionJudgement, frontier_names, judge
from normswap.proof.numbering import ClassTable, Side
from normswap.proof.regions import (
    WIDER,
    Cone,
    LargeRegionError,
    RegionPair,
    cone_of,
    opposite,
    widened,
)
from normswap.proof.result import (
    BEYOND_TESTS,
    HIDES,
    Cut,
    Means,
    Output,
    Proof,
    Region,
    Standing,
    Witness,
)
from normswap.proof.scaled import ignores, read_as, scaled
from normswap.proof.simulate import Alike, simulate, taken
from normswap.proof.witness import Apart, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from normswap.proof.scaled import ChannelAffine

_FAILURES = 24  # tensors of a region that were no cut points
_DIFFERENCES = 8  # regions that may differ
_CLOSE = 16  # nodes of a region, beyond which it says little of where models differ


def prove(
    a: Side,
    b: Side,
    *,
    feeds: Callable[[], Iterable[Mapping[str, Any]]] = tuple,
    budget: Budget | None = None,
    vary: bool = True,
    progress: Progress = silent,
) -> Proof:
    """Prove, as far as it goes, that a rewritten model is the original function.

    Parameters
    ----------
    a, b : Side
        The original and the rewritten model.
    feeds : callable
        Inputs of the models, of sizes to be tried one after the other. Where names and places
        leave something open, both models are simulated on them, for candidates.
    budget : Budget, optional
        When it is over, what is left stays open.
    vary : bool
        Whether what differs may be shown by larger values than those of the feeds.
    progress : callable
        Is told how far it is.

    Returns
    -------
    Proof
        The same for the same models, unless time ran out.
    """
    began = time.perf_counter()
    budget = Budget() if budget is None else budget
    walk = _Walk(a, b, budget, progress, scaling=True)
    found = walk.told()
    if not found.is_whole and not budget.is_over:
        # Where models differ shows best where nothing is scaled on its way.
        walk = _Walk(a, b, budget, progress)
        found = walk.told()
    if found.is_open or any(region.size > _CLOSE for region in found.apart):
        progress("proving: simulating both models")
        values, original = taken(a, feeds(), budget)
        alike = Alike(original, simulate(b, values, budget=budget))
        other = _Walk(a, b, budget, progress, alike)
        again = other.told()
        if _merit(again) > _merit(found):
            walk, found = other, again
    if found.apart:
        progress("proving: looking for inputs that show the difference")
        found = replace(found, witness=walk.witness(found, feeds(), vary=vary))
    stopped = "" if found.is_whole else budget.reason
    return replace(found, stopped=stopped, seconds=time.perf_counter() - began)


def _merit(proof: Proof) -> tuple[int, int]:
    """Return how much a proof says: outputs that are not open, and how closely what differs."""
    said = [output for output in proof.outputs if output.standing is not Standing.OPEN]
    return len(said), -sum(region.size for region in proof.apart)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A tensor that is one of the original but for a scale and a shift."""

    kind: int
    scaling: ChannelAffine
    region: Region


class _Walk:
    def __init__(
        self,
        a: Side,
        b: Side,
        budget: Budget,
        progress: Progress,
        alike: Alike | None = None,
        *,
        scaling: bool = False,
    ) -> None:
        self._a, self._b = a, b
        self._budget = budget
        self._progress = progress
        self._scaling = scaling
        self._table = ClassTable()
        self._facts = Facts(a), Facts(b)
        b.narrow = narrowed_to(a.flat, b.flat)
        self._homes = self._table.walk(a, b.narrow)
        self._regions: dict[int, Region] = {}
        self._assumed: dict[int, tuple[int, Region]] = {}
        self._failed: dict[int, tuple[int, Region]] = {}
        self._judged: dict[Any, RegionJudgement] = {}
        self._identical: set[int] = set()
        self._near: set[int] = set()
        self._unequal: dict[Cut, Apart] = {}
        self._common: set[int] = set()  # classes that both models have
        self._candidates = Candidates(a, b, self._homes, alike)

    def _run(self) -> None:
        """Walk through the rewritten model."""
        self._table.start(self._b)
        self._common.update(kind for kind in self._b.classes if kind in self._homes)
        nodes = self._b.flat.nodes
        index = 0
        while index < len(nodes):
            self._progress(f"proving, node {index + 1} of {len(nodes)}")
            index = self._node(index)
            if index == len(nodes):
                index = self._finish()

    def _node(self, index: int) -> int:
        """Give what a node makes its classes; return which node is next."""
        b = self._b
        node = b.flat.nodes[index]
        for number, kind in zip(node.outputs, self._table.number(b, index), strict=True):
            if number == NONE:
                continue
            self._regions.pop(number, None)
            b.readings.pop(number, None)
            self._identical.discard(number)
            if number in self._assumed:
                b.classes[number] = self._a.classes[self._assumed[number][0]]
                self._common.add(b.classes[number])
                continue
            b.classes[number] = kind
            if kind in self._homes:
                self._identical.add(number)
                self._common.add(kind)
                continue
            if (
                not is_float(b.flat.types[number])
                or number in b.flat.between
                or self._budget.is_over
            ):
                continue
            try:
                again = self._cut(number)
            except LargeRegionError as error:
                again = self._give_up(error.seen)
            if again is not None:
                return again
        return index + 1

    def _cut(self, number: int) -> int | None:
        """Look for a tensor of the original that is equal to one; return where to go on."""
        cone = cone_of(self._b, number, self._homes)
        failures = [n for n in cone.made if n in self._failed and n != number]
        if len(failures) >= _FAILURES:
            raise LargeRegionError(set(failures))
        read: _Reading | None = None
        for candidate, named in self._candidates.of(number):
            if self._budget.is_over:
                return None
            if read is not None and named:
                continue
            region = self._compared(number, candidate, cone, named=named, drives=read is None)
            if isinstance(region, _Reading):
                read = region
                continue
            if region is not None and not region.reason:
                self._b.classes[number] = self._a.classes[candidate]
                self._common.add(self._b.classes[number])
                self._regions[number] = region
                return None
            if region is not None and named and number not in self._failed:
                self._failed[number] = candidate, region
        if read is not None:
            self._failed.pop(number, None)
            self._read(number, read)
            return None
        candidate, region = self._failed.get(number, (NONE, None))
        if region is not None and region.is_near and len(self._assumed) < _DIFFERENCES:
            if self._scaling:
                return self._assume(number)
            # No step of a rewrite: a larger region would only hide it.
            inner = self._inner(number, candidate, cone)
            if inner is not None:
                return self._assume(inner)
            self._assumed[number] = candidate, region
            self._b.classes[number] = self._a.classes[candidate]
            self._common.add(self._b.classes[number])
        return None

    def _inner(self, number: int, candidate: int, cone: Cone) -> int | None:
        """Return a tensor within a region that is all that is wrong with it, if there is one."""
        classes = self._b.classes
        for inner in sorted(cone.made, key=self._place):
            if inner == number or inner not in self._failed or not self._failed[inner][1].is_apart:
                continue
            own, classes[inner] = classes[inner], self._a.classes[self._failed[inner][0]]
            behind = cone_of(self._b, number, self._homes)
            other = opposite(self._a, candidate, behind, self._common | {classes[inner]})
            equal = other is not None and self._judge(other, behind).equal
            classes[inner] = own
            if equal:
                return inner
        return None

    def _compared(
        self, number: int, candidate: int, cone: Cone, *, named: bool, drives: bool
    ) -> Region | _Reading | None:
        """Return what a comparison of two tensors came to; None where it can't be made."""
        region: Region | None = None
        for _ in range(WIDER + 1 if named else 1):
            other = opposite(self._a, candidate, cone, self._common)
            if other is None:
                return region
            if self._scaling and not other.shares(cone):
                wider = widened(self._b, cone, self._homes)
                if wider is None:
                    return region
                cone = wider
                continue
            if not named and len(other.nodes) > len(cone.nodes) + MORE:
                return region
            found = self._judge(other, cone, drives=drives)
            if found.is_near:
                self._near.add(number)
            if found.equal and (
                (found.means is Means.DRIVEN and self._hides(cone))
                or ignores(self._pair(other, cone), self._near)
            ):
                found = replace(found, equal=False, reason=HIDES)
            if found.is_near or (named and found.apart and not found.is_partial):
                read = self._scaled(other, cone)
                if read is not None:
                    return read
            region = self._region(other, cone, found)
            if found.equal or found.means is None or not self._may_widen(other, cone):
                return region
            wider = widened(self._b, cone, self._homes)
            if wider is None:
                return region
            cone = wider
        return region

    def _scaled(self, of_a: Cone, of_b: Cone) -> _Reading | None:
        """Return what a tensor may be read as, if it is the original's, scaled and shifted."""
        if not self._scaling:
            return None
        found = scaled(self._pair(of_a, of_b), self._budget.spend, self._near)
        if found is None:
            return None
        scaling, judged = found
        if judged.means is Means.DRIVEN and self._hides(of_b):
            return None
        region = self._region(of_a, of_b, judged, is_scaled=True)
        return _Reading(self._a.classes[of_a.target], scaling, region)

    def _read(self, number: int, read: _Reading) -> None:
        """Read a tensor as one of the original from now on."""
        read_as(self._b, number, read.kind, read.scaling, self._table)
        self._regions[number] = read.region

    def _hides(self, cone: Cone) -> bool:
        """Whether a region has a tensor in it that was off by little."""
        made = (n for node in cone.own for n in node.outputs)
        return any(n in self._near and n != cone.target for n in made)

    def _judge(self, of_a: Cone, of_b: Cone, *, drives: bool = True) -> RegionJudgement:
        key = (of_b.target, of_a.target, frozenset(of_b.frontier.items()), drives)
        found = self._judged.get(key)
        if found is None:
            found = self._judged[key] = judge(self._pair(of_a, of_b), drives=drives)
            self._budget.spend(found.work)
        return found

    def _pair(self, of_a: Cone, of_b: Cone) -> RegionPair:
        return RegionPair(self._a, self._b, of_a, of_b, *self._facts)

    def _may_widen(self, of_a: Cone, of_b: Cone) -> bool:
        """Whether what does occur at a frontier may make regions equal that are not."""
        if set(of_a.frontier.values()) != set(of_b.frontier.values()):
            return True
        return any(node.op in _BENT for node in (*of_a.nodes, *of_b.nodes))

    def _region(
        self, of_a: Cone, of_b: Cone, found: RegionJudgement, *, is_scaled: bool = False
    ) -> Region:
        stands_for = self._b.stands_for
        read = tuple(stands_for.get(number, number) for number in of_b.frontier)
        cut = Cut(of_b.target, of_a.target, read, is_scaled)
        if not found.equal:
            self._unequal[cut] = Apart(self._pair(of_a, of_b), found.number)
        return Region(
            tensor=self._b.flat.names[of_b.target],
            original=self._a.flat.names[of_a.target],
            frontier=tuple(frontier_names(self._b, of_b)),
            before=tuple(node.title for node in of_a.own),
            after=tuple(node.title for node in of_b.own),
            means=found.means,
            floors=found.floors,
            element=found.element,
            channel=found.channel,
            reason="" if found.equal else found.reason or "it differs",
            is_apart=found.apart,
            is_near=found.is_near,
            is_partial=found.is_partial,
            is_scaled=is_scaled,
            cut=cut,
        )

    # ---------------------------------------------------------------------------- what is left over

    def _give_up(self, seen: Iterable[int]) -> int | None:
        """Take the first tensor that is no cut point for one; return where to go on."""
        failed = [
            n
            for n in seen
            if n in self._failed and n not in self._assumed and self._failed[n][1].is_apart
        ]
        if not failed or len(self._assumed) >= _DIFFERENCES or self._budget.is_over:
            return None
        return self._assume(min(failed, key=self._place))

    def _assume(self, first: int) -> int:
        """Take a tensor that is no cut point for one; return where to go on."""
        if self._scaling:  # which is for what can be proved to the end
            return len(self._b.flat.nodes)
        self._assumed[first] = self._failed[first]
        self._failed = {
            n: v for n, v in self._failed.items() if self._place(n) < self._place(first)
        }
        return self._place(first)

    def _place(self, number: int) -> int:
        maker = self._b.flat.makers[number]
        return -1 if maker is None else maker.index

    def _finish(self) -> int:
        """Look at the outputs; return which node to go on with, the number of nodes for none."""
        flat = self._b.flat
        pairs = dict(self._a.flat.outputs)
        for name, number in flat.outputs:
            if name not in pairs or self._b.classes[number] == self._a.classes[pairs[name]]:
                continue
            try:
                seen = set(cone_of(self._b, number, self._homes).made)
            except LargeRegionError as error:
                seen = error.seen
            again = self._give_up({number, *seen})
            if again is not None:
                return again
        return len(flat.nodes)

    def told(self) -> Proof:
        """Walk, and return what was found."""
        self._run()
        b, flat = self._b, self._b.flat
        by_region = flat.behind(self._regions)
        by_assumption = flat.behind(self._assumed)
        faint = {n: r for n, (_, r) in self._assumed.items() if not r.is_apart}
        in_doubt = flat.behind(faint)
        pairs = dict(self._a.flat.outputs)
        outputs = []
        for name, number in flat.outputs:
            same = name in pairs and b.classes[number] == self._a.classes[pairs[name]]
            if not same:
                outputs.append(Output(name, Standing.OPEN, self._why(number)))
            elif number in in_doubt:
                outputs.append(Output(name, Standing.OPEN, next(iter(faint.values())).reason))
            elif number in by_assumption:
                outputs.append(Output(name, Standing.APART))
            elif number in by_region:
                outputs.append(Output(name, Standing.PROVED))
            else:
                outputs.append(Output(name, Standing.IDENTICAL))
        made = [n for node in flat.nodes for n in node.outputs if n != NONE]
        return Proof(
            outputs=tuple(outputs),
            values=len(made),
            identical=len(self._identical),
            regions=tuple(self._regions[n] for n in made if n in self._regions),
            precision=TensorProto.DataType.Name(b.narrow).lower() if b.narrow else "",
            apart=tuple(self._assumed[n][1] for n in made if n in self._assumed and n not in faint),
        )

    def witness(
        self, found: Proof, feeds: Iterable[Mapping[str, Any]], *, vary: bool
    ) -> Witness | None:
        """Return what shows that the regions that were found to differ make another model."""
        return shown(
            [self._unequal[region.cut] for region in found.apart if region.cut],
            {o.name for o in found.outputs if o.standing is Standing.APART},
            self._homes,
            feeds,
            self._budget,
            vary=vary,
        )

    def _why(self, number: int) -> str:
        if self._budget.is_over:
            return self._budget.reason
        try:
            seen = {number, *cone_of(self._b, number, self._homes).made}
        except LargeRegionError as error:
            return str(error)
        reasons = [self._failed[n][1].reason for n in sorted(seen) if n in self._failed]
        for reason in reasons:
            if any(words in reason for words in BEYOND_TESTS):
                return reason
        return reasons[-1] if reasons else "no tensor of the original corresponds to it"


_BENT = frozenset({
    "Abs", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "MaxPool", "Min", "PRelu",
    "Relu", "Where",
})  # fmt: skip
