"""How much work an operator is: its multiply-adds, from shapes alone.

Source: ONNX operators Conv, ConvTranspose, Gemm, MatMul, and what they are quantized:
ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OPERANDS: dict[str, tuple[int, int]] = {
    "Conv": (0, 1),
    "ConvInteger": (0, 1),
    "ConvTranspose": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
}
"""The operators that are counted, each with the inputs that are multiplied."""


def work_of(
    op: str,
    left: Sequence[int],
    right: Sequence[int],
    out: Sequence[int],
    *,
    transposed: bool = False,
) -> int:
    """Return the multiply-adds of one of `OPERANDS`.

    Parameters
    ----------
    left, right, out : sequence of int
        Shapes of what is multiplied, and of what comes out.
    transposed : bool
        Whether the left matrix of a Gemm is (``transA``).
    """
    if op == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    if op.endswith(("Conv", "ConvInteger")):
        return math.prod(out) * math.prod(right[1:])
    return math.prod(out) * left[0 if transposed else -1]
