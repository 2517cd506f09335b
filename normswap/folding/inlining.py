"""Model-local functions whose bodies take the place of calls, so that a map goes across.

torch's modules, exported as functions, have a Conv in one and the BatchNormalization behind it in
another, and get their parameters as arguments. Neither can be specialised by itself. Where it folds
more, the calls that a route goes through are inlined, and all others stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from normswap.folding.edits import Inline
from normswap.graph.build import with_nested

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from normswap.folding.draft import Draft
    from normswap.folding.edits import Edit
    from normswap.folding.functions import Library
    from normswap.graph.names import Names
    from normswap.graph.network import Graph, Node
    from normswap.model import Model

MOST = 2_000
"""Calls that are inlined at most: functions that call functions make many of few."""

Path = tuple[str, ...]
"""A call, by what it and those around it are called."""


class Inliner:
    """Inlines calls on a draft.

    Parameters
    ----------
    draft : Draft
    library : Library
    """

    def __init__(self, draft: Draft, library: Library) -> None:
        self.draft = draft
        self.library = library
        self.ranges: dict[Path, range] = {}  # keys of the nodes that came in the place of a call

    def inline(self, root: Graph, wanted: Container[Path] | None = None) -> bool:
        """Inline the calls in a graph and its subgraphs, and those in what comes by that.

        Parameters
        ----------
        root : Graph
        wanted : container of Path, optional
            Only these calls.

        Returns
        -------
        bool
            Whether there were any, and not too many.
        """
        self.ranges.clear()
        pending: list[tuple[Path, Node, int]] = [
            ((node.title,), node, n) for node, n in self.library.calls(root.family())
        ]
        while pending:
            path, node, number = pending.pop()
            if (wanted is not None and path not in wanted) or not _fits(
                self.library.model, node, number
            ):
                continue
            first = self.draft.network.keys
            graphs = self.library.instantiate(node, number)
            inner = [((*path, n.title), n, i) for n, i in self.library.calls(graphs)]
            self.draft.inline(Inline(node.key, number, first), graphs)
            self.ranges[path] = range(first, self.draft.network.keys)
            pending += inner
            if len(self.ranges) > MOST:
                return False
        return bool(self.ranges)

    def touched(self, edits: Iterable[Edit]) -> set[Path]:
        """Return the calls in the place of which edits are made, and the calls around them."""
        keys = {edit.node for edit in edits if not isinstance(edit, Inline)}
        found = [path for path, own in self.ranges.items() if any(key in keys for key in own)]
        return {path[:length] for path in found for length in range(1, len(path) + 1)}


def _fits(model: Model, node: Node, number: int) -> bool:
    """Whether the body of a function means the same in the place of a call.

    It does if it is of the same operator sets, and every result of it is made by a node of its own.
    """
    function = model.graph.functions[number]
    imports = {item.domain: item.version for item in model.proto.opset_import}
    own = {item.domain: item.version for item in model.proto.functions[number].opset_import}
    if any(imports.get(domain, version) != version for domain, version in own.items()):
        return False
    used = {inner.domain or "" for graph in with_nested(function) for inner in graph.nodes}
    makers = [id(tensor) for tensor in function.outputs if tensor.inputs]
    return (
        {domain for domain in used if domain not in ("", "ai.onnx")} <= imports.keys()
        and len(set(makers)) == len(function.outputs)
        and len(node.inputs) <= len(function.inputs)
        and len(node.outputs) <= len(function.outputs)
    )


def put_in_place(body: gs.Function, call: gs.Node, names: Names) -> None:
    """Let what a function computes be computed from the arguments of a call, under fresh names.

    Parameters
    ----------
    body : gs.Function
        A copy, which is changed.
    call : gs.Node
        Has no outputs any more.
    names : Names
    """
    lead = call.name or next(iter(tensor.name for tensor in call.outputs if tensor.name), call.op)
    results = list(call.outputs)
    call.outputs.clear()
    new: dict[int, gs.Tensor] = {
        id(tensor): call.inputs[slot] if slot < len(call.inputs) else gs.Variable.empty()
        for slot, tensor in enumerate(body.inputs)
    }
    for tensor, result in zip(body.outputs, results, strict=False):
        if result.name:
            new[id(tensor)] = result
    attributes = {**body.attrs, **{k: v for k, v in call.attrs.items() if v is not None}}
    renamed: set[int] = set()
    for graph in with_nested(body):
        for node in graph.nodes:
            title = node.name or next((t.name for t in node.outputs if t.name), node.op)
            node.name = names.fresh(f"{lead}/{title}")
            _resolve(node, attributes)
            for tensors in (node.inputs, node.outputs):
                for slot, tensor in enumerate(list(tensors)):
                    if id(tensor) in new:
                        tensors[slot] = new[id(tensor)]
        for tensors in (graph.inputs, graph.outputs) if graph is not body else ():
            for slot, tensor in enumerate(list(tensors)):
                if id(tensor) in new:
                    tensors[slot] = new[id(tensor)]
        used = (tensor for node in graph.nodes for tensor in (*node.inputs, *node.outputs))
        for tensor in (*used, *graph.inputs, *graph.outputs):  # of which some share a name by now
            known = id(tensor) in renamed or any(tensor is other for other in new.values())
            if not known and tensor.name:
                renamed.add(id(tensor))
                tensor.name = names.fresh(f"{lead}/{tensor.name}")


def _resolve(node: gs.Node, attributes: dict[str, object]) -> None:
    """Give attributes that refer to a parameter of the function its value, or take them out."""
    for name, value in list(node.attrs.items()):
        if isinstance(value, gs.Node.AttributeRef):
            given = attributes.get(value.name)
            if given is None:
                del node.attrs[name]
            else:
                node.attrs[name] = given
