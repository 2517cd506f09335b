"""ONNX's shape inference, kept from what it does not survive.

Where a window is larger than what it goes over, or a padding takes away more than there is, ONNX
infers a size of less than nothing, and its inference of a Slice behind that ends the process. So a
Slice that may be behind such a one is hidden from the inference until what it reads is known to
have sizes. Behind one that stays hidden nothing is known, as behind any operator that ONNX knows
nothing about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from normswap.bodies import bodies
from normswap.model.external import is_external
from normswap.semantics.families import POOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNKNOWN = "normswap.unknown"
"""A domain, of operators that ONNX knows nothing about."""

_STAGES = 8  # of Slices with windows between them
_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "DeformConv", "QLinearConv"})
_SHRINKING = frozenset({"CenterCropPad", "Col2Im", "ConvTranspose", "MaxUnpool"})


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer types and shapes, with what is known of integers.

    Parameters
    ----------
    model : onnx.ModelProto
        Not changed.

    Returns
    -------
    onnx.ModelProto
        A copy with what was inferred.

    Raises
    ------
    InferenceError, ValidationError
        See :func:`onnx.shape_inference.infer_shapes`.
    """
    slices = any(_is_slice(node) for node in _nodes(model))
    if slices and (_is_below_0(model) or any(_shrinking(holder) for holder in _holders(model))):
        return _in_stages(model)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _in_stages(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer what is known without Slices, and then what is with those whose input has sizes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for dim in _below_0(copy):
        dim.ClearField("dim_value")
    windows = {node.input[0] for holder in _graphs(copy) for node in _shrinking(holder)}
    hidden = [
        (node, holder) for holder in _holders(copy) for node in holder.node if _is_slice(node)
    ]
    for node, _ in hidden:
        node.domain = UNKNOWN
    added = []
    for number, holder in enumerate((copy, *copy.functions)):
        if all(item.domain != UNKNOWN for item in holder.opset_import):
            holder.opset_import.append(onnx.helper.make_opsetid(UNKNOWN, 1))
            added.append(number)
    # Of what is within a function ONNX tells nothing, for it is other things to other calls.
    apart = any(_shrinking(function) for function in _functions(copy))
    for _ in range(_STAGES):
        made = onnx.shape_inference.infer_shapes(copy, data_prop=True)
        if not hidden or _is_below_0(made):
            break
        known = {i.name for i in _infos(made) if i.type.tensor_type.HasField("shape")}
        known.update(tensor.name for graph in _graphs(made) for tensor in graph.initializer)
        all_known = windows <= known and not apart
        still = []
        for node, holder in hidden:
            within = isinstance(holder, onnx.GraphProto) and node.input[0] in known
            if all_known or within:
                node.ClearField("domain")
            else:
                still.append((node, holder))
        if len(still) == len(hidden):
            break
        hidden = still
    for node in _nodes(made):
        if node.op_type == "Slice" and node.domain == UNKNOWN:
            node.ClearField("domain")
    holders = (made, *made.functions)
    for number in added:
        del holders[number].opset_import[-1]
    return made


def _is_slice(node: onnx.NodeProto) -> bool:
    return node.op_type == "Slice" and node.domain in {"", "ai.onnx"}


def _shrinking(holder: onnx.GraphProto | onnx.FunctionProto) -> list[onnx.NodeProto]:
    """Return the nodes of a graph or function that may make a size of less than nothing."""
    weights = {t.name: t for t in getattr(holder, "initializer", ())}
    return [node for node in holder.node if node.input and _may_shrink(node, weights)]


def _may_shrink(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    given = {item.name: item for item in node.attribute}
    if node.op_type in _SHRINKING or any(item.ref_attr_name for item in node.attribute):
        return True
    if node.op_type in POOLS | _CONVOLUTIONS:
        return not _pads_enough(node, given, weights)
    if node.op_type not in {"Pad", "Split"}:
        return False
    values = [value for name in ("pads", "split") if name in given for value in given[name].ints]
    if len(node.input) > 1 and node.input[1]:
        tensor = weights.get(node.input[1])
        if tensor is None or is_external(tensor):
            return True
        values = onnx.numpy_helper.to_array(tensor).reshape(-1).tolist()
    return any(value < 0 for value in values)


def _pads_enough(
    node: onnx.NodeProto,
    given: Mapping[str, onnx.AttributeProto],
    weights: Mapping[str, onnx.TensorProto],
) -> bool:
    """Whether a window has a place however little there is to go over."""
    if "auto_pad" in given and given["auto_pad"].s.startswith(b"SAME"):
        return True
    kernel = list(given["kernel_shape"].ints) if "kernel_shape" in given else []
    if not kernel and node.op_type in _CONVOLUTIONS:
        weight = weights.get(node.input[3 if node.op_type == "QLinearConv" else 1])
        kernel = [] if weight is None else list(weight.dims[2:])
    count = len(kernel)
    steps = list(given["dilations"].ints) if "dilations" in given else [1] * count
    pads = list(given["pads"].ints) if "pads" in given else [0] * 2 * count
    if not count or len(steps) != count or len(pads) != 2 * count:
        return False
    return all(pads[i] + pads[i + count] >= (kernel[i] - 1) * steps[i] for i in range(count))


# ---------------------------------------------------------------------------- what a model has


def _functions(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield the functions of a model, and the bodies in them."""
    for function in model.functions:
        yield function
        for node in function.node:
            for body in bodies(node):
                yield from _within(body)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph of a model, and the bodies in it."""
    yield from _within(model.graph)


def _within(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    pending = [graph]
    while pending:
        yield (each := pending.pop())
        pending += [body for node in each.node for body in bodies(node)]


def _holders(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    yield from _graphs(model)
    yield from _functions(model)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for holder in _holders(model):
        yield from holder.node


def _infos(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    for graph in _graphs(model):
        yield from (*graph.input, *graph.value_info, *graph.output)


def _below_0(model: onnx.ModelProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    """Yield the sizes that are less than nothing."""
    for info in _infos(model):
        yield from (dim for dim in info.type.tensor_type.shape.dim if dim.dim_value < 0)


def _is_below_0(model: onnx.ModelProto) -> bool:
    return any(True for _ in _below_0(model))
