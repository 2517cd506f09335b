"""Variances underflow in float16."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class HalfStatistics(HealthRule):
    code = "NS205"
    name = "half-statistics"
    what = "The variance of a BatchNormalization is a float16 that is zero or subnormal."
    why = (
        "Such a number has few digits left, or none, and the scale is divided by its "
        "square root: these channels are wrong by percents."
    )
    how = "Keep statistics in float32 when converting to float16, or fold before converting."
    kinds = ("subnormal",)


RULE = HalfStatistics()
