"""How the command that is running tells what it did, or why it could not."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import click

from normswap.cli.completing import files, formats
from normswap.cli.written import Written
from normswap.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    from normswap.report.envelope import Envelope, Input, Report
    from normswap.report.wiring import Wiring

DEFAULT = "text"
JSON = "json"
JSONL = "jsonl"

FOR_PEOPLE = frozenset({DEFAULT, "markdown"})
"""Formats that have no envelope, and say nothing where a command is told to be quiet."""

BY_MODEL = frozenset({DEFAULT, JSONL})
"""Formats that have a part for each of many models, and nothing around them."""
DRAWN = "html"
"""The format that has pictures of what was read, and what ``--report`` is short for."""

BESIDE = "github"
"""The format whose lines may be among others: GitHub's runner takes them out."""

PIPED = "<stdin>"
"""What comes through a pipe is called so."""

Read = TypeVar("Read", "Path", BinaryIO)


class Telling:
    """In which formats a command tells its report, to whom, and what it has read.

    Parameters
    ----------
    arguments : sequence of str
        Of the program. Where they are wrong, an error about them still takes the formats that they
        seem to ask for.
    written : Written
        Knows whether the model goes to standard output, which then carries nothing else.

    Attributes
    ----------
    formats : list of str
        On standard output, in the order in which they are written.
    files : dict of str to str
        Formats by the files that they go to.
    model_file : str or None
        Where the model goes, if ``--output`` says so.
    """

    def __init__(self, arguments: Sequence[str], written: Written) -> None:
        self.formats: list[str] = []
        self.files: dict[str, str] = {}
        self.model_file: str | None = None
        self.command = next((word for word in arguments if not word.startswith("-")), None)
        self._arguments = tuple(arguments)
        self._inputs: list[Input | _Hashed | str] = []
        self._models: list[Wiring | _Hashed | None] = []
        self._written = written
        for value in _asked_for(arguments):
            with contextlib.suppress(UsageError):
                self.add(value)

    def add(self, value: str) -> bool:
        """Take a format, or ``FORMAT=FILE``; return whether it is one.

        Raises
        ------
        UsageError
            Two formats would be mixed on standard output, or the file has no folder; or the format
            needs what is not installed.
        """
        from normswap.report.formats import missing, names

        form, given, file = value.partition("=")
        if form not in names():
            return False
        if form == DRAWN and (packages := missing(form)):
            raise UsageError(
                f"The {form} report needs packages that are not installed: {', '.join(packages)}.",
                tip="Install them: pip install 'normswap[report]'",
            )
        if given:
            from pathlib import Path

            path = Path(file)
            if not file or path.is_dir() or not path.parent.is_dir():
                raise UsageError(f"{value!r} does not name a file to write a report to.")
            if file not in self.files:
                self._written.expect(file)
            self.files[file] = form
        elif form not in self.formats:
            others = [other for other in self.formats if other != BESIDE]
            if others and form != BESIDE:
                raise UsageError(
                    f"The {others[0]} and {form} reports can't both go to standard output.",
                    tip=f"Write one of them to a file: --output {form}=FILE.",
                )
            self.formats.append(form)
        return True

    @property
    def stream(self) -> TextIO:
        """Where a report goes: standard output, unless the model goes there."""
        return sys.stderr if self._written.takes_stdout else sys.stdout

    @property
    def _is_for_people(self) -> bool:
        """Whether no format wants to know what was read."""
        return {*self.formats, *self.files.values()} <= FOR_PEOPLE

    @property
    def _is_drawn(self) -> bool:
        """Whether some format has pictures."""
        return DRAWN in {*self.formats, *self.files.values()}

    def reads(self, source: Read) -> Read:
        """Note what a command reads, before it may be replaced; use what is returned.

        Text and Markdown don't name the inputs by their hashes, so nothing is hashed for them.
        """
        from pathlib import Path

        if self._is_for_people:
            self._inputs.append(str(source) if isinstance(source, Path) else PIPED)
            return source
        from normswap.report.envelope import DATA, files_of

        if isinstance(source, Path):
            self._inputs += files_of(source)
            if self._is_drawn and source.is_file() and source.suffix not in {*DATA, ".json"}:
                self._models.append(_wiring(source))
            return source
        stream = _Hashed(source, keeps=self._is_drawn)
        self._inputs.append(stream)
        if self._is_drawn:
            self._models.append(stream)
        return cast("Read", stream)

    def tell(
        self,
        report: Report,
        *,
        quiet: bool = False,
        verbose: int = 0,
        command: str | None = None,
        exit_code: int | None = None,
        told: frozenset[str] = frozenset(),
    ) -> None:
        """Write the report.

        Parameters
        ----------
        quiet : bool
            Leave it out if all is fine; but a program gets its JSON, and a file what it is for.
        command : str, optional
            What was run, if not the command that was typed.
        exit_code : int, optional
            How the command ends, if not as the report says.
        told : set of str
            Formats in which standard output has it already, see :meth:`tell_part`.

        Raises
        ------
        ModelError
            A file can't be written.
        """
        code = int(report.exit_code if exit_code is None else exit_code)
        formats = [form for form in self.formats or [DEFAULT] if form not in told]
        shown = [form for form in formats if not quiet or code or form not in FOR_PEOPLE]
        self._tell(report, shown, code, verbose, command)

    def tell_part(self, report: Report, *, quiet: bool, verbose: int) -> None:
        """Write what came of one of many models, in the formats that need not wait for the rest."""
        from normswap.report import tell

        for form in self.formats or [DEFAULT]:
            if form in BY_MODEL and (form == JSONL or not quiet or report.exit_code):
                tell(report, form, self.stream, verbose=verbose)
        self.stream.flush()

    @property
    def all_formats(self) -> set[str]:
        """Those of standard output and of files."""
        return {*(self.formats or [DEFAULT]), *self.files.values()}

    def _envelope(self, report: Report, command: str | None, code: int) -> Envelope:
        from dataclasses import replace

        from normswap.report.envelope import Envelope, Input, around

        inputs = tuple(
            each.found()
            if isinstance(each, _Hashed)
            else Input(each, None)
            if isinstance(each, str)
            else each
            for each in self._inputs
        )
        if self._is_for_people:  # who are told no versions and hashes
            return Envelope(command or self.command, code, inputs)
        envelope = around(command or self.command, code, inputs)
        return replace(envelope, arguments=self._arguments, wirings=self._wirings(report))

    def _tell(
        self, report: Report, shown: list[str], code: int, verbose: int, command: str | None
    ) -> None:
        if not shown and not self.files:
            return
        from normswap.report import tell

        envelope = self._envelope(report, command, code)
        for file, form in self.files.items():
            import io
            from pathlib import Path

            from normswap.files.beside import placed

            text = io.StringIO()
            tell(report, form, text, verbose=max(verbose, 0), envelope=envelope)
            with placed(text.getvalue(), Path(file)):
                pass
        for form in shown:
            tell(report, form, self.stream, verbose=verbose, envelope=envelope)

    def _wirings(self, report: Report) -> tuple[Wiring | None, ...]:
        """Return the wiring of what was read, and of what was written to a file."""
        from pathlib import Path

        if not self._is_drawn:
            return ()
        found = [m.wiring() if isinstance(m, _Hashed) else m for m in self._models]
        output = getattr(report, "output", None)
        if output is not None and not self._written.takes_stdout:
            found = [*found[:1], _wiring(Path(output))]
        return tuple(found)

    def fail(
        self,
        kind: str,
        message: str,
        tip: str | None,
        exit_code: int,
        show: Callable[[], None],
    ) -> None:
        """Tell an error: a person, by `show`, and a program that waits for its format.

        Where the report goes to standard error itself, it is that alone.
        """
        asked = [form for form in self.formats if form not in FOR_PEOPLE]
        if asked or self.files:
            from normswap.errors import ModelError
            from normswap.report.envelope import Error, Failure

            failure = Failure(Error(kind, message, tip), exit_code)
            # Whoever reads standard output may have gone, and a file may be what the error is of.
            with contextlib.suppress(OSError, ModelError):
                self._tell(failure, asked, exit_code, 0, None)
            if asked and self._written.takes_stdout:
                return
        show()


