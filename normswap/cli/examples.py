"""The examples of a command: its help ends with them, and an error that lacks a model shows one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


def for_example(context: click.Context) -> str:
    """Return the tip for a command without its arguments: the first example of its help.

    The first one is how the command is mostly used, and not always the shortest that works:
    ``bn-to-gn`` runs without ``--groups``, but its number of groups is a choice to be made.

    Raises
    ------
    AssertionError
        The help of the command has no examples.
    """
    found = re.search(r"^  (normswap .*?)(?:  .*)?$", context.command.epilog or "", re.MULTILINE)
    if found is None:
        raise AssertionError(f"{context.command_path} has no examples")
    return f"For example: {found[1]}"
