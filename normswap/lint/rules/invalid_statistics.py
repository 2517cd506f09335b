"""The numbers of a BatchNormalization can't be right."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class InvalidStatistics(HealthRule):
    """A parameter of a BatchNormalization has a NaN or infinity, or its variance can't be one."""

    code = "NS201"
    name = "invalid-statistics"
    level = "error"
    what = (
        "A parameter of a BatchNormalization has a NaN or infinity, or its variance can't be one."
    )
    why = "The network gives NaN, or another number in every runtime."
    how = "Look at the training: it diverged, or the checkpoint or a cast to float16 is broken."
    kinds = ("broken", "invalid")


RULE = InvalidStatistics()
