"""Channels of a BatchNormalization are constant."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class DeadChannels(HealthRule):
    """The scale of a BatchNormalization is zero, or next to it, in some channels."""

    code = "NS202"
    name = "dead-channels"
    level = "note"
    what = "The scale of a BatchNormalization is zero, or next to it, in some channels."
    why = "They are computed, and are the same number whatever the input: they could be cut out."
    how = "Prune them, or train with less weight decay on scales."
    kinds = ("dead",)


RULE = DeadChannels()
