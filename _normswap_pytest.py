"""The plugin of normswap for pytest: the fixture ``normswap`` and ``--normswap-report``.

It lies beside the package, so that a pytest that uses neither imports nothing of it; see
docs/testing.md.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import ModuleType

FORMATS = {".json": "json", ".md": "markdown", ".html": "text"}
"""In which format each report is told, by how the file ends."""


@pytest.fixture(scope="session", name="normswap")
def _normswap() -> ModuleType:
    """Give the assertions of :mod:`normswap.testing`."""
    import normswap.testing

    return normswap.testing


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("normswap").addoption(
        "--normswap-report",
        metavar="FILE",
        help="Write the reports of all normswap assertions to FILE, which ends in "
        f"{', '.join(FORMATS)}.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect, where a file is asked for."""
    given = config.getoption("--normswap-report")
    if given is None:
        return
    path = Path(given)
    if path.suffix not in FORMATS or path.is_dir():
        raise pytest.UsageError(
            f"--normswap-report {given} is not a file that ends in {', '.join(FORMATS)}"
        )
    if not path.parent.is_dir():
        raise pytest.UsageError(f"--normswap-report {given}: folder {path.parent} doesn't exist")
    # Tests may change the folder that they are in.
    config.pluginmanager.register(_Collector(path.absolute(), config), "normswap-report")


class _Collector:
    """Hears of assertions where tests run, and writes where their reports come together.

    These are two processes under pytest-xdist, between which a test's report carries them.
    """

    def __init__(self, path: Path, config: pytest.Config) -> None:
        from normswap import testing

        self._path = path
        self._is_worker = hasattr(config, "workerinput")
        self._heard: list[dict[str, Any]] = []
        self._all: list[dict[str, Any]] = []
        self._testing = testing
        testing.listeners.append(self._hear)

    def pytest_unconfigure(self) -> None:
        self._testing.listeners.remove(self._hear)

    def _hear(self, assertion: str, report: Any, message: str) -> None:
        form = FORMATS[self._path.suffix]
        told = report.to_dict() if form == "json" else self._testing.told(report, form)
        self._heard.append(
            {"assertion": assertion, "holds": not message, "message": message, "report": told}
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        heard, self._heard = self._heard, []
        if heard:
            entries = [{"test": item.nodeid, **entry} for entry in heard]
            report.normswap = json.dumps(entries)  # type: ignore[attr-defined] # travels along
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._all += json.loads(getattr(report, "normswap", "[]"))

    def pytest_sessionfinish(self) -> None:
        if self._is_worker:
            return
        from normswap.files.beside import placed

        tell = {".json": _as_json, ".md": _as_markdown, ".html": _as_html}[self._path.suffix]
        with placed(tell(self._all), self._path):
            pass

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"normswap: {_summary(self._all)}; {self._path}")


def _summary(entries: list[dict[str, Any]]) -> str:
    failed = sum(not entry["holds"] for entry in entries)
    held = f"{len(entries)} assertion{'s' * (len(entries) != 1)}"
    return f"{held}, {failed or 'none'} of them failed"


def _as_json(entries: list[dict[str, Any]]) -> str:
    holds = all(entry["holds"] for entry in entries)
    told = {"schema": "normswap/pytest/1", "holds": holds, "assertions": entries}
    return json.dumps(told, indent=2) + "\n"


def _as_markdown(entries: list[dict[str, Any]]) -> str:
    parts = [f"# normswap: {_summary(entries)}"]
    for entry in entries:
        mark = "holds" if entry["holds"] else "**fails**"
        parts.append(f"## `{entry['test']}`\n\n`{entry['assertion']}` {mark}")
        if entry["message"]:
            parts.append(f"```text\n{entry['message']}\n```")
        parts.append(entry["report"].strip())
    return "\n\n".join(parts) + "\n"


def _as_html(entries: list[dict[str, Any]]) -> str:
    rows = []
    for entry in entries:
        holds = entry["holds"]
        said = "\n\n".join(filter(None, (entry["message"], entry["report"].strip())))
        rows.append(
            f"<details{'' if holds else ' open'}><summary><b class={'holds' if holds else 'fails'}>"
            f"{'holds' if holds else 'fails'}</b> {html.escape(entry['test'])} "
            f"<code>{html.escape(entry['assertion'])}</code></summary>"
            f"<pre>{html.escape(said)}</pre></details>"
        )
    head = html.escape(f"normswap: {_summary(entries)}")
    style = "body{font-family:system-ui;margin:2em}pre{overflow:auto}.fails{color:#b00020}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{head}</title>'
        f"<style>{style}</style><h1>{head}</h1>\n" + "\n".join(rows) + "\n</html>\n"
    )