def _wiring(source: Path | bytes) -> Wiring | None:
    from normswap.report.wiring import wiring_of

    return wiring_of(source)


class _Hashed:
    """A stream whose bytes are hashed as they are read, and kept where they are to be drawn."""

    def __init__(self, stream: BinaryIO, *, keeps: bool) -> None:
        import hashlib

        self._stream = stream
        self._digest = hashlib.sha256()
        self._kept: list[bytes] | None = [] if keeps else None

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        if self._kept is not None:
            self._kept.append(data)
        return data

    def wiring(self) -> Wiring | None:
        return _wiring(b"".join(self._kept)) if self._kept else None

    def fileno(self) -> int:
        return self._stream.fileno()

    def found(self) -> Input:
        from normswap.report.envelope import Input

        return Input(PIPED, self._digest.hexdigest())


def telling() -> Telling:
    """Return how the command that is running tells."""
    context = click.get_current_context(silent=True)
    found = context.find_object(dict) if context else None
    return cast("Telling", found[Telling]) if found else Telling((), Written())


def format_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say in which formats a command reports, and where."""
    from normswap.report.formats import names

    def choose(context: click.Context, parameter: click.Parameter, value: object) -> None:
        del context
        if value:
            telling().add(
                {"report": f"{DRAWN}={value}", "json": JSON}.get(parameter.name or "", str(value))
            )

    def place(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> None:
        del parameter
        makes_model = any(each.name == "output" for each in context.command.params)
        for each in value:
            if telling().add(each):
                continue
            if not makes_model:
                raise UsageError(
                    f"--output {each!r}: unknown report format.",
                    tip=f"The formats are {', '.join(names())}; FORMAT=FILE writes to a file.",
                )
            telling().model_file = each

    function = click.option(
        "--report",
        metavar="FILE.html",
        shell_complete=files,
        expose_value=False,
        callback=choose,
        help=f"Write an HTML page with pictures and plots. Same as --output {DRAWN}=FILE.html.",
    )(function)
    function = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=choose,
        help="Same as --output json.",
    )(function)
    function = click.option(
        "--format",
        type=click.Choice(names()),
        expose_value=False,
        callback=choose,
        help=f"Format of the report on standard output.  [default: {DEFAULT}]",
    )(function)
    return click.option(
        "--output",
        "reports",
        multiple=True,
        metavar="FORMAT[=FILE]",
        shell_complete=formats,
        expose_value=False,
        callback=place,
        help="Format of the report, and the file to write it to. Can be given several times, "
        "such as --output text --output sarif=report.sarif. In a command that makes a "
        "model, a FILE alone is the model's, as with -o.",
    )(function)


def _asked_for(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the formats that arguments ask for, of which nothing else is known to be right."""
    for at, word in enumerate(arguments):
        if word == "--":
            return
        option, given, value = word.partition("=")
        if word == "--json":
            yield JSON
        elif option in {"--format", "--output", "--report"}:
            told = value if given else next(iter(arguments[at + 1 :]), "")
            yield f"{DRAWN}={told}" if option == "--report" else told
