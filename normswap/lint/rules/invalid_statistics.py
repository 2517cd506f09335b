"""The numbers of a BatchNormalization can't be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class InvalidStatistics(Rule):
    """A parameter of a BatchNormalization is NaN or infinite, or its variance is negative."""

    code = "NS201"
    name = "invalid-statistics"
    level = "error"
    what = "A parameter of a BatchNormalization is NaN or infinite, or its variance is negative."
    why = "The outputs become NaN, or differ from runtime to runtime."
    how = (
        "Check the training, which may have diverged, and the checkpoint or cast to float16, "
        "which may be broken."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield them."""
        del options
        for layer, health in subject.health:
            told = list(health.broken)
            if health.invalid:
                told.append(
                    "its variance is invalid (negative, NaN or infinite) in "
                    f"{health.some(health.invalid)}"
                )
            if told:
                yield self.finding("; ".join(told), layer.node, layer.graph)


RULE = InvalidStatistics()
