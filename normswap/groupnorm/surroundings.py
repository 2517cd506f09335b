"""A small network around one layer, in which its forms are timed.

What stands around a layer decides what its forms cost: onnxruntime keeps activations in a blocked
layout between convolutions, and what can't be computed in that layout costs two passes over memory
more. So there are two networks: convolutions around the layer, and element-wise operators.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from normswap.dtypes import round_to
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.planner import plan_swap
from normswap.groupnorm.policy import GroupPolicy
from normswap.model import load, write_to

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, NodeProto, TensorProto

    from normswap.graph.sizes import Dim

INPUT = "input"
"""The one input of a small network."""

LAYER = "layer"
"""The node of its normalization."""


def small_network(
    dims: tuple[Dim, ...],
    affine: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None,
    *,
    data_type: int,
    opset: int,
    epsilon: float,
    convolutions: bool,
    activation: str = "",
) -> ModelProto:
    """Return a model with one BatchNormalization in the middle.

    Parameters
    ----------
    dims : tuple
        Of its input, the normalization's input and its output: ints, names, or None where unknown;
        that of the channels is an int.
    affine : (scale, B), each (C,) ndarray, or None
        None leaves the normalization out.
    data_type : int
        ``TensorProto.DataType``
    opset : int
    epsilon : float
    convolutions : bool
        Whether depthwise convolutions stand around it; else Abs.
    activation : str
        ``"Relu"``, ``"SiLU"`` or nothing: what comes behind it.
    """
    rng = np.random.default_rng(0)
    channels = int(dims[1])  # type: ignore[arg-type]
    constants: list[TensorProto] = []

    def constant(values: npt.NDArray[Any], name: str) -> str:
        constants.append(numpy_helper.from_array(round_to(values, data_type), name))
        return name

    def around(x: str, y: str, number: int) -> NodeProto:
        if not convolutions:
            return helper.make_node("Abs", [x], [y])
        sides = [3] * (len(dims) - 2)  # depthwise, so that they take little time themselves
        weights = constant(rng.normal(size=(channels, 1, *sides)), f"W{number}")
        pads = [1] * (2 * len(sides))
        return helper.make_node("Conv", [x, weights], [y], group=channels, pads=pads)

    nodes = [around(INPUT, "x", 0)]
    result = "x"
    if affine is not None:
        values = (*affine, rng.normal(size=channels), rng.uniform(0.5, 2, channels))
        names = ("scale", "B", "mean", "var")
        operands = [constant(value, name) for value, name in zip(values, names, strict=True)]
        nodes.append(
            helper.make_node(
                "BatchNormalization", ["x", *operands], ["y"], name=LAYER, epsilon=epsilon
            )
        )
        result = "y"
    if activation == "Relu":
        nodes.append(helper.make_node("Relu", [result], ["a"]))
        result = "a"
    elif activation == "SiLU":
        nodes.append(helper.make_node("Sigmoid", [result], ["gate"]))
        nodes.append(helper.make_node("Mul", [result, "gate"], ["a"]))
        result = "a"
    nodes.append(around(result, "output", 1))
    ends = [helper.make_tensor_value_info(name, data_type, dims) for name in (INPUT, "output")]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], constants)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports)
    # From 4 on initializers need not be inputs.
    model.ir_version = max(4, helper.find_min_ir_version_for(imports))
    return model


def in_form(
    network: ModelProto, num_groups: int, form: str, provider: str = "cpu", threads: int = 1
) -> tuple[bytes, str]:
    """Return a small network with the normalization written in a form, and the form's name.

    Raises
    ------
    UsageError
        If the layer can't take it.
    """
    model = load(network.SerializeToString())
    policy = GroupPolicy(groups=num_groups)
    options = SwapOptions(policy, form, provider=provider, threads=threads, absorb=False)
    plan = plan_swap(model, options)
    apply_swaps(plan, model)
    stream = io.BytesIO()
    write_to(model, stream)
    return stream.getvalue(), plan.swaps[0].form
