"""Which normalizations a person means, by patterns on names."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.errors import UsageError
from normswap.graph.reasons import Blocked, Reason
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from normswap.graph.network import Node


LISTED = 8
"""How many layers in functions a tip names."""


def where(node: Node) -> str:
    """Return what to call a node among those of all graphs."""
    return f"{node.graph.path}/{node.title}" if node.graph.path else node.title


@dataclass(frozen=True, slots=True)
class Selection:
    """Patterns (``*`` and ``?``) on names of nodes and of their input and output tensors.

    Attributes
    ----------
    include, exclude : tuple of str
        Without `include` all nodes are; `exclude` wins.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def require_use(self, nodes: Sequence[Node], model: str) -> None:
        """Refuse patterns that no node of a model fits, if there are any nodes.

        Raises
        ------
        UsageError
        """
        for pattern in (*self.include, *self.exclude):
            if nodes and not any(_fits(node, pattern) for node in nodes):
                raise UsageError(
                    f"No BatchNormalization of {model} matches the pattern {pattern!r}.",
                    tip=did_you_mean(pattern, map(where, nodes))
                    or _tip_on_functions(nodes)
                    or "Patterns are matched against names of nodes and of their input and output "
                    "tensors; normswap bn-to-gn --dry-run lists them.",
                )

    def require(self, node: Node) -> None:
        """Let pass a node that is selected.

        Raises
        ------
        Blocked
            If it is not.
        """
        if self.include and not any(_fits(node, pattern) for pattern in self.include):
            raise Blocked(Reason.EXCLUDED, node.title, "no include pattern matches it")
        excluded = next((pattern for pattern in self.exclude if _fits(node, pattern)), None)
        if excluded is not None:
            raise Blocked(Reason.EXCLUDED, node.title, f"excluded by {excluded!r}")


def _tip_on_functions(nodes: Iterable[Node]) -> str:
    """Say what layers in functions are called, which reports name by their calls once inlined."""
    inside = [where(node) for node in nodes if _is_in_function(node)]
    if not inside:
        return ""
    more = f" and {len(inside) - LISTED} more" if len(inside) > LISTED else ""
    names = ", ".join(map(repr, inside[:LISTED]))
    return f"Layers in a function are selected for all its calls together, as {names}{more}."


def _is_in_function(node: Node) -> bool:
    home = node.graph
    while home.parent is not None:
        home = home.parent
    return bool(home.path)


def fits(names: Iterable[str], patterns: Iterable[str]) -> bool:
    """Whether a name fits a pattern, in which only ``*`` and ``?`` mean more than themselves."""
    every = list(names)
    literal = [pattern.replace("[", "[[]") for pattern in patterns]  # exporters write x[0]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in literal for name in every)


def names_of(node: Node) -> list[str]:
    """Return the names by which a person may mean a node: its own, and those of its tensors."""
    tensors = (value.name for value in (*node.inputs, *node.outputs) if value)
    return [where(node), node.name, *tensors]


def _fits(node: Node, pattern: str) -> bool:
    return fits(names_of(node), [pattern])
