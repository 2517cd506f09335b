"""Functions that are a more general one with some of its parameters settled."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_SECTION = re.compile(r"^(?=\w+\n-+$)", re.MULTILINE)
_ENTRY = re.compile(r"^(?=\w)", re.MULTILINE)


def narrowed(
    general: Callable[..., R], *settled: str
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function show the parameters of a general one, which it takes as ``**options``.

    ``help`` and :func:`inspect.signature` show each with its type and default, and the docstring
    has what that of the general function says of them, of what it returns and what it raises.

    Parameters
    ----------
    *settled : str
        Parameters that the function settles, and does not take.
    """
    signature = inspect.signature(general)
    taken = [p for p in signature.parameters.values() if p.name not in settled]

    def show(function: Callable[P, R]) -> Callable[P, R]:
        shown: Any = function
        shown.__signature__ = signature.replace(parameters=taken)
        if general.__doc__ and function.__doc__:  # neither is there under -OO
            shown.__doc__ = _documented(inspect.cleandoc(function.__doc__), general, settled)
        return function

    return show


def _documented(own: str, general: Callable[..., Any], settled: tuple[str, ...]) -> str:
    """Put the sections of the general docstring, but its examples, into one's own."""
    _, parameters, *others = _SECTION.split(inspect.getdoc(general) or "")
    head, *entries = _ENTRY.split(parameters)[1:]
    taken = [entry for entry in entries if entry.partition(" :")[0] not in settled]
    summary, *examples = _SECTION.split(own)
    told = (section for section in others if not section.startswith("Examples"))
    return "".join([summary, head, *taken, *told, *examples])
