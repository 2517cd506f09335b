"""The ways to write a group normalization in ONNX operators: one file a form.

All compute the same function. They differ in the opset and element types that they need, in speed
and in rounding; ``benchmarks/gn_forms.py`` measures both.
"""

from __future__ import annotations

import importlib
import pkgutil

from normswap.groupnorm.forms.base import Form

__all__ = ["FORMS", "Form"]


def _discover() -> dict[str, Form]:
    forms: dict[str, Form] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name != "base":
            form: Form = importlib.import_module(f"{__name__}.{module.name}").FORM
            forms[form.name] = form
    return forms


FORMS = _discover()
"""All forms by name."""
