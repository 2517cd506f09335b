"""The variance of a BatchNormalization is next to nothing."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class VanishingVariance(HealthRule):
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
    kinds = ("vanishing",)


RULE = VanishingVariance()
