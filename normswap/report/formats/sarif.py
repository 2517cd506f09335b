"""Reports for code scanning: SARIF, a result for each finding and note, with its rule.

Source: Static Analysis Results Interchange Format (SARIF) Version 2.1.0 Plus Errata 01, OASIS
Standard, 2023; GitHub Docs, "SARIF support for code scanning".
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from normswap import __version__
from normswap.report.results import ReportItem, from_checkout, results_of

if TYPE_CHECKING:
    from normswap.report.envelope import Envelope, Report

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Write a report as one SARIF log; all of it, however verbose."""
    results = [result for result in results_of(report, envelope) if result.level != "pass"]
    failures = [result for result in results if result.level == "failure"]
    told = [result for result in results if result.level != "failure"]
    codes = list(dict.fromkeys(result.code for result in told))
    code = int(report.exit_code if envelope is None else envelope.exit_code)
    invocation: dict[str, Any] = {"executionSuccessful": not failures, "exitCode": code}
    if failures:
        invocation["toolExecutionNotifications"] = [
            {"level": "error", "message": {"text": _message(result)}, "locations": [_where(result)]}
            for result in failures
        ]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "normswap",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_rule(code, told) for code in codes],
            }
        },
        "invocations": [invocation],
        "results": [_result(result, codes.index(result.code)) for result in told],
        "columnKind": "unicodeCodePoints",
    }
    if envelope is not None and envelope.inputs:
        run["artifacts"] = [
            {"location": {"uri": _uri(file.path)}}
            | ({"hashes": {"sha-256": file.sha256}} if file.sha256 else {})
            for file in dict.fromkeys(envelope.inputs)
        ]
    json.dump({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, stream, indent=2)
    stream.write("\n")


def _rule(code: str, results: list[ReportItem]) -> dict[str, Any]:
    first = next(result for result in results if result.code == code)
    rule: dict[str, Any] = {"id": code}
    if first.title:
        rule["shortDescription"] = {"text": first.title}
    if first.help:
        rule["help"] = {"text": first.help}
    return rule


def _result(result: ReportItem, rule: int) -> dict[str, Any]:
    # The same finding in the next version of the model is the same alert: by its place, not by
    # numbers that training changes.
    key = "\0".join((result.code, result.model, result.place or result.name))
    return {
        "ruleId": result.code,
        "ruleIndex": rule,
        "level": result.level,
        "message": {"text": _message(result)},
        "locations": [_where(result)],
        "partialFingerprints": {
            "normswap/place/1": sha256(key.encode(errors="replace")).hexdigest()
        },
    }


def _message(result: ReportItem) -> str:
    return f"{result.place}: {result.message}" if result.place else result.message


def _where(result: ReportItem) -> dict[str, Any]:
    """Return the file, and in it the node; code scanning wants a line, and a model has none."""
    where: dict[str, Any] = {}
    if result.model:
        uri = _uri(result.model)
        where["physicalLocation"] = {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}}
    if result.place:
        where["logicalLocations"] = [{"fullyQualifiedName": result.place, "kind": "member"}]
    return where


def _uri(path: str) -> str:
    if path.startswith("<"):
        return quote(path.strip("<>"))
    file = Path(from_checkout(path))
    return file.as_uri() if file.is_absolute() else quote(file.as_posix())
