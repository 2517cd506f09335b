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
from normswap.graph.reasons import Blocked, Reason, blocked_by, unless_blocked

if TYPE_CHECKING:
    from normswap.graph.network import Node, Value

DEFAULT_EPSILON = 1e-5

EXPORT_TIP = (
    "Exporters fold it away by themselves. torch.onnx.export keeps it with optimize=False, or with "
    "dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False; and "
    "`normswap unfold` puts it back."
)
"""What helps where a model has no BatchNormalization; docs/export.md says more."""


def is_batchnorm(node: Node) -> bool:
    """Whether a node is a BatchNormalization of the default domain."""
    return node.op == "BatchNormalization" and not node.domain


def epsilon_of(node: Node) -> float:
    """Return the node's epsilon: a float32 attribute, whose value 0.0 is not its absence."""
    return float(np.float32(node.attr("epsilon", DEFAULT_EPSILON)))


def is_per_activation(node: Node) -> bool:
    """Whether statistics are of every channel and pixel, (C, D1, ...), as ``spatial=0`` says.

    Some models say so and have one value for each channel. There is but one meaning to that, and
    runtimes that don't refuse it go by it.
    """
    if node.opset >= 9 or node.attr("spatial", 1):
        return False
    scale = node.inputs[1] if len(node.inputs) > 1 else None
    return scale is None or scale.rank != 1


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
        raise _of_a_constant(node.operand(0))
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


SHAPING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that leave elements what they are, and give them other places."""


def require_samples(node: Node, channels: int | None) -> None:
    """Let pass a BatchNormalization whose statistics are those of a channel over many samples.

    Weights are standardized, samples are normalized each by itself, by writing them as
    ``(1, C, ...)`` for a BatchNormalization in training mode. Its statistics are then those of a
    constant, or belong to places in the batch.

    Parameters
    ----------
    node : Node
        A ``BatchNormalization`` of the default domain.
    channels : int or None

    Raises
    ------
    Blocked
        If it normalizes a constant, or has the samples in its channels.
    """
    value = node.input(0)
    if value is None:
        return
    block = blocked_by(constant_source, value)
    if block is None or block.reason is Reason.OVERRIDABLE:
        raise _of_a_constant(value)
    while value is not None and value.shape and value.shape[0] == 1:
        maker = value.producer
        if maker is None or maker.domain or maker.op not in SHAPING:
            return
        value = maker.input(0)
    if value is None or not value.shape or value is node.input(0) or channels is None:
        return
    batch, inner = value.shape[0], value.shape[1] if len(value.shape) > 1 else None
    # (N, C, ...) as (1, N * C, ...); or (N, ...) as (1, N, ...), which is also how an image gets
    # an axis for a batch of one, but not in training.
    merged = (
        isinstance(inner, int)
        and 0 < inner < channels
        and channels % inner == 0
        and (not isinstance(batch, int) or batch * inner == channels)
    )
    if merged or (batch == channels and mode_of(node).is_training):
        detail = (
            f"its {channels} channels are those of all samples of {value.name}, so its statistics "
            "belong to places in the batch"
        )
        raise Blocked(Reason.NO_SAMPLES, node.title, detail)


def _of_a_constant(value: Value) -> Blocked:
    detail = f"it normalizes {value.name}, which is a constant"
    return Blocked(Reason.CONSTANT, value.name, detail)


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
        flaw = None if value is None else flaw_of(value.name, constant.load())
        if flaw is not None:
            raise Blocked(Reason.NON_FINITE, flaw.name, f"its {name}: {flaw}")
        parameters.append(constant.wide().astype(np.longdouble))
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
