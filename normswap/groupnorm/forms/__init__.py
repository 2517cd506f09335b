"""The ways to write a group normalization in ONNX operators: one file a form, of the form's name.

All compute the same function. They differ in the opset and element types that they need, in speed
and in rounding; ``benchmarks/gn_forms.py`` measures both. All that is known of a form is in its
file: ``--form`` and its help, ``auto`` and ``fastest`` ask :data:`FORMS`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping

from normswap.groupnorm.forms.base import Form

__all__ = ["FORMS", "Form"]


class _Registry(Mapping[str, Form]):
    """The forms by name, each imported when it is first asked for: names alone cost no onnx."""

    def __iter__(self) -> Iterator[str]:
        return (module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Form:
        if name not in list(self):
            raise KeyError(name)
        form: Form = importlib.import_module(f"{__name__}.{name}").FORM
        return form


FORMS: Mapping[str, Form] = _Registry()
"""All forms by name."""
