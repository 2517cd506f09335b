"""What a fold is about: the places of a graph where a tensor is normalized with constants."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.graph.affine import Affine
from normswap.graph.batchnorm import affine_of, is_batchnorm
from normswap.graph.decomposed import (
    affine_of_link,
    axis_of,
    chains,
    link,
    looks_like_batchnorm,
)
from normswap.graph.flaws import require_sound
from normswap.graph.network import Use
from normswap.graph.reasons import Blocked, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.graph.network import Graph, Node, Value


@dataclass(frozen=True, slots=True)
class Site:
    """A normalization of the model.

    Attributes
    ----------
    node : str
        What the node is called.
    op : str
        Its operator.
    output : str
        The tensor it makes.
    graph : str
        Where it is, see :class:`normswap.graph.network.Graph`.
    channels : int or None
        How many channels it normalizes.
    """

    node: str
    op: str
    output: str
    graph: str = ""
    channels: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """One or more nodes in a row that together apply an affine to a tensor.

    Attributes
    ----------
    chain : tuple of Use
        The nodes in order, each with the input by which the tensor comes.
    certain : bool
        Whether it counts even if it can't be folded; see :mod:`normswap.graph.decomposed`.
    """

    chain: tuple[Use, ...]
    certain: bool = True

    @property
    def key(self) -> int:
        """What tells it from others: the key of its last node."""
        return self.chain[-1].node.key

    @property
    def source(self) -> Use:
        """Where it reads its tensor."""
        return self.chain[0]

    @property
    def result(self) -> Value:
        """The tensor that it makes."""
        return self.chain[-1].node.out

    @property
    def graph(self) -> Graph:
        """The graph that it is in."""
        return self.chain[-1].node.graph

    @property
    def is_batchnorm(self) -> bool:
        """Whether it is a single BatchNormalization."""
        return len(self.chain) == 1 and is_batchnorm(self.chain[0].node)

    def affine(self) -> Affine:
        """Return the affine that it applies at present.

        Raises
        ------
        Blocked
            If that is none, or not finite.
        """
        first, *others = map(_affine_of, self.chain)
        if not others and self.is_batchnorm:
            return first  # whose parameters were looked at
        whole = functools.reduce(Affine.then, others, first)
        if not whole.is_finite:
            title = self.chain[-1].node.title
            raise Blocked(
                Reason.NON_FINITE,
                title,
                f"the scale or shift of {title} has NaN or infinite values",
            )
        return whole

    def extended(self) -> Normalization:
        """Return it together with the operators by constants that are next to it."""
        chain = list(self.chain)
        axes = {axis_of(use) for use in chain if not is_batchnorm(use.node)} | {1, None}
        while (value := chain[0].node.inputs[chain[0].slot]) is not None:
            before = None if value.producer is None else link(value.producer)
            if before is None or not value.is_private:
                break
            if axis_of(before) not in axes:
                break
            chain.insert(0, before)
        while (value := chain[-1].node.out).is_private:
            (use,) = value.readers.values()
            after = link(use.node)
            if after != use or axis_of(after) not in axes:
                break
            chain.append(after)
        return Normalization(tuple(chain), self.certain)

    def site(self) -> Site:
        """Describe it by names."""
        node = self.chain[-1].node
        value = node.input(1) if self.is_batchnorm else self.source.node.inputs[self.source.slot]
        shape = None if value is None else value.shape
        at = 0 if self.is_batchnorm else 1
        channels = shape[at] if shape is not None and len(shape) > at else None
        return Site(
            node.title,
            "+".join(use.node.op for use in self.chain),
            next((output.name for output in node.outputs if output), ""),
            node.graph.path,
            channels if isinstance(channels, int) else None,
        )

    def present(self) -> Normalization | None:
        """Return what earlier edits have left of it, None if that is no normalization.

        What a route has put between two of its nodes belongs to it.
        """
        chain: list[Use] = []
        for use in self.chain:
            if use.node.removed:
                continue
            between = _between(chain[-1].node, use) if chain else []
            if between is None:
                return None
            chain += [*between, use]
        if tuple(chain) == self.chain:
            return self
        found = list(chains([use.node for use in chain]))
        return Normalization(found[0], self.certain) if len(found) == 1 else None


def _affine_of(use: Use) -> Affine:
    if is_batchnorm(use.node):
        return affine_of(use.node)
    affine = affine_of_link(use)
    require_sound(use.node)
    return affine


def _between(first: Node, use: Use) -> list[Use] | None:
    """Return the links by which a tensor comes from a node to an input of another, in order.

    None where something else is in between.
    """
    found: list[Use] = []
    value = use.node.inputs[use.slot]
    while value is not None and value.producer is not first:
        before = None if value.producer is None else link(value.producer)
        if before is None:
            return None
        found.insert(0, before)
        value = before.node.inputs[before.slot]
    return found


def site_of(batchnorm: Node) -> Site:
    """Describe a BatchNormalization by names."""
    return Normalization((Use(batchnorm, 0),)).site()


def normalizations(graph: Graph) -> Iterator[Normalization]:
    """Yield the normalizations of a graph in an order that does not depend on the file's."""
    nodes = graph.topological()
    by_last = {chain[-1].node.key: chain for chain in chains(nodes)}
    for node in nodes:
        if is_batchnorm(node) and not node.removed:
            yield Normalization((Use(node, 0),))
        elif node.key in by_last:
            chain = by_last[node.key]
            yield Normalization(chain, looks_like_batchnorm(chain))
