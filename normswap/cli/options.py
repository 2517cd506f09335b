"""Arguments and options that several commands share, and what they mean."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from normswap.errors import UsageError

STDIO = "-"

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def model_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the MODEL argument: a path, ``-`` or nothing for a pipe."""
    return click.argument("model", required=False, metavar="[MODEL]")(function)


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the result goes."""
    for option in reversed(
        (
            click.option(
                "-o", "--output", metavar="FILE",
                help="Where the result goes; - is standard output.  [default: beside MODEL, with a "
                "name that can't overwrite it; standard output if MODEL comes through a pipe]",
            ),
            click.option("--force", is_flag=True, help="Replace FILE if it exists."),
            click.option("--in-place", is_flag=True, help="Replace MODEL by the result."),
        )
    ):
        function = option(function)
    return function


def source_of_command(model: str | None) -> Path | BinaryIO:
    """Return what a command reads.

    Raises
    ------
    UsageError
        If no model is named and standard input is a terminal.
    """
    if model is not None and model != STDIO:
        return Path(model)
    stream = click.get_binary_stream("stdin")
    if model is None and stream.isatty():
        raise UsageError(
            "No model: name a file, or pipe one in.", tip="For example: normswap fold model.onnx"
        )
    return stream


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command writes.

    Attributes
    ----------
    output : Path or binary stream
    overwrite : bool
        Whether an existing file may be replaced.
    """

    output: Path | BinaryIO
    overwrite: bool

    @property
    def is_stdout(self) -> bool:
        """Whether the model goes to standard output, which then carries nothing else."""
        return not isinstance(self.output, Path)


def target_of_command(
    source: Path | BinaryIO, output: str | None, *, suffix: str, force: bool, in_place: bool
) -> Target:
    """Return where a command writes.

    Parameters
    ----------
    source : Path or binary stream
        What the command reads.
    output : str or None
        The value of ``--output``.
    suffix : str
        What the default name adds to the model's: ``"folded"`` for ``model.folded.onnx``.
    force, in_place : bool
        The flags of :func:`output_options`.

    Raises
    ------
    UsageError
        If the options contradict each other, or a model would go to a terminal.
    """
    if in_place:
        if output is not None:
            raise UsageError("--in-place and --output exclude each other.")
        if not isinstance(source, Path):
            raise UsageError("--in-place needs a model file, not a pipe.")
        return Target(source, overwrite=True)
    if output is None and isinstance(source, Path):
        return Target(source.with_name(f"{source.stem}.{suffix}{source.suffix or '.onnx'}"), force)
    if output is None or output == STDIO:
        stream = click.get_binary_stream("stdout")
        if stream.isatty():
            raise UsageError(
                "The model would go to the terminal.", tip="Name a file with -o, or pipe it on."
            )
        return Target(stream, overwrite=True)
    target = Path(output)
    if isinstance(source, Path) and not force and _same_file(source, target):
        raise UsageError(
            f"{target} is the model itself.", tip="Use --in-place if that is what you want."
        )
    return Target(target, force)


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def say_on(target_is_stdout: bool) -> Any:
    """Return the stream for the report of a command: stdout, unless the model goes there."""
    return sys.stderr if target_is_stdout else sys.stdout
