"""The statistics of a BatchNormalization are those of its first hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class UntrainedStatistics(Rule):
    """All means of a BatchNormalization are 0 and all its variances are 1."""

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

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield them."""
        del options
        for layer, health in subject.health:
            if health.untrained:
                told = "all means are 0 and all variances 1, as before training"
                yield self.finding(told, layer.node, layer.graph)


RULE = UntrainedStatistics()
