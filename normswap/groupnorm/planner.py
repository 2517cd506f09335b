"""Plan a swap: which BatchNormalizations become group normalizations, and how each is written.

The planner is pure: it reads a model and changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.dtypes import is_float
from normswap.errors import ModelError, UsageError
from normswap.folding.planner import make_plan
from normswap.graph.batchnorm import (
    epsilon_of,
    is_batchnorm,
    require_rewritable,
    require_samples,
)
from normswap.graph.build import build_network
from normswap.graph.evaluate import constant_source, known_type
from normswap.graph.normalization import Normalization, site_of
from normswap.graph.reasons import Blocked, Reason, blocked_by, unless_blocked
from normswap.graph.shapes import function_key, infer_call_types
from normswap.graph.sizes import TensorType
from normswap.groupnorm.choose import choose_form, threads_here
from normswap.groupnorm.fusion import fusible_activation
from normswap.groupnorm.layer import Layer, Parameter, Runtime, effective
from normswap.groupnorm.neighbours import Absorbed, absorb
from normswap.groupnorm.normalize import FORGOTTEN, place_of
from normswap.groupnorm.options import FittedAffine
from normswap.groupnorm.plan import Swap, SwapPlan, Untouched
from normswap.groupnorm.policy import divisors
from normswap.groupnorm.selection import Selection, where
from normswap.groupnorm.statistics import behind_identities, called_bodies
from normswap.groupnorm.words import AUTO

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from normswap.graph.network import Graph, Network, Node, Value
    from normswap.graph.normalization import Site
    from normswap.graph.reasons import Block
    from normswap.graph.sizes import Dim
    from normswap.groupnorm.normalize import Normalized
    from normswap.groupnorm.options import SwapOptions, Timings
    from normswap.model import Model

LISTED = 8  # how many layers an error message names

LARGEST_EPSILON = float(np.finfo(np.float32).max)  # an attribute is a float32


def plan_swap(
    model: Model, options: SwapOptions, *, after: tuple[SwapPlan, Normalized] | None = None
) -> SwapPlan:
    """Decide for every BatchNormalization of a model whether and how it is swapped.

    Parameters
    ----------
    model : Model
        Is not changed.
    options : SwapOptions
    after : (SwapPlan, Normalized), optional
        Where the model is another one that was normalized: the plan for that, by which it is
        known what is swapped, and what has become of it.

    Returns
    -------
    SwapPlan
        Every BatchNormalization of the main graph, of subgraphs and functions is in it once.

    Raises
    ------
    UsageError
        If the number of groups does not fit layers, a pattern fits nothing, or the form that was
        asked for can't be used. All layers that don't fit are named at once.
    ModelError
        If a selected layer can't be swapped at all.
    """
    if options.epsilon is not None and not 0 <= options.epsilon <= LARGEST_EPSILON:
        raise UsageError(
            f"The epsilon is {options.epsilon:g}; it must not be negative, and must fit a float32."
        )
    network = network_of(model)
    nodes = [node for graph in network.graphs for node in graph.topological() if is_batchnorm(node)]
    if after is None:
        selected, untouched = _select(nodes, options, model, network)
    else:
        selected, untouched = _as_before(nodes, *after)
    channels = {node.key: _channels(node) for node in selected}
    found = [(node, blocked_by(_require_swappable, node, channels[node.key])) for node in selected]
    _refuse_all(model, found)
    if options.policy.on_indivisible.value == "error":
        options.policy.require({where(node): channels[node.key] or 0 for node in selected})
    groups: dict[int, int] = {}
    for node in selected:
        count = channels[node.key] or 0
        affine = options.affines.get(place_of(node))
        number = (affine and affine.num_groups) or options.policy.num_groups(count)
        if number is None:
            why = f"{count} channels can't be divided into {options.policy}"
            untouched[node.key] = Untouched(site_of(node), Reason.INDIVISIBLE, why)
        else:
            groups[node.key] = number
    epsilons = {} if after is None else _epsilons(selected, *after)
    swaps: list[Swap] = []
    taken = set(groups)  # nodes that are swapped, or that a swapped one takes along
    for node in selected:
        if node.key in groups:
            alone = _layer(node, channels[node.key] or 0, groups[node.key], options)
            alone = replace(alone, epsilon=epsilons.get(node.key, alone.epsilon))
            swap = _in_form(_joined(node, alone, taken, options), options)
            taken.update(swap.fused)
            swaps.append(swap)
    kept = tuple(entry for key, entry in untouched.items() if key not in taken)
    plan = SwapPlan(model.fingerprint(), options, tuple(swaps), kept, untouched)
    return plan if after is None else _with_statistics(plan, *after)


def network_of(model: Model) -> Network:
    """Mirror a model; in its functions, tensors are of the types on which all calls agree."""
    network = build_network(model)
    _learn_from_calls(model, network)
    return network


def with_timings(plan: SwapPlan, timings: Mapping[int, Timings]) -> SwapPlan:
    """Return a plan with the forms that are chosen when one knows how long they take.

    Parameters
    ----------
    plan : SwapPlan
    timings : Mapping[int, Timings]
        By the number of the node, see :func:`normswap.groupnorm.race.measure`.
    """
    timed = (replace(swap, timings=timings.get(swap.key)) for swap in plan.swaps)
    return replace(plan, swaps=tuple(_in_form(swap, plan.options) for swap in timed))


def require_elements(plan: SwapPlan) -> None:
    """Refuse groups of one element: it is its own mean, and nothing of it would be left.

    Raises
    ------
    UsageError
        It names the layers, and the numbers of groups that work for each.
    """
    bad = [swap.alone for swap in plan.swaps if swap.alone.group_elements == 1]
    if not bad:
        return
    listed = "; ".join(
        f"{layer.name}, of {layer.channels} channels with one element each "
        f"({_working(layer.channels)})"
        for layer in bad[:LISTED]
    )
    more = f"; and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
    raise UsageError(
        f"In groups of one element each value is normalized to 0, which would erase the input of "
        f"{listed}{more}.",
        tip="Ask for fewer groups, or leave these layers out with --exclude.",
    )


def _working(channels: int) -> str:
    """Say which numbers of groups leave more than one of so many elements in each."""
    some = divisors(channels)[:-1]
    if not some:
        return "no number of groups works"
    return f"{', '.join(map(str, some))} {'groups work' if len(some) > 1 else 'group works'}"


def by_itself(plan: SwapPlan, form: str = AUTO) -> SwapPlan:
    """Return the plan, for a CPU, with every layer at its own x and y, taking nothing along."""
    options = replace(plan.options, form=form, provider="cpu", absorb=False)
    layers = [_for_provider(swap.alone, "cpu") for swap in plan.swaps]
    return with_layers(replace(plan, options=options), layers)


def with_layers(plan: SwapPlan, layers: Iterable[Layer]) -> SwapPlan:
    """Return a plan with other layers, one for each swap, that take nothing along."""
    swaps = tuple(
        _in_form(Swap(swap.site, swap.key, layer, layer, parameters=swap.parameters), plan.options)
        for swap, layer in zip(plan.swaps, layers, strict=True)
    )
    return replace(plan, swaps=swaps)


def _joined(node: Node, alone: Layer, taken: Container[int], options: SwapOptions) -> Swap:
    """Return the swap of a node with all that may go with it; its form is open."""
    absorbed = absorb(node, alone, taken) if options.absorb else Absorbed(alone)
    joined, last = absorbed.layer, node
    if absorbed.before:
        use = absorbed.before[0]
        joined = replace(joined, x=_name(use.node.inputs[use.slot]))
    if absorbed.behind:
        last = absorbed.behind[-1].node
        joined = replace(joined, y=last.out.name)
    neighbours = (*absorbed.before, *absorbed.behind)
    return Swap(
        site=site_of(node),
        key=node.key,
        alone=alone,
        joined=joined,
        absorbed=tuple(Normalization((use,)).site() for use in neighbours),
        neighbours=tuple(use.node.key for use in neighbours),
        fusible=fusible_activation(last),
        parameters=(
            *map(_path, node.inputs[1:3]),
            *(_path(behind_identities(node.operand(slot))) for slot in (3, 4)),
        ),
    )


def _in_form(swap: Swap, options: SwapOptions) -> Swap:
    """Return a swap in the form that is asked for, or chosen for its layer."""
    threads = options.threads or threads_here()
    form, why = choose_form(swap.joined, options.form, options.provider, threads, swap.timings)
    return replace(swap, form=form.name, why=why)


def _select(
    nodes: Sequence[Node], options: SwapOptions, model: Model, network: Network
) -> tuple[list[Node], dict[int, Untouched]]:
    """Divide the normalizations by the options into those to swap and, by key, the others."""
    selection = Selection(options.include, options.exclude)
    selection.require_use(nodes, model.name)
    foldable: set[tuple[str, str]] = set()
    if options.only_kept:
        foldable = {(entry.site.graph, entry.site.output) for entry in make_plan(model).folded}
    called = [network.graphs[0], *called_bodies(model, network)]
    run = {id(graph) for root in called for graph in root.family()}
    selected: list[Node] = []
    untouched: dict[int, Untouched] = {}
    for node in nodes:
        site = site_of(node)
        block = blocked_by(_require_wanted, node, site, selection, foldable, run)
        if block is None:
            selected.append(node)
        else:
            untouched[node.key] = Untouched(site, block.reason, block.detail)
    return selected, untouched


def _as_before(
    nodes: Sequence[Node], before: SwapPlan, normalized: Normalized
) -> tuple[list[Node], dict[int, Untouched]]:
    """Divide normalizations as they were divided before their network was normalized."""
    numbers = {node.key: normalized.numbers[place_of(node)] for node in nodes}
    kept = {
        key: before.unselected[number]
        for key, number in numbers.items()
        if number in before.unselected
    }
    return [node for node in nodes if node.key not in kept], kept


def _epsilons(nodes: Sequence[Node], before: SwapPlan, normalized: Normalized) -> dict[int, float]:
    """Return the epsilon of each layer before its network was normalized, by its key now."""
    known = {swap.key: swap.alone.epsilon for swap in before.swaps}
    return {node.key: known[normalized.numbers[place_of(node)]] for node in nodes}


def _with_statistics(plan: SwapPlan, before: SwapPlan, normalized: Normalized) -> SwapPlan:
    """Note with each swap where its statistics went, and by what it is known from others.

    What is not swapped may be gone: it made a constant that has taken statistics in. It is told.
    """
    layers = {swap.key: swap for swap in before.swaps}
    swaps = []
    for swap in plan.swaps:
        number = normalized.numbers[swap.place]
        parameters = layers[number].parameters
        went = normalized.statistics.get(swap.place, FORGOTTEN)
        swaps.append(replace(swap, number=number, parameters=parameters, statistics=went))
    there = set(normalized.numbers.values())
    gone = [entry for number, entry in before.unselected.items() if number not in there]
    return replace(plan, swaps=tuple(swaps), untouched=(*plan.untouched, *gone))


def _require_wanted(
    node: Node, site: Site, selection: Selection, foldable: set[tuple[str, str]], run: set[int]
) -> None:
    """Let pass a node that the options select, and that normalizes samples.

    `foldable` are the graphs and outputs of those that are not wanted; `run` has the ids of the
    graphs that are run.
    """
    if id(node.graph) not in run:
        detail = "nothing calls the function that it is in"
        raise Blocked(Reason.NO_READER, node.title, detail)
    selection.require(node)
    require_samples(node, _channels(node))
    if (site.graph, site.output) in foldable:
        raise Blocked(Reason.FOLDABLE, node.title, "it can be folded")


def _channels(node: Node) -> int | None:
    """Return the number of channels, from whichever tensor tells it."""
    for value in filter(None, node.inputs[1:5]):
        shape = known_type(value).shape
        if shape is not None and len(shape) == 1 and isinstance(shape[0], int):
            return shape[0]
    shape = _shape(node)
    size = shape[1] if shape is not None and len(shape) > 1 else None
    return size if isinstance(size, int) else None


def _shape(node: Node) -> tuple[Dim, ...] | None:
    x = node.inputs[0]
    if x is not None and x.shape is not None:
        return x.shape
    return node.out.shape


def _data_type(node: Node) -> int | None:
    """Return the element type of x; a function's body may tell it only by its constants."""
    for value in filter(None, (node.inputs[0], node.out, node.input(1), node.input(2))):
        data_type = known_type(value).data_type
        if data_type is not None:
            return data_type
    return None


