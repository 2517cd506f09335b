"""How deep and how large a model may be: what its few bytes make of it may have no end.

Functions that call functions twice each double with every level, and those that call each other in
a circle never end. onnx writes calls out to infer shapes, and so do runtimes. Graphs in graphs end
where protobuf stops reading: at 100 messages in one another, of which each graph takes three, and
the type of a tensor some more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from normswap.bodies import bodies
from normswap.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx

MOST_NODES = 200_000
"""That functions may come to when all calls are written out."""

MOST_CALLS = 100
"""That may be within one another; onnx's own limit."""

MOST_GRAPHS = 30
"""That may be within one another, calls written out."""

_Key = tuple[str, str, str]


class _Extent(NamedTuple):
    """What nodes come to when all calls are written out."""

    nodes: int
    calls: int
    graphs: int


def require_bounded(model: onnx.ModelProto, name: str) -> None:
    """Refuse a model whose functions or graphs have no end that can be waited for.

    Parameters
    ----------
    model : onnx.ModelProto
    name : str
        What to call it in messages.

    Raises
    ------
    ModelError
        It names the functions that go in a circle, or the bound.
    """
    meter = _Meter(model, name)
    found = [meter.extent(model.graph.node, ()), *map(meter.function, meter.functions)]
    nodes, calls, graphs = map(max, zip(*found, strict=True))
    if nodes > MOST_NODES:
        raise ModelError(
            f"{name} has {_about(nodes)} nodes when all calls of its functions are "
            f"expanded, and normswap reads at most {MOST_NODES}."
        )
    if calls > MOST_CALLS:
        raise _too_many_calls(name)
    if graphs > MOST_GRAPHS:
        raise too_deep(name)


def too_deep(name: str) -> ModelError:
    """Return the error about a model whose graphs lie too deep in one another."""
    return ModelError(
        f"{name} has subgraphs nested more than {MOST_GRAPHS} deep, which is the most "
        "that normswap reads."
    )


def _too_many_calls(name: str) -> ModelError:
    return ModelError(
        f"The functions of {name} call each other more than {MOST_CALLS} deep, which is "
        "the most that normswap reads."
    )


class _Meter:
    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self.functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self._name = name
        self._known: dict[_Key, _Extent] = {}

    def extent(self, nodes: Iterable[Any], trail: tuple[_Key, ...]) -> _Extent:
        """Return what nodes come to; of those outside of functions only the calls count."""
        count = calls = graphs = 0
        for node, depth in _nested(nodes):
            graphs = max(graphs, depth)
            count += bool(trail)
            key = (node.domain, node.op_type, node.overload)
            if key in self.functions:
                inner = self.function(key, trail)
                count += inner.nodes
                calls = max(calls, inner.calls + 1)
                graphs = max(graphs, depth + inner.graphs)
        return _Extent(count, calls, graphs)

    def function(self, key: _Key, trail: tuple[_Key, ...] = ()) -> _Extent:
        """Return what a call comes to, by a trail of calls to it."""
        if key in trail:
            circle = " → ".join(map(_title, (*trail[trail.index(key) :], key)))
            raise ModelError(
                f"The functions of {self._name} call each other in a circle: {circle}."
            )
        if len(trail) > MOST_CALLS:
            raise _too_many_calls(self._name)
        if key not in self._known:
            self._known[key] = self.extent(self.functions[key].node, (*trail, key))
        return self._known[key]


def _nested(nodes: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    """Yield nodes and those in their subgraphs, with how many graphs each is in."""
    pending = [(node, 0) for node in nodes]
    while pending:
        node, depth = pending.pop()
        yield node, depth
        pending += [(inner, depth + 1) for body in bodies(node) for inner in body.node]


def _title(key: _Key) -> str:
    domain, name, overload = key
    return f"{domain}.{name}" + (f":{overload}" if overload else "")


def _about(number: int) -> str:
    return str(number) if number < 10**6 else f"{number:.1e}"
