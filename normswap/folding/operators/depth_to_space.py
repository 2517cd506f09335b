"""DepthToSpace and SpaceToDepth: each is a Reshape, a Transpose and a Reshape.

Source: ONNX operators DepthToSpace (modes DCR and CRD) and SpaceToDepth, over (N, C, H, W)::

    DCR  (N, b, b, C', H, W) -> (N, C', H, b, W, b)      channel c' takes c', C' + c', 2C' + c', ...
    CRD  (N, C', b, b, H, W) -> (N, C', H, b, W, b)      channel c' takes b*b*c', b*b*c' + 1, ...
    SpaceToDepth  (N, C, H', b, W', b) -> (N, b, b, C, H', W')
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from normswap.folding.answers import Answer, Down, Up
from normswap.folding.operators.base import Operator
from normswap.folding.operators.reshape import Shape, relay
from normswap.graph.affine import Affine
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason


class Stages(NamedTuple):
    """The shapes that the elements go through."""

    before: Shape
    split: Shape
    perm: tuple[int, ...]
    merged: Shape


class DepthToSpace(Operator):
    """Carries an affine of the channels, repeated (CRD) or tiled (DCR) as the blocks are."""

    ops = ("DepthToSpace", "SpaceToDepth")

    def up(self, node: Node, index: int, affine: Affine) -> Answer:
        stages = self._stages(node)
        inverse = tuple(np.argsort(stages.perm))
        part = relay(affine, stages.merged, tuple(stages.split[axis] for axis in stages.perm))
        if isinstance(part, Affine):
            part = part.relaid(len(inverse), lambda array: array.transpose(inverse))
            part = relay(part, stages.split, stages.before)
        if isinstance(part, Reason):
            raise self.blocked(
                node, "moves channels into space, and their scales or shifts differ", part
            )
        return Answer(goals=(Up(Use(node, 0), part),), note="s, t rearranged by block")

    def down(self, node: Node, slot: int, affine: Affine) -> Answer:
        stages = self._stages(node)
        part = relay(affine, stages.before, stages.split)
        if isinstance(part, Affine):
            part = part.relaid(len(stages.perm), lambda array: array.transpose(stages.perm))
            part = relay(part, tuple(stages.split[axis] for axis in stages.perm), stages.merged)
        if isinstance(part, Reason):
            raise self.blocked(
                node, "moves channels into space, and their scales or shifts differ", part
            )
        return Answer(goals=(Down(node.out, part),), note="s, t rearranged by block")

    def _stages(self, node: Node) -> Stages:
        value = node.inputs[0]
        if value is None or value.shape is None or len(value.shape) != 4:
            raise self.blocked(node, "has an input of unknown shape", Reason.SHAPE_UNKNOWN)
        b = int(node.attr("blocksize", 1))
        n, c, h, w = value.shape
        if not isinstance(c, int):
            raise self.blocked(node, "has an unknown number of channels", Reason.SHAPE_UNKNOWN)
        if node.op == "SpaceToDepth":
            less = [
                dim // b if isinstance(dim, int) else f"{dim or name}/{b}"
                for dim, name in ((h, "H"), (w, "W"))
            ]
            split: Shape = (n or "N", c, less[0], b, less[1], b)
            merged: Shape = (n or "N", c * b * b, *less)
            # The sizes before are only told apart where the affine does not vary along them.
            return Stages((n or "N", c, h or "H", w or "W"), split, (0, 3, 5, 1, 2, 4), merged)
        before: Shape = (n or "N", c, h or "H", w or "W")
        rest = c // (b * b)
        more = [dim * b if isinstance(dim, int) else f"{dim}*{b}" for dim in before[2:]]
        merged = (before[0], rest, *more)
        if node.attr("mode", "DCR") == "CRD":
            return Stages(before, (before[0], rest, b, b, *before[2:]), (0, 1, 4, 2, 5, 3), merged)
        return Stages(before, (before[0], b, b, rest, *before[2:]), (0, 3, 4, 1, 5, 2), merged)
