"""One edit to a model, after which it is another function as a rule: look-alikes for a proof."""

from __future__ import annotations

import numpy as np
import onnx

from normswap.proof.arbiter.evaluator import SETTINGS, Float64Evaluator, Settings
from normswap.proof.arbiter.task import as_float64

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


def edited(model, rng):
    """Return a model with one edit, and words for it; (None, "") where the draw has no place."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    words = EDITS[rng.integers(len(EDITS))](made, rng)
    return (made, words) if words else (None, "")


def chosen(items, rng):
    items = list(items)
    return items[rng.integers(len(items))] if items else None


def read_by(model):
    return {name for node in every_node(model) for name in node.input}


def every_node(model):
    for holder in holders(model):
        yield from holder.node


def holders(model):
    """Yield what has nodes: the graph, functions, and the bodies in them."""
    pending = [model.graph, *model.functions]
    kind = onnx.AttributeProto.GRAPH
    while pending:
        holder = pending.pop()
        yield holder
        pending += [a.g for node in holder.node for a in node.attribute if a.type == kind]


def one_weight(model, rng):
    """Change one number of one constant by a little."""
    used = read_by(model)
    tensor = chosen(
        (t for t in model.graph.initializer if t.data_type in FLOATS and t.name in used), rng
    )
    if tensor is None:
        return ""
    array = onnx.numpy_helper.to_array(tensor).copy()
    if not array.size:
        return ""
    place = np.unravel_index(rng.integers(array.size), array.shape)
    before = array[place]
    array[place] = before * (1 + chosen([1e-5, -1e-4, 1e-3, 0.1, -1.0], rng)) if before else 1e-3
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return f"{tensor.name}{list(place)}: {before} -> {array[place]}"


def one_size(model, rng):
    """Change one integer."""
    used = read_by(model)
    tensor = chosen(
        (
            t
            for t in model.graph.initializer
            if t.data_type == onnx.TensorProto.INT64 and t.name in used
        ),
        rng,
    )
    if tensor is None:
        return ""
    array = onnx.numpy_helper.to_array(tensor).copy()
    if not array.size:
        return ""
    place = np.unravel_index(rng.integers(array.size), array.shape)
    array[place] += chosen([1, -1], rng)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return f"{tensor.name}{list(place)} is {array[place]}"


def one_attribute(model, rng):
    """Change one number of one attribute."""
    node = chosen((n for n in every_node(model) if any(_plain(a) for a in n.attribute)), rng)
    if node is None:
        return ""
    attribute = chosen((a for a in node.attribute if _plain(a)), rng)
    if attribute.type == attribute.FLOAT:
        attribute.f = chosen([attribute.f + 0.5, attribute.f + 1e-2, -attribute.f], rng)
    elif attribute.type == attribute.INT:
        attribute.i += int(chosen([1, -1], rng))
    else:
        values = list(attribute.ints)
        if attribute.name == "perm":
            values = list(rng.permutation(values))
        else:
            values[rng.integers(len(values))] += int(chosen([1, -1], rng))
        attribute.ints[:] = [int(value) for value in values]
    return f"{attribute.name} of {node.op_type} {node.output[0]}"


def _plain(attribute):
    kinds = (attribute.FLOAT, attribute.INT)
    return attribute.type in kinds or (attribute.type == attribute.INTS and attribute.ints)


OTHERS = {
    "Abs": ["Relu", "Identity"],
    "Add": ["Sub", "Mul"],
    "AveragePool": ["MaxPool"],
    "GlobalAveragePool": ["GlobalMaxPool"],
    "LeakyRelu": ["Relu"],
    "Max": ["Min", "Sum"],
    "MaxPool": ["AveragePool"],
    "Mul": ["Add", "Div"],
    "Neg": ["Identity", "Abs"],
    "ReduceMax": ["ReduceMin", "ReduceMean"],
    "ReduceMean": ["ReduceSum", "ReduceMax"],
    "Relu": ["Identity", "Abs", "LeakyRelu", "Softplus"],
    "Sigmoid": ["HardSigmoid", "Tanh"],
    "Sub": ["Add"],
}


def other_operator(model, rng):
    """Put another operator in the place of one."""
    node = chosen((n for n in every_node(model) if n.op_type in OTHERS), rng)
    if node is None:
        return ""
    before, node.op_type = node.op_type, chosen(OTHERS[node.op_type], rng)
    if node.op_type in {"Identity", "Abs", "Relu", "AveragePool"}:
        wanted = {"AveragePool": {"kernel_shape", "pads", "strides", "ceil_mode", "auto_pad"}}
        kept = [a for a in node.attribute if a.name in wanted.get(node.op_type, set())]
        del node.attribute[:]
        node.attribute.extend(kept)
    return f"{before} is {node.op_type}, {node.output[0]}"


def other_order(model, rng):
    """Exchange two inputs of a node, or the readers of two tensors."""
    node = chosen((n for n in every_node(model) if len(n.input) > 1), rng)
    if node is None:
        return ""
    i, j = rng.choice(len(node.input), 2, replace=False)
    node.input[i], node.input[j] = node.input[j], node.input[i]
    return f"inputs {i} and {j} of {node.op_type} {node.output[0]}"


def other_input(model, rng):
    """Let a node of the graph read another tensor, of those before it."""
    nodes = list(model.graph.node)
    if len(nodes) < 2:
        return ""
    index = int(rng.integers(1, len(nodes)))
    before = [name for node in nodes[:index] for name in node.output if name]
    node = nodes[index]
    # The ratio of a Dropout counts in training only: with another one it is the same function.
    count = 1 if node.op_type == "Dropout" else len(node.input)
    if not node.input:
        return ""
    slot = int(rng.integers(count))
    node.input[slot] = chosen([*before, model.graph.input[0].name], rng)
    return f"input {slot} of {node.op_type} {node.output[0]} is {node.input[slot]}"


def inserted(model, rng):
    """Put something small behind a node."""
    nodes = list(model.graph.node)
    index = int(rng.integers(len(nodes)))
    node = nodes[index]
    name = next((n for n in node.output if n), None)
    if name is None or model.opset_import[0].version < 13:
        return ""
    node.output[list(node.output).index(name)] = f"{name}_before"
    types = {t.data_type for t in model.graph.initializer} & set(FLOATS)
    dtype = np.float64 if onnx.TensorProto.DOUBLE in types else np.float32
    kind, value = chosen([("Mul", 1.0001), ("Add", 1e-3), ("Max", -3.0), ("Min", 2.0)], rng)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, dtype), "edit"))
    extra = onnx.helper.make_node(kind, [f"{name}_before", "edit"], [name])
    model.graph.node.insert(index + 1, extra)
    return f"{kind} {value} behind {name}"


EDITS = (
    *(one_weight,) * 4,
    one_size,
    *(one_attribute,) * 2,
    *(other_operator,) * 2,
    other_order,
    other_input,
    inserted,
)


FLOORS = 16.0
"""Movements under rounding of the weights beyond which a change is none of rounding."""


def changes(original, rewritten, feeds):
    """Say whether another model is another function, by exact evaluation on some inputs.

    Returns
    -------
    str
        ``yes``; ``no`` where nothing differs; ``faint`` where no output differs by more than
        rounding the weights makes it; empty where the original could not be evaluated.
    """
    answer = ""
    rewritten = without_unread(rewritten)
    for each in feeds:
        wide = {name: as_float64(value) for name, value in each.items()}
        before, moved = evaluated(original, wide, 0), evaluated(original, wide, 1)
        if before is None or moved is None:
            continue
        after = evaluated(rewritten, wide, 0)
        if after is None:
            return "yes"
        answer = answer or "no"
        for a, b, m in zip(before, after, moved, strict=True):
            if isinstance(a, list) or isinstance(b, list):
                return ""
            if a.shape != b.shape:
                return "yes"
            if a.shape != m.shape:  # one that hangs on values, which rounding has moved
                return ""
            if a.dtype != np.float64:
                if (a != b).any():
                    return "yes"
                continue
            if (np.isfinite(a) != np.isfinite(b)).any():
                return "yes"
            finite = np.isfinite(a)
            error = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
            if error <= 1e-11 * float(np.abs(a[finite]).max(initial=0.0)):
                continue
            both = finite & np.isfinite(m)
            if error > FLOORS * float(np.abs(a[both] - m[both]).max(initial=0.0)):
                return "yes"
            answer = "faint"
    return answer


def without_unread(model):
    """Return a model without the nodes that nobody reads, which no runtime needs to compute."""
    kept = onnx.ModelProto.FromString(model.SerializeToString())
    while True:
        read = read_by(kept).union(*map(outputs_of, holders(kept)))
        unread = 0
        for holder in holders(kept):
            for index in reversed(range(len(holder.node))):
                if read.isdisjoint(holder.node[index].output):
                    del holder.node[index]
                    unread += 1
        if not unread:
            return kept


def outputs_of(holder):
    return {getattr(port, "name", port) for port in holder.output}


def evaluated(model, feeds, sample):
    """Return a model's outputs in float64, None where there are none."""
    SETTINGS.set(Settings(sample=sample))
    try:
        return Float64Evaluator(model).run(None, feeds)
    except Exception:  # noqa: BLE001 - an edit may break whatever rule
        return None
