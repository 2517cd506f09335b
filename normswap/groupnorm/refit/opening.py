"""Write the two networks of a refit.

Functions are inlined in both, so that a layer in a function is one of the main graph for each of
its calls; and so are bodies of which it is known how they run (:mod:`~.unrolling`). Of layers in
others there are records (:mod:`~.occurrences`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.inliner
import onnx_graphsurgeon as gs

from normswap.dtypes import NUMPY_DTYPES, round_to
from normswap.graph.build import all_graphs, build_network, gs_nodes
from normswap.graph.evaluate import constant_source
from normswap.graph.names import Names
from normswap.graph.network import Use
from normswap.graph.reasons import unless_blocked
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.layer import Runtime
from normswap.groupnorm.levels import Order, bodies_of
from normswap.groupnorm.planner import by_itself, with_layers
from normswap.groupnorm.refit.layers import Origins, UnfitError, find_layers
from normswap.groupnorm.refit.networks import (
    FittedParameter,
    LayerPair,
    Pair,
    Problem,
    TappedNetwork,
)
from normswap.groupnorm.refit.occurrences import Recorder
from normswap.groupnorm.refit.products import Scaling
from normswap.groupnorm.refit.tangent import WIDE, find_route
from normswap.groupnorm.refit.unrolling import VARYING, turns_of, write_out
from normswap.groupnorm.selection import where
from normswap.groupnorm.statistics import calls_of
from normswap.model import ArrayTensor, load, make_constant, stage
from normswap.model.imported import ImportedGraph
from normswap.semantics.families import LINEAR

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from normswap.graph.network import Network, Node, Value
    from normswap.groupnorm.layer import Layer
    from normswap.groupnorm.plan import Swap, SwapPlan
    from normswap.groupnorm.refit.layers import Shared
    from normswap.model import Model

# An attribute by which a node is known after its function was inlined; and the same of an Identity:
# the number of a swap, and what of it passes there.
_TAG = "normswap_layer"
_MARK = "normswap_mark"

_LAST = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Identity", "ArgMax"})
_SHOWN = frozenset(NUMPY_DTYPES)


def open_pair(
    original: Path,
    plan: SwapPlan,
    folder: Path,
    *,
    weights: bool,
    affines: bool,
    given: bool = False,
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
    given : bool
        Whether what comes to these in the teacher is asked for too.
    """
    opening = _Opening(original, plan, folder, given=given)
    if affines:
        opening.open_affines()
    opening.swap(affines=affines)
    if weights:
        opening.open_weights()
    return opening.pair()


@dataclass(slots=True)
class _Opened:
    """A network on the way."""

    model: Model
    network: Network
    tags: dict[int, int]  # by the number of the node: the number before its function was inlined
    marks: dict[tuple[int, str], list[int]]  # the numbers of what was marked, in the file's order
    surgeon: dict[int, gs.Node]
    names: Names
    recorder: Recorder

    def by_tag(self) -> dict[int, list[Node]]:
        """Return the nodes by their number before, in the order of the file."""
        found: dict[int, list[Node]] = {}
        for node in self.network.nodes():
            if node.key in self.tags:
                found.setdefault(self.tags[node.key], []).append(node)
        return found

    def shown(self, node: Node, slot: int | None, data_type: int) -> str:
        """Return the tensor that shows what a node reads in a slot, or its first output."""
        surgeon = self.surgeon[node.key]
        tensor = surgeon.outputs[0] if slot is None else surgeon.inputs[slot]
        return self.recorder.shown(tensor, surgeon, data_type)


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A layer that is swapped, each time that it is there once functions are inlined.

    `node` is the teacher's; the others are numbers of the student's marks. `is_split` says that it
    was one layer in a function, whose calls have an affine of their own each since they were
    inlined or specialised.
    """

    swap: Swap
    node: Node
    x: int
    y: int
    scale: int
    bias: int
    is_split: bool

    @property
    def handed(self) -> list[int]:
        """The inputs of the node that are no constants where it was, or others at each call."""
        if self.is_split:
            return [1, 2]
        own = _affine(self.swap.layer).values()
        return [slot for slot, value in enumerate(own, start=1) if isinstance(value, Runtime)]


@dataclass(slots=True)
class _Fitted:
    """A problem on the way: its readers are the student's nodes that read what is fitted."""

    problem: Problem
    readers: list[int]
    made_of: list[Node] = field(default_factory=list)  # the teacher's


