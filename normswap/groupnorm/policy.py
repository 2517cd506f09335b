"""How many groups a layer gets, and what to say where that is impossible.

Wu and He, "Group Normalization" (ECCV 2018), table 3: either the number of groups is fixed (32 by
default), or the number of channels in a group is.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from normswap.errors import UsageError, require_choice
from normswap.groupnorm.words import CHANNELS, DEFAULT_GROUPS

if TYPE_CHECKING:
    from collections.abc import Mapping


class OnIndivisible(enum.Enum):
    """What happens to a layer whose channels can't be divided as asked."""

    ERROR = "error"
    """Nothing is swapped, and all such layers are named."""
    GCD = "gcd"
    """The greatest common divisor of the number asked for and the layer's channels."""
    NEAREST = "nearest"
    """The divisor of the layer's channels nearest to the number asked for, of two the smaller."""
    KEEP = "keep"
    """The layer keeps its BatchNormalization."""


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """The rule that gives every layer its number of groups.

    Parameters
    ----------
    groups : int or None
        Number of groups; None is one for each channel (instance normalization).
    group_size : int or None
        Channels in a group, in place of `groups`.
    on_indivisible : OnIndivisible

    Raises
    ------
    UsageError
        If a number is below 1.

    Examples
    --------
    >>> GroupPolicy(groups=32).num_groups(256)
    32
    >>> GroupPolicy(group_size=16).num_groups(256)
    16
    >>> GroupPolicy(groups=32, on_indivisible=OnIndivisible.GCD).num_groups(24)
    8
    """

    groups: int | None = DEFAULT_GROUPS
    group_size: int | None = None
    on_indivisible: OnIndivisible = OnIndivisible.ERROR

    def __post_init__(self) -> None:
        """Check the numbers."""
        for number, what in ((self.groups, "number of groups"), (self.group_size, "group size")):
            if number is not None and number < 1:
                raise UsageError(
                    f"The {what} is {number}, and must be at least 1.",
                    tip="1 group is layer normalization; 'channels' is instance normalization.",
                )

    @classmethod
    def of(
        cls,
        groups: int | Literal["channels"],
        group_size: int | None,
        on_indivisible: str,
    ) -> GroupPolicy:
        """Return the rule that these words stand for.

        Parameters
        ----------
        groups : int or "channels"
        group_size : int or None
            In place of the default number of groups.
        on_indivisible : {"error", "gcd", "nearest", "keep"}

        Raises
        ------
        UsageError
            If a word is none of these, or both numbers are given.
        """
        require_choice("on_indivisible", on_indivisible, [each.value for each in OnIndivisible])
        if groups != DEFAULT_GROUPS and group_size is not None:
            raise UsageError(
                "A number of groups and a group size were given; only one of them is possible."
            )
        if not isinstance(groups, int) and groups != CHANNELS:
            raise UsageError(f"groups={groups!r} is neither a number nor {CHANNELS!r}.")
        number = groups if isinstance(groups, int) else None
        return cls(number, group_size, OnIndivisible(on_indivisible))

    @property
    def divisor(self) -> int | None:
        """The number that must divide a layer's channels; None if any layer will do."""
        return self.group_size or self.groups

    @property
    def as_option(self) -> str:
        """The option that says how many groups, as it is typed."""
        if self.group_size:
            return f"--group-size {self.group_size}"
        return f"--groups {self.groups or CHANNELS}"

    def __str__(self) -> str:
        """Say it as a person would."""
        if self.group_size:
            return f"groups of {self.group_size} channels"
        return "a group per channel" if self.groups is None else f"{self.groups} groups"

    def num_groups(self, channels: int) -> int | None:
        """Return the number of groups for a layer, None where the rule has none for it.

        Parameters
        ----------
        channels : int
            At least 1.
        """
        asked = self.divisor
        if asked is None:
            return channels
        if channels % asked:
            match self.on_indivisible:
                case OnIndivisible.GCD:
                    asked = math.gcd(asked, channels)
                case OnIndivisible.NEAREST:
                    asked = nearest_divisor(channels, asked)
                case _:
                    return None
        return channels // asked if self.group_size else asked

    def require(self, layers: Mapping[str, int]) -> None:
        """Raise one error for all layers that have no number of groups.

        Parameters
        ----------
        layers : mapping of str to int
            The channels of every layer, by the layer's name.

        Raises
        ------
        UsageError
            It names the layers, and the smallest change with which all of them would work.
        """
        asked = self.divisor
        if asked is None:
            return
        bad = {name: channels for name, channels in layers.items() if channels % asked}
        if not bad:
            return
        listed = "; ".join(f"{name} has {channels}" for name, channels in list(bad.items())[:8])
        more = f"; and {len(bad) - 8} more" if len(bad) > 8 else ""
        common = nearest_divisor(math.gcd(*layers.values()), asked)
        option = self.as_option.partition(" ")[0]
        raise UsageError(
            f"{self} don't divide the channels of {len(bad)} of {len(layers)} layers: "
            f"{listed}{more}.",
            tip=f"{option} {common} divides the channels of every layer; --on-indivisible gcd "
            "(or nearest, keep) changes only the layers that don't fit.",
        )


def nearest_divisor(channels: int, wanted: int) -> int:
    """Return the divisor of `channels` nearest to `wanted`; of two the smaller."""
    return min(divisors(channels), key=lambda divisor: (abs(divisor - wanted), divisor))


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, ascending."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})
