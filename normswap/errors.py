"""Every error normswap raises on purpose, with the exit code its command ends with.

::

    NormswapError
    ├── UnprovenError                a rewrite was made, and its check does not vouch for it:
    │   ├── NotEquivalentError    1    it found a difference
    │   └── InconclusiveError     5    nothing was compared, or nothing could be concluded
    ├── UsageError                2  the call asks for something that makes no sense; a ValueError
    ├── ModelError                3  the model is unreadable, invalid or unsupported
    │   └── DataError             3  the user's data is
    └── RunError                  4  the runtime or execution provider is unavailable,
        └── RunTimeoutError       4  crashed, or took too long

The exit codes are part of the interface: scripts and CI depend on them.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar

from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExitCode(enum.IntEnum):
    """How a normswap command ends."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    MODEL = 3
    RUN = 4
    INCONCLUSIVE = 5


class NormswapError(Exception):
    """Base of all errors that normswap raises on purpose.

    Parameters
    ----------
    message : str
        One sentence for a person: what is wrong, in which model and node.
    tip : str, optional
        One sentence on what to do about it; a traceback ends with it, from Python 3.11 on.
    """

    exit_code: ClassVar[ExitCode]

    def __init__(self, message: str, *, tip: str | None = None) -> None:
        super().__init__(message)
        self.tip = tip

    @property
    def tip(self) -> str | None:
        """What to do about it."""
        return self._tip

    @tip.setter
    def tip(self, tip: str | None) -> None:
        self._tip = tip
        self.__notes__ = [] if tip is None else [f"tip: {tip}"]


class UnprovenError(NormswapError):
    """A rewrite was made, but its check did not confirm it. Nothing was saved.

    Parameters
    ----------
    message : str
    report : FoldReport or SwapReport
        What was done, and what the check found.
    tip : str, optional
    """

    def __init__(self, message: str, *, report: Any, tip: str | None = None) -> None:
        super().__init__(message, tip=tip)
        self.report = report


class NotEquivalentError(UnprovenError):
    """A rewrite was made, and its check found a difference."""

    exit_code = ExitCode.FINDINGS


class InconclusiveError(UnprovenError):
    """Nothing was compared, or nothing could be concluded."""

    exit_code = ExitCode.INCONCLUSIVE


class UsageError(NormswapError, ValueError):
    """The call asks for something that makes no sense."""

    exit_code = ExitCode.USAGE


def require_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a value that an option doesn't have.

    Parameters
    ----------
    name : str
        Of the option.
    value : object
        What was given for it.
    choices : iterable of str
        What is allowed.

    Raises
    ------
    UsageError
        It lists what is allowed.
    """
    allowed = list(choices)
    if value not in allowed:
        raise UsageError(
            f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}.",
            tip=did_you_mean(str(value), allowed),
        )


class ModelError(NormswapError):
    """The model is unreadable, invalid or unsupported."""

    exit_code = ExitCode.MODEL


class DataError(ModelError):
    """The user's data (inputs, calibration sets) is unreadable, invalid or unsupported."""


class RunError(NormswapError):
    """The runtime or execution provider is unavailable, or crashed."""

    exit_code = ExitCode.RUN


class RunTimeoutError(RunError):
    """The runtime took longer than it was given."""
