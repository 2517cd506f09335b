"""How the nodes of a region become a map (:mod:`normswap.proof.maps`), operator by operator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.proof.evaluate import UnjudgedError, evaluate_node, narrowing
from normswap.proof.flat import NONE
from normswap.proof.forms import rule_of
from normswap.proof.forms.known import Known
from normswap.proof.maps import (
    LinearOperator,
    Map,
    MapBlock,
    NoMapError,
    Normal,
    reduced,
)
from normswap.proof.moments import Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.proof.flat import FlatNode
    from normswap.proof.moments import Moment
    from normswap.proof.numbering import Side
    from normswap.proof.regions import Cone


def map_of(side: Side, cone: Cone) -> Map:
    """Return the map that a region is.

    Parameters
    ----------
    side : Side
        The model that it is of.
    cone : Cone

    Raises
    ------
    NoMapError
        If it is none, or not of the kind that has a form here.
    """
    reading = _Reading(side, cone)
    for node in cone.nodes:
        reading.node(node)
    found = reading.maps.get(cone.target)
    if found is None:
        raise NoMapError("it is a constant")
    return replace(found, normals=tuple(reading.normals))


class _Reading:
    """Goes through the nodes of a region."""

    def __init__(self, side: Side, cone: Cone) -> None:
        self._side = side
        self._known = Known(side, cone)
        self.maps = self._known.maps
        self.moments = Moments(side, self.maps, self._known.constant)
        self.normals: list[Normal] = []
        self._kinds: dict[Any, int] = {}
        self._narrowing = narrowing(side, cone)

    def node(self, node: FlatNode) -> None:
        """Note what a node makes."""
        made_of = [n for n in node.outputs if n != NONE]
        if all(n in sizes.values for n in made_of for sizes in self._side.sizes):
            return  # what sizes determine is known
        if not any(n in self.maps or n in self.moments.found for n in node.inputs):
            if node.op == "ConstantOfShape" and node.is_standard:
                return  # whose number is all that may be asked for
            for number, value in zip(node.outputs, self._evaluated(node), strict=False):
                self._known.constants[number] = value
            return
        if node.index in self._narrowing:
            raise NoMapError(f"{node.op} has no form")
        moment = self.moments.read(node)
        if moment is not None and moment.kind == "normal":
            self._normal(node.outputs[0], moment)
            return
        try:
            made = rule_of(node)(self._known, node)
        except NoMapError:
            if moment is None:
                raise
            return
        for number, each in zip(node.outputs, made, strict=False):
            if number != NONE:
                self.maps[number] = each
        if any(number != NONE for number in node.outputs[len(made) :]):
            raise NoMapError(f"{node.op} has no form with all its outputs")

    def _normal(self, number: int, moment: Moment) -> None:
        """Note what is normalized as something that is read, where it has its own shape again."""
        base = self.maps.get(moment.base)
        if base is None or self._known.shapes(number) != self._known.shapes(moment.base):
            return
        channels = self._known.length(number, 1)
        shift = np.zeros(1) if moment.shift is None else moment.shift
        if any(channels % part.size for part in (moment.factor, shift)):
            raise NoMapError("it normalizes with numbers for parts of a channel")
        key = (moment.base, moment.runs, moment.epsilon)
        if key not in self._kinds:
            self._kinds[key] = -2 - len(self.normals)
            shapes = self._known.shapes(number)
            each = {runs / shape[0] for runs, shape in zip(moment.runs, shapes, strict=True)}
            count = each.pop() if len(each) == 1 else 0.0
            # Runs of several samples, or of a size, are none of a sample.
            count = int(count) if count == int(count) else 0
            self.normals.append(reduced(base, moment.runs, count, moment.epsilon))
        kind = self._kinds[key]
        signs = self.normals[-2 - kind].sign
        factor, shift, signs = (
            np.repeat(part, channels // part.size) for part in (moment.factor, shift, signs)
        )
        block = MapBlock(kind, LinearOperator(), 0, factor * signs)
        self.maps[number] = Map(1, (block,), shift, np.abs(shift))

    def _evaluated(self, node: FlatNode) -> Sequence[Any]:
        try:
            inputs = [None if n == NONE else self._known.constant(n) for n in node.inputs]
            return evaluate_node(node, inputs)
        except UnjudgedError as error:
            raise NoMapError(str(error)) from error
