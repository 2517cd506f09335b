"""What the parent and the child process agree on, apart from arrays (`normswap.runtime.arrays`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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


class Stage:
    """Tells the parent what is being done, for the case that it is the last thing done."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "stage"

    def __call__(self, text: str) -> None:
        """Say what is done from now on."""
        self._path.write_text(text, encoding="utf-8")
