"""What speaks against a model, in one form for whoever finds it and whoever tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Level = Literal["note", "warning", "error"]
"""How grave a finding is: something to know, something to mend, something that is wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found in a model.

    Attributes
    ----------
    code : str
        What users, configurations and other programs call its kind: ``NS101``, ``kept``.
    name : str
        The kind in a few words, as an identifier: ``foldable-batchnorm``.
    level : {"note", "warning", "error"}
        A note alone is no finding that ends a command with exit code 1.
    message : str
        What is so, and where.
    node, graph : str
        The node that it is about, and where that is (:class:`normswap.graph.network.Graph`); empty
        where it is about the whole model.
    fixable : bool
        Whether a fix that is proved safe removes it.
    """

    code: str
    name: str
    level: Level
    message: str
    node: str = ""
    graph: str = ""
    fixable: bool = False

    @property
    def place(self) -> str:
        """What to call the node in its graph; empty where it is about the whole model."""
        return place_of(self)


class InGraph(Protocol):
    """What is about a node."""

    @property
    def node(self) -> str:
        """What the node is called."""

    @property
    def graph(self) -> str:
        """Where it is, see :class:`normswap.graph.network.Graph`."""


def place_of(what: InGraph) -> str:
    """Return what to call a node, with where it is if that is not the main graph."""
    return f"{what.graph}/{what.node}" if what.graph else what.node
