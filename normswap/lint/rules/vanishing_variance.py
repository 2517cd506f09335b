"""The variance of a BatchNormalization is next to nothing."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class VanishingVariance(HealthRule):
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
    kinds = ("vanishing",)


RULE = VanishingVariance()