def _learn_from_calls(model: Model, network: Network) -> None:
    """Give the tensors of functions the types on which all calls agree.

    A function's body declares nothing, and its weights may be arguments.
    """
    functions = {graph.path: graph for graph in network.graphs if ":" in graph.path}
    inferred: dict[int, list[TensorType]] = {}  # from which, by number of the function
    for _ in functions:  # a function may be called by another
        calls: dict[int, list[TensorType]] = {}
        inputs: dict[int, Value] = {}
        for node in network.nodes():
            body = functions.get(f"{node.domain}:{node.op}")
            for slot, value in enumerate(body.inputs if body else ()):
                given = node.input(slot)
                known = TensorType(None, None) if given is None else known_type(given)
                inputs[id(value)] = value
                calls.setdefault(id(value), []).append(known)
        for key, kinds in calls.items():
            types, shapes = zip(*kinds, strict=True)
            value = inputs[key]
            value.data_type = types[0] if len(set(types)) == 1 else None
            value.shape = shapes[0] if len(set(shapes)) == 1 else None
        before = dict(inferred)
        for number, body in enumerate(network.bodies):
            arguments = [TensorType(value.data_type, value.shape) for value in body.inputs]
            if inferred.get(number) != arguments:
                inferred[number] = arguments
                _learn_of_body(model, number, body, arguments)
        if inferred == before:
            return


