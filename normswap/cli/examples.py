"""The examples of a command: its help ends with them, and an error that lacks a model shows one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


def for_example(context: click.Context) -> str | None:
    """Return the tip for a command without its arguments: the first example of its help.

    The first one is how the command is mostly used, and not always the shortest that works:
    ``bn-to-gn`` runs without ``--groups``, but its number of groups is a choice to be made.
    """
    found = re.search(r"^  (normswap .*?)(?:  .*)?$", context.command.epilog or "", re.MULTILINE)
    return f"For example: {found[1]}" if found else None
