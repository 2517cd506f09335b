"""How a long run tells what it is doing: by calling what it was given, with a few words."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
"""Is told often, such as at every node: what shows it decides how often to."""


def silent(message: str) -> None:
    """Take a progress message and do nothing with it."""
    del message
