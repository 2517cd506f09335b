"""The operators that an affine can meet: one small file an operator or family.

To teach the fold a new operator, add a file with a subclass of
:class:`~normswap.folding.operators.base.Operator` to this folder, a test beside the others, and a
row in ``docs/operators.md``. Nothing else has to know: operators are found by walking the folder.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
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
    for operator in (each for file in _files() for each in _of_file(file)):
        for op in operator.ops:
            key = operator.domain, op
            if key in found:
                raise TypeError(f"two operators speak for {op}: {operator} and {found[key]}")
            found[key] = operator
    return found


def find(node: Node) -> Operator | None:
    """Return what speaks for a node, None where nothing does."""
    return _find(node.domain, node.op)


@functools.cache
def _find(domain: str, op: str) -> Operator | None:
    """Look into the file of the operator's own name first: to import all takes a while."""
    file = re.sub(r"\B(?=[A-Z])", "_", op).lower()
    for operator in _of_file(file) if file in _files() else ():
        if operator.domain == domain and op in operator.ops:
            return operator
    return registry().get((domain, op))


@functools.cache
def _files() -> tuple[str, ...]:
    return tuple(info.name for info in pkgutil.iter_modules(__path__))


@functools.cache
def _of_file(file: str) -> tuple[Operator, ...]:
    module = importlib.import_module(f"{__name__}.{file}")
    return tuple(
        item()
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Operator)
        and item.__module__ == module.__name__
    )
