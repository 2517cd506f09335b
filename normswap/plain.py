"""Reports as plain data: what JSON can hold, made from dataclasses in one way.

A dataclass becomes a dict of its fields, in their order. A field that is left out of the ``repr``
is left out here too; one with the metadata of :func:`called` has another name. ``TOLD`` lists
properties that are told as well, and ``SCHEMA`` is told as ``schema``. What a class says here is
also what its JSON Schema is made from (:mod:`normswap.report.schema`).
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any


class AsDict:
    """A dataclass that tells itself as plain data."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as JSON has it; NaN and infinities become strings."""
        data: dict[str, Any] = plain(self)
        return data


def called(name: str) -> dict[str, str]:
    """Return the metadata of a field that is called otherwise in plain data."""
    return {"called": name}


def kind_of(report: Any) -> str:
    """Return what a report, or a class of it, is about: ``fold`` for ``normswap/fold/1``."""
    return str(report.SCHEMA).split("/")[1]


def told(cls: type[Any]) -> dict[str, str]:
    """Return the attributes of a dataclass that plain data has, by the name that it has there."""
    fields = [f for f in dataclasses.fields(cls) if f.repr]
    names = {str(f.metadata.get("called", f.name)): f.name for f in fields}
    return names | {name: name for name in getattr(cls, "TOLD", ())}


def plain(value: Any) -> Any:
    """Return a value as plain data; NaN and infinities become strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        schema = getattr(value, "SCHEMA", None)
        data = {} if schema is None else {"schema": schema}
        names = told(type(value)).items()
        return data | {name: plain(getattr(value, attribute)) for name, attribute in names}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value
