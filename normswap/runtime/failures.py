"""What can go wrong in a child process: told by kind, and made an error for a person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from normswap.errors import ModelError, NormswapError, RunError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = re.compile(r"Load model from .*? failed: ?")
"""What onnxruntime calls a model: a path that may be temporary, where a sentence has its label."""


class WorkerError(Exception):
    """Something went wrong that the parent should tell in its own words.

    Parameters
    ----------
    kind : str
        ``provider``, ``unsupported``, ``type``, ``invalid``, ``run``, ``memory`` or ``arbiter``.
    message : str
        What the runtime said, on one line; of ``provider`` a sentence for a person.
    tip : str, optional
        What to do about it, where only the child can tell.
    """

    def __init__(self, kind: str, message: str, tip: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.tip = tip

    def to_dict(self) -> dict[str, str | None]:
        """Return the error as it goes to the parent."""
        return {"kind": self.kind, "message": str(self), "tip": self.tip}


class UnsupportedByRuntimeError(RunError):
    """The runtime has no kernel for an operator, or no Python for a type, of the model."""


class ProviderError(RunError):
    """The execution provider, or onnxruntime itself, can't be used here."""


class ArbiterError(RunError):
    """The float64 arbiter cannot evaluate the model."""


def failure(error: Mapping[str, str | None], label: str) -> NormswapError:
    """Return what a child tells (`WorkerError.to_dict`) as an error for a person.

    Parameters
    ----------
    error : Mapping of str to str or None
    label : str
        What to call the model.
    """
    kind = error["kind"]
    message = _FILE.sub("", error["message"] or "")
    if kind == "provider":
        return ProviderError(message, tip=error["tip"])
    if kind == "memory":
        return RunError(
            f"{label} ran out of memory{f': {message}' if message else '.'}",
            tip="Use smaller inputs (--input-shape), or raise the memory limit if one was set.",
        )
    if kind == "invalid":
        return ModelError(f"onnxruntime says that {label} is invalid: {message}")
    if kind == "unsupported":
        return UnsupportedByRuntimeError(
            f"onnxruntime has no kernel for an operator of {label}: {message}"
        )
    if kind == "type":
        return UnsupportedByRuntimeError(
            f"onnxruntime can't exchange values with Python of a type that {label} has as "
            f"an input or output: {message}"
        )
    if kind == "arbiter":
        return ArbiterError(f"normswap can't evaluate {label} in float64: {message}")
    return RunError(f"onnxruntime could not run {label}: {message}")