class _Opening:
    def __init__(self, original: Path, plan: SwapPlan, folder: Path, *, given: bool) -> None:
        self._folder = folder
        self._given = given
        self._plan = by_itself(plan)
        model = load(original)
        network = build_network(model)
        inside = bodies_of(network)
        runs = {node.key: turns_of(node, inside.get(node.key, ())) for node in network.nodes()}
        self._turns = {key: turns for key, turns in runs.items() if turns is not None}
        several = [*network.bodies, *(body for key in self._turns for body in inside[key])]
        names = {
            node.key: where(node)
            for body in several
            for graph in body.family()
            for node in graph.nodes
        }
        self._copied = names.keys()
        open_ = {node.key for node in network.nodes() if node.refers_to_attributes}
        self._swapped = {swap.key for swap in plan.swaps}
        self._tag(model)
        self._mark_calls(model, network)
        self._teacher = self._inlined(model, "teacher")
        self._origins = Origins(
            self._teacher.tags,
            self._copied,
            frozenset(model.graph.stored) if isinstance(model.graph, ImportedGraph) else (),
            {
                mark: (call, int(slot))
                for (call, slot), marks in self._teacher.marks.items()
                for mark in marks
            },
            {VARYING, *open_},
            names,
        )
        self._path = folder / "teacher.onnx"
        self._model = load(original)  # the student
        self._tag(self._model)
        self._names = Names(self._model)
        self._opened = self._plan  # of the model with marks
        self._found: list[_Fitted] = []
        self._kept: dict[str, str] = {}

    def _tag(self, model: Model) -> None:
        for key, node in enumerate(gs_nodes(model)):
            ours = node.op in LINEAR or node.op in ("Add", "Transpose") or key in self._swapped
            if ours or key in self._turns or (key in self._copied and not node.domain):
                node.attrs[_TAG] = key

    def _mark_calls(self, model: Model, network: Network) -> None:
        """Mark where constants come into functions, which is not to be seen once these are gone."""
        nodes, names = list(gs_nodes(model)), Names(model)
        homes = {id(node): graph for graph in all_graphs(model) for node in graph.nodes}
        for call in (node for calls in calls_of(model, network).values() for node in calls):
            node = nodes[call.key]
            for slot, value in enumerate(call.inputs):
                if value is not None and unless_blocked(constant_source, value) is not None:
                    mark = self._mark(names, call.key, str(slot), node.inputs[slot])
                    node.inputs[slot] = mark.outputs[0]
                    graph = homes[id(node)]
                    graph.nodes.insert(graph.nodes.index(node), mark)

    def _inlined(self, model: Model, name: str) -> _Opened:
        """Write a network without functions and bodies, as far as can be; read it again."""
        path = self._folder / f"{name}.onnx"
        if model.graph.functions or self._turns:
            tagged = self._folder / f"{name}.tagged.onnx"
            with stage(model, tagged) as staged:
                staged.commit()
            proto = onnx.load(tagged, load_external_data=False)
            proto = onnx.inliner.inline_local_functions(proto)
            write_out(proto, self._turns, _TAG)
            onnx.save(proto, path)
            model = load(path)
        network = build_network(model)
        surgeon = dict(enumerate(gs_nodes(model)))
        tags: dict[int, int] = {}
        marks: dict[tuple[int, str], list[int]] = {}
        for node in network.nodes():
            node.attrs.pop(_TAG, None)
            key = surgeon[node.key].attrs.pop(_TAG, None)
            if key is not None:
                tags[node.key] = key
            node.attrs.pop(_MARK, None)
            mark = surgeon[node.key].attrs.pop(_MARK, None)
            if mark is not None:
                number, _, what = mark.partition(" ")
                marks.setdefault((int(number), what), []).append(node.key)
        names = Names(model)
        return _Opened(model, network, tags, marks, surgeon, names, Recorder(model, names))

    def open_affines(self) -> None:
        """Mark where the x, y, scale and bias of layers pass, to be found in every call."""
        nodes = list(gs_nodes(self._model))
        around: dict[int, list[gs.Node]] = {}  # of a node: what stands in its place with the marks
        layers = []
        for number, swap in enumerate(self._plan.swaps):
            layer, node = swap.layer, nodes[swap.key]
            given, made = node.inputs[0], node.outputs[0]
            node.outputs[0] = gs.Variable(self._names.fresh(f"{layer.name}/y"))
            marks = {"x": self._mark(self._names, number, "x", given)}
            kinds = {}
            for slot, (what, own) in enumerate(_affine(layer).items(), start=1):
                if isinstance(own, Runtime):
                    kinds[what], tensor = own.data_type, node.inputs[slot]
                else:
                    kinds[what] = layer.compute_type
                    source = ArrayTensor(round_to(own, layer.compute_type))
                    tensor = make_constant(self._names.fresh(f"{layer.name}/{what}"), source)
                marks[what] = self._mark(self._names, number, what, tensor)
            for slot, mark in enumerate(marks.values()):
                node.inputs[slot] = mark.outputs[0]
            last = self._mark(self._names, number, "y", node.outputs[0], made)
            around[id(node)] = [*marks.values(), node, last]
            x, scale, bias = (mark.outputs[0].name for mark in marks.values())
            layer = replace(
                layer,
                x=x,
                y=node.outputs[0].name,
                scale=Runtime(scale, kinds["scale"]),
                bias=Runtime(bias, kinds["bias"]),
            )
            layers.append(layer)
        for graph in all_graphs(self._model):
            graph.nodes = [new for node in graph.nodes for new in around.get(id(node), [node])]
        keys = {id(node): key for key, node in enumerate(gs_nodes(self._model))}
        plan = with_layers(self._plan, layers)
        swaps = (replace(swap, key=keys[id(nodes[swap.key])]) for swap in plan.swaps)
        self._opened = replace(plan, swaps=tuple(swaps))

    @staticmethod
    def _mark(
        names: Names, number: int, what: str, source: gs.Tensor, target: gs.Tensor | None = None
    ) -> gs.Node:
        """Return a node that a tensor passes through, and that is known again."""
        name = names.fresh(f"{what}_of_{number}")
        outputs = [gs.Variable(name) if target is None else target]
        return gs.Node("Identity", name, {_MARK: f"{number} {what}"}, [source], outputs)

    def _input(self, model: Model, hint: str, data_type: int, shape: Sequence[int]) -> gs.Variable:
        name = self._names.fresh(f"{hint}/fitted")
        tensor = gs.Variable(name, NUMPY_DTYPES[data_type], tuple(shape))
        model.graph.inputs.append(tensor)
        return tensor

    def swap(self, *, affines: bool) -> None:
        """Let the student be the swapped network, perhaps with its affines as inputs."""
        apply_swaps(self._opened, self._model)
        self._student = self._inlined(self._model, "student")
        self._names = self._student.names
        theirs = self._teacher.by_tag()
        alike: dict[Hashable, list[_Scaled]] = {}  # with one scale and bias
        split = self._split(theirs)
        for number, swap in enumerate(self._plan.swaps if affines else ()):
            nodes = theirs.get(swap.key, [])
            if not nodes:
                self._kept[swap.layer.name] = (
                    "nothing calls the function, or takes the branch, that it is in"
                )
                continue
            marks = (self._student.marks[number, what] for what in ("x", "y", "scale", "bias"))
            for node, x, y, scale, bias in zip(nodes, *marks, strict=True):
                use = _Scaled(swap, node, x, y, scale, bias, is_split=swap.parameters in split)
                handed = tuple(self._origins.identity(Use(node, slot)) for slot in use.handed)
                alike.setdefault(handed if len(handed) == 2 else swap.parameters, []).append(use)
        for uses in alike.values():
            try:
                self._open_affine(uses)
            except UnfitError as error:  # noqa: PERF203 - each has its own
                self._kept[self._title(uses[0])] = str(error)

    def _split(self, theirs: Mapping[int, list[Node]]) -> set[tuple[str, ...]]:
        """Return the parameters of layers that have several constants for one scale and bias."""
        options = self._plan.options
        seen: dict[tuple[str, ...], set[tuple[Hashable, ...]]] = {}
        for swap in self._plan.swaps if options.keep_scale and options.keep_bias else ():
            fitted = options.affines.get(swap.place)
            if fitted is None or fitted.scale is fitted.bias is None:
                for node in theirs.get(swap.key, ()):
                    pair = tuple(self._origins.identity(Use(node, slot)) for slot in (1, 2))
                    seen.setdefault(swap.parameters, set()).add(pair)
        return {parameters for parameters, pairs in seen.items() if len(pairs) > 1}

    def _title(self, use: _Scaled) -> str:
        """Return what to call a layer."""
        name, handed = use.swap.layer.name, use.handed
        return self._origins.title(use.node, Use(use.node, handed[0])) if handed else name

    def _open_affine(self, uses: list[_Scaled]) -> None:
        """Make a scale and a bias inputs of the student, wherever they are read.

        Raises
        ------
        UnfitError
            They can't be others, or nobody sees what comes of that.
        """
        student, first, layer = self._student, uses[0], uses[0].swap.layer
        hidden = self._hidden(use.node for use in uses)
        if hidden:
            raise UnfitError(hidden)
        parameters = []
        for slot, (what, own) in enumerate(_affine(layer).items(), start=1):
            constant = None
            if slot in first.handed:
                reads = [Use(use.node, slot) for use in uses]
                if len(set(map(self._origins.identity, reads))) > 1:
                    raise UnfitError(f"calls of its function share the other, but not the {what}")
                if unless_blocked(constant_source, reads[0].node.operand(slot)) is None:
                    raise UnfitError("its scale or bias is not constant")
                constant = self._origins.constant(reads)
                values, data_type = constant.source.load(), constant.source.data_type
                if not isinstance(own, Runtime) and data_type != layer.compute_type:
                    raise UnfitError(f"calls differ in its {what}, which is of half precision")
            elif isinstance(own, Runtime):
                raise AssertionError(f"{layer.name} has no constant {what}")
            else:
                data_type = layer.compute_type
                values = round_to(own, data_type)
            tensor = self._input(student.model, f"{layer.name}/{what}", data_type, values.shape)
            for use in uses:
                student.surgeon[use.scale if slot == 1 else use.bias].inputs[0] = tensor
            parameters.append(FittedParameter(tensor.name, data_type, values, constant))
        nodes = {node.key: node for node in student.network.nodes()}
        read = [
            LayerPair(
                Scaling(use.swap.layer.num_groups, use.swap.layer.epsilon),
                student.shown(nodes[use.x], None, layer.data_type),
                student.shown(nodes[use.y], None, layer.data_type),
                self._teacher.shown(use.node, None, layer.data_type),
                by_turns=bool(use.node.graph.parent),
                given=self._teacher.shown(use.node, 0, layer.data_type) if self._given else "",
            )
            for use in uses
        ]
        places = tuple(dict.fromkeys(use.swap.place for use in uses))
        problem = Problem(self._title(first), tuple(read), parameters[0], parameters[1], places)
        readers = [key for use in uses for key in (use.x, use.scale, use.bias)]
        self._found.append(_Fitted(problem, readers, [use.node for use in uses]))

    def _hidden(self, nodes: Iterable[Node]) -> str:
        """Say why tensors at nodes of the teacher can't be seen; empty where all can."""
        recorder, surgeon = self._teacher.recorder, self._teacher.surgeon
        return next(filter(None, (recorder.hindrance(surgeon[node.key]) for node in nodes)), "")

    def open_weights(self) -> None:
        """Make the weights of linear layers inputs of the student."""
        teacher, student = self._teacher, self._student
        found = find_layers(teacher.network.nodes(), self._origins)
        self._kept |= found.kept
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
        title = self._origins.title(layers[0].node, layers[0].weight)
        nodes = [n.key for layer in layers for n in (layer.node, layer.last)]
        if any(key not in twins for key in nodes):
            self._kept[title] = "it is part of a layer that is swapped"
            return
        hidden = self._hidden(layer.node for layer in layers)
        if hidden:
            self._kept[title] = hidden
            return
        parameters: list[FittedParameter] = []
        readers: list[int] = []
        for what, constant, places in (
            ("weight", shared.weight, [layer.weight for layer in layers]),
            ("bias", shared.bias, [layer.bias for layer in layers]),
        ):
            if constant is None:
                continue
            model, source = self._student.model, constant.source
            tensor = self._input(model, f"{title}/{what}", source.data_type, source.shape)
            parameters.append(
                FittedParameter(tensor.name, source.data_type, source.load(), constant)
            )
            for node, slot in filter(None, places):
                reader = twins[node.key].key
                self._student.surgeon[reader].inputs[slot] = tensor
                readers.append(reader)
        data_type = shared.weight.source.data_type
        uses = tuple(
            LayerPair(
                layer.product,
                self._student.shown(twins[layer.node.key], layer.along, data_type),
                self._student.shown(twins[layer.last.key], None, data_type),
                self._teacher.shown(layer.last, None, data_type),
                by_turns=bool(layer.node.graph.parent),
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
        outputs = _judged(self._teacher.network.graphs[0].outputs)
        keys = {id(node): key for key, node in enumerate(gs_nodes(self._student.model))}
        uses = {
            keys[id(self._student.surgeon[key])]: number
            for number, item in enumerate(self._found)
            for key in item.readers
        }
        order = Order(student, uses, len(self._found))
        problems = [item.problem for item in self._found]
        ours = self._side(student, "student", order, [v.name for v in outputs])
        known = {**_types(student), **self._student.recorder.types}
        for problem in problems:
            for name in (end for use in problem.uses for end in (use.x, use.y)):
                ours.taps[name] = known.get(name) or problem.weight.data_type
        uses = {
            node.key: number for number, item in enumerate(self._found) for node in item.made_of
        }
        same = Order(self._teacher.network, uses, len(self._found))
        theirs = self._side(self._teacher.network, "teacher", same, [v.name for v in outputs])
        known = {**_types(self._teacher.network), **self._teacher.recorder.types}
        for problem in problems:
            for name in filter(
                None, (end for use in problem.uses for end in (use.wanted, use.given))
            ):
                theirs.taps[name] = known.get(name) or problem.weight.data_type
        if same.levels != order.levels:  # then every pass of the teacher is a whole one
            theirs = replace(theirs, frontiers=None)
        names = tuple(value.name for value in outputs)
        wide = [p.name for item in problems for p in item.parameters if p.data_type in WIDE]
        route = find_route(ours.path, wide, ours.ends)
        ours.taps.update(route.taps | ours.taps)
        return Pair(theirs, ours, names, problems, order.levels, self._kept, route)

    def _side(
        self, network: Network, name: str, order: Order, outputs: Iterable[str]
    ) -> TappedNetwork:
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
        return TappedNetwork(
            self._folder / f"{name}.onnx", taps, frontiers, tuple(value.name for value in ends)
        )


def _affine(layer: Layer) -> dict[str, npt.NDArray[np.float64] | Runtime]:
    """Return the scale and bias that a layer has."""
    given = {"scale": (layer.scale, 1.0), "bias": (layer.bias, 0.0)}
    return {
        what: np.full(layer.channels, neutral) if values is None else values
        for what, (values, neutral) in given.items()
    }


def _types(network: Network) -> dict[str, int | None]:
    """Return the types of tensors, which those of parameters need not be: of an affine, say."""
    values = (value for node in network.graphs[0].nodes for value in (*node.inputs, *node.outputs))
    return {value.name: value.data_type for value in values if value is not None}


def _judged(outputs: Iterable[Value]) -> list[Value]:
    """Return the outputs that a fit is judged by, each of which says something of its own."""
    found = {id(_logits(value)): value for value in outputs if value.data_type in _SHOWN}
    for value in outputs:
        end = _logits(value)
        if end.data_type in _SHOWN:
            found.setdefault(id(end), value)
    return list(found.values())


def _logits(value: Value) -> Value:
    """Return what an output is judged by: scores of classes, before these are made of them."""
    while (
        value.producer is not None
        and value.producer.op in _LAST
        and not value.producer.domain
        and value.producer.operand(0).data_type in _SHOWN
        and value.producer.operand(0).producer is not None
    ):
        value = value.producer.operand(0)
    return value
