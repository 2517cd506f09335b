"""The numbers of a BatchNormalization, as :mod:`normswap.inspection.health` finds them."""

from __future__ import annotations

from normswap.lint.rule import HealthRule


class InvalidStatistics(HealthRule):
    code = "NS201"
    name = "invalid-statistics"
    level = "error"
    what = "A parameter of a BatchNormalization is NaN or infinite, or its variance is negative."
    why = "The outputs become NaN, or differ from runtime to runtime."
    how = (
        "Check the training, which may have diverged, and the checkpoint or cast to float16, "
        "which may be broken."
    )
    kinds = ("broken", "invalid")


class DeadChannels(HealthRule):
    code = "NS202"
    name = "dead-channels"
    level = "note"
    what = "The scale of a BatchNormalization is zero or nearly zero in some channels."
    why = (
        "These channels are computed, but have the same value for every input: they could be "
        "removed."
    )
    how = "Prune the channels, or train with less weight decay on scales."
    kinds = ("dead",)


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


class UntrainedStatistics(HealthRule):
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
    kinds = ("untrained",)


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


RULES = (
    InvalidStatistics(),
    DeadChannels(),
    VanishingVariance(),
    UntrainedStatistics(),
    HalfStatistics(),
)
