"""The numbers of a BatchNormalization can't be right."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class InvalidStatistics(HealthRule):
    code = "NS201"
    name = "invalid-statistics"
    level = "error"
    what = "A parameter of a BatchNormalization is NaN or infinite, or its variance is negative."
    why = "The outputs become NaN, or differ from runtime to runtime."
    how = (
        "Check the training, which may have diverged, and the checkpoint or cast to float16, "
        "which may be broken."
    )
    kinds = ("broken", "invalid")


RULE = InvalidStatistics()
