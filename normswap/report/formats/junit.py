"""Reports for test dashboards: JUnit XML, a suite a model and a case for each thing looked at.

A normalization that stays is a case that was skipped, with its reason; a finding is a failure; what
could not be looked at is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TextIO

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from normswap.plain import kind_of
from normswap.report.results import by_model, results_of

if TYPE_CHECKING:
    from normswap.report.envelope import Envelope, Report
    from normswap.report.results import ReportItem

KINDS = {"note": Skipped, "warning": Failure, "error": Failure, "failure": Error}

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write; names in a model may have it."""


def tell(
    report: Report, stream: TextIO, *, verbose: int = 0, envelope: Envelope | None = None
) -> None:
    """Write a report as JUnit XML; all of it, however verbose."""
    kind = kind_of(report)
    command = kind if envelope is None else envelope.command or kind
    xml = JUnitXml("normswap")
    for model, results in by_model(results_of(report, envelope)).items():
        suite = TestSuite(_plain(model or command))
        for result in results:
            suite.add_testcase(_case(result, f"normswap.{command}"))
        xml.add_testsuite(suite)
    xml.update_statistics()
    stream.write(xml.tostring().decode("utf-8") + "\n")


def _case(result: ReportItem, classname: str) -> TestCase:
    case = TestCase(_plain(result.name), classname=classname)
    kind = KINDS.get(result.level)
    if kind is not None:
        outcome = kind(_plain(result.message), _plain(result.code))
        if result.help:
            outcome.text = _plain(result.help)
        case.result = [outcome]
    return case


def _plain(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
