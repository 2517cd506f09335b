"""The rules, a file for each group of codes: subclasses of Rule, and ``RULES``, one of each.

Nothing else has to know of one: ``--select``, ``--list-rules`` and every output ask :func:`rules`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.lint.rule import Rule


@functools.cache
def rules() -> dict[str, Rule]:
    """Return all rules by their codes, in the order of these."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    )
    found: list[Rule] = [rule for module in modules for rule in module.RULES]
    return {rule.code: rule for rule in sorted(found, key=lambda rule: rule.code)}
