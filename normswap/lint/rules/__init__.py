"""The rules, one file each: a subclass of :class:`~normswap.lint.rule.Rule`, and ``RULE`` of it.

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
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    found: list[Rule] = [importlib.import_module(f"{__name__}.{name}").RULE for name in modules]
    return {rule.code: rule for rule in sorted(found, key=lambda rule: rule.code)}
