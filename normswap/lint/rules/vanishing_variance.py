"""The variance of a BatchNormalization is next to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.lint.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.findings import Finding
    from normswap.inspection.subject import Subject
    from normswap.lint.options import LintOptions


class VanishingVariance(Rule):
    """The variance of a BatchNormalization is not above epsilon in some channels."""

    code = "NS203"
    name = "vanishing-variance"
    level = "note"
    what = "The variance of a BatchNormalization is not above epsilon in some channels."
    why = (
        "Epsilon decides their scale: they hardly varied in training, and what varies later "
        "is blown up."
    )
    how = "Look for dead activations before it; normswap recalibrate estimates the statistics anew."

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield them."""
        del options
        for layer, health in subject.health:
            if health.vanishing:
                told = f"its variance is not above epsilon in {health.some(health.vanishing)}"
                yield self.finding(told, layer.node, layer.graph)


RULE = VanishingVariance()
