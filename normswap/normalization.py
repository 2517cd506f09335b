"""What a fold is about: the places of a graph where a tensor is normalized with constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.batchnorm import affine_of, is_batchnorm
from normswap.decomposed import affine_of_chain, chains, looks_like_batchnorm
from normswap.graph import Use
from normswap.plan import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.affine import Affine
    from normswap.answers import Block
    from normswap.graph import Graph, Value


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """One or more nodes in a row that together apply an affine to a tensor.

    Attributes
    ----------
    chain : tuple of Use
        The nodes in order, each with the input by which the tensor comes.
    certain : bool
        Whether it counts even if it can't be folded; see :mod:`normswap.decomposed`.
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
    def is_batchnorm(self) -> bool:
        """Whether it is a single BatchNormalization."""
        return is_batchnorm(self.chain[-1].node)

    def affine(self) -> Affine | Block:
        """Return the affine that it applies at present, or why that is none."""
        return affine_of(self.chain[-1].node) if self.is_batchnorm else affine_of_chain(self.chain)

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
        """Return what earlier edits have left of it, None if that is no normalization."""
        chain = tuple(use for use in self.chain if not use.node.removed)
        if len(chain) == len(self.chain):
            return self
        found = list(chains([use.node for use in chain]))
        return Normalization(found[0], self.certain) if len(found) == 1 else None


def normalizations(graph: Graph) -> Iterator[Normalization]:
    """Yield the normalizations of a graph in an order that does not depend on the file's."""
    nodes = graph.topological()
    by_last = {chain[-1].node.key: chain for chain in chains(nodes)}
    for node in nodes:
        if is_batchnorm(node):
            yield Normalization((Use(node, 0),))
        elif node.key in by_last:
            chain = by_last[node.key]
            yield Normalization(chain, looks_like_batchnorm(chain))
