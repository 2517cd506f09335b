"""What is put where: every linear layer of a network once, with its place or with a reason.

A plan is data. It is made without any data first, and then gets the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from normswap.errors import UsageError
from normswap.graph.batchnorm import is_batchnorm
from normswap.graph.build import build_network
from normswap.groupnorm.selection import fits
from normswap.plain import AsDict
from normswap.spelling import did_you_mean
from normswap.unfolding.identity import IdentityParameters, identity_of, overflow_of
from normswap.unfolding.layers import HandedConstants, find_layers
from normswap.unfolding.places import Omission, PlaceRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from normswap.groupnorm.selection import Selection
    from normswap.model import Model
    from normswap.unfolding.layers import LinearLayer

    Vectors = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

OLDEST = 7
"""The opset since which a BatchNormalization is in inference mode unless it says otherwise."""

STILL = "none of its channels varies on this data, which may be too little data"


@dataclass(frozen=True, slots=True)
class UnfoldPlace:
    """A linear layer with a BatchNormalization behind it.

    Attributes
    ----------
    node, op : str
        The layer.
    output : str
        The tensor that it made, which the BatchNormalization makes now.
    graph : str
        Where it is, see :class:`normswap.graph.network.Graph`.
    channels : int
    dead : int
        Channels whose values are all the same on the data.
    maker : int
        Number, among all nodes, of the one that makes the tensor: the layer, or its bias Add.
    data_type : int
    rank : int or None
        Axes of the tensor.
    is_channels_last : bool
        Whether the channels are the last axis, and not the second.
    identity : IdentityParameters or None
        None as long as there are no statistics.
    """

    node: str
    op: str
    output: str
    graph: str
    channels: int
    dead: int = 0
    maker: int = field(default=0, repr=False)
    data_type: int = field(default=0, repr=False)
    rank: int | None = field(default=None, repr=False)
    is_channels_last: bool = field(default=False, repr=False)
    identity: IdentityParameters | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A linear layer without one.

    Attributes
    ----------
    node, op, output, graph : str
        See :class:`UnfoldPlace`.
    reason : Omission
    detail : str
        The reason in words.
    """

    node: str
    op: str
    output: str
    graph: str
    reason: Omission
    detail: str


@dataclass(frozen=True, slots=True)
class UnfoldPlan(AsDict):
    """What is put where.

    Attributes
    ----------
    fingerprint : str
        Of the model that was planned for, see :meth:`normswap.model.Model.fingerprint`.
    places : tuple of UnfoldPlace
    left_out : tuple of LeftOut
    present : int
        BatchNormalizations that the model has, which stay.
    """

    fingerprint: str = field(repr=False)
    places: tuple[UnfoldPlace, ...]
    left_out: tuple[LeftOut, ...]
    present: int = 0

    def with_statistics(self, statistics: Sequence[Vectors | str]) -> UnfoldPlan:
        """Return the plan with an identity for every place; those without statistics are left out.

        Parameters
        ----------
        statistics : sequence of (mean, var) or str
            Of every place; or why there are none.
        """
        places: list[UnfoldPlace] = []
        left_out = list(self.left_out)
        for place, found in zip(self.places, statistics, strict=True):
            if isinstance(found, str):
                left_out.append(_without(place, Omission.NO_ESTIMATE, found))
                continue
            mean, var = found
            if not var.any():
                left_out.append(_without(place, Omission.NO_ESTIMATE, STILL))
                continue
            flaw = overflow_of(f"the variance of {place.output}", var, place.data_type)
            if flaw is not None:
                left_out.append(_without(place, Omission.OVERFLOW, str(flaw)))
                continue
            identity = identity_of(mean, var, place.data_type)
            dead = int((var == 0).sum())
            places.append(replace(place, identity=identity, dead=dead))
        return replace(self, places=tuple(places), left_out=tuple(left_out))


def _without(place: UnfoldPlace, reason: Omission, detail: str) -> LeftOut:
    return LeftOut(place.node, place.op, place.output, place.graph, reason, detail)


def make_plan(model: Model, selection: Selection) -> UnfoldPlan:
    """Say behind which layers of a model a BatchNormalization goes.

    Parameters
    ----------
    model : Model
    selection : Selection
        `include` puts one behind layers that the rule leaves out, `exclude` puts none.

    Raises
    ------
    UsageError
        A pattern fits no linear layer.
    """
    network = build_network(model)
    constants = HandedConstants(model, network)
    found = find_layers(network, constants)
    layers = [layer for layer in found.values() if layer.node.opset >= OLDEST]
    for pattern in (*selection.include, *selection.exclude):
        if layers and not any(fits(layer.names, [pattern]) for layer in layers):
            raise UsageError(
                f"No linear layer of {model.name} matches the pattern {pattern!r}.",
                tip=did_you_mean(pattern, (layer.node.title for layer in layers))
                or "Patterns are matched against names of nodes and of their input and output "
                "tensors; normswap unfold --dry-run -v lists them.",
            )
    rule = PlaceRule(network, found, constants)
    places: list[UnfoldPlace] = []
    left_out: list[LeftOut] = []
    for layer in layers:
        node, output = layer.node, layer.output
        reason = _apart(layer, rule, selection)
        names = (node.title, node.op, output.name, node.graph.path)
        if reason is not None:
            left_out.append(LeftOut(*names, reason, reason.explanation))
            continue
        maker = output.producer or node
        kind = (maker.key, layer.data_type, output.rank, layer.is_channels_last)
        places.append(UnfoldPlace(*names, layer.channels, 0, *kind))
    present = sum(map(is_batchnorm, network.nodes()))
    return UnfoldPlan(model.fingerprint(), tuple(places), tuple(left_out), present)


def _apart(layer: LinearLayer, rule: PlaceRule, selection: Selection) -> Omission | None:
    """Return why a layer has none, as a person or else the rule says."""
    if fits(layer.names, selection.exclude):
        return Omission.EXCLUDED
    reason = None if fits(layer.names, selection.include) else rule.apart(layer)
    if reason is None and layer.is_channels_last and (layer.output.rank or 0) < 2:
        return Omission.SHAPE_UNKNOWN
    return reason
