"""Faults to plant in a model, in order to see whether a check finds them.

A fault is applied to a weight at the moment that the arbiter reads it, so that no mutant is
ever written, however large the model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of an operator: the slots of its weights that have an output channel, the axis of that channel,
# and whether the slot is an additive one.
_SLOTS: dict[str, tuple[tuple[int, int, bool], ...]] = {
    "BatchNormalization": ((1, 0, False), (2, 0, True)),
    "Conv": ((1, 0, False), (2, 0, True)),
    "ConvTranspose": ((1, 1, False), (2, 0, True)),
    "Gemm": ((1, 1, False), (2, -1, True)),
    "GroupNormalization": ((1, 0, False), (2, 0, True)),
    "InstanceNormalization": ((1, 0, False), (2, 0, True)),
    "MatMul": ((1, -1, False),),
}
_SCALE = 1.01
_EPSILON = (1e-5, 1e-3)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing done wrong to one weight.

    Attributes
    ----------
    kind : str
        ``scale`` (one channel off by 1 %), ``shift`` (one channel's dropped), ``swap`` (two
        channels), ``epsilon`` (all channels, as if 1e-3 had been read for 1e-5 where the
        variance was 1e-2), or ``group`` (the channels of one group rolled by one).
    tensor : str
        The weight.
    axis, channel : int
    where : str
        The node that reads it, for people.
    """

    kind: str
    tensor: str
    axis: int
    channel: int
    where: str

    def __str__(self) -> str:
        return f"{self.kind} in channel {self.channel} of {self.tensor!r} ({self.where})"

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return asdict(self)

    def applied(self, weight: np.ndarray) -> np.ndarray:
        """Return the weight with the fault in it."""
        wrong = np.moveaxis(weight.copy(), self.axis, 0)  # a view, so that writing goes through
        channel = self.channel
        if self.kind == "scale":
            wrong[channel] *= _SCALE
        elif self.kind == "shift":
            wrong[channel] = 0.0
        elif self.kind == "swap":
            other = (channel + 1) % len(wrong)
            wrong[[channel, other]] = wrong[[other, channel]]
        elif self.kind == "epsilon":
            right, bad = _EPSILON
            wrong *= np.sqrt((1e-2 + right) / (1e-2 + bad))
        else:
            half = max(len(wrong) // 2, 2)
            wrong[:half] = np.roll(wrong[:half], 1, axis=0)
        return np.moveaxis(wrong, 0, self.axis)


def draw_faults(path: str, number: int, seed: int) -> list[Fault]:
    """Choose faults at random places of a model, each kind in turn.

    Parameters
    ----------
    path : str
        Of the model; its weights are not read.
    number : int
    seed : int

    Returns
    -------
    list of Fault
        Fewer than `number`, down to none, where the model has no weights to spoil.
    """
    graph = onnx.load(path, load_external_data=False).graph
    places = list(_places(graph))
    rng = np.random.default_rng(seed)
    kinds = ("scale", "shift", "swap", "epsilon", "group")
    faults = []
    for index in range(number):
        kind = kinds[index % len(kinds)]
        fitting = [p for p in places if p[3] is (kind == "shift") and (p[2] > 1 or kind != "swap")]
        if not fitting:
            continue
        tensor, axis, size, _, where = fitting[rng.integers(len(fitting))]
        faults.append(Fault(kind, tensor, axis, int(rng.integers(size)), where))
    return faults


def _places(graph: Any) -> Iterator[tuple[str, int, int, bool, str]]:
    """Yield weights: name, channel axis, number of channels, whether additive, and reader."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        for slot, axis, additive in _SLOTS.get(node.op_type, ()):
            shape = shapes.get(node.input[slot]) if slot < len(node.input) else None
            if not shape:
                continue
            channel = 0 if node.op_type == "Gemm" and slot == 1 and transposed else axis
            if -len(shape) <= channel < len(shape):
                where = f"{node.op_type} {node.name}".strip()
                yield node.input[slot], channel % len(shape), shape[channel], additive, where
