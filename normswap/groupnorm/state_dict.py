"""A swapped network as torch knows it: its constants, under the names of a module's parameters.

torch's exporters call an initializer by the parameter that it is, ``layer1.0.conv1.weight``. What a
swap makes of it has another name, and may be computed, split or moved; so it is looked up where it
was read: by the same input of the node of the same name. A group normalization goes by the names of
the BatchNormalization whose place it takes.

A layout is that of the original. A weight that a Transpose brings to a MatMul is transposed back,
and so is one whose own name was lost (``onnx::MatMul_12``) and which is called by the module in the
name of its node: there it is that of a Linear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from normswap.dtypes import is_float, round_to
from normswap.graph.build import build_network
from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import unless_blocked
from normswap.groupnorm.layer import Runtime
from normswap.semantics.families import LINEAR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from normswap.graph.network import Network, Node, Value
    from normswap.groupnorm.plan import Swap, SwapPlan
    from normswap.model import Model

Array = npt.NDArray[Any]
Place = tuple[str, str]
"""A node: the path of its graph, and its name."""

_KEY = re.compile(r"(\w+\.)+[A-Za-z_]\w*|[A-Za-z_]*[A-Za-z]", re.ASCII)
"""Names of parameters; a single word with a number behind it is one that an exporter has made."""


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A constant, or an operator, for which a module of torch's has no place.

    Attributes
    ----------
    name : str
    why : str
    """

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class StateDict:
    """What was written for torch.

    Attributes
    ----------
    file : str
    tensors : int
    groups : dict of str to int
        The number of groups of each GroupNorm, by its name in the module.
    added : tuple of str
        Biases of layers that had none, and that take in what normalizes first.
    fixed : tuple of str
        GroupNorms whose ``running_mean`` and ``running_var`` stay: what they normalize first could
        go to no layer before.
    absent : tuple of str
        Keys of the original module that are not there, since a GroupNorm has no statistics.
    unmapped : tuple of Unmapped
    """

    file: str
    tensors: int
    groups: dict[str, int] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unmapped: tuple[Unmapped, ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """A parameter, and one input of a node that reads it.

    Attributes
    ----------
    key : str
    place : Place
    slot : int
    perms : tuple of tuple of int
        What brings the input into the layout of the parameter, one after another.
    shape : tuple of int
        Of the parameter.
    flips : bool
        Whether the node transposes it.
    """

    key: str
    place: Place
    slot: int
    perms: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    flips: bool


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a model, before anything is done to it.

    Attributes
    ----------
    named : tuple of Named
    weights : dict of Place to str
        The key of the weight of each linear layer that has one.
    nodes : frozenset of Place
    unnamed : tuple of Unmapped
    """

    named: tuple[Named, ...]
    weights: dict[Place, str]
    nodes: frozenset[Place]
    unnamed: tuple[Unmapped, ...]


def parameters_of(model: Model) -> Parameters:
    """Return the parameters of a model, by the names that torch's exporters gave them.

    Parameters
    ----------
    model : Model
        Not edited since it was read.
    """
    named: list[Named] = []
    unnamed: dict[str, Unmapped] = {}
    weights: dict[Place, str] = {}
    network = build_network(model)
    for node in network.nodes():
        if _is_constant(node):
            continue  # who reads what it makes counts
        place = _place(node)
        for slot, value in enumerate(node.inputs):
            source = None if value is None else unless_blocked(constant_source, value)
            if value is None or source is None:
                continue
            found = _by_tensor(value) or _by_node(node, slot, value)
            if found is not None:
                key, perms = found
                shape = _through(perms, tuple(source.shape))
                named.append(Named(key, place, slot, perms, shape, _flips(node, slot)))
                if _is_linear(node) and slot == 1:
                    weights[place] = key
            elif _is_linear(node) and slot < 2 and is_float(source.data_type):
                why = f"its name is not a parameter's ({node.op} {node.title} reads it)"
                unnamed[value.name] = Unmapped(value.name, why)
    nodes = frozenset(map(_place, network.nodes()))
    return Parameters(tuple(named), weights, nodes, tuple(unnamed.values()))


class _Collected:
    """Arrays by key; one key has one."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.unmapped: dict[str, str] = {}

    def add(self, key: str, array: Array) -> None:
        before = self.arrays.setdefault(key, array)
        if not np.array_equal(before, array, equal_nan=array.dtype.kind == "f"):
            self.refuse(key, "several layers share it, and their values differ now")

    def refuse(self, name: str, why: str) -> None:
        self.unmapped.setdefault(name, why)


def state_dict_of(
    before: Parameters, model: Model, plan: SwapPlan, file: str
) -> tuple[dict[str, Array], StateDict]:
    """Return what a swap makes of the parameters of a model.

    Parameters
    ----------
    before : Parameters
        Of the model that was given.
    model : Model
        What was made of it, with the BatchNormalizations that are to be swapped; not edited since
        it was read.
    plan : SwapPlan
        Of its swap, in which no layer takes in what is beside it.
    file : str
        Where it is to go.

    Returns
    -------
    (dict of str to ndarray, StateDict)
        A GroupNorm has its weight and bias by the names of the BatchNormalization's.
    """
    network = build_network(model)
    found = _Collected()
    for entry in before.unnamed:
        found.refuse(entry.name, entry.why)
    groups: dict[str, int] = {}
    fixed: list[str] = []
    nodes = _by_place(network)
    new = {p: n for p, n in nodes.items() if n and p not in before.nodes and not _is_constant(n)}
    for swap in plan.swaps:
        module = _module_of(swap)
        if module is None:
            found.refuse(
                swap.site.node, "neither its parameters nor its node are named after a module"
            )
            continue
        groups[module] = swap.num_groups
        _add_affine(found, module, swap)
        before_it = _before(nodes[swap.site.graph, swap.site.node], new, before.weights)
        if before_it:
            fixed.append(module)
            _add_statistics(found, module, swap, before_it)
        for node in before_it:
            del new[_place(node)]
    swapped = {(swap.site.graph, swap.site.node) for swap in plan.swaps}
    for named in before.named:
        if named.place not in swapped:
            _add_named(found, named, nodes)
    known = {(named.place, named.slot) for named in before.named}
    added = [
        weight
        for place, weight in before.weights.items()
        if (place, 2) not in known and _add_bias(found, weight, nodes.get(place))
    ]
    for place, node in new.items():
        layer = _layer_before(node)
        weight = None if layer is None else before.weights.get(_place(layer))
        if layer is not None and weight is not None and _add_shift(found, weight, layer, node):
            added.append(weight)
        else:
            found.refuse(place[1], f"the module has no {node.op} like it")
    arrays = {key: array for key, array in found.arrays.items() if key not in found.unmapped}
    absent = [
        f"{module}.{name}"
        for module in groups
        for name in ("running_mean", "running_var", "num_batches_tracked")
        if f"{module}.{name}" not in found.arrays
    ]
    told = StateDict(
        file,
        len(arrays),
        groups,
        tuple(dict.fromkeys(_bias_of(weight) or weight for weight in added)),
        tuple(fixed),
        tuple(absent),
        tuple(Unmapped(name, why) for name, why in found.unmapped.items()),
    )
    return arrays, told


def _place(node: Node) -> Place:
    return node.graph.path, node.title


def _by_place(network: Network) -> dict[Place, Node | None]:
    """Return the nodes by their places; None where several have one name."""
    found: dict[Place, Node | None] = {}
    for node in network.nodes():
        place = _place(node)
        found[place] = None if place in found else node
    return found


def _is_linear(node: Node) -> bool:
    return not node.domain and node.op in LINEAR


def _is_constant(node: Node) -> bool:
    return all(unless_blocked(constant_source, value) for value in node.outputs if value)


def _flips(node: Node, slot: int) -> bool:
    """Whether a node transposes a matrix that it reads."""
    return node.op == "Gemm" and slot < 2 and bool(node.attr(("transA", "transB")[slot], 0))


def _by_tensor(value: Value) -> tuple[str, tuple[tuple[int, ...], ...]] | None:
    """Return the key of a constant by its name, or by that of what it is a copy of."""
    perms: list[tuple[int, ...]] = []
    current: Value | None = value
    while current is not None:
        maker = current.producer
        if _KEY.fullmatch(current.name) and (maker is None or maker.op == "Identity"):
            return current.name, tuple(perms)
        if maker is None or maker.domain or maker.op not in ("Identity", "Transpose"):
            return None
        current = maker.input(0)
        if maker.op == "Transpose":
            rank = 0 if current is None or current.rank is None else current.rank
            perm = maker.attr("perm", None) or range(rank)[::-1]
            perms.append(tuple(int(axis) for axis in np.argsort(list(perm))))
    return None


def _by_node(node: Node, slot: int, value: Value) -> tuple[str, tuple[tuple[int, ...], ...]] | None:
    """Return the key of a weight or bias by the module in the name of its node."""
    module = _module_in(node.name)
    if not module or not _is_linear(node) or slot not in (1, 2) or value.producer is not None:
        return None
    perms = ((1, 0),) if node.op == "MatMul" else ()
    if perms and value.rank != 2:
        return None
    return f"{module}.{('weight', 'bias')[slot - 1]}", perms


def _module_in(name: str) -> str:
    """Return the module in a node's name: ``blocks.1.conv`` for ``/blocks/blocks.1/conv/Conv``."""
    found: list[str] = []
    for part in name.split("/")[1:-1]:
        if found and part.startswith(f"{found[-1]}."):
            found.pop()
        found.append(part)
    return ".".join(found) if name.startswith("/") else ""


def _module_of(swap: Swap) -> str | None:
    """Return the module that a BatchNormalization is, by its parameters, or else by its node."""
    for name in swap.parameters[:2]:
        if _KEY.fullmatch(name):
            return name.rpartition(".")[0]
    module = _module_in(swap.site.node)
    if not module and _KEY.fullmatch(swap.parameters[2]):
        module = swap.parameters[2].rpartition(".")[0]
    return module or None


def _through(perms: tuple[tuple[int, ...], ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    for perm in perms:
        shape = tuple(shape[axis] for axis in perm)
    return shape


def _add_affine(found: _Collected, module: str, swap: Swap) -> None:
    """Add the weight and bias of a GroupNorm."""
    layer = swap.alone
    for name, value, neutral in (("weight", layer.scale, 1.0), ("bias", layer.bias, 0.0)):
        if isinstance(value, Runtime):
            found.refuse(f"{module}.{name}", "it is computed at run time, or is a graph input")
            continue
        values = np.full(layer.channels, neutral) if value is None else value
        found.add(f"{module}.{name}", np.asarray(round_to(values, layer.compute_type)))


def _before(
    node: Node | None, new: Mapping[Place, Node], weights: Mapping[Place, str]
) -> list[Node]:
    """Return the operators that normalize what a BatchNormalization reads, the last one first."""
    found: list[Node] = []
    while node is not None:
        varying = [v for v in node.inputs if v and not unless_blocked(constant_source, v)]
        node = varying[0].producer if varying else None
        layer = None if node is None else _layer_before(node)
        if node is None or _place(node) not in new or node.op not in ("Mul", "Add"):
            break
        if layer is not None and _place(layer) in weights:
            break  # it is the bias of that
        found.append(node)
    return found


def _add_statistics(found: _Collected, module: str, swap: Swap, before: Iterable[Node]) -> None:
    """Add what is normalized first as statistics, which such a module divides by."""
    layer = swap.alone
    s, t = np.ones(layer.channels), np.zeros(layer.channels)
    for node in before:
        sources = (unless_blocked(constant_source, value) for value in node.inputs if value)
        values = next(source for source in sources if source is not None).load()
        if values.size not in (1, layer.channels):
            found.refuse(node.title, f"the module has no {node.op} like it")
            return
        wide = values.astype(np.float64).reshape(-1)
        s, t = (s * wide, t) if node.op == "Mul" else (s, t + s * wide)
    if not s.all():
        found.refuse(module, "the normalization before it multiplies a channel by 0")
        return
    statistics = {"running_mean": -t / s, "running_var": 1 / np.square(s) - layer.epsilon}
    for name, value in statistics.items():
        found.add(f"{module}.{name}", np.asarray(round_to(value, layer.compute_type)))


def _add_named(found: _Collected, named: Named, nodes: Mapping[Place, Node | None]) -> None:
    node = nodes.get(named.place)
    value = None if node is None else node.input(named.slot)
    source = None if value is None else unless_blocked(constant_source, value)
    if node is None or source is None:
        found.refuse(named.key, f"{named.place[1]}, which reads it, is another operator now")
        return
    array = source.load()
    if _flips(node, named.slot) != named.flips:
        array = array.T
    if array.ndim == len(named.shape):
        for perm in named.perms:
            array = array.transpose(perm)
    if array.shape != named.shape and array.size == np.prod(named.shape):
        array = array.reshape(named.shape)
    if array.shape != named.shape:
        found.refuse(named.key, f"its shape is {array.shape} now, and was {named.shape}")
    else:
        found.add(named.key, array)


def _bias_of(weight: str) -> str | None:
    """Return the key of the bias beside a weight."""
    lead, dot, last = weight.rpartition(".")
    return f"{lead}{dot}bias" if last == "weight" else None


def _add_bias(found: _Collected, weight: str, node: Node | None) -> bool:
    """Add the bias that a layer has now, and whose name nothing tells; say if there is one."""
    value = None if node is None or not _is_linear(node) else node.input(2)
    source = None if value is None else unless_blocked(constant_source, value)
    if node is None or source is None:
        return False
    key = _bias_of(weight)
    if key is None:
        found.refuse(node.title, f"it has a bias now, for which {weight} suggests no name")
        return False
    found.add(key, source.load().reshape(-1))
    return True


def _layer_before(node: Node) -> Node | None:
    """Return the MatMul to whose result a node adds a constant."""
    if node.domain or node.op != "Add":
        return None
    makers: Iterator[Node] = (v.producer for v in node.inputs if v is not None and v.producer)
    return next((m for m in makers if not m.domain and m.op == "MatMul"), None)


def _add_shift(found: _Collected, weight: str, layer: Node, node: Node) -> bool:
    """Add what is added behind a MatMul as its bias, if it is one."""
    key, shape = _bias_of(weight), layer.operand(1).shape
    size = None if shape is None else shape[-1]
    sources = (unless_blocked(constant_source, value) for value in node.inputs if value)
    source = next((source for source in sources if source is not None), None)
    if key is None or source is None or not layer.out.is_private:
        return False
    values = source.load().reshape(-1)
    if not isinstance(size, int) or values.size not in (1, size):
        return False
    found.add(key, np.broadcast_to(values, size).copy())
    return True