def _learn_of_body(model: Model, number: int, body: Graph, arguments: Sequence[TensorType]) -> None:
    """Infer the types in a function from those of its arguments."""
    if any(node.refers_to_attributes for node in body.nodes):
        return  # which may be others in each call
    types = infer_call_types(model, number, arguments, {}, {}, body.opset)
    found = types.get(function_key(number), {})
    for node in body.nodes:
        for value in node.outputs:
            known = None if value is None else found.get(value.name)
            if value is not None and known is not None and known.shape is not None:
                value.data_type, value.shape = known


def _require_swappable(node: Node, channels: int | None) -> None:
    """Let pass a node of which all is known that a group normalization needs."""
    require_rewritable(node, in_training=True, by_channel=True)
    if not channels:
        detail = "the number of its channels is not known"
        raise Blocked(Reason.SHAPE_UNKNOWN, node.title, detail)
    data_type = _data_type(node)
    if data_type is None:
        raise Blocked(Reason.ELEMENT_TYPE, node.title, "its element type is not known")
    if not is_float(data_type):
        detail = f"its element type is {TensorProto.DataType.Name(data_type)}, not a float type"
        raise Blocked(Reason.ELEMENT_TYPE, node.title, detail)
    shape = _shape(node)
    if shape is not None and len(shape) < 2:
        raise Blocked(Reason.MALFORMED, node.title, "its input has no channel axis")
    if shape is not None and isinstance(shape[1], int) and shape[1] != channels:
        detail = f"its input has {shape[1]} channels and its parameters {channels}"
        raise Blocked(Reason.MALFORMED, node.title, detail)


