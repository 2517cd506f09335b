"""A command on many models: which they are, what each is told, and how it is told of them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from normswap.cli.one import TASK, done, failed
from normswap.cli.source_and_target import STDIO, beside
from normswap.cli.telling import BY_MODEL, JSON, JSONL, telling
from normswap.cli.values import Asked, SavedFile
from normswap.cli.written import Written
from normswap.errors import ExitCode, UsageError
from normswap.fleet import places, remote
from normswap.fleet.records import path_of
from normswap.fleet.work import FleetReport, Job, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from normswap.fleet.work import Outcome

_OWN = frozenset({"listed", "jobs", "resume", "scheduler"})
_PLACES = frozenset({"output", "force"})
_TALK = frozenset({"quiet", "verbose"})
"""Options that each model is not told."""

_RESULTS = frozenset({"github", "html", "junit", "sarif"})
"""Formats that are made of results."""


def run_on_models(
    words: Sequence[str], asked: Asked, given: dict[str, Any], *, makes: str
) -> ExitCode:
    """Run the command that is running on each of many models.

    Parameters
    ----------
    words : sequence of str
        What names them.
    given : dict
        The values of all other parameters.
    makes : str
        What the default name of a result adds to the model's; empty if the command makes none.

    Returns
    -------
    ExitCode
        The worst of all.
    """
    found = places.find(_plain(words)) if words else []
    if asked.listed is not None:
        found += places.find(_plain(_lines(asked.listed)), listed=True)
    if not found:
        raise UsageError("No model was given.", tip="Name files or folders, or use --from-file.")
    jobs = _jobs(found, asked, given, makes if not given.get("dry_run") else "")
    return _run(jobs, asked, given)


def run_on_pairs(words: Sequence[str], asked: Asked, given: dict[str, Any]) -> ExitCode:
    """Run the command that is running on each of many pairs of models."""
    pairs: list[tuple[str, str]] = []
    if len(words) == 2:
        one, other = _plain(words)
        both = [places.is_many(word) and not word.endswith(places.SUFFIX) for word in words]
        if all(both):
            pairs = places.pairs(one, other)
        elif any(both):
            raise UsageError(
                f"{one} and {other} are a model and a folder, which can't be compared.",
                tip="Give two models, or two folders of models.",
            )
        else:
            pairs = [(one, other)]
    elif words:
        raise UsageError(
            "The second model or folder is missing.",
            tip="For example: normswap check before/ after/",
        )
    for number, line in enumerate(_lines(asked.listed) if asked.listed is not None else (), 1):
        one, tab, other = line.partition("\t")
        if not tab or not one or not other or "\t" in other:
            raise UsageError(
                f"Line {number} of {asked.listed} does not name a pair of models: {line!r}.",
                tip="Each line has the path of the original model, a tab, and the path of "
                "the rewritten one.",
            )
        pairs.append((one, other))
    if not pairs:
        raise UsageError("No models were given.", tip="Name two folders, or use --from-file.")
    return _run([_job(pair, asked) for pair in dict.fromkeys(pairs)], asked, given)


def _plain(words: Sequence[str]) -> Sequence[str]:
    if STDIO in words:
        raise UsageError(
            "Standard input can be only one model, and several were given.",
            tip="To read a list of paths from standard input, use --from-file -.",
        )
    return words


def _lines(file: str) -> list[str]:
    """Return the lines of a file that have something in them."""
    try:
        text = sys.stdin.read() if file == STDIO else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read: {error}.") from error
    return [line for line in text.splitlines() if line.strip()]


def _jobs(
    found: list[places.FoundModel], asked: Asked, given: dict[str, Any], makes: str
) -> list[Job]:
    """Return a job for each model, with a place of its own for what it makes."""
    in_place = bool(given.get("in_place") or given.get("fix"))
    folder = telling().model_file if given.get("output") is None else given["output"]
    if in_place or not makes:
        if makes and folder is not None:
            raise UsageError("--in-place and -o can't be used together.")
        jobs = [_job((each.path,), asked) for each in found]
        return [replace(job, output=job.models[0]) for job in jobs] if in_place else jobs
    if folder is None:
        found, outputs = _beside(found, makes)
    else:
        found, outputs = _below(found, asked, folder)
    jobs = [
        replace(_job((each.path,), asked), output=output, named=folder is not None)
        for each, output in zip(found, outputs, strict=True)
    ]
    places.require_apart([each.path for each in found], outputs)
    force = bool(given["force"])
    if not force:
        # What a record is of may be replaced if it is what was written; the worker sees to that.
        places.require_absent(
            cast("str", job.output)
            for job in jobs
            if job.records is None or not path_of(job).exists()
        )
    # Nothing was there, or may be replaced: a worker may have been lost after it had written.
    return [replace(job, force=force or job.records is None) for job in jobs]


def _beside(
    found: list[places.FoundModel], makes: str
) -> tuple[list[places.FoundModel], list[str]]:
    """Return the models, and each one's output beside it; of those found no output is a model."""
    urls = [each.path for each in found if remote.is_url(each.path)]
    if urls:
        raise UsageError(
            f"There is no default place for the result of {urls[0]}, which is a URL.",
            tip="Choose a folder with -o FOLDER.",
        )
    outputs = {each.path: str(beside(Path(each.path), makes)) for each in found}
    made = set(map(places.identity, outputs.values()))
    kept = [each for each in found if not (each.searched and places.identity(each.path) in made)]
    return kept, [outputs[each.path] for each in kept]


