"""Constant affines beside a normalization, that its own scale, bias and epsilon can take in.

Behind it, any affine per channel, since a group normalization applies its own last::

    s * (scale * n + bias) + t = (s * scale) * n + (s * bias + t)

Before it, only one that is the same for all channels of a group. The mean of the group takes the
shift away again, and its deviation the scale, but for the sign and what it is to epsilon::

    (a*x + b - mean(a*x + b)) / sqrt(var(a*x + b) + epsilon)
        = sign(a) * (x - mean(x)) / sqrt(var(x) + epsilon / a^2)

A layer has one epsilon, so ``|a|`` is the same for all its groups unless epsilon is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.dtypes import NUMPY_DTYPES
from normswap.finite import flaw_of
from normswap.graph.affine import Affine
from normswap.graph.batchnorm import affine_of, is_batchnorm
from normswap.graph.decomposed import affine_of_link, link
from normswap.graph.network import Use
from normswap.graph.precision import lost_digits
from normswap.graph.reasons import unless_blocked
from normswap.groupnorm.layer import Layer, Runtime, effective

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from normswap.graph.network import Node

IDENTITY = Affine(np.ones(()), np.zeros(()))


@dataclass(frozen=True, slots=True)
class Absorbed:
    """A layer that does the work of its neighbours too.

    Attributes
    ----------
    layer : Layer
        With the scale, bias and epsilon of all; its x and y are still those of the node itself.
    before, behind : tuple of Use
        The neighbours in the order of the graph, each with the input by which the tensor comes.
    """

    layer: Layer
    before: tuple[Use, ...] = ()
    behind: tuple[Use, ...] = ()


def absorb(node: Node, layer: Layer, taken: Container[int]) -> Absorbed:
    """Take in the constant affines beside a normalization, as far as that is exact.

    Parameters
    ----------
    node : Node
        The normalization.
    layer : Layer
        What it becomes.
    taken : container of int
        Keys of nodes that are no neighbours: they are swapped, or belong to another layer.
    """
    found = Absorbed(layer)
    behind: list[Use] = []
    for use in _behind(node, taken):
        grown = _with_behind(found.layer, use)
        if grown is None:
            break
        behind.append(use)
        found = replace(found, layer=grown, behind=tuple(behind))
    before: list[Use] = []
    affine = IDENTITY
    start = found.layer
    for use in _before(node, taken):
        part = unless_blocked(_affine, use)
        if part is None:
            break
        before.insert(0, use)
        affine = part.then(affine)
        # Two shifts that differ by channel may cancel out: the longest run that fits counts.
        grown = _with_before(start, affine)
        if grown is not None:
            found = replace(found, layer=grown, before=tuple(before))
    return found


def _behind(node: Node, taken: Container[int]) -> Iterator[Use]:
    """Yield the affines that one after another read what a node makes, and alone do."""
    value = node.out
    while value.is_private:
        (use,) = value.readers.values()
        if use.node.key in taken or _affine_use(use.node) != use:
            return
        yield use
        value = use.node.out


def _before(node: Node, taken: Container[int]) -> Iterator[Use]:
    """Yield the affines that one before another make what a node alone reads, nearest first."""
    value = node.inputs[0]
    while value is not None and value.producer is not None and value.is_private:
        node = value.producer
        use = None if node.key in taken else _affine_use(node)
        if use is None or node.out is not value:
            return
        yield use
        value = node.inputs[use.slot]


def _affine_use(node: Node) -> Use | None:
    """Return by which input a tensor passes through a node that applies an affine to it."""
    return Use(node, 0) if is_batchnorm(node) else link(node)


def _affine(use: Use) -> Affine:
    return affine_of(use.node) if is_batchnorm(use.node) else affine_of_link(use)


def _vectors(affine: Affine, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return scale and shift as ``(C,)``, None where they are not one a channel."""
    fits = all(part.size in (1, channels) for part in (affine.scale, affine.shift))
    if not affine.is_finite or not fits or not affine.varies_only_along(1):
        return None
    return affine.vectors(channels)


def _with_behind(layer: Layer, use: Use) -> Layer | None:
    """Return the layer with an affine after its own, None where it can't take that in."""
    if isinstance(layer.scale, Runtime) or isinstance(layer.bias, Runtime):
        return None
    affine = unless_blocked(_affine, use)
    vectors = None if affine is None else _vectors(affine, layer.channels)
    if vectors is None:
        return None
    s, t = vectors
    with np.errstate(over="ignore", invalid="ignore"):
        scale = s * (1 if layer.scale is None else layer.scale)
        bias = s * (0 if layer.bias is None else layer.bias) + t
    # What does not fit the element type, or has not digits enough in it, stays outside.
    for values in (scale, bias):
        if flaw_of("", values.astype(np.float64), NUMPY_DTYPES[layer.data_type]) is not None:
            return None
    if lost_digits(scale, layer.data_type) is not None:
        return None
    return replace(
        layer,
        scale=effective(scale.astype(np.float64), 1.0),
        bias=effective(bias.astype(np.float64), 0.0),
    )


def _with_before(layer: Layer, affine: Affine) -> Layer | None:
    """Return the layer with an affine before the normalization, None where that is not exact."""
    vectors = _vectors(affine, layer.channels)
    if vectors is None:
        return None
    a, b = (vector.reshape(layer.num_groups, -1) for vector in vectors)
    if not (a == a[:, :1]).all() or not (b == b[:, :1]).all() or not (a != 0).all():
        return None
    epsilon = layer.epsilon
    if epsilon:
        if not (np.abs(a) == np.abs(a[0, 0])).all():
            return None
        with np.errstate(over="ignore", under="ignore"):
            wanted = epsilon / np.square(a[0, 0])
            attribute = np.float32(wanted)
        if not np.finfo(np.float32).tiny <= attribute < np.inf:
            return None
        if layer.data_type == TensorProto.DOUBLE and attribute != wanted:
            return None  # the attribute would be rounded more than anything else is
        epsilon = float(attribute)
    scale = layer.scale
    if (a < 0).any():
        if isinstance(scale, Runtime):
            return None
        signs = np.sign(a).astype(np.float64).reshape(-1)
        scale = effective(signs * (1 if scale is None else scale), 1.0)
    return replace(layer, scale=scale, epsilon=epsilon)
