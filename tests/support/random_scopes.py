"""A whole graph put into a scope: the branches of an If, the body of a Loop or Scan, a function."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper


def body_of(graph, outside, suffix=""):
    """Return a copy of a graph as a body: without inputs, and some of its weights left outside."""
    body = onnx.GraphProto()
    body.CopyFrom(graph)
    made = {name for node in body.node for name in node.output if name}
    kept = [tensor for tensor in body.initializer if tensor not in outside]
    own = made | {tensor.name for tensor in kept}
    del body.input[:], body.initializer[:], body.value_info[:]
    body.initializer.extend(kept)
    body.name += suffix
    for tensor in body.initializer:
        tensor.name += suffix
    for node in body.node:
        node.input[:] = [n + suffix if n in own else n for n in node.input]
        node.output[:] = [n + suffix if n else n for n in node.output]
    for info in body.output:
        info.name += suffix
    return body


def model_of(model, nodes, inputs, outputs, weights):
    graph = helper.make_graph(nodes, "outer", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def in_if(model):
    """Put a whole graph into the branches of an If, half of its weights left outside."""
    inner = model.graph
    outside = list(inner.initializer)[::2]
    branches = [body_of(inner, outside, suffix) for suffix in ("_then", "_else")]
    names = [info.name for info in inner.output]
    choose = helper.make_node(
        "If", ["condition"], names, "If", then_branch=branches[0], else_branch=branches[1]
    )
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    return model_of(model, [choose], [*inner.input, condition], list(inner.output), outside)


def stacked(info):
    """Return what an output of a body becomes: one a turn."""
    tensor = info.type.tensor_type
    rank = len(tensor.shape.dim) if tensor.HasField("shape") else None
    shape = None if rank is None else [None] * (rank + 1)
    return helper.make_tensor_value_info(info.name, tensor.elem_type, shape)


def in_loop(model):
    """Put a whole graph into the body of a Loop that turns twice and hands its input on."""
    inner = model.graph
    outside = list(inner.initializer)[::2]
    body = body_of(inner, outside, "_body")
    (x,) = inner.input
    state = helper.make_tensor_value_info("state", x.type.tensor_type.elem_type, None)
    for node in body.node:
        node.input[:] = ["state" if n == x.name else n for n in node.input]
    body.node.append(helper.make_node("Identity", ["going_on"], ["going_on_still"]))
    body.node.append(helper.make_node("Identity", ["state"], ["next_state"]))
    scalar = [helper.make_tensor_value_info("turn", TensorProto.INT64, [])]
    scalar += [helper.make_tensor_value_info("going_on", TensorProto.BOOL, [])]
    body.input.extend([*scalar, state])
    results = list(body.output)
    del body.output[:]
    body.output.append(helper.make_tensor_value_info("going_on_still", TensorProto.BOOL, []))
    body.output.append(
        helper.make_tensor_value_info("next_state", x.type.tensor_type.elem_type, None)
    )
    body.output.extend(results)
    names = [info.name for info in inner.output]
    turns = onnx.numpy_helper.from_array(np.array(2, dtype=np.int64), "turns")
    start = onnx.numpy_helper.from_array(np.array(True), "start")
    operands = ["turns", "start", x.name]
    loop = helper.make_node("Loop", operands, ["last", *names], "Loop", body=body)
    outputs = [stacked(info) for info in inner.output]
    return model_of(model, [loop], list(inner.input), outputs, [*outside, turns, start])


def in_scan(model):
    """Put a whole graph into the body of a Scan, whose input is a stack of what the graph had."""
    inner = model.graph
    outside = list(inner.initializer)[::2]
    body = body_of(inner, outside, "_body")
    (x,) = inner.input
    slice_ = onnx.ValueInfoProto()
    slice_.CopyFrom(x)
    slice_.name = "x_body"
    for node in body.node:
        node.input[:] = ["x_body" if n == x.name else n for n in node.input]
    body.input.append(slice_)
    names = [info.name for info in inner.output]
    scan = helper.make_node("Scan", [x.name], names, "Scan", body=body, num_scan_inputs=1)
    tensor = x.type.tensor_type
    sizes = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    stack = helper.make_tensor_value_info(x.name, tensor.elem_type, [2, *sizes])
    return model_of(model, [scan], [stack], [stacked(info) for info in inner.output], outside)


def in_function(model):
    """Put a whole graph into a function, half of whose weights are arguments of the call."""
    inner = model.graph
    arguments = list(inner.initializer)[::2]
    own = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in list(inner.initializer)[1::2]
    ]
    inputs = [info.name for info in inner.input] + [tensor.name for tensor in arguments]
    outputs = [info.name for info in inner.output]
    function = helper.make_function(
        "local", "Whole", inputs, outputs, [*own, *inner.node], model.opset_import
    )
    call = helper.make_node("Whole", inputs, outputs, "call", domain="local")
    made = model_of(model, [call], list(inner.input), list(inner.output), arguments)
    made.ir_version = max(made.ir_version, 8)
    made.opset_import.append(helper.make_opsetid("local", 1))
    made.functions.append(function)
    return made
