"""What the options of many models ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Asked:
    """How many models are to be worked on.

    Attributes
    ----------
    listed : str or None
        The file that names them.
    jobs : int or None
        How many at a time.
    resume : Path or None
        The folder of what was done.
    scheduler : str or None
        The address of a Dask scheduler.
    """

    listed: str | None
    jobs: int | None
    resume: Path | None
    scheduler: str | None

    @property
    def is_any(self) -> bool:
        """Whether an option is given that makes sense for many models only."""
        return any(
            each is not None for each in (self.listed, self.jobs, self.resume, self.scheduler)
        )
