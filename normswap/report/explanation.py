"""Why normalizations were folded or kept: the part of a plan that a name is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from normswap.errors import ExitCode
from normswap.folding.plan import Folded, Kept
from normswap.plain import AsDict

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Explanation(AsDict):
    """Entries of a plan.

    Attributes
    ----------
    name : str
        What was asked for.
    """

    name: str
    folded: tuple[Folded, ...]
    kept: tuple[Kept, ...]

    SCHEMA: ClassVar[str] = "normswap/explain/1"

    @classmethod
    def of(cls, name: str, entries: Iterable[Folded | Kept]) -> Explanation:
        """Sort entries of a plan by what became of them."""
        entries = tuple(entries)
        return cls(
            name,
            tuple(entry for entry in entries if isinstance(entry, Folded)),
            tuple(entry for entry in entries if isinstance(entry, Kept)),
        )

    @property
    def exit_code(self) -> ExitCode:
        """An explanation changes nothing, so nothing can be wrong with it."""
        return ExitCode.OK
