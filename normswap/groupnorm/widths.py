"""Functions whose BatchNormalizations have other widths in other calls: one copy for every width.

torch's modules, exported as functions, get their parameters as arguments, so one ``BatchNorm2d``
serves the layers of all widths, but a group normalization has its number of channels written in it.
So each call calls a copy for its own width. The network is the same, and functions on which all
calls agree stay shared.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from normswap.files.scratch import scratch_folder
from normswap.folding.functions import Library
from normswap.graph.batchnorm import is_batchnorm
from normswap.graph.build import build_network, gs_nodes, with_nested
from normswap.graph.evaluate import known_type
from normswap.graph.names import Names
from normswap.groupnorm.statistics import behind_identities, called_bodies
from normswap.model import load, stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import onnx_graphsurgeon as gs

    from normswap.graph.network import Graph, Value
    from normswap.model import Model

Kind = tuple[int | None, int | None]
"""Length and element type of a vector, as far as they are known."""

Kinds = tuple[Kind, ...]
"""Those of some arguments; or of the normalizations in a function and in all that it calls."""


@contextlib.contextmanager
def one_width_each(path: Path, name: str = "") -> Iterator[Model | None]:
    """Give a model in which all calls of a function normalize tensors of one width.

    Parameters
    ----------
    path : Path
        Of a model.
    name : str
        What to call it in messages.

    Yields
    ------
    Model or None
        It lies in a temporary file as long as the context is open. None where the model at `path`
        is like that.
    """
    model = load(path, name=name or path.name)
    with scratch_folder() as folder:
        if not tell_widths_apart(model):
            yield None
            return
        apart = folder / "apart.onnx"
        with stage(model, apart) as staged:
            staged.commit()
        yield load(apart, name=model.name)


def has_normalizing_functions(model: Model) -> bool:
    """Whether there is a BatchNormalization in a function."""
    bodies = (graph for function in model.graph.functions for graph in with_nested(function))
    return any(node.op == "BatchNormalization" for graph in bodies for node in graph.nodes)


def must_be_inlined(model: Model, *, for_orders: bool) -> bool:
    """Whether a layer is several in one function, which copies for each width don't tell apart.

    Parameters
    ----------
    model : Model
    for_orders : bool
        Whether the channels of each layer will have an order of their own. A function has one for
        all its calls, also where each of them hands it parameters.

    Returns
    -------
    bool
        That is so if calls set attributes of a BatchNormalization, too.
    """
    network = build_network(model)
    called = called_bodies(model, network)
    given = {id(value) for body in called for value in body.inputs}
    nodes = [node for body in called for graph in body.family() for node in graph.nodes]
    layers = [node for node in nodes if is_batchnorm(node)]
    if any(node.refers_to_attributes for node in layers):
        return True
    parameters = (value for node in layers for value in node.inputs[1:5] if value is not None)
    return for_orders and any(id(behind_identities(value)) in given for value in parameters)


def tell_widths_apart(model: Model) -> bool:
    """Give functions that normalize tensors of several widths a copy for each.

    Parameters
    ----------
    model : Model
        Is edited. The first call keeps the function that there was. The result depends on nothing
        but the model.

    Returns
    -------
    bool
        Whether there were any.
    """
    if not has_normalizing_functions(model):
        return False
    apart = _Apart(model)
    apart.point(apart.network.graphs[0], {}, list(gs_nodes(model)))
    return apart.copied


class _Apart:
    """Finds which widths calls ask for, and points them to functions of these.

    Parameters
    ----------
    model : Model

    Attributes
    ----------
    network : Network
    copied : bool
        Whether there is a copy of a function.
    """

    def __init__(self, model: Model) -> None:
        self.network = build_network(model)
        self.copied = False
        self._functions = model.graph.functions
        self._library = Library(model, self.network)
        self._names = Names(model)
        self._found: dict[tuple[int, Kinds], Kinds] = {}
        self._copies: dict[int, dict[Kinds, gs.Function]] = {}

    def point(self, root: Graph, given: Mapping[int, Kind], nodes: list[gs.Node]) -> None:
        """Let the calls in a graph, and in its subgraphs, call functions of their widths.

        Parameters
        ----------
        root : Graph
            The main graph, or the body of a function.
        given : mapping of int to Kind
            With what it is called, by ids of its inputs.
        nodes : list of gs.Node
            Those of the graph or its copy, in the order of their keys.
        """
        calls = list(self._library.calls(root.family()))  # before there are more functions
        for call, number in sorted(calls, key=lambda found: found[0].key):
            arguments = tuple(_kind(value, given) for value in call.inputs)
            widths = self._widths(number, arguments)
            copies = self._copies.setdefault(number, {})
            if widths not in copies:
                copies[widths] = self._copy(number, widths) if copies else self._functions[number]
                own = [node for graph in with_nested(copies[widths]) for node in graph.nodes]
                self.point(*self._called(number, arguments), own)
            nodes[call.key - root.nodes[0].key].op = copies[widths].name

    def _copy(self, number: int, widths: Kinds) -> gs.Function:
        self.copied = True
        original = self._functions[number]
        copy = original.copy()
        copy.attrs = dict(original.attrs)  # the very values: they are not changed
        width = next((f"_{length}" for length, _ in widths if length), "_of_another_width")
        copy.name = self._names.fresh(f"{original.name}{width}")
        self._functions.append(copy)
        return copy

    def _widths(self, number: int, arguments: Kinds) -> Kinds:
        """Return the widths in a function, and in those that it calls, for one call."""
        key = number, arguments
        if key not in self._found:
            self._found[key] = ()  # should it call itself, which no valid model does
            self._found[key] = tuple(self._within(*self._called(number, arguments)))
        return self._found[key]

    def _within(self, root: Graph, given: Mapping[int, Kind]) -> Iterator[Kind]:
        for graph in root.family():
            for node in graph.nodes:
                if is_batchnorm(node):
                    kinds = [_kind(value, given) for value in node.inputs[1:5]]
                    lengths, data_types = [k for k, _ in kinds], [k for _, k in kinds]
                    yield next(filter(None, lengths), None), next(filter(None, data_types), None)
                number = self._library.number_of(node)
                if number is not None:
                    yield from self._widths(number, tuple(_kind(v, given) for v in node.inputs))

    def _called(self, number: int, arguments: Kinds) -> tuple[Graph, dict[int, Kind]]:
        """Return the body of a function, and what it is called with."""
        body = self.network.bodies[number]
        return body, {id(v): kind for v, kind in zip(body.inputs, arguments, strict=False)}


def _kind(value: Value | None, given: Mapping[int, Kind]) -> Kind:
    """Return what is known of a vector in a function that is called with some arguments."""
    if value is None:
        return None, None
    value = behind_identities(value)
    if id(value) in given:
        return given[id(value)]
    data_type, shape = known_type(value)
    length = shape[0] if shape is not None and len(shape) == 1 else None
    return length if isinstance(length, int) else None, data_type