def _below(
    found: list[places.FoundModel], asked: Asked, folder: str
) -> tuple[list[places.FoundModel], list[str]]:
    """Return the models, and each one's output in a folder; what was found in that is no model."""
    if folder == STDIO:
        raise UsageError(
            "Several models can't be written to standard output.",
            tip="Choose a folder with -o FOLDER.",
        )
    if not remote.is_url(folder) and Path(folder).is_file():
        if len(found) > 1 or asked.is_any:
            raise UsageError(
                f"{folder} is a file, and the results of several models need a folder.",
                tip="Choose a folder with -o FOLDER.",
            )
        return found, [folder]
    found = [e for e in found if not (e.searched and places.is_within(e.path, folder))]
    # One model that was named is written to the file that was, as a model on this machine is.
    is_folder = folder.endswith(("/", os.sep)) or Path(folder).is_dir()
    if len(found) == 1 and not found[0].searched and not asked.is_any and not is_folder:
        return found, [folder]
    return found, [places.joined(folder, each.under) for each in found]


def _job(models: tuple[str, ...], asked: Asked) -> Job:
    """Return the job of one model, or of two, but for its places."""
    context = click.get_current_context()
    records = None if asked.resume is None else str(asked.resume.absolute())
    return Job(
        str(context.info_name), _arguments(context), models, models, records=records, wants=_wants()
    )


def _wants() -> tuple[str, ...]:
    """Return what is to come of each model besides its line."""
    asked = telling().all_formats
    verbose = bool(click.get_current_context().params.get("verbose"))
    wanted = {
        "report": asked & {JSON, JSONL},
        "results": asked & _RESULTS,
        "text": verbose and "text" in asked,
    }
    return tuple(name for name, needed in wanted.items() if needed)


def _arguments(context: click.Context) -> tuple[str, ...]:
    """Return the options that were given, as each model is told them.

    Raises
    ------
    UsageError
        One names a file that each would write.
    """
    words: list[str] = []
    for option in context.command.params:
        name = option.name or ""
        if (
            not isinstance(option, click.Option)
            or name in _OWN | _PLACES | _TALK
            or not option.expose_value
            or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE
        ):
            continue
        if isinstance(option.type, SavedFile):
            raise UsageError(
                f"{option.opts[-1]} names a single file, and can't be used with several models."
            )
        value = context.params[name]
        if option.is_flag:
            words.append((option.opts if value else option.secondary_opts)[-1])
            continue
        values = value if option.multiple else (value,)
        words += [f"{option.opts[0]}={_word(each, option)}" for each in values]
    return tuple(words)


