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
    """The variance of a BatchNormalization is not larger than epsilon in some channels."""

    code = "NS203"
    name = "vanishing-variance"
    level = "note"
    what = "The variance of a BatchNormalization is not larger than epsilon in some channels."
    why = (
        "Epsilon then decides their scale: they hardly varied in training, and any later "
        "variation is amplified."
    )
    how = (
        "Look for dead activations before the layer; `normswap recalibrate` estimates the "
        "statistics again."
    )

    def find(self, subject: Subject, options: LintOptions) -> Iterator[Finding]:
        """Yield them."""
        del options
        for layer, health in subject.health:
            if health.vanishing:
                told = f"its variance is not larger than epsilon in {health.some(health.vanishing)}"
                yield self.finding(told, layer.node, layer.graph)


RULE = VanishingVariance()
