"""A proof made again from its cut points alone: what a certificate is checked with.

To find a proof takes a search (:mod:`normswap.proof.prove`). To make it again takes none: the
tensors of both models are numbered; where a cut point is claimed, its region is taken from the
models and judged; and in the end the classes of the outputs are compared. Nothing that is claimed
is believed: a cut point says only where to look, and with a wrong one nothing is proved.

A region may begin at the nearest tensors that are known, or where a search may move that to
(:func:`normswap.proof.regions.widened`). One that is driven with values must have no tensor in it
that is off by little from the original's of the same name, for it may hide that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.dtypes import is_float
from normswap.progress import silent
from normswap.proof.budget import Budget
from normswap.proof.candidates import MORE, Candidates
from normswap.proof.facts import Facts
from normswap.proof.flat import NONE
from normswap.proof.identity import node_names, tensor_names
from normswap.proof.judge import RegionJudgement, judge, rounding_of
from normswap.proof.numbering import ClassTable
from normswap.proof.regions import (
    WIDER,
    Cone,
    LargeRegionError,
    RegionPair,
    cone_of,
    opposite,
    widened,
)
from normswap.proof.result import HIDES, Cut, Means, Standing
from normswap.proof.scaled import ignores, read_as, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.progress import Progress
    from normswap.proof.numbering import Side


@dataclass(frozen=True, slots=True)
class Equal:
    """A tensor of the rewritten model, and the original's that it is equal to.

    Attributes
    ----------
    tensor, original : str
        See :mod:`normswap.proof.identity`.
    """

    tensor: str
    original: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A region that is one function in both models.

    Attributes
    ----------
    tensor, original : str
        What it makes, in the rewritten model and in the original.
    frontier : tuple of Equal
        What it makes it of: pairs of one class each.
    before, after : tuple of str
        Its nodes: the original's, and the rewritten model's.
    means : Means
    floors : float
        The largest deviation, see :class:`normswap.proof.result.Region`.
    roundoff : float
        The unit roundoff of its constants as the rewritten model stores them, of the coarsest if
        there are several types; 0 where there are none.
    is_scaled : bool
        Whether what is claimed is no more than that the rewritten model's is the original's but for
        a scale and a shift of each channel; what is made of it is claimed of it so.
    """

    tensor: str
    original: str
    frontier: tuple[Equal, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    means: Means
    floors: float
    roundoff: float
    is_scaled: bool = False


@dataclass(frozen=True, slots=True)
class Concluded:
    """An output of both models.

    Attributes
    ----------
    name : str
    tensor, original : str
        The tensors that it is; the latter empty where the original has no such output.
    standing : Standing
        IDENTICAL, PROVED or OPEN.
    """

    name: str
    tensor: str
    original: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Traced:
    """What was proved again.

    Attributes
    ----------
    outputs : tuple of Concluded
    values, identical : int
        Tensors that the rewritten model's nodes make, and those that the same operators make of
        the same tensors in the original.
    regions : tuple of Judged
        In the rewritten model's order.
    refused : dict of Cut to str
        Cut points that are none, and why.
    reason : str
        Why there is nothing, where the models can't even be laid flat.
    """

    outputs: tuple[Concluded, ...]
    values: int
    identical: int
    regions: tuple[Judged, ...]
    refused: dict[Cut, str]
    reason: str = ""


def retrace(a: Side, b: Side, cuts: Mapping[int, Cut], *, progress: Progress = silent) -> Traced:
    """Make a proof again.

    Parameters
    ----------
    a, b : Side
        The original and the rewritten model, without classes.
    cuts : Mapping of int to Cut
        The cut points that are claimed, by the rewritten model's tensors.
    progress : callable
        Is told which node is proved.
    """
    return _Trace(a, b).told(cuts, progress)


class _NoCutError(Exception):
    """A cut point is none; the message says why."""


class _Trace:
    def __init__(self, a: Side, b: Side) -> None:
        self._a, self._b = a, b
        self._table = ClassTable()
        self._homes = self._table.walk(a)
        self._common: set[int] = set()  # classes that both models have
        self._near: set[int] = set()  # what is read as one that it is but for little
        self._candidates = Candidates(a, b, self._homes)
        self._facts = Facts(a), Facts(b)
        self._tensors = tensor_names(a.flat), tensor_names(b.flat)
        self._nodes = node_names(a.flat), node_names(b.flat)

    def told(self, cuts: Mapping[int, Cut], progress: Progress) -> Traced:
        b = self._b
        self._table.start(b)
        self._common.update(kind for kind in b.classes if kind in self._homes)
        regions: dict[int, Judged] = {}
        refused: dict[Cut, str] = {}
        values = identical = 0
        for node in b.flat.nodes:
            progress(f"proving, node {node.index + 1} of {len(b.flat.nodes)}")
            for number, kind in zip(node.outputs, self._table.number(b, node.index), strict=True):
                if number == NONE:
                    continue
                values += 1
                b.classes[number] = kind
                cut = cuts.get(number)
                if kind in self._homes:
                    identical += 1
                    self._common.add(kind)
                elif cut is not None:
                    try:
                        regions[number] = self._judged(cut)
                    except _NoCutError as error:
                        refused[cut] = str(error)
                    else:
                        if cut.is_scaled:
                            continue
                        b.classes[number] = self._a.classes[cut.original]
                        self._common.add(b.classes[number])
        return Traced(self._outputs(regions), values, identical, tuple(regions.values()), refused)

    def _outputs(self, regions: Mapping[int, Judged]) -> tuple[Concluded, ...]:
        behind = self._b.flat.behind(regions)
        pairs = dict(self._a.flat.outputs)
        found = []
        for name, number in self._b.flat.outputs:
            other = pairs.get(name, NONE)
            standing = Standing.OPEN
            if other != NONE and self._b.classes[number] == self._a.classes[other]:
                standing = Standing.PROVED if number in behind else Standing.IDENTICAL
            named = "" if other == NONE else self._tensors[0][other]
            found.append(Concluded(name, self._tensors[1][number], named, standing))
        return tuple(found)

    def _judged(self, cut: Cut) -> Judged:
        """Judge the region of a cut point."""
        if (
            not is_float(self._b.flat.types[cut.tensor])
            or self._a.flat.makers[cut.original] is None
        ):
            raise _NoCutError("it is not a float tensor, or no node of the original makes it")
        of_b = self._region(cut)
        of_a = opposite(self._a, cut.original, of_b, self._common)
        if of_a is None:
            raise _NoCutError("the original's region is too large")
        found = self._scaled(of_a, of_b) if cut.is_scaled else judge(self._pair(of_a, of_b))
        if not found.equal or found.means is None:
            raise _NoCutError(found.reason or "it differs")
        if found.means is Means.DRIVEN and self._hides(of_b):
            raise _NoCutError(HIDES)
        if not cut.is_scaled and ignores(self._pair(of_a, of_b), self._near):
            raise _NoCutError(HIDES)
        stored = rounding_of(self._b, of_b) or rounding_of(self._a, of_a)
        return Judged(
            self._tensors[1][cut.tensor],
            self._tensors[0][cut.original],
            tuple(self._frontier(of_a, of_b)),
            tuple(self._nodes[0][node.index] for node in of_a.own),
            tuple(self._nodes[1][node.index] for node in of_b.own),
            found.means,
            found.floors,
            0.0 if stored is None else stored.unit,
            cut.is_scaled,
        )

    def _scaled(self, of_a: Cone, of_b: Cone) -> RegionJudgement:
        """Read a tensor as the original's, scaled and shifted, if that is what it is."""
        if judge(self._pair(of_a, of_b)).is_near:
            self._near.add(of_b.target)
        found = scaled(self._pair(of_a, of_b), Budget().spend, self._near)
        if found is None:
            raise _NoCutError("it is not the same but for a scale and a shift of each channel")
        scaling, judged = found
        if judged.means is not Means.DRIVEN or not self._hides(of_b):
            kind = self._a.classes[of_a.target]
            source = read_as(self._b, of_b.target, kind, scaling, self._table)
            names = self._tensors[1]
            names += [names[of_b.target]] * (1 + source - len(names))
        return judged

    def _region(self, cut: Cut) -> Cone:
        """Return the region of the rewritten model that has the frontier that is claimed."""
        claimed = set(cut.frontier)
        try:
            cone: Cone | None = cone_of(self._b, cut.tensor, self._homes)
        except LargeRegionError as error:
            raise _NoCutError(str(error)) from error
        for _ in range(WIDER + 1):
            if cone is None:
                break
            stands_for = self._b.stands_for
            if {stands_for.get(number, number) for number in cone.frontier} == claimed:
                return cone
            cone = widened(self._b, cone, self._homes)
        raise _NoCutError(
            "its region does not start from the claimed tensors, or those are not known to be equal"
        )

    def _frontier(self, of_a: Cone, of_b: Cone) -> list[Equal]:
        read = {kind: number for number, kind in reversed(of_a.frontier.items())}
        found = []
        for number, kind in of_b.frontier.items():
            other = read.get(kind, self._homes.get(kind, NONE))
            if other == NONE:
                raise _NoCutError(
                    f"the original has no tensor equal to {self._tensors[1][number]!r}"
                )
            found.append(Equal(self._tensors[1][number], self._tensors[0][other]))
        return sorted(found, key=lambda pair: pair.tensor)

    def _hides(self, cone: Cone) -> bool:
        """Whether a tensor within a region is off by little from one of the original."""
        for number in (n for node in cone.own for n in node.outputs if n != NONE):
            if number == cone.target or not is_float(self._b.flat.types[number]):
                continue
            for candidate, named in self._candidates.of(number):
                try:
                    of_b = cone_of(self._b, number, self._homes)
                except LargeRegionError:
                    continue
                of_a = opposite(self._a, candidate, of_b, self._common)
                if of_a is None or not of_a.shares(of_b):
                    continue
                if not named and len(of_a.nodes) > len(of_b.nodes) + MORE:
                    continue
                if judge(self._pair(of_a, of_b)).is_near:
                    return True
        return False

    def _pair(self, of_a: Cone, of_b: Cone) -> RegionPair:
        return RegionPair(self._a, self._b, of_a, of_b, *self._facts)
