"""Every error normswap raises on purpose, with the exit code its command ends with.

::

    NormswapError
    ├── NotEquivalentError        1  a rewrite was made and its check found a difference
    ├── UsageError                2  the call asks for something that makes no sense
    ├── ModelError                3  the model is unreadable, invalid or unsupported
    │   └── DataError             3  the user's data is
    ├── RunError                  4  the runtime or execution provider is unavailable,
    │   └── RunTimeoutError       4  crashed, or took too long
    └── InconclusiveError         5  nothing was compared, or nothing could be concluded

The exit codes are part of the interface: scripts and CI depend on them.
"""

from __future__ import annotations

import enum
from typing import ClassVar


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
        One sentence on what to do about it.
    """

    exit_code: ClassVar[ExitCode]

    def __init__(self, message: str, *, tip: str | None = None) -> None:
        super().__init__(message)
        self.tip = tip


class NotEquivalentError(NormswapError):
    """A rewrite was made, and its check found a difference."""

    exit_code = ExitCode.FINDINGS


class UsageError(NormswapError):
    """The call asks for something that makes no sense."""

    exit_code = ExitCode.USAGE


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


class InconclusiveError(NormswapError):
    """Nothing was compared, or nothing could be concluded."""

    exit_code = ExitCode.INCONCLUSIVE
