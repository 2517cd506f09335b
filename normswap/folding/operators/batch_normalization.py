"""BatchNormalization met by the affine of another one: they compose.

Up, with ``y = scale*(x - mean)/sqrt(var + epsilon) + B``: ``scale' = s*scale``, ``B' = s*B + t``.
Down: ``scale' = s*scale`` and ``B' = B + scale*(t + (s - 1)*mean)/sqrt(var + epsilon)``.
Mean and var stay; nothing is divided by s, which may be 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.answers import Answer
from normswap.folding.edits import Replace
from normswap.folding.operators.base import Answers, Operator
from normswap.graph.batchnorm import affine_of, is_per_activation
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Expression, Scaled
from normswap.graph.reasons import Block, Reason

if TYPE_CHECKING:
    from normswap.graph.affine import Affine
    from normswap.graph.network import Node


class BatchNormalization(Operator):
    """Absorbs an affine of its channels into scale and B."""

    ops = ("BatchNormalization",)

    def up(self, node: Node, index: int, affine: Affine) -> Answers:
        del index
        yield self._composed(node, affine)

    def down(self, node: Node, slot: int, affine: Affine) -> Answers:
        own = affine_of(node)
        mean = constant_of(node.input(3))
        if slot != 0:
            yield self.block(node, "takes a parameter from it", Reason.NOT_CONSTANT)
        elif isinstance(own, Block):
            yield own
        elif isinstance(mean, Block):
            yield mean
        elif not affine.varies_only_along(1) or is_per_activation(node):
            yield self.block(node, "can scale its channels only", Reason.AXIS)
        else:
            channels = mean.shape[0]
            s, t = affine.vectors(1, channels)
            gain, _ = own.vectors(1, channels)
            shift = gain * (t + (s - 1) * mean.wide())
            yield self._edited(node, s, np.ones(()), shift)

    def _composed(self, node: Node, affine: Affine) -> Answer | Block:
        own = affine_of(node)
        if isinstance(own, Block):
            return own
        if not affine.varies_only_along(1) or is_per_activation(node):
            return self.block(node, "can scale its channels only", Reason.AXIS)
        scale = constant_of(node.input(1))
        if isinstance(scale, Block):
            return scale
        s, t = affine.vectors(1, scale.shape[0])
        return self._edited(node, s, s, t)

    @staticmethod
    def _edited(
        node: Node, scale: np.ndarray, bias: np.ndarray, shift: np.ndarray
    ) -> Answer | Block:
        edits: list[Replace] = []
        for slot, factor, addend in ((1, scale, None), (2, bias, shift)):
            value = node.inputs[slot]
            constant = constant_of(value)
            if not isinstance(constant, Expression) or value is None:
                return Block(Reason.NOT_CONSTANT, node.title)
            edits.append(Replace(node.key, slot, Scaled(constant, factor, addend), value.name))
        return Answer(tuple(edits), note="scale *= s, B = s*B + t")