def _refuse_all(model: Model, found: Sequence[tuple[Node, Block | None]]) -> None:
    """Raise one error for all nodes that can't be swapped."""
    refused = [(node, block.detail) for node, block in found if block is not None]
    if not refused:
        return
    listed = "; ".join(f"{where(node)}: {why}" for node, why in refused[:LISTED])
    more = f"; and {len(refused) - LISTED} more" if len(refused) > LISTED else ""
    raise ModelError(
        f"{len(refused)} of {len(found)} BatchNormalizations of {model.name} can't be swapped: "
        f"{listed}{more}.",
        tip="Leave these layers out with --exclude.",
    )


def _layer(node: Node, channels: int, groups: int, options: SwapOptions) -> Layer:
    affine = options.affines.get(place_of(node), FittedAffine())
    scale: Parameter = None
    bias: Parameter = None
    if affine.scale is not None:
        scale = effective(affine.scale, 1.0)
    elif options.keep_scale:
        scale = _parameter(node.inputs[1], 1.0)
    if affine.bias is not None:
        bias = effective(affine.bias, 0.0)
    elif options.keep_bias:
        bias = _parameter(node.inputs[2], 0.0)
    shape = _shape(node)
    layer = Layer(
        name=where(node),
        x=_name(node.inputs[0]),
        y=node.out.name,
        scale=scale,
        bias=bias,
        channels=channels,
        num_groups=groups,
        epsilon=epsilon_of(node) if options.epsilon is None else options.epsilon,
        shape=None if shape is None else (shape[0], channels, *shape[2:]),
        data_type=_data_type(node) or TensorProto.FLOAT,
        opset=node.opset,
        before_convolution=_in_blocked_layout(node, channels),
    )
    return _for_provider(layer, options.provider)


