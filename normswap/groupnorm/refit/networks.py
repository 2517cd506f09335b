"""The two networks of a refit: the teacher as it is, the student with what is fitted as inputs.

Functions are inlined in both, so that a layer in a function is one of the main graph for each of
its calls. What is an input of the student can be another value in every run of one session.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.inliner
import onnx_graphsurgeon as gs

from normswap.dtypes import NUMPY_DTYPES, round_to
from normswap.graph.build import build_network, gs_nodes
from normswap.graph.names import Names
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.layer import Runtime
from normswap.groupnorm.levels import Order
from normswap.groupnorm.planner import by_itself, with_layers
from normswap.groupnorm.refit.layers import LINEAR, find_layers
from normswap.groupnorm.refit.products import Scaling
from normswap.groupnorm.refit.tangent import WIDE, find_route
from normswap.model import load, stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from normswap.graph.network import Network, Node, Value
    from normswap.groupnorm.layer import Layer
    from normswap.groupnorm.plan import SwapPlan
    from normswap.groupnorm.refit.layers import Constant, Shared
    from normswap.groupnorm.refit.products import Product
    from normswap.groupnorm.refit.tangent import Route
    from normswap.model import Model

_TAG = "normswap_layer"  # an attribute by which a node is known after its function was inlined
_SOFT = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Identity"})
_SHOWN = frozenset(NUMPY_DTYPES)


@dataclass(slots=True)
class Parameter:
    """A constant that is fitted, as an input of the student.

    Attributes
    ----------
    name : str
    data_type : int
    values : ndarray
        What it is by now, in its own type.
    constant : Constant or None
        Where it is written; None for an affine's.
    """

    name: str
    data_type: int
    values: npt.NDArray[Any]
    constant: Constant | None = None

    def moved(self, change: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """Return what it is with a change, rounded to its type."""
        wide = self.values.astype(np.float64) + change.reshape(self.values.shape)
        with np.errstate(over="ignore", invalid="ignore"):  # a candidate, which is judged
            return round_to(wide, self.data_type)


@dataclass(frozen=True, slots=True)
class Use:
    """A layer in both networks.

    Attributes
    ----------
    product : Product
    x, y : str
        The student's tensors.
    wanted : str
        The teacher's, which y is to be.
    """

    product: Product
    x: str
    y: str
    wanted: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is fitted at once: one weight, with all layers that have it.

    Attributes
    ----------
    layer : str
        What to call it.
    uses : tuple of Use
    weight, bias : Parameter, and None
    affine : str
        The name of the output of the layer whose affine this is; empty for a weight.
    """

    layer: str
    uses: tuple[Use, ...]
    weight: Parameter
    bias: Parameter | None
    affine: str = ""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is fitted."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two networks.

    Attributes
    ----------
    path : Path
    taps : dict of str to int
        Tensors that are asked for, and their types.
    frontiers : list of dict of str to int, or None
        See :meth:`normswap.groupnorm.levels.Order.frontiers`.
    ends : tuple of str
        The tensors that a fit is judged by, in the order of the outputs.
    """

    path: Path
    taps: dict[str, int]
    frontiers: list[dict[str, int]] | None
    ends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Both networks, and what is fitted.

    Attributes
    ----------
    teacher, student : Side
    outputs : tuple of str
        The outputs of which `ends` is what a fit is judged by.
    problems : list of Problem
    levels : list of list of int
        Their numbers, in the order in which they are solved.
    kept : dict of str to str
        Layers that can't be fitted, and why.
    route : Route
        From all that is fitted to the ends of the student.
    """

    teacher: Side
    student: Side
    outputs: tuple[str, ...]
    problems: list[Problem]
    levels: list[list[int]]
    kept: dict[str, str]
    route: Route


def open_pair(
    original: Path, plan: SwapPlan, folder: Path, *, weights: bool, affines: bool
) -> Pair:
    """Write both networks.

    Parameters
    ----------
    original : Path
        The model that was planned for.
    plan : SwapPlan
    folder : Path
        Where they are written.
    weights, affines : bool
        What is fitted: the weights of linear layers; the scale and bias of group normalizations.
    """
    opening = _Opening(original, plan, folder)
    if affines:
        opening.open_affines()
    opening.swap()
    if weights:
        opening.open_weights()
    return opening.pair()


@dataclass(slots=True)
class _Opened:
    """A network on the way."""

    model: Model
    network: Network
    tags: dict[int, int]  # by the number of the node: the number before its function was inlined
    surgeon: dict[int, gs.Node]

    def by_tag(self) -> dict[int, list[Node]]:
        """Return the nodes of the main graph by their number before, in the order of the file."""
        found: dict[int, list[Node]] = {}
        for node in self.network.graphs[0].nodes:
            if node.key in self.tags:
                found.setdefault(self.tags[node.key], []).append(node)
        return found


@dataclass(slots=True)
class _Fitted:
    """A problem on the way: its readers are the student's nodes that read what is fitted."""

    problem: Problem
    readers: list[int]
    made_of: list[Node] = field(default_factory=list)  # the teacher's


