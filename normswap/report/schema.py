"""The JSON Schema of every report, made from the dataclasses that the reports are made of.

``python -m normswap.report.schema`` writes them to ``normswap/report/schemas/``, which ships with
the package; a test compares them.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import inspect
import json
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from normswap.plain import kind_of, told
from normswap.report.envelope import Envelope

FOLDER = Path(__file__).parent / "schemas"

REPORTS = (
    "normswap.workflows.fold:FoldReport",
    "normswap.report.explanation:Explanation",
    "normswap.workflows.swap_report:SwapReport",
    "normswap.workflows.recalibrate:RecalibrateReport",
    "normswap.workflows.unfold:UnfoldReport",
    "normswap.check.report:CheckReport",
    "normswap.workflows.verify:VerifyReport",
    "normswap.workflows.inspect:InspectReport",
    "normswap.workflows.lint:LintReport",
    "normswap.workflows.lint:RulesReport",
    "normswap.workflows.diff:DiffReport",
    "normswap.runtime.survey:Survey",
    "normswap.fleet.work:FleetReport",
    "normswap.report.envelope:Failure",
)
"""Where the class of each report is."""

FILES = ("normswap.workflows.certificate:Certificate",)
"""Where the class of what is written to a file is, which has no envelope."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of every report and file, by what it is about (``fold``, ...)."""
    found = {}
    for place in (*REPORTS, *FILES):
        module, _, name = place.partition(":")
        report = getattr(importlib.import_module(module), name)
        found[kind_of(report)] = schema_of(report, enveloped=place in REPORTS)
    return found


def schema_of(report: type[Any], *, enveloped: bool = True) -> dict[str, Any]:
    """Return the schema of a report.

    Parameters
    ----------
    report : type
        Its dataclass.
    enveloped : bool
        Whether its envelope is around it.
    """
    seen: dict[type[Any], type[Any]] = {}
    whole = _properties(report, seen)
    # A report that has its error is none, and one that has none says so.
    around = _properties(Envelope, seen) | {"error": None}
    if enveloped:
        whole = {"schema": Literal[report.SCHEMA], **around, **whole, "exit_code": int}
        whole["tips"] = list[str]
    described = dataclasses.make_dataclass(report.__name__, whole.items())
    described.__doc__ = _summary(report)
    made = msgspec.json.schema(described)
    head = {"$schema": _DIALECT, "$id": report.SCHEMA}
    finished: dict[str, Any] = head | _with_every_number(made)
    return finished


def _properties(cls: type[Any], seen: dict[type[Any], type[Any]]) -> dict[str, Any]:
    """Return the types of what plain data has of a dataclass, by name."""
    bases = [base for base in reversed(cls.__mro__) if dataclasses.is_dataclass(base)]
    hints = get_type_hints(
        cls, {name: item for base in bases for name, item in _names(base).items()}
    )
    found: dict[str, Any] = {}
    for name, attribute in told(cls).items():
        if attribute in hints:
            hint = hints[attribute]
        else:
            function = getattr(cls, attribute).fget
            hint = get_type_hints(function, _names(function))["return"]
        found[name] = _described(hint, seen)
    schema = getattr(cls, "SCHEMA", None)
    return found if schema is None else {"schema": Literal[schema], **found}


def _described(hint: Any, seen: dict[type[Any], type[Any]]) -> Any:
    """Return a type with every dataclass in it replaced by one of its plain data."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint not in seen:
            made = dataclasses.make_dataclass(hint.__name__, _properties(hint, seen).items())
            made.__doc__ = _summary(hint)
            seen[hint] = made
        return seen[hint]
    inner = tuple(_described(item, seen) for item in get_args(hint))
    origin = get_origin(hint)
    if origin is types.UnionType or origin is Union:
        return Union[inner]  # noqa: UP007 - there is no other spelling for a tuple of them
    if inner and origin is not Literal:
        return origin[inner]
    return hint


def _names(definition: Any) -> dict[str, Any]:
    """Return what annotations may name: what is in their module, or imported only for them.

    Those of what a class is derived from are among its own.
    """
    names: dict[str, Any] = {}
    for base in getattr(definition, "__bases__", ()):
        if base.__module__ != "builtins":
            names.update(_names(base))
    module = sys.modules[definition.__module__]
    names.update(vars(module))
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for item in node.body:
                if isinstance(item, ast.Import | ast.ImportFrom):
                    with contextlib.suppress(ImportError):  # what only a type checker knows
                        code = compile(ast.Module([item], []), module.__file__ or "", "exec")
                        exec(code, names)  # noqa: S102 - our own imports
    return names


def _summary(cls: type[Any]) -> str:
    return (inspect.getdoc(cls) or "").split("\n")[0]


def _with_every_number(schema: Any) -> Any:
    """Return a schema in which a number may be one of those that JSON lacks."""
    if schema == {"type": "number"}:
        return _NUMBER
    if isinstance(schema, dict):
        return {key: _with_every_number(item) for key, item in schema.items()}
    if isinstance(schema, list):
        return [_with_every_number(item) for item in schema]
    return schema


def main() -> None:
    """Write all schemas."""
    FOLDER.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (FOLDER / f"{name}.json").write_text(text_of(schema), encoding="utf-8")


def text_of(schema: dict[str, Any]) -> str:
    """Return a schema as it is shipped."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
