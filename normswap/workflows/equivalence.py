"""The check of a rewrite that is to be the same function, and the certificate of any check."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from normswap.files.beside import placed
from normswap.model.staging import output_name
from normswap.workflows.result import advising

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from normswap.check.options import CheckOptions
    from normswap.check.report import CheckReport
    from normswap.groupnorm.intent import Intent
    from normswap.model import Model
    from normswap.model.staging import Place
    from normswap.progress import Progress
    from normswap.runtime.child import Child
    from normswap.workflows.certificate import Folding
    from normswap.workflows.result import Output


def started(options: CheckOptions, stack: ExitStack) -> Child | None:
    """Start what will run the models, if that is all the check needs; it imports meanwhile."""
    from normswap.check.starting import is_enough, start

    return start(options, stack) if is_enough(options) else None


def checked(
    model: Model,
    rewritten: Path,
    output: Output,
    options: CheckOptions,
    progress: Progress,
    child: Child | None,
) -> CheckReport:
    """Compare a rewritten model with what was loaded.

    Parameters
    ----------
    model : Model
    rewritten : Path
        Where the result is for now.
    output : path or binary stream, optional
        Where it goes, which is what it is called.
    options : CheckOptions
    progress : callable
    child : Child or None
        See :func:`started`.
    """
    from normswap.workflows.check import check_files

    progress("checking")
    called = "<memory>" if output is None else output_name(output)
    with advising(), model.original() as original:
        names = ("" if model.path else model.name, called)
        return check_files(
            original, rewritten, options, names=names, progress=progress, child=child
        )


@contextmanager
def certified(
    file: Path | None,
    model: Model,
    rewritten: Path,
    target: Place,
    report: CheckReport | None,
    options: CheckOptions | None,
    progress: Progress,
    *,
    original: Path | None = None,
    folding: Folding | None = None,
    swapping: tuple[Intent, ...] | None = None,
) -> Iterator[None]:
    """Write the certificate of a check, if one was asked for, when the context ends well.

    Parameters
    ----------
    file : Path or None
        Where it goes.
    model, rewritten, target
        What was loaded, where the result is for now, and where it goes.
    report, options : CheckReport and CheckOptions, or None
        Of the check.
    original : Path, optional
        What the result was compared with, if that is not what was loaded.
    """
    if file is None or report is None or options is None:
        yield
        return
    from normswap.workflows.certificate import certify

    progress("certifying")
    names = (model.name, Path(output_name(target)).name)
    with nullcontext(original) if original else model.original() as path:
        made = certify(
            path, rewritten, report, options, names=names, folding=folding, swapping=swapping
        )
    with placed(str(made), file):
        yield
