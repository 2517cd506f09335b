"""The statistics of a BatchNormalization are those of its first hour."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class UntrainedStatistics(HealthRule):
    code = "NS204"
    name = "untrained-statistics"
    what = "All means of a BatchNormalization are 0 and all its variances are 1."
    why = (
        "These are the initial values: the layer was never trained, or its statistics "
        "were not loaded."
    )
    how = (
        "Load the running statistics with the weights, or estimate them with `normswap "
        "recalibrate`."
    )
    kinds = ("untrained",)


RULE = UntrainedStatistics()
