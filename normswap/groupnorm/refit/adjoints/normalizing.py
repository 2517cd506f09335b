"""Normalizations by statistics of what comes to them.

With n what is normalized, s the deviation and means over the same elements::

    J^T g = (g' - mean(g') - n * mean(g' * n)) / s,    g' = g * scale
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.groupnorm.refit.adjoints.base import rule, summed_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.groupnorm.refit.adjoints.base import Array, Pull, Step


@rule("GroupNormalization", "InstanceNormalization", "LayerNormalization")
def normalization(step: Step) -> Pull:
    """Return the pull of a normalization with a scale and a bias."""
    x, scale = step.given(0), step.given(1)
    spatial = (1,) * (x.ndim - 2)
    shape, axes = x.shape, tuple(range(2, x.ndim))
    if step.op == "LayerNormalization":
        axes = tuple(range(step.attributes.get("axis", -1) % x.ndim, x.ndim))
        laid = scale.reshape((1,) * (x.ndim - scale.ndim) + scale.shape)
    else:
        laid = scale
        if step.op == "GroupNormalization":
            groups = step.attributes["num_groups"]
            shape, axes = (len(x), groups, -1), (2,)
            if step.opset < 21:  # of a group, not of a channel
                laid = np.repeat(scale, x.shape[1] // groups)
        laid = laid.reshape(1, -1, *spatial)
    values = x.astype(np.float64).reshape(shape)
    centred = values - values.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + step.attributes.get("epsilon", 1e-5))
    n = (centred * inverse).astype(x.dtype)
    inverse, whole = inverse.astype(x.dtype), x.shape
    shapes = {slot: step.given(slot).shape for slot in step.active}

    def pull(g: Sequence[Array | None]) -> dict[int, Array]:
        y = g[0]
        if y is None:
            return {}
        found = {}
        for slot in shapes.keys() - {0}:
            total = summed_to(y * n.reshape(whole) if slot == 1 else y, laid.shape)
            found[slot] = total.reshape(*shapes[slot], -1).sum(axis=-1)
        if 0 in shapes:
            h = (y * laid).reshape(shape)
            along = (h * n).mean(axis=axes, keepdims=True)
            h -= h.mean(axis=axes, keepdims=True)
            h -= n * along
            h *= inverse
            found[0] = h.reshape(whole)
        return found

    return pull
