"""Channels of a BatchNormalization are constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class DeadChannels(Rule):
    """The scale of a BatchNormalization is zero or nearly zero in some channels."""

    code = "NS202"
    name = "dead-channels"
    level = "note"
    what = "The scale of a BatchNormalization is zero or nearly zero in some channels."
    why = (
        "These channels are computed, but have the same value for every input: they could be "
        "removed."
    )
    how = "Prune the channels, or train with less weight decay on scales."

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield them."""
        del options
        for layer, health in subject.health:
            if health.dead:
                told = f"its scale is zero or nearly zero in {health.some(health.dead)}"
                yield self.finding(told, layer.node, layer.graph)


RULE = DeadChannels()
