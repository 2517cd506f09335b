"""The check of a rewrite that is to be the same function, as a fold and its inverse are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from normswap.model.staging import output_name
from normswap.workflows.result import advising

if TYPE_CHECKING:
    from contextlib import ExitStack

    from normswap.check.options import CheckOptions
    from normswap.check.report import CheckReport
    from normswap.model import Model
    from normswap.model.staging import Place
    from normswap.progress import Progress
    from normswap.runtime.child import Child
    from normswap.workflows.certificate import Certificate, Folding
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


def certificate_of(
    model: Model,
    rewritten: Path,
    target: Place,
    report: CheckReport,
    options: CheckOptions,
    progress: Progress,
    folding: Folding | None = None,
) -> Certificate:
    """Return the certificate of a check that :func:`checked` made."""
    from normswap.workflows.certificate import certify

    progress("certifying")
    names = (model.name, Path(output_name(target)).name)
    with model.original() as path:
        return certify(path, rewritten, report, options, names=names, folding=folding)
