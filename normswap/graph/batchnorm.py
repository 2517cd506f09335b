"""BatchNormalization: whether it may be rewritten, and the affine that it is in inference.

Source: ONNX operator BatchNormalization, opsets 7, 9, 14 and 15 (opset 6 and before: ``is_test``)::

    Y = scale * (X - input_mean) / sqrt(input_var + epsilon) + B      per channel, axis 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.dtypes import Wide, is_float
from normswap.finite import flaw_of
from normswap.graph.affine import Affine
from normswap.graph.evaluate import constant_of, constant_source
from normswap.graph.mode import mode_of
from normswap.graph.reasons import Blocked, Reason, unless_blocked

if TYPE_CHECKING:
    from normswap.graph.network import Node

DEFAULT_EPSILON = 1e-5


def is_batchnorm(node: Node) -> bool:
    """Whether a node is a BatchNormalization of the default domain."""
    return node.op == "BatchNormalization" and not node.domain


def epsilon_of(node: Node) -> float:
    """Return the node's epsilon: a float32 attribute, whose value 0.0 is not its absence."""
    return float(np.float32(node.attr("epsilon", DEFAULT_EPSILON)))


def is_per_activation(node: Node) -> bool:
    """Whether statistics are of every channel and pixel, (C, D1, ...), as ``spatial=0`` says."""
    return node.opset < 9 and not node.attr("spatial", 1)


def makes_constant(node: Node) -> bool:
    """Whether a node normalizes a constant: it standardizes a weight, say, and is no layer."""
    return unless_blocked(constant_source, node.out) is not None


def require_rewritable(
    node: Node,
    *,
    in_training: bool = False,
    with_statistics: bool = False,
    by_channel: bool = False,
) -> None:
    """Let pass a BatchNormalization that may be rewritten: what fold, swap and recalibrate ask.

    Parameters
    ----------
    node : Node
        A ``BatchNormalization`` of the default domain.
    in_training : bool
        Whether one in training mode will do. A fold takes its running statistics for constants.
    with_statistics : bool
        Whether the node keeps its further outputs.
    by_channel : bool
        Whether only statistics by channel will do, and opset 7 and later. A fold knows the others.

    Raises
    ------
    Blocked
        If it may not.
    """
    if node.refers_to_attributes:
        detail = "an attribute is a parameter of the function"
        raise Blocked(Reason.NOT_CONSTANT, node.title, detail)
    mode = mode_of(node)
    if mode.is_training and not in_training and makes_constant(node):
        value = node.operand(0)
        detail = f"it normalizes {value.name}, which is a constant"
        raise Blocked(Reason.CONSTANT, value.name, detail)
    if mode.reason is Reason.TRAINING_MODE and not in_training:
        raise Blocked(mode.reason, node.title, mode.why)
    if mode.used and not with_statistics:
        raise Blocked(Reason.USED_STATISTICS, mode.used[0], mode.usage)
    if len(node.inputs) < 5 or any(value is None for value in node.inputs[:5]):
        raise Blocked(Reason.MALFORMED, node.title, "BatchNormalization needs five inputs")
    if by_channel and node.opset < 7:
        raise Blocked(Reason.OPSET, node.title, f"it is of opset {node.opset}, before 7")
    if by_channel and is_per_activation(node):
        detail = "its parameters are per activation (spatial=0)"
        raise Blocked(Reason.PER_ACTIVATION, node.title, detail)


def affine_of(node: Node) -> Affine:
    """Return the affine that an inference-mode BatchNormalization applies to its input.

    Parameters
    ----------
    node : Node
        A ``BatchNormalization`` of the default domain.

    Returns
    -------
    Affine
        ``s = scale / sqrt(var + epsilon)`` and ``t = B - mean * s`` along axis 1 (with
        ``spatial=0`` along all that follow too).

    Raises
    ------
    Blocked
        If it is not in inference mode, or a parameter is not a constant that makes sense.
    """
    require_rewritable(node)
    parameters: list[Wide] = []
    for name, value in zip(("scale", "B", "mean", "var"), node.inputs[1:5], strict=True):
        try:
            constant = constant_of(value)
        except Blocked as refusal:
            block = refusal.block
            raise Blocked(block.reason, block.tensor, f"its {name}: {block.detail}") from refusal
        if not is_float(constant.data_type):
            raise Blocked(Reason.ELEMENT_TYPE, node.title, f"its {name}")
        stored = constant.load()
        flaw = None if value is None else flaw_of(value.name, stored)
        if flaw is not None:
            raise Blocked(Reason.NON_FINITE, flaw.name, f"its {name}: {flaw}")
        parameters.append(stored.astype(np.longdouble))
    if not is_per_activation(node):
        parameters = [parameter.reshape(-1) for parameter in parameters]
    if len({parameter.shape for parameter in parameters}) != 1:
        lengths = ", ".join("x".join(map(str, parameter.shape)) for parameter in parameters)
        raise Blocked(
            Reason.MALFORMED, node.title, f"scale, B, mean and var differ in length: {lengths}"
        )
    scale, bias, mean, var = parameters
    spread = var + np.longdouble(epsilon_of(node))
    bad = np.flatnonzero(~(np.isfinite(spread) & (spread > 0)))
    if bad.size:
        raise Blocked(Reason.INVALID_STATISTICS, node.title, channels("var + epsilon", spread, bad))
    with np.errstate(over="ignore", invalid="ignore"):
        s = scale / np.sqrt(spread)
        t = bias - mean * s
    for what, values in (("scale", s), ("shift", t)):  # float64 parameters may overflow in it
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise Blocked(Reason.OVERFLOW, node.title, channels(what, values, bad))
    # Over the axes after that of the samples: one for each channel, or one for each activation.
    return Affine(s[np.newaxis], t[np.newaxis])


def channels(what: str, values: Wide, which: np.ndarray) -> str:
    """Name the channels that something is about, with the first one's value."""
    first = int(which[0])
    more = f" and {which.size - 1} more" if which.size > 1 else ""
    return f"{what} is {float(values.reshape(-1)[first]):g} in channel {first}{more}"
