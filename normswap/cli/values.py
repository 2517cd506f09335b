"""Values of options that are more than text and numbers."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any, NamedTuple

import click

from normswap.cli.written import will_write

_SHAPE = re.compile(r"\[?\d{1,9}([,x]\d{1,9})*\]?", re.ASCII)


class InputShape(click.ParamType):  # type: ignore[type-arg, unused-ignore] # generic from click 8.2
    """``[NAME:]1,3,224,224``: the name of an input, empty where it is left out, and its shape."""

    name = "input shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """Parse the option; ``x`` separates sizes too."""
        if isinstance(value, tuple):
            return value
        name, _, sizes = value.rpartition(":")
        if not _SHAPE.fullmatch(sizes):
            self.fail(f"{value!r} is not an input shape such as x:1,3,224,224", param, ctx)
        return name, tuple(map(int, re.split("[,x]", sizes.strip("[]"))))


class Seconds(click.ParamType):  # type: ignore[type-arg, unused-ignore] # generic from click 8.2
    """A time that one can wait."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse the option."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            self.fail(f"{value!r} is not a positive number of seconds", param, ctx)
        return seconds


class SavedFile(click.ParamType):  # type: ignore[type-arg, unused-ignore] # generic from click 8.2
    """A file that a command may write beside its model: its folder is there."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Parse the option, and remember the file as one that may be written."""
        path = Path(value)
        if not value or path.is_dir():
            self.fail(f"{str(value)!r} is not the path of a file", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"folder {str(path.parent)!r} doesn't exist", param, ctx)
        will_write(path)
        return path


class Asked(NamedTuple):
    """What the options of many models ask for; of one model none of them is given."""

    listed: str | None
    jobs: int | None
    resume: Path | None
    scheduler: str | None

    @property
    def is_any(self) -> bool:
        """Whether one is given."""
        return any(each is not None for each in self)
