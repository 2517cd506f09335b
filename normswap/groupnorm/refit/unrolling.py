"""Bodies of If, Loop and Scan, written out where it is known how they run.

No derivative is known of a node with a body. But an If on a constant is one of its branches, and a
Loop of a constant number of turns, or a Scan over a fixed length, its body so many times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from normswap.bodies import bodies
from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import unless_blocked
from normswap.groupnorm.statistics import behind_identities

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

    from normswap.graph.network import Graph, Node, Value

MOST = 32
"""Turns that are written out."""

VARYING = -2
"""What nodes are tagged by that hand a turn what is its own."""


def turns_of(node: Node, inside: Sequence[Graph]) -> int | None:
    """Return how a node runs: which branch, 1 or 0, or how many turns; None where that is open.

    Parameters
    ----------
    node : Node
    inside : sequence of Graph
        Its bodies.
    """
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    are_tensors = node.opset >= 16 or all(value.data_type is not None for value in values)
    if node.domain or node.refers_to_attributes or not are_tensors:
        return None  # before, an Identity is of tensors only
    if node.op == "If":
        chosen = _number(node.input(0))
        return None if chosen is None else int(chosen != 0)
    turns = None
    if node.op == "Loop" and _goes_on(node, inside[0]):
        turns = _number(node.input(0))
    if node.op == "Scan" and node.opset >= 9:
        states = len(node.inputs) - node.attr("num_scan_inputs", 0)
        axis = node.attr("scan_input_axes", [0])[0]
        rows = node.operand(states)
        size = rows.shape[axis] if rows.shape and not rows.doubtful else None
        turns = size if isinstance(size, int) else None
    return turns if turns is not None and 0 < turns <= MOST else None


def _goes_on(node: Node, body: Graph) -> bool:
    """Whether a Loop goes on until its number of turns is reached."""
    last = behind_identities(body.outputs[0])
    return _number(node.input(1), 1) == 1 and (last is body.inputs[1] or _number(last) == 1)


def _number(value: Value | None, default: int | None = None) -> int | None:
    if value is None:
        return default
    source = unless_blocked(constant_source, value)
    return (
        None if source is None or np.prod(source.shape) != 1 else int(source.load().reshape(-1)[0])
    )


def write_out(model: onnx.ModelProto, turns: Mapping[int, int], tag: str) -> None:
    """Write bodies out, in place.

    Parameters
    ----------
    model : onnx.ModelProto
        Without calls of functions.
    turns : Mapping of int to int
        Of :func:`turns_of`, by what the nodes are tagged by.
    tag : str
        The attribute in which that is.
    """
    _Unroller(model, turns, tag).graph(model.graph)


class _Unroller:
    def __init__(self, model: onnx.ModelProto, turns: Mapping[int, int], tag: str) -> None:
        self._turns = turns
        self._tag = tag
        self._opset = next(i.version for i in model.opset_import if i.domain in ("", "ai.onnx"))
        self._names = set(_names(model.graph))
        self._nodes: list[NodeProto] = []

    def graph(self, graph: GraphProto) -> None:
        nodes: list[NodeProto] = []
        for node in graph.node:
            for body in bodies(node):
                self.graph(body)
            tags = [a.i for a in node.attribute if a.name == self._tag]
            turns = self._turns.get(tags[0]) if tags else None
            nodes += [node] if turns is None else self._written(node, turns, graph)
        del graph.node[:]
        graph.node.extend(nodes)

    def _written(self, node: NodeProto, turns: int, around: GraphProto) -> list[NodeProto]:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._nodes = []
        if node.op_type == "If":
            body = attrs["then_branch" if turns else "else_branch"]
            self._hand_out(self._copied(body, self._hoisted(body, around)), node.output)
            return self._nodes
        is_loop = node.op_type == "Loop"
        body, shared = attrs["body"], self._hoisted(attrs["body"], around)
        scanned = [] if is_loop else node.input[len(node.input) - attrs["num_scan_inputs"] :]
        states = list(node.input[2:] if is_loop else node.input[: len(node.input) - len(scanned)])
        results: list[list[str]] = []
        for turn in range(turns):
            states = [self._op("Identity", [name]) for name in states]
            number = self._constant(turn)
            rows = [
                self._op(
                    "Gather", [name, self._constant(turns - 1 - turn if back else turn)], axis=axis
                )
                for name, axis, back in zip(
                    scanned,
                    attrs.get("scan_input_axes", [0] * len(scanned)),
                    attrs.get("scan_input_directions", [0] * len(scanned)),
                    strict=True,
                )
            ]
            own = [number, self._constant(True), *states] if is_loop else [*states, *rows]
            given = {value.name: name for value, name in zip(body.input, own, strict=False)}
            made = self._copied(body, shared | given)[int(is_loop) :]  # behind the condition
            results.append(made[len(states) :])
            states = made[: len(states)]
        self._hand_out(states, node.output)
        wanted = node.output[len(states) :]
        for index, (name, axis, back) in enumerate(
            zip(
                wanted,
                attrs.get("scan_output_axes", [0] * len(wanted)),
                attrs.get("scan_output_directions", [0] * len(wanted)),
                strict=True,
            )
        ):
            if name:
                rows = [self._row(made[index], axis) for made in results[:: -1 if back else 1]]
                self._op("Concat", rows, name, axis=axis)
        return self._nodes

    def _hoisted(self, body: GraphProto, around: GraphProto) -> dict[str, str]:
        """Let the constants of a body be those of the graph around it."""
        names = {}
        for tensor in body.initializer:
            moved = around.initializer.add()
            moved.CopyFrom(tensor)
            moved.name = names[tensor.name] = self._fresh(tensor.name)
        for sparse in body.sparse_initializer:
            other = around.sparse_initializer.add()
            other.CopyFrom(sparse)
            other.values.name = names[sparse.values.name] = self._fresh(sparse.values.name)
        return names

    def _copied(self, body: GraphProto, names: dict[str, str]) -> list[str]:
        """Write a body out once, and return what its outputs are called."""
        names = dict(names)
        for node in body.node:
            names |= {name: self._fresh(name) for name in node.output if name}
        for node in body.node:
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.name = self._fresh(node.name) if node.name else ""
            _rename(copy, names)
            copy.output[:] = [names.get(name, name) for name in node.output]
            self._nodes.append(copy)
        return [names.get(value.name, value.name) for value in body.output]

    def _hand_out(self, made: Sequence[str], outputs: Sequence[str]) -> None:
        for name, output in zip(made, outputs, strict=False):
            if output:
                self._nodes.append(helper.make_node("Identity", [name], [output]))

    def _row(self, name: str, axis: int) -> str:
        if self._opset < 13:
            return self._op("Unsqueeze", [name], axes=[axis])
        return self._op("Unsqueeze", [name, self._constant([axis])])

    def _constant(self, value: int | bool | list[int]) -> str:
        array = np.array(value, None if isinstance(value, bool) else np.int64)
        return self._op("Constant", [], value=numpy_helper.from_array(array))

    def _op(self, op: str, inputs: list[str], output: str = "", **attrs: object) -> str:
        """Add a node that is not the same in every turn."""
        output = output or self._fresh(f"turn/{op}")
        node = helper.make_node(op, inputs, [output], **attrs)
        node.attribute.append(helper.make_attribute(self._tag, VARYING))
        self._nodes.append(node)
        return output

    def _fresh(self, hint: str) -> str:
        """Return a name that nothing has."""
        name, number = hint, 1
        while name in self._names:
            name, number = f"{hint}_{number}", number + 1
        self._names.add(name)
        return name


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Let a node, and all in its bodies, read what is called otherwise now."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for body in bodies(node):
        for inner in body.node:
            _rename(inner, names)
        for value in body.output:
            value.name = names.get(value.name, value.name)


def _names(graph: GraphProto) -> Iterator[str]:
    """Yield all names of a graph and its bodies."""
    yield from (value.name for value in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)
        for body in bodies(node):
            yield from _names(body)