class _Opening:
    def __init__(self, original: Path, plan: SwapPlan, folder: Path) -> None:
        self._folder = folder
        self._plan = by_itself(plan)
        model = load(original)
        network = build_network(model)
        self._called = {
            node.key for body in network.bodies for graph in body.family() for node in graph.nodes
        }
        self._tag(model)
        self._teacher = self._inlined(model, "teacher")
        self._path = folder / "teacher.onnx"
        self._model = load(original)  # the student
        self._tag(self._model)
        self._names = Names(self._model)
        self._affines: dict[str, tuple[Layer, Parameter, Parameter]] = {}
        self._found: list[_Fitted] = []
        self._kept: dict[str, str] = {}

    @staticmethod
    def _tag(model: Model) -> None:
        for key, node in enumerate(gs_nodes(model)):
            if node.op in LINEAR or node.op == "Add":
                node.attrs[_TAG] = key

    def _inlined(self, model: Model, name: str) -> _Opened:
        """Write a network without functions and read it again."""
        path = self._folder / f"{name}.onnx"
        if model.graph.functions:
            tagged = self._folder / f"{name}.tagged.onnx"
            with stage(model, tagged) as staged:
                staged.commit()
            proto = onnx.load(tagged, load_external_data=False)
            onnx.save(onnx.inliner.inline_local_functions(proto), path)
            model = load(path)
        network = build_network(model)
        surgeon = dict(enumerate(gs_nodes(model)))
        tags = {}
        for node in network.nodes():
            node.attrs.pop(_TAG, None)
            key = surgeon[node.key].attrs.pop(_TAG, None)
            if key is not None:
                tags[node.key] = key
        return _Opened(model, network, tags, surgeon)

    def open_affines(self) -> None:
        """Make scale and bias of the layers in the main graph inputs of the student."""
        shared: dict[tuple[str, ...], tuple[Parameter, Parameter]] = {}
        layers = []
        for swap in self._plan.swaps:
            layer = swap.layer
            constant = not isinstance(layer.scale, Runtime) and not isinstance(layer.bias, Runtime)
            if not swap.site.graph and constant:
                if swap.parameters not in shared:
                    shared[swap.parameters] = self._affine(layer)
                scale, bias = shared[swap.parameters]
                self._affines[layer.y] = (layer, scale, bias)
                layer = replace(
                    layer,
                    scale=Runtime(scale.name, scale.data_type),
                    bias=Runtime(bias.name, bias.data_type),
                )
            layers.append(layer)
        self._plan = with_layers(self._plan, layers)

    def _affine(self, layer: Layer) -> tuple[Parameter, Parameter]:
        """Add a scale and a bias as inputs."""
        data_type = layer.compute_type
        found = []
        for what, values, neutral in (("scale", layer.scale, 1.0), ("bias", layer.bias, 0.0)):
            given = np.full(layer.channels, neutral)
            if isinstance(values, np.ndarray):
                given = values
            tensor = self._input(self._model, f"{layer.name}/{what}", data_type, given.shape)
            found.append(Parameter(tensor.name, data_type, round_to(given, data_type)))
        return found[0], found[1]

    def _input(self, model: Model, hint: str, data_type: int, shape: Sequence[int]) -> gs.Variable:
        name = self._names.fresh(f"{hint}/fitted")
        tensor = gs.Variable(name, NUMPY_DTYPES[data_type], tuple(shape))
        model.graph.inputs.append(tensor)
        return tensor

    def swap(self) -> None:
        """Let the student be the swapped network."""
        apply_swaps(self._plan, self._model)
        self._student = self._inlined(self._model, "student")
        self._names = Names(self._student.model)
        readers: dict[str, list[int]] = {}
        for node in self._student.network.nodes():
            for value in node.inputs:
                if value is not None and value.producer is None:
                    readers.setdefault(value.name, []).append(node.key)
        teachers = {
            value.name: node
            for node in self._teacher.network.graphs[0].nodes
            for value in node.outputs
            if value is not None
        }
        uses: dict[str, list[str]] = {}
        for y, (_, scale, _) in self._affines.items():
            uses.setdefault(scale.name, []).append(y)
        for names in uses.values():
            layer, scale, bias = self._affines[names[0]]
            problem = Problem(
                layer.name,
                tuple(self._affine_use(self._affines[y][0]) for y in names),
                scale,
                bias,
                names[0],
            )
            keys = [*readers.get(scale.name, ()), *readers.get(bias.name, ())]
            self._found.append(_Fitted(problem, keys, [teachers[y] for y in names]))

    @staticmethod
    def _affine_use(layer: Layer) -> Use:
        return Use(Scaling(layer.num_groups, layer.epsilon), layer.x, layer.y, layer.y)

    def open_weights(self) -> None:
        """Make the weights of linear layers inputs of the student."""
        teacher, student = self._teacher, self._student
        main, *inner = teacher.network.graphs
        found = find_layers(main.nodes, teacher.tags, self._called)
        hidden = (node for graph in inner for node in graph.nodes if node.op in LINEAR)
        self._kept |= found.kept | {
            node.title: f"it is in {node.graph.path}, whose tensors onnxruntime does not return"
            for node in hidden
            if node.key in teacher.tags
        }
        theirs, ours = teacher.by_tag(), student.by_tag()
        twins = {
            one.key: other
            for tag, nodes in theirs.items()
            for one, other in zip(nodes, ours.get(tag, ()), strict=False)
        }
        for shared in found.problems:
            self._open_weight(shared, twins)

    def _open_weight(self, shared: Shared, twins: dict[int, Node]) -> None:
        layers = shared.layers
        title = layers[0].node.title
        nodes = [n.key for layer in layers for n in (layer.node, layer.last)]
        if any(key not in twins for key in nodes):
            self._kept[title] = "it is part of a layer that is swapped"
            return
        parameters: list[Parameter] = []
        readers: list[int] = []
        for what, constant, places in (
            ("weight", shared.weight, [layer.weight for layer in layers]),
            ("bias", shared.bias, [layer.bias for layer in layers]),
        ):
            if constant is None:
                continue
            model, source = self._student.model, constant.source
            tensor = self._input(model, f"{title}/{what}", source.data_type, source.shape)
            parameters.append(Parameter(tensor.name, source.data_type, source.load(), constant))
            for node, slot in filter(None, places):
                reader = twins[node.key].key
                self._student.surgeon[reader].inputs[slot] = tensor
                readers.append(reader)
        uses = tuple(
            Use(
                layer.product,
                twins[layer.node.key].operand(1 - layer.weight[1]).name,
                twins[layer.last.key].out.name,
                layer.y.name,
            )
            for layer in layers
        )
        bias = parameters[1] if len(parameters) > 1 else None
        problem = Problem(title, uses, parameters[0], bias)
        self._found.append(_Fitted(problem, readers, [layer.node for layer in layers]))

    def pair(self) -> Pair:
        """Write both networks and say in which order their layers are fitted."""
        for opened, name in ((self._teacher, "teacher"), (self._student, "student")):
            with stage(opened.model, self._folder / f"{name}.onnx", overwrite=True) as staged:
                staged.commit()
        student = build_network(load(self._folder / "student.onnx"))
        outputs = [
            value for value in self._teacher.network.graphs[0].outputs if value.data_type in _SHOWN
        ]
        uses = {key: number for number, item in enumerate(self._found) for key in item.readers}
        order = Order(student, uses, len(self._found))
        problems = [item.problem for item in self._found]
        ours = self._side(student, "student", order, [v.name for v in outputs])
        known = _types(student)
        for problem in problems:
            for name in (end for use in problem.uses for end in (use.x, use.y)):
                ours.taps[name] = known.get(name) or problem.weight.data_type
        uses = {
            node.key: number for number, item in enumerate(self._found) for node in item.made_of
        }
        same = Order(self._teacher.network, uses, len(self._found))
        theirs = self._side(self._teacher.network, "teacher", same, [v.name for v in outputs])
        known = _types(self._teacher.network)
        for problem in problems:
            for use in problem.uses:
                theirs.taps[use.wanted] = known.get(use.wanted) or problem.weight.data_type
        if same.levels != order.levels:  # then every pass of the teacher is a whole one
            theirs = replace(theirs, frontiers=None)
        names = tuple(value.name for value in outputs)
        wide = [p.name for item in problems for p in item.parameters if p.data_type in WIDE]
        route = find_route(ours.path, wide, ours.ends)
        ours.taps.update(route.taps | ours.taps)
        return Pair(theirs, ours, names, problems, order.levels, self._kept, route)

    def _side(self, network: Network, name: str, order: Order, outputs: Iterable[str]) -> Side:
        main = network.graphs[0]
        by_name = {value.name: value for value in main.outputs}
        ends = [_logits(by_name[output]) for output in outputs]
        own = {p.name for item in self._found for p in item.problem.parameters}
        frontiers = order.frontiers(ends)
        for frontier in frontiers or ():  # what is fitted is no tensor to start from
            for parameter in own & frontier.keys():
                del frontier[parameter]
        taps = {value.name: value.data_type or 0 for value in ends}
        for frontier in frontiers or ():
            taps |= frontier
        return Side(
            self._folder / f"{name}.onnx", taps, frontiers, tuple(value.name for value in ends)
        )


def _types(network: Network) -> dict[str, int | None]:
    """Return the types of tensors, which those of parameters need not be: of an affine, say."""
    values = (value for node in network.graphs[0].nodes for value in (*node.inputs, *node.outputs))
    return {value.name: value.data_type for value in values if value is not None}


def _logits(value: Value) -> Value:
    """Return what an output is judged by: what goes into a softmax, in whose place it says more."""
    while (
        value.producer is not None
        and value.producer.op in _SOFT
        and not value.producer.domain
        and value.producer.operand(0).data_type in _SHOWN
        and value.producer.operand(0).producer is not None
    ):
        value = value.producer.operand(0)
    return value
