"""The statistics of a BatchNormalization are those of its first hour."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class UntrainedStatistics(HealthRule):
    """All means of a BatchNormalization are 0 and all its variances 1."""

    code = "NS204"
    name = "untrained-statistics"
    what = "All means of a BatchNormalization are 0 and all its variances 1."
    why = (
        "That is what a layer begins with: it was never trained, or its statistics were not loaded."
    )
    how = "Load the running statistics with the weights, or estimate them by normswap recalibrate."
    kinds = ("untrained",)


RULE = UntrainedStatistics()
