"""Which rules are asked for, and what a project has said of its models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from normswap.errors import UsageError
from normswap.groupnorm.policy import GroupPolicy
from normswap.groupnorm.words import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

ALL = "NS"
"""What every code begins with."""

MIN_OPSET = 13


@dataclass(frozen=True, slots=True)
class LintOptions:
    """How a model is linted.

    Attributes
    ----------
    select, ignore : tuple of str
        Codes, names or beginnings of codes: ``NS101``, ``foldable-batchnorm``, ``NS2``. Of one that
        is in both the more exact decides, and else `ignore`.
    min_opset : int
        The oldest opset that is no finding.
    groups : int, "channels" or None
        The number of groups that group normalizations must have.
    group_size : int or None
        The channels in a group, in place of that.

    Raises
    ------
    UsageError
        There can't be such groups.
    """

    select: tuple[str, ...] = (ALL,)
    ignore: tuple[str, ...] = ()
    min_opset: int = MIN_OPSET
    groups: int | Literal["channels"] | None = None
    group_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse groups that can't be; codes are for :mod:`normswap.lint.selection`."""
        _ = self.policy

    @property
    def policy(self) -> GroupPolicy | None:
        """The rule for groups, where there is one."""
        if self.groups is None and self.group_size is None:
            return None
        if self.groups is not None and self.group_size is not None:
            raise UsageError(
                "A number of groups and a group size were given; only one of them is possible."
            )
        number = None if self.groups == CHANNELS else self.groups
        if number is not None and not isinstance(number, int):
            raise UsageError(f"groups={number!r} is neither a number nor {CHANNELS!r}.")
        return GroupPolicy(number, self.group_size)

    def selecting(self, select: Sequence[str] | None, ignore: Sequence[str]) -> LintOptions:
        """Return them with another selection, and more that is ignored."""
        chosen = self.select if select is None else tuple(select)
        return replace(self, select=chosen, ignore=(*self.ignore, *ignore))
