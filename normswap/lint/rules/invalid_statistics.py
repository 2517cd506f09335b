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
    """A parameter of a BatchNormalization has a NaN or infinity, or its variance can't be one."""

    code = "NS201"
    name = "invalid-statistics"
    level = "error"
    what = (
        "A parameter of a BatchNormalization has a NaN or infinity, or its variance can't be one."
    )
    why = "The network gives NaN, or another number in every runtime."
    how = "Look at the training: it diverged, or the checkpoint or a cast to float16 is broken."

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield them."""
        del options
        for layer, health in subject.health:
            told = list(health.broken)
            if health.invalid:
                told.append(f"its variance can't be one in {health.some(health.invalid)}")
            if told:
                yield self.finding("; ".join(told), layer.node, layer.graph)


RULE = InvalidStatistics()
