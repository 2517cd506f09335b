"""Quantized tensors, whose scales and zero points may be one a channel.

Source: ONNX operators QuantizeLinear and DequantizeLinear, opsets 10, 13 (``axis``), 21
(``block_size``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.permuting.operators.at import X, Y

if TYPE_CHECKING:
    from normswap.permuting.operators.at import At, Port


def _linear(at: At) -> None:
    if at.attr("block_size", 0):
        raise at.blocked("has block-wise scales (block_size)")
    rank = len(at.shape(X))
    places = [str(axis) for axis in range(rank)]
    roles: dict[Port, list[str]] = {X: places, Y: places}
    for slot in (1, 2):
        port = (False, slot)
        if at.value(port) is not None and at.shape(port) not in ((), (1,)):
            roles[port] = [str(int(at.attr("axis", 1)) % rank)]
    at.roles(roles)


FOLLOW = {"DequantizeLinear": _linear, "QuantizeLinear": _linear}
