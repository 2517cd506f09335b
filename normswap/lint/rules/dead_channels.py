"""Channels of a BatchNormalization are constant."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class DeadChannels(HealthRule):
    code = "NS202"
    name = "dead-channels"
    level = "note"
    what = "The scale of a BatchNormalization is zero or nearly zero in some channels."
    why = (
        "These channels are computed, but have the same value for every input: they could be "
        "removed."
    )
    how = "Prune the channels, or train with less weight decay on scales."
    kinds = ("dead",)


RULE = DeadChannels()
