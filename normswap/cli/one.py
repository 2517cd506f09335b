"""One of many models: the command is run on it as on a single one, and what it tells is kept.

Here a job meets what is done already, and what is behind URLs. It runs in a worker.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normswap.cli import run
from normswap.cli.stopping import STOPPED
from normswap.cli.telling import JSON, Telling
from normswap.cli.written import Written
from normswap.errors import ExitCode, ModelError, NormswapError, RunError
from normswap.files.scratch import scratch_folder
from normswap.fleet import remote
from normswap.fleet.records import RunRecord, tags
from normswap.fleet.work import Job, Outcome
from normswap.model import load, stage
from normswap.report import tell
from normswap.report.envelope import Error, Failure, around, files_of
from normswap.report.formats.json import whole
from normswap.report.headline import headline
from normswap.report.results import results_of
from normswap.runtime.lending import keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.report.envelope import Envelope, Report
    from normswap.runtime.worker import Channel

TASK = f"{__name__}:work"

_DONE = frozenset({ExitCode.OK, ExitCode.FINDINGS, ExitCode.MODEL})
"""Exit codes that come again where nothing has changed."""


def work(request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Do a job, as a task of `normswap.runtime.worker`."""
    job = Job.of(request["job"])
    try:
        _go_home(job)
    except RunError as error:
        return {"outcome": failed(job, error).whole()}
    is_first = not channel.held
    if is_first:
        channel.held[TASK] = True
        keep()
    outcome = done(job)
    if is_first:
        # What is imported by now stays. Of what a model leaves nothing may be left to the next one,
        # and to look for it while there is one would take long, see `normswap.cli.main`.
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
    gc.collect()
    return {"outcome": outcome.whole()}


def _go_home(job: Job) -> None:
    """Change to the folder that the paths of a job begin at, unless they begin at none."""
    if job.home is None:
        return
    try:
        os.chdir(job.home)
    except OSError as error:
        places = (*job.models, job.output or job.models[0])
        if any(not remote.is_url(each) and not Path(each).is_absolute() for each in places):
            raise RunError(
                f"{job.name} is relative to {job.home}, which doesn't exist on "
                f"{platform.node()}: {error.strerror}.",
                tip="Give absolute paths on a file system that all machines share, or URLs.",
            ) from error


def done(job: Job) -> Outcome:
    """Do a job, unless it is done already; return what came of it.

    Raises
    ------
    KeyboardInterrupt
        An end was asked for.
    """
    began = time.monotonic()
    try:
        outcome = _recorded(job) if job.records else _run(job, force=job.force)[0]
    except NormswapError as error:
        outcome = failed(job, error)
    if not outcome.unchanged:
        outcome = replace(outcome, seconds=round(time.monotonic() - began, 3))
    return replace(
        outcome,
        report=outcome.report if "report" in job.wants else None,
        results=outcome.results if "results" in job.wants else (),
        text=outcome.text if "text" in job.wants else "",
    )


def failed(job: Job, error: Exception) -> Outcome:
    """Return the outcome of a job that could not be done."""
    code = error.exit_code if isinstance(error, NormswapError) else ExitCode.RUN
    tip = error.tip if isinstance(error, NormswapError) else None
    failure = Failure(Error(type(error).__name__, str(error), tip), int(code))
    return _outcome(job, failure, around(job.command, int(code)), int(code))


def _recorded(job: Job) -> Outcome:
    """Do a job and record it, unless a record says that there is nothing to do."""
    record = RunRecord(job, _call(job))
    before = record.outcome
    if before is not None:
        return before
    force = job.force or record.owns_output
    is_there = job.output is not None and remote.is_there(job.output)
    if force or not is_there:
        record.begin()
    aside = record.was_begun and is_there and job.output not in job.models
    outcome, files = _run(job, force=force or not is_there, aside=aside)
    if outcome.exit_code in _DONE and None not in files.values():
        record.finish(outcome, files)
    elif outcome.exit_code != ExitCode.USAGE:
        record.forget()
    return outcome


def _call(job: Job) -> dict[str, Any]:
    """Return what an outcome hangs on besides the files that are read."""
    by = around(None, 0)
    config = ""
    if job.command == "lint" and not any(word.startswith("--config") for word in job.arguments):
        from normswap.lint.config import find

        config = repr(find(Path(job.models[0])))
    return {
        "command": job.command,
        "arguments": list(job.arguments),
        "config": config,
        "normswap": by.normswap,
        "onnx": by.onnx,
        "onnxruntime": by.onnxruntime,
    }


def _run(job: Job, *, force: bool, aside: bool = False) -> tuple[Outcome, dict[str, str | None]]:
    """Run the command; return what came of it, and the hashes of what was read and written.

    If `aside`, what is written takes its place only if that has not got it already.
    """
    with contextlib.ExitStack() as stack:
        places = _Places(job, stack, aside=aside)
        kept = _Kept(job.command)
        words = [job.command, *job.arguments, "-q"]
        if places.output is not None and (job.named or aside):
            words += ["-o", places.output]
        if job.output is not None and force and "--in-place" not in words and "--fix" not in words:
            words.append("--force")
        code = run([*words, "--", *places.models], telling=kept)
        if code > STOPPED:
            raise KeyboardInterrupt
        report, envelope = kept.told(code)
        written = places.finish()
        outcome = _outcome(job, report, envelope, code, rename=places.rename)
        files = {each.path: each.sha256 for each in envelope.inputs}
        if written is not None and Path(written).is_file():
            files |= {each.path: each.sha256 for each in files_of(Path(written))}
        files = {places.rename(path): digest for path, digest in files.items()}
        remotes = [*places.read, *places.sent]
        return outcome, {p: t for p, t in files.items() if not remote.is_url(p)} | tags(remotes)


