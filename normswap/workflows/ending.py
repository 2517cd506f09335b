"""How a rewrite ends: written beside its place, checked, certified, and only then in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from normswap.files.beside import placed
from normswap.model.staging import output_name, staged_output
from normswap.workflows.result import InMemory, advising, committed, place

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from normswap.check.options import CheckOptions
    from normswap.check.report import CheckReport
    from normswap.groupnorm.intent import Intent
    from normswap.model import Model
    from normswap.model.sources import Source
    from normswap.model.staging import Piped, Place, Staged
    from normswap.progress import Progress
    from normswap.runtime.child import Child
    from normswap.workflows.certificate import Folding
    from normswap.workflows.result import Output, Report


@dataclass(frozen=True, slots=True)
class Ending:
    """What is asked of a rewrite besides the rewriting.

    Attributes
    ----------
    target : path or binary stream
        Where the result goes.
    name : str
        What that is called.
    check : CheckOptions or None
        How it is compared with what was loaded; not at all if None.
    certificate : Path or None
        Where what was proved goes.
    overwrite : bool
        Whether an existing file may be replaced.
    copy : bool
        Whether a model to which there is nothing to do goes there too.
    """

    target: Place
    name: str
    check: CheckOptions | None
    certificate: Path | None
    overwrite: bool
    copy: bool
    progress: Progress

    @classmethod
    def of(
        cls,
        source: Source,
        output: Output,
        check: CheckOptions | None,
        certificate: str | os.PathLike[str] | None,
        *,
        overwrite: bool,
        copy: bool,
        progress: Progress,
    ) -> Ending:
        """Understand the options of a rewrite, before anything is read.

        Raises
        ------
        UsageError
            There can be no certificate of such a check, or the output is no place for a model.
        """
        file = None
        if certificate is not None:
            from normswap.workflows.certificate import certifiable

            file = certifiable(check, certificate, source, output)
        target = place(output)
        name = "<memory>" if output is None else output_name(output)
        return cls(target, name, check, file, overwrite, copy, progress)

    @property
    def is_at_once(self) -> bool:
        """Whether a model to which there is nothing to do is given back without a check."""
        return self.certificate is None or not self.copy

    def as_it_is(self, report: Report, model: Model) -> tuple[Report, Place]:
        """Give back a model to which there is nothing to do, byte for byte if it is a single file.

        Returns
        -------
        (report, path or binary stream)
            The report with what was written, and where the model is now.
        """
        if not self.copy and model.path is not None:
            return report, model.path
        target = self.target if self.copy else InMemory()
        with staged_output(model, target, overwrite=self.overwrite, edited=False) as staged:
            if self.copy:
                return committed(report, staged, target), target
            staged.commit()
        return report, target

    @contextmanager
    def staged(
        self, model: Model, apply: Callable[[], None], *, edited: bool = True
    ) -> Iterator[tuple[Staged | Piped, Child | None]]:
        """Edit a model and write it beside its place.

        Yields
        ------
        Staged or Piped
        Child or None
            What will run the models, if that is all the check needs: it was started before the
            editing, and imports meanwhile.
        """
        with ExitStack() as stack:
            child = None
            if self.check is not None:
                from normswap.check.starting import is_enough, start

                child = start(self.check, stack) if is_enough(self.check) else None
            apply()
            self.progress("writing")
            staged = staged_output(model, self.target, overwrite=self.overwrite, edited=edited)
            yield stack.enter_context(staged), child

    def checked(
        self, model: Model, rewritten: Path, how: CheckOptions, child: Child | None
    ) -> CheckReport:
        """Compare a rewritten model, that is to be the same function, with what was loaded."""
        from normswap.workflows.check import check_files

        self.progress("checking")
        with advising(), model.original() as original:
            names = ("" if model.path else model.name, self.name)
            return check_files(
                original, rewritten, how, names=names, progress=self.progress, child=child
            )

    def committed(
        self,
        report: Report,
        check: CheckReport | None,
        model: Model,
        staged: Staged | Piped,
        *,
        original: Path | None = None,
        folding: Folding | None = None,
        swapping: tuple[Intent, ...] | None = None,
        beside: AbstractContextManager[None] | None = None,
    ) -> Report:
        """Let a rewritten model take its place, and its certificate with it.

        Parameters
        ----------
        check : CheckReport or None
            The one in it.
        model : Model
            What was loaded.
        original : Path, optional
            What the result was compared with, if that is not what was loaded.
        folding, swapping : optional
            How the result was made, for the certificate.
        beside : context, optional
            What else takes its place then.
        """
        made = None
        if self.certificate is not None and check is not None and self.check is not None:
            from normswap.workflows.certificate import certify

            names = (model.name, Path(output_name(self.target)).name)
            with nullcontext(original) if original else model.original() as path:
                made = certify(
                    path,
                    staged.path,
                    check,
                    self.check,
                    names=names,
                    folding=folding,
                    swapping=swapping,
                    progress=self.progress,
                )
        with placed(None if made is None else str(made), self.certificate), beside or nullcontext():
            return committed(report, staged, self.target)