def _word(value: Any, option: click.Option) -> str:
    if isinstance(value, tuple):  # the name and sizes of an input shape
        return f"{value[0]}:{','.join(map(str, value[1]))}"
    if isinstance(option.type, click.Path):
        return str(Path(value).absolute())
    return str(value)


def _run(jobs: list[Job], asked: Asked, given: dict[str, Any]) -> ExitCode:
    """Have jobs done, and tell of each as it is done, and of all at the end."""
    teller = telling()
    quiet, verbose = bool(given["quiet"]), int(given["verbose"])
    of = jobs[0].command
    keeps = bool(teller.files or set(teller.formats) - BY_MODEL)
    kept: list[Outcome] = []
    codes: Counter[int] = Counter()
    unchanged = 0
    with contextlib.ExitStack() as stack:
        show = stack.enter_context(_progress(len(jobs), quiet=quiet))
        for outcome in stack.enter_context(contextlib.closing(_outcomes(jobs, asked))):
            codes[outcome.exit_code] += 1
            unchanged += outcome.unchanged
            teller.tell_part(FleetReport(of, (outcome,)), quiet=quiet, verbose=verbose)
            if keeps:
                kept.append(outcome)
            show(codes)
    code = worst(codes)
    report = FleetReport(of, tuple(kept))
    teller.tell(report, quiet=quiet, verbose=verbose, exit_code=code, told=BY_MODEL)
    if not quiet:
        click.echo(_summary(codes, unchanged), err=True)
    return code


def _outcomes(jobs: list[Job], asked: Asked) -> Generator[Outcome, None, None]:
    written = cast("Written", click.get_current_context().find_object(dict)[Written])  # type: ignore[index]
    outputs = {job.name: job.output for job in jobs if job.output is not None}
    for counted, outcome in enumerate(_engine(jobs, asked, written), 1):
        written.forget(outputs.get(outcome.model, ""))
        written.count(f"{counted} of {len(jobs)} models were processed")
        yield outcome


def _engine(jobs: list[Job], asked: Asked, written: Written) -> Iterator[Outcome]:
    if asked.scheduler is not None:
        from normswap.fleet import cluster

        here = str(Path.cwd())
        jobs = [replace(job, home=here) for job in jobs]
        yield from cluster.run(jobs, TASK, asked.scheduler, failed)
        return
    if len(jobs) == 1:  # which another process would not hurry
        yield done(jobs[0])
        return
    from normswap.fleet import pool

    def began(job: Job) -> None:
        if job.output is not None and not remote.is_url(job.output):
            written.expect(job.output)

    count = min(asked.jobs or os.cpu_count() or 1, len(jobs))
    yield from pool.run(jobs, TASK, count, failed, began)


@contextlib.contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[Counter[int]], None]]:
    """Show on a terminal how many models are done; nothing elsewhere, where each has its line."""
    if quiet or not sys.stderr.isatty():
        yield lambda _codes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (BarColumn(), MofNCompleteColumn(), Remaining(), TextColumn("{task.description}"))
    # Lines of a terminal go above the bar; those of a pipe or file are none of its business.
    how = {"redirect_stdout": sys.stdout.isatty(), "transient": True}
    with Progress(*columns, console=Console(stderr=True), **how) as bar:  # type: ignore[arg-type]
        task = bar.add_task("", total=total)
        yield lambda codes: bar.update(task, completed=codes.total(), description=_wrong(codes))


def _summary(codes: Counter[int], unchanged: int) -> str:
    total = codes.total()
    same = f", {unchanged} unchanged" if unchanged else ""
    return f"{total} model{'s' * (total != 1)}{same}; {_wrong(codes) or 'no failures'}"


def _wrong(codes: Counter[int]) -> str:
    """Say how many models there are of each exit code but 0."""
    names = {
        ExitCode.FINDINGS: "with findings",
        ExitCode.INCONCLUSIVE: "inconclusive",
        ExitCode.USAGE: "refused",
        ExitCode.MODEL: "unreadable or unsupported",
        ExitCode.RUN: "failed",
    }
    return ", ".join(f"{codes[code]} {name}" for code, name in names.items() if codes[code])
