"""What to call the tensors and nodes of a flat model, so that each name is of one only.

A name of a model means something in its scope. Here it stands with its scopes, innermost first,
as in ``y in then_branch of If gate``; where that is of several (a function without a name of its
own that is called twice), the second one is ``y #2``, in the order of the model's nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from normswap.proof.flat import Flat


def tensor_names(flat: Flat) -> list[str]:
    """Return what to call each tensor, by its number."""
    return _unique(
        " in ".join([name, *reversed(maker.path if maker is not None else ())])
        for name, maker in zip(flat.names, flat.makers, strict=True)
    )


def node_names(flat: Flat) -> list[str]:
    """Return what to call each node, by its index: its operator, and its name or its output's."""
    return _unique(node.title for node in flat.nodes)


def _unique(names: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    last: dict[str, int] = {}
    for name in names:
        unique = name
        while unique in found:
            last[name] = last.get(name, 1) + 1
            unique = f"{name} #{last[name]}"
        found[unique] = None
    return list(found)
