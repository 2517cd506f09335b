"""How the command that is running tells what it did, or why it could not."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import click

from normswap.cli.written import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TextIO

    from normswap.report.envelope import Input, Report

DEFAULT = "text"
JSON = "json"

Read = TypeVar("Read", "Path", BinaryIO)


class Telling:
    """In which format a command tells its report, to whom, and what it has read.

    Parameters
    ----------
    arguments : sequence of str
        Of the program. Where they are wrong, an error about them still takes the format that they
        seem to ask for.
    written : Written
        Knows whether the model goes to standard output, which then carries nothing else.
    """

    def __init__(self, arguments: Sequence[str], written: Written) -> None:
        self.format = _format_of(arguments)
        self.command = next((word for word in arguments if not word.startswith("-")), None)
        self._inputs: list[Input | _Hashed] = []
        self._written = written

    @property
    def stream(self) -> TextIO:
        """Where a report goes: standard output, unless the model goes there."""
        return sys.stderr if self._written.takes_stdout else sys.stdout

    def reads(self, source: Read) -> Read:
        """Note what a command reads, before it may be replaced; use what is returned.

        Only JSON names the inputs by their hashes, so nothing is hashed for other formats.
        """
        if self.format != JSON:
            return source
        from pathlib import Path

        if isinstance(source, Path):
            from normswap.report.envelope import files_of

            self._inputs += files_of(source)
            return source
        stream = _Hashed(source)
        self._inputs.append(stream)
        return cast("Read", stream)

    def tell(
        self,
        report: Report,
        *,
        quiet: bool = False,
        verbose: int = 0,
        command: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Write the report.

        Parameters
        ----------
        report : FoldReport, ...
        quiet : bool
            Leave it out if all is fine; but a program gets its JSON.
        verbose : int
        command : str, optional
            What was run, if not the command that was typed.
        exit_code : int, optional
            How the command ends, if not as the report says.
        """
        code = int(report.exit_code if exit_code is None else exit_code)
        if quiet and not code and self.format != JSON:
            return
        from normswap.report import tell

        envelope = None
        if self.format == JSON:
            from normswap.report.envelope import around

            inputs = (i.found() if isinstance(i, _Hashed) else i for i in self._inputs)
            envelope = around(command or self.command, code, tuple(inputs))
        tell(report, self.format, self.stream, verbose=verbose, envelope=envelope)

    def fail(
        self,
        kind: str,
        message: str,
        tip: str | None,
        exit_code: int,
        show: Callable[[], None],
    ) -> None:
        """Tell an error: a person, by `show`, and a program that waits for JSON.

        Where the report goes to standard error itself, it is the JSON alone.
        """
        if self.format == JSON:
            from normswap.report.envelope import Error, Failure

            # Whoever reads standard output may have gone, and is then told nothing.
            with contextlib.suppress(OSError):
                self.tell(Failure(Error(kind, message, tip), exit_code))
            if self._written.takes_stdout:
                return
        show()


class _Hashed:
    """A stream whose bytes are hashed as they are read."""

    def __init__(self, stream: BinaryIO) -> None:
        import hashlib

        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    def fileno(self) -> int:
        return self._stream.fileno()

    def found(self) -> Input:
        from normswap.report.envelope import Input

        return Input("<stdin>", self._digest.hexdigest())


def telling() -> Telling:
    """Return how the command that is running tells."""
    context = click.get_current_context(silent=True)
    found = context.find_object(dict) if context else None
    return cast("Telling", found[Telling]) if found else Telling((), Written())


def format_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say in which format a command reports."""
    from normswap.report.formats import names

    def choose(context: click.Context, parameter: click.Parameter, value: object) -> None:
        del context, parameter
        if value:
            telling().format = JSON if value is True else str(value)

    function = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=choose,
        help="The same as --format json.",
    )(function)
    return click.option(
        "--format",
        type=click.Choice(names()),
        expose_value=False,
        callback=choose,
        help=f"How to report.  [default: {DEFAULT}]",
    )(function)


def _format_of(arguments: Sequence[str]) -> str:
    """Return the format that arguments ask for, which nothing else is known to be right of."""
    for at, word in enumerate(arguments):
        if word == "--":
            break
        option, _, value = word.partition("=")
        if word == "--json":
            return JSON
        if option == "--format":
            from normswap.report.formats import names

            value = value or next(iter(arguments[at + 1 :]), "")
            return value if value in names() else DEFAULT
    return DEFAULT
