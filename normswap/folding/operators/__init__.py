"""The operators that an affine can meet: one small file an operator or family.

To teach the fold a new operator, add a file with a subclass of
:class:`~normswap.folding.operators.base.Operator` to this folder, a test beside the others, and a
row in ``docs/operators.md``. Nothing else has to know: operators are found by walking the folder.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING

from normswap.folding.operators.base import Operator

if TYPE_CHECKING:
    from normswap.graph.network import Node

__all__ = ["Operator", "find", "registry"]


@functools.cache
def registry() -> dict[tuple[str, str], Operator]:
    """Return every known operator by domain and operator type.

    Raises
    ------
    TypeError
        If two classes speak for the same operator.
    """
    found: dict[tuple[str, str], Operator] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for item in vars(module).values():
            if (
                isinstance(item, type)
                and issubclass(item, Operator)
                and item.__module__ == module.__name__
            ):
                operator = item()
                for op in item.ops:
                    if (item.domain, op) in found:
                        raise TypeError(
                            f"two operators speak for {op}: {item} and {found[item.domain, op]}"
                        )
                    found[item.domain, op] = operator
    return found


def find(node: Node) -> Operator | None:
    """Return what speaks for a node, None where nothing does."""
    return registry().get((node.domain, node.op))
