"""Arguments of commands that take one model or many, and which of it is meant."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from normswap.cli.completing import files
from normswap.cli.options import Decorator, together
from normswap.cli.source_and_target import STDIO
from normswap.cli.values import Asked

if TYPE_CHECKING:
    from collections.abc import Callable


many_options = together(
    click.option(
        "--from-file",
        "listed",
        metavar="FILE",
        help="Read the models from FILE, one path per line; for `check`, two paths with a "
        "tab between them. - is standard input.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="With several models: work on N of them at a time.  [default: one per processor]",
    ),
    click.option(
        "--resume",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="With several models: record in FOLDER what was done, and skip what is "
        "recorded there and has not changed.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="With several models: work on the Dask cluster whose scheduler is at ADDRESS.",
    ),
)
"""The options of a command that takes many models."""


def models_argument(*, makes: str = "", several: bool = False) -> Decorator:
    """Return what adds the MODEL argument: one model, or many.

    One is a path, ``-``, or nothing for a pipe, and goes to the function. Many are several, those
    of a folder, pattern, list or URL, and the command is run on each.

    Parameters
    ----------
    makes : str
        What the default name of a result adds to the model's; empty if the command makes none.
    several : bool
        Whether the function takes ``models``, of which several files are no reason to run it on
        each, and not ``model``.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            models, asked = given.pop("models"), _asked(given)
            if not asked.is_any and (several or len(models) < 2) and not _stands_for_many(models):
                return function(models=models, **given) if several else function(
                    model=models[0] if models else None, **given
                )  # fmt: skip
            from normswap.cli.fleet import run_on_models

            return run_on_models(models, asked, given, makes=makes)

        argument = click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=files)
        return together(argument, many_options)(command)

    return add


def pairs_arguments(*names: str) -> Decorator:
    """Return what adds two arguments: two models, or two folders of such."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            asked = _asked(given)
            words = tuple(given[name] for name in names if given[name] is not None)
            if not asked.is_any and not _stands_for_many(words):
                return function(**given)
            from normswap.cli.fleet import run_on_pairs

            return run_on_pairs(words, asked, given)

        arguments = (
            click.argument(name, type=click.Path(dir_okay=True), required=False) for name in names
        )
        return together(*arguments, many_options)(command)

    return add


def _asked(given: dict[str, Any]) -> Asked:
    return Asked(*(given.pop(name) for name in Asked._fields))


def _stands_for_many(words: tuple[str, ...]) -> bool:
    # A Path would raise for a name that is too long to be one.
    words = tuple(word for word in words if word != STDIO and not os.path.isfile(word))  # noqa: PTH113
    if not words:
        return False
    from normswap.fleet.places import is_many

    return any(is_many(word) for word in words)
