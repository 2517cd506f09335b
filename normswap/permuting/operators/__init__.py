"""What an operator says to another order of the channels: one small file a family.

Each file has ``FOLLOW``: by the name of an operator of the default domain, a function that is asked
where an axis of an input or output of a node has labels (:class:`~.at.At`). It ties the other
axes that move with it, tells places apart that the operator does, or raises `Blocked`. An operator
that no file names may read channels by their place, so they keep it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.graph.network import Node
    from normswap.permuting.operators.at import At


@functools.cache
def registry() -> dict[str, Callable[[At], None]]:
    """Return what is known, by the operator's name."""
    found: dict[str, Callable[[At], None]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found |= getattr(module, "FOLLOW", {})
    return found


def find(node: Node) -> Callable[[At], None] | None:
    """Return what speaks for a node, None where nothing does."""
    return None if node.domain else registry().get(node.op)
