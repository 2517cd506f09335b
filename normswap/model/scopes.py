"""What makes the tensors that a model reads: one node, input or initializer in sight, for each."""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING

from normswap.bodies import bodies
from normswap.errors import ModelError
from normswap.order import in_topological_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx


def require_made(model: onnx.ModelProto, name: str) -> None:
    """Refuse a model with a tensor that nothing makes, or that two nodes make, or itself.

    Nodes may be in any order, and a body may give its own tensor a name that is used around it.

    Parameters
    ----------
    model : onnx.ModelProto
    name : str
        What to call it in messages.

    Raises
    ------
    ModelError
        It names the tensor, and the nodes.
    """
    try:
        _graph(model.graph, {})
        for function in model.functions:
            _nodes(function.node, dict.fromkeys(function.input), {}, function.output)
    except ValueError as error:
        raise ModelError(f"{name} is not a valid model: {error}.") from error


def _graph(graph: onnx.GraphProto, around: Mapping[str, object]) -> None:
    given = dict.fromkeys(port.name for port in graph.input)
    given.update(dict.fromkeys(tensor.name for tensor in graph.initializer))
    given.update(dict.fromkeys(tensor.values.name for tensor in graph.sparse_initializer))
    _nodes(graph.node, given, around, [port.name for port in graph.output])


def _nodes(
    nodes: Iterable[onnx.NodeProto],
    given: Mapping[str, object],
    around: Mapping[str, object],
    outputs: Iterable[str],
) -> None:
    made: dict[str, onnx.NodeProto] = {}
    for node in nodes:
        for tensor in filter(None, node.output):
            if tensor in made:
                raise ValueError(f"both {_title(made[tensor])} and {_title(node)} make {tensor!r}")
            made[tensor] = node
    seen: Mapping[str, object] = ChainMap(made, given, around)  # type: ignore[arg-type]
    for node in nodes:
        for tensor in filter(None, node.input):
            if tensor not in seen:
                raise ValueError(f"{_title(node)} reads {tensor!r}, which nothing makes")
        for body in bodies(node):
            _graph(body, seen)
    for tensor in outputs:
        if tensor not in seen:
            raise ValueError(f"nothing makes the output {tensor!r}")
    in_topological_order(list(nodes))


def _title(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or next(filter(None, node.output), '')}"
