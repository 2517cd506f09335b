"""What is known of a network that became another on its way, and is to be the same function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.plain import AsDict

if TYPE_CHECKING:
    from normswap.check.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Sameness(AsDict):
    """Whether a network that was normalized or permuted is the same function as the original.

    Attributes
    ----------
    verdict : Verdict
    proved : bool
        Whether it is for all inputs; else it was tested.
    reasons : tuple of str
        Why it is not.
    """

    verdict: Verdict
    proved: bool
    reasons: tuple[str, ...] = ()
