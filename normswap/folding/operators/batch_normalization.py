"""BatchNormalization met by the affine of another one: they compose.

Up, with ``y = scale*(x - mean)/sqrt(var + epsilon) + B``: ``scale' = s*scale``, ``B' = s*B + t``.
Down: ``scale' = s*scale`` and ``B' = B + scale*(t + (s - 1)*mean)/sqrt(var + epsilon)``.
Mean and var stay; nothing is divided by s, which may be 0. But where s enlarges, a mean that stays
would be enlarged with x and taken off again by B', which would leave few digits; there
``mean' = (mean - t)/s``, and B stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer
from normswap.folding.edits import Replace
from normswap.folding.operators.base import Operator
from normswap.graph.batchnorm import affine_of, is_per_activation
from normswap.graph.evaluate import constant_of
from normswap.graph.formulas import Scaled
from normswap.graph.reasons import Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node


class BatchNormalization(Operator):
    """Absorbs an affine of its channels into scale and B."""

    ops = ("BatchNormalization",)

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        affine_of(node)  # or it is blocked
        self._require_channels(node, affine)
        s, t = affine.vectors(constant_of(node.input(1)).shape[0])
        return self._edited(node, s, s, t)

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        if slot != 0:
            detail = f"uses {node.operand(slot).name} as a parameter"
            raise self.blocked(node, detail, Reason.NOT_CONSTANT)
        own, mean = affine_of(node), constant_of(node.input(3))
        self._require_channels(node, affine)
        channels = mean.shape[0]
        s, t = affine.vectors(channels)
        gain, _ = own.vectors(channels)
        wide, enlarges = mean.wide(), np.abs(s) > 1
        shift = np.where(enlarges, 0, gain * (t + (s - 1) * wide))
        answer = self._edited(node, s, np.ones(()), shift)
        if not enlarges.any():
            return answer
        moved = np.where(enlarges, (wide - t) / np.where(enlarges, s, 1), 0)
        centre = Scaled(mean, 1.0 - enlarges, moved)
        edit = Replace(node.key, 3, centre, node.operand(3).name)
        return replace(answer, edits=(*answer.edits, edit))

    def _require_channels(self, node: Node, affine: Affine) -> None:
        if not affine.varies_only_along(1) or is_per_activation(node):
            raise self.blocked(node, "can absorb only one scale and shift per channel", Reason.AXIS)

    @staticmethod
    def _edited(node: Node, scale: np.ndarray, bias: np.ndarray, shift: np.ndarray) -> Answer:
        edits: list[Replace] = []
        for slot, factor, addend in ((1, scale, None), (2, bias, shift)):
            changed = Scaled(constant_of(node.inputs[slot]), factor, addend)
            edits.append(Replace(node.key, slot, changed, node.operand(slot).name))
        return Answer(tuple(edits), note="scale *= s, B = s*B + t")
