"""Normalizations: by channel, by groups of them, and over an axis in whichever order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.permuting.operators.at import X, Y
from normswap.permuting.operators.elementwise import elementwise

if TYPE_CHECKING:
    from normswap.permuting.operators.at import At


def _by_channel(at: At) -> None:
    places = ("", "c", *[""] * (len(at.shape(X)) - 2))
    vectors = [port for port in at.ports() if port not in (X, Y)]
    at.roles({X: places, Y: places, **dict.fromkeys(vectors, ("c",))})


def _by_group(at: At) -> None:
    places = ("", "c", *[""] * (len(at.shape(X)) - 2))
    channels, groups = at.size(X, 1), int(at.attr("num_groups", 1))
    vectors = [(False, slot) for slot in (1, 2) if at.size((False, slot), 0) == channels]
    at.roles({X: places, Y: places, **dict.fromkeys(vectors, ("c",))})
    at.fence(at.labels, np.arange(channels) // (channels // groups))


FOLLOW = {
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _by_channel),
    "GroupNormalization": _by_group,
    # Over one axis or several: each element by all of them, whatever their order.
    **dict.fromkeys(
        (
            "LayerNormalization",
            "LogSoftmax",
            "LpNormalization",
            "MeanVarianceNormalization",
            "RMSNormalization",
            "Softmax",
        ),
        elementwise,
    ),
}
