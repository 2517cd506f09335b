"""BatchNormalization: whether it may be rewritten, and the affine that it is in inference.

Source: ONNX operator BatchNormalization, opsets 7, 9, 14 and 15 (opset 6 and before: ``is_test``)::

    Y = scale * (X - input_mean) / sqrt(input_var + epsilon) + B      per channel, axis 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.finite import flaw_of
from normswap.graph.affine import Affine
from normswap.graph.evaluate import constant_of, constant_source
from normswap.graph.mode import mode_of
from normswap.graph.reasons import Blocked, Reason, blocked_by, unless_blocked
from normswap.semantics.families import SHAPING

if TYPE_CHECKING:
    from normswap.dtypes import Wide
    from normswap.graph.expressions import Expression
    from normswap.graph.network import Node, Value

DEFAULT_EPSILON = 1e-5

EXPORT_TIP = (
    "Exporters fold BatchNormalization by default. torch.onnx.export keeps it with "
    "optimize=False, or with dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, "
    "do_constant_folding=False. `normswap unfold` puts it back into an exported model."
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
        detail = "an attribute of the node is set by the caller of its function"
        raise Blocked(Reason.NOT_CONSTANT, node.title, detail)
    mode = mode_of(node)
    if mode.is_training and not in_training and makes_constant(node):
        raise _of_a_constant(node.operand(0))
    if mode.reason is Reason.TRAINING_MODE and not in_training:
        raise Blocked(mode.reason, node.title, mode.why)
    if mode.used and not with_statistics:
        raise Blocked(Reason.USED_STATISTICS, mode.used[0], mode.usage)
    if len(node.inputs) < 5 or any(value is None for value in node.inputs[:5]):
        detail = "it lacks one of the five inputs of BatchNormalization: X, scale, B, mean, var"
        raise Blocked(Reason.MALFORMED, node.title, detail)
    if by_channel and node.opset < 7:
        raise Blocked(Reason.OPSET, node.title, f"it is of opset {node.opset}, before 7")
    if by_channel and is_per_activation(node):
        detail = "its statistics are per activation (spatial=0), not per channel"
        raise Blocked(Reason.PER_ACTIVATION, node.title, detail)


def require_samples(node: Node, channels: int | None) -> None:
    """Let pass a BatchNormalization whose statistics are those of a channel over many samples.

    Weights are standardized, samples are normalized each by itself, by writing them as
    ``(1, C, ...)`` for a BatchNormalization in training mode. Its statistics are then those of a
    constant, or belong to places in the batch.

    Parameters
    ----------
    node : Node
        A ``BatchNormalization`` of the default domain.

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
            f"its {channels} channels hold the samples of {value.name}, "
            "so it has statistics per sample and not per channel"
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
    constants = [_parameter(name, node.operand(slot)) for slot, name in PARAMETERS.items()]
    parameters = [constant.wide().astype(np.longdouble, copy=False) for constant in constants]
    if not is_per_activation(node):
        parameters = [parameter.reshape(-1) for parameter in parameters]
    if len({parameter.shape for parameter in parameters}) != 1:
        _require_finite(node, constants)
        lengths = ", ".join("x".join(map(str, parameter.shape)) for parameter in parameters)
        raise Blocked(
            Reason.MALFORMED, node.title, f"scale, B, mean and var differ in length: {lengths}"
        )
    scale, bias, mean, var = parameters
    with np.errstate(all="ignore"):
        spread = var + np.longdouble(epsilon_of(node))
        s = scale / np.sqrt(spread)
        t = bias - mean * s
        total = s + t + spread
    if not np.isfinite(total).all():  # whatever is wrong comes to this, and is looked for only then
        _require_finite(node, constants)
        _require_all(np.isfinite(spread) & (spread > 0), spread, "var + epsilon", node)
        _require_all(np.isfinite(s), s, "scale / sqrt(var + epsilon)", node, Reason.OVERFLOW)
        _require_all(
            np.isfinite(t), t, "B - mean * scale / sqrt(var + epsilon)", node, Reason.OVERFLOW
        )
    # Over the axes after that of the samples: one for each channel, or one for each activation.
    return Affine(s[np.newaxis], t[np.newaxis])


PARAMETERS = {1: "scale", 2: "B", 3: "mean", 4: "var"}
"""Names of the inputs that hold them."""


def _parameter(name: str, value: Value) -> Expression:
    """Return a parameter, or say of which one there is something in the way."""
    try:
        return constant_of(value)
    except Blocked as refusal:
        block = refusal.block
        raise Blocked(block.reason, block.tensor, f"its {name}: {block.detail}") from refusal


def _require_finite(node: Node, constants: list[Expression]) -> None:
    for (slot, name), constant in zip(PARAMETERS.items(), constants, strict=True):
        flaw = flaw_of(node.operand(slot).name, constant.load())
        if flaw is not None:
            raise Blocked(Reason.NON_FINITE, flaw.name, f"its {name}: {flaw}")


def _require_all(
    sound: np.ndarray,
    values: Wide,
    what: str,
    node: Node,
    reason: Reason = Reason.INVALID_STATISTICS,
) -> None:
    bad = np.flatnonzero(~sound)
    if bad.size:
        raise Blocked(reason, node.title, channels(what, values, bad))


def channels(what: str, values: Wide, which: np.ndarray) -> str:
    """Name the channels that something is about, with the first one's value."""
    first = int(which[0])
    more = f", the first of {which.size} such channels" if which.size > 1 else ""
    return f"{what} is {float(values.reshape(-1)[first]):g} in channel {first}{more}"
