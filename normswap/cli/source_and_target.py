"""Where a command reads its model, and where it writes the result."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import click

from normswap.cli.examples import for_example
from normswap.cli.telling import telling
from normswap.cli.written import will_write, will_write_to
from normswap.errors import UsageError

STDIO = "-"


def source_of_command(model: str | None) -> Path | BinaryIO:
    """Return what a command reads.

    Raises
    ------
    UsageError
        If no model is named, and standard input is a terminal or empty.
    """
    if model == "":
        raise UsageError("The path of the model is empty.")
    if model is not None and model != STDIO:
        return telling().reads(Path(model))
    stream = sys.stdin.buffer
    # Whether there is something to read is seen without taking it, where a stream lets one peek.
    if model is None and (stream.isatty() or (hasattr(stream, "peek") and not stream.peek(1))):
        empty = "" if stream.isatty() else ", and standard input is empty"
        raise UsageError(
            f"No model was given{empty}: name a file, or pipe one in.",
            tip=for_example(click.get_current_context()),
        )
    return telling().reads(stream)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a command writes.

    Attributes
    ----------
    overwrite : bool
        Whether an existing file may be replaced.
    copy : bool
        Whether a model to which there is nothing to do goes there too: where it was asked for by
        name, or waits for something in a pipe.
    """

    output: Path | BinaryIO
    overwrite: bool
    copy: bool = True


def target_of_command(
    source: Path | BinaryIO, output: str | None, *, suffix: str, force: bool, in_place: bool
) -> Destination:
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
        If the options contradict each other, the output exists, or a model would go to a terminal.
    """
    output = telling().model_file if output is None else output
    if output == "":
        raise UsageError("The path of the output is empty.")
    if in_place:
        if output is not None:
            raise UsageError("--in-place and -o can't be used together.")
        if not isinstance(source, Path):
            raise UsageError("--in-place needs a model file; standard input can't be replaced.")
        will_write(source)
        return Destination(source, overwrite=True, copy=False)
    if output is None and isinstance(source, Path):
        return replace(_file_target(beside(source, suffix), force=force), copy=False)
    if output is None or output == STDIO:
        stream = sys.stdout.buffer
        if stream.isatty():
            raise UsageError(
                "The model would be written to the terminal.",
                tip="Name a file with -o, or pipe the output to another program.",
            )
        return Destination(will_write_to(stream), overwrite=True)
    target = Path(output)
    if isinstance(source, Path) and not force and _same_file(source, target):
        raise UsageError(
            f"{target} is the input model itself.",
            tip="To replace the model with the result, use --in-place.",
        )
    return _file_target(target, force=force)


def beside(source: Path, suffix: str) -> Path:
    """Return where the result goes that nobody gave a name."""
    return source.with_name(f"{source.stem}.{suffix}{source.suffix or '.onnx'}")


def _file_target(path: Path, *, force: bool) -> Destination:
    """Refuse an existing file before any work is done for it."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", tip="Give the path of a file in it.")
    if path.exists() and not force:
        raise UsageError(
            f"{path} already exists.",
            tip="Use --force to replace it, or -o to choose another name.",
        )
    will_write(path)
    return Destination(path, force)


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
