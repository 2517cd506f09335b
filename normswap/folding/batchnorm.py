"""BatchNormalization as an affine: what the node computes in inference, or why it is not one.

Source: ONNX operator BatchNormalization, opsets 7, 9, 14 and 15 (opset 6 and before: ``is_test``)::

    Y = scale * (X - input_mean) / sqrt(input_var + epsilon) + B      per channel, axis 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.dtypes import Wide, is_float
from normswap.folding.affine import Affine
from normswap.folding.answers import Block
from normswap.folding.evaluate import constant_of
from normswap.folding.reasons import Reason

if TYPE_CHECKING:
    from normswap.folding.graph import Node

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


def training_mode(node: Node) -> Block | None:
    """Say why the node normalizes with the statistics of the batch, or None if it does not."""
    used = [
        output
        for output in node.outputs[1:]
        if output is not None and (output.readers or output.is_output or output.captured)
    ]
    opset = node.opset
    if opset >= 14 and node.attr("training_mode", 0):
        return Block(Reason.TRAINING_MODE, node.title, "training_mode=1")
    if opset < 7 and not node.attr("is_test", 0):
        return Block(Reason.TRAINING_MODE, node.title, "is_test=0")
    if used:
        names = ", ".join(output.name for output in used)
        return Block(Reason.USED_STATISTICS, used[0].name, f"{names} is used")
    return None


def affine_of(node: Node) -> Affine | Block:
    """Return the affine that an inference-mode BatchNormalization applies to its input.

    Parameters
    ----------
    node : Node
        A ``BatchNormalization`` of the default domain.

    Returns
    -------
    Affine or Block
        ``s = scale / sqrt(var + epsilon)`` and ``t = B - mean * s`` along axis 1 (with
        ``spatial=0`` along all that follow too); or what stands in the way of that.
    """
    if node.refers_to_attributes:
        return Block(Reason.NOT_CONSTANT, node.title, "an attribute is a parameter of the function")
    training = training_mode(node)
    if training is not None:
        return training
    if len(node.inputs) < 5 or any(value is None for value in node.inputs[:5]):
        return Block(Reason.MALFORMED, node.title, "BatchNormalization needs five inputs")
    parameters: list[Wide] = []
    for name, value in zip(("scale", "B", "mean", "var"), node.inputs[1:5], strict=True):
        constant = constant_of(value)
        if isinstance(constant, Block):
            return Block(constant.reason, constant.tensor, f"its {name}: {constant.detail}")
        if not is_float(constant.data_type):
            return Block(Reason.ELEMENT_TYPE, node.title, f"its {name}")
        parameters.append(constant.load().astype(np.longdouble))
    if not is_per_activation(node):
        parameters = [parameter.reshape(-1) for parameter in parameters]
    if len({parameter.shape for parameter in parameters}) != 1:
        lengths = ", ".join("x".join(map(str, parameter.shape)) for parameter in parameters)
        return Block(
            Reason.MALFORMED, node.title, f"scale, B, mean and var differ in length: {lengths}"
        )
    scale, bias, mean, var = parameters
    spread = var + np.longdouble(epsilon_of(node))
    bad = np.flatnonzero(~(np.isfinite(spread) & (spread > 0)))
    if bad.size:
        return Block(Reason.INVALID_STATISTICS, node.title, channels("var + epsilon", spread, bad))
    s = scale / np.sqrt(spread)
    # Over the axes after that of the samples: one for each channel, or one for each activation.
    affine = Affine(s[np.newaxis], (bias - mean * s)[np.newaxis])
    if not affine.is_finite:
        bad = np.flatnonzero(~(np.isfinite(s) & np.isfinite(bias - mean * s)))
        return Block(Reason.NON_FINITE, node.title, channels("scale or shift", s, bad))
    return affine


def channels(what: str, values: Wide, which: np.ndarray) -> str:
    """Name the channels that something is about, with the first one's value."""
    first = int(which[0])
    more = f" and {which.size - 1} more" if which.size > 1 else ""
    return f"{what} is {float(values.reshape(-1)[first]):g} in channel {first}{more}"