def _outcome(
    job: Job,
    report: Report,
    envelope: Envelope,
    code: int,
    rename: Callable[[str], str] = str,
) -> Outcome:
    text = io.StringIO()
    if not isinstance(report, Failure) and ("text" in job.wants or job.records is not None):
        tell(report, "text", text, verbose=0)
    results = [asdict(result) for result in results_of(report, envelope)]
    for result in results:
        result["model"] = result["model"] or job.names[-1]
    told = {
        "line": headline(report),
        "output": getattr(report, "output", None),
        "report": whole(report, envelope),
        "text": text.getvalue(),
    }
    return Outcome(
        job.name, code, **_renamed(told, rename), results=tuple(_renamed(results, rename))
    )


class _Kept(Telling):
    """Keeps what a command tells, with all that a program would be told."""

    def __init__(self, command: str) -> None:
        super().__init__([command, f"--{JSON}"], Written())
        self.report: Report | None = None
        self.envelope: Envelope | None = None

    def tell(self, report: Report, **how: Any) -> None:
        code = how.get("exit_code")
        self._keep(report, int(report.exit_code if code is None else code))

    def fail(
        self,
        kind: str,
        message: str,
        tip: str | None,
        exit_code: int,
        show: Callable[[], None],
    ) -> None:
        del show
        self._keep(Failure(Error(kind, message, tip), exit_code), exit_code)

    def told(self, code: int) -> tuple[Report, Envelope]:
        """Return what was told of a command that ended with an exit code."""
        if self.report is None or self.envelope is None:
            said = Failure(Error("RunError", f"The process ended with exit code {code}."), code)
            return said, self._envelope(said, None, code)
        return self.report, self.envelope

    def _keep(self, report: Report, code: int) -> None:
        self.report, self.envelope = report, self._envelope(report, None, code)


class _Places:
    """Where a job's files are on this machine, and what they are called to people."""

    def __init__(self, job: Job, stack: contextlib.ExitStack, *, aside: bool) -> None:
        self.models = list(job.models)
        self.output = job.output
        self.read: list[str] = []
        self.sent: list[str] = []
        self._url: str | None = None
        self._aside: str | None = None
        self._names = [
            (path, name) for path, name in zip(job.models, job.names, strict=True) if path != name
        ]
        if any(remote.is_url(place) for place in (*job.models, job.output or "")):
            self._fetch(job, stack)
        elif aside and job.output is not None:
            self._aside = job.output
            self.output = str(stack.enter_context(scratch_folder("fleet")) / Path(job.output).name)
            self._names.append((self.output, job.output))
        if self.output is not None and job.named and self._url is None:
            _make_folder(Path(self.output).parent)

    def _fetch(self, job: Job, stack: contextlib.ExitStack) -> None:
        folder = stack.enter_context(scratch_folder("fleet"))
        for number, url in enumerate(job.models):
            if remote.is_url(url):
                read = remote.fetch(url, folder / str(number))
                self.models[number] = next(iter(read))
                self.read += read.values()
                self._names += read.items()
        if job.output is not None and remote.is_url(job.output):
            self._url = job.output
            self.output = str(remote.prepare(job.output, folder / "written"))
            self._names.append((self.output, job.output))
        # Where a name begins with another one, it is the name.
        self._names.sort(key=lambda names: len(names[0]), reverse=True)

    def finish(self) -> str | None:
        """Send what was written to where it goes, as a whole; return where it is here."""
        if self.output is None or not Path(self.output).is_file():
            return None
        if self._url is not None:
            remote.send(Path(self.output), self._url)
            self.sent.append(self._url)
        if self._aside is None:
            return self.output
        if _hashes(self.output) != _hashes(self._aside):
            with stage(load(self.output), self._aside, overwrite=True, edited=False) as staged:
                staged.commit()
        return self._aside

    def rename(self, text: str) -> str:
        """Return a text in which files go by what people call them."""
        for path, name in self._names:
            text = text.replace(path, name)
        return text


def _hashes(model: str) -> dict[str, str | None]:
    """Return the hashes of a model and its data, by their names in its folder."""
    return {
        os.path.relpath(each.path, Path(model).parent): each.sha256
        for each in files_of(Path(model))
    }


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"Folder {folder} could not be created: {error.strerror or error}."
        ) from error


def _renamed(value: Any, rename: Callable[[str], str]) -> Any:
    """Return plain data with another name for each file."""
    if isinstance(value, str):
        return rename(value)
    if isinstance(value, dict):
        return {key: _renamed(item, rename) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(item, rename) for item in value]
    return value
