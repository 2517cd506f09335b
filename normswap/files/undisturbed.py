"""Work that an interrupt does not leave half done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ATTEMPTS = 3


def finish(action: Callable[[], None]) -> None:
    """Do something to its end, although an interrupt comes, which is raised after that.

    An impatient person, who interrupts again and again, is not kept.

    Parameters
    ----------
    action : callable
        Can be broken off at any place and begun anew.
    """
    interrupt: KeyboardInterrupt | None = None
    for _ in range(_ATTEMPTS):
        try:
            action()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
