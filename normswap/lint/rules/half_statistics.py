"""Variances underflow in float16."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class HalfStatistics(Rule):
    """The variance of a BatchNormalization is a float16 that is zero or subnormal."""

    code = "NS205"
    name = "half-statistics"
    what = "The variance of a BatchNormalization is a float16 that is zero or subnormal."
    why = (
        "Such a number has few digits left, or none, and the scale is divided by its "
        "square root: these channels are wrong by percents."
    )
    how = "Keep statistics in float32 when converting to float16, or fold before converting."

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield them."""
        del options
        for layer, health in subject.health:
            if health.subnormal:
                told = (
                    f"its float16 variance is zero or subnormal in {health.some(health.subnormal)}"
                )
                yield self.finding(told, layer.node, layer.graph)


RULE = HalfStatistics()