def _for_provider(layer: Layer, provider: str) -> Layer:
    """Return a layer whose affine is what is fastest on a provider."""
    depthwise = (
        provider == "cpu"
        and layer.data_type != TensorProto.DOUBLE  # onnxruntime's Conv has no float64
        and (layer.before_convolution or _is_small_image(layer.shape))
    )
    return replace(layer, depthwise_affine=depthwise)


def _name(value: Value | None) -> str:
    return "" if value is None else value.name


def _path(value: Value | None) -> str:
    """Return the name of a tensor, and where it is, if that is not the main graph."""
    name = _name(value)
    return f"{value.graph.path}/{name}" if value is not None and value.graph.path else name


def _parameter(value: Value | None, neutral: float) -> Parameter:
    """Return a scale or B as constant, run-time tensor, or None where it has no effect."""
    if value is None:
        return None
    source = unless_blocked(constant_source, value)
    if source is None:
        return Runtime(value.name, value.data_type or TensorProto.FLOAT)
    return effective(source.load().astype(np.float64).reshape(-1), neutral)


ELEMENTWISE = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish"})
"""Operators through which onnxruntime keeps its blocked layout."""

BLOCK = 16
"""Channels in a block of that layout; 8 where the processor has no AVX-512."""


SMALL = 64
"""Pixels of an image for which Mul and Add, of one number a channel, are all overhead."""


def _is_small_image(shape: tuple[Dim, ...] | None) -> bool:
    if shape is None or len(shape) != 4:
        return False
    height, width = shape[2:]
    return isinstance(height, int) and isinstance(width, int) and height * width <= SMALL


def _in_blocked_layout(node: Node, channels: int) -> bool:
    """Whether a convolution reads the result, perhaps through an activation."""
    shape = _shape(node)
    if shape is None or len(shape) != 4 or channels % BLOCK:
        return False
    pending = [node.out]
    for _ in range(LISTED):  # an activation is a few nodes at most
        readers = [use.node for value in pending for use in value.readers.values()]
        if any(reader.op == "Conv" for reader in readers):
            return True
        pending = [
            reader.out for reader in readers if reader.op in {*ELEMENTWISE, "Mul", "Add", "Sum"}
        ]
        if not pending:
            return False
    return False
