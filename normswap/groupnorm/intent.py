"""The network that a swap should come to, written out beside the one that was written.

Each BatchNormalization that is swapped is *read as* a group normalization: its definition in plain
operators, in float64, in the place of the node::

    r = Reshape(Cast(x))                  a row for every sample and group
    d = r - mean(r)
    y = Cast(d / sqrt(mean(d * d) + epsilon) * scale + bias)

It shares nothing with the forms, and no decision of a plan but what is read as what. The result is
an ordinary model, legal in every IR version, in subgraphs and functions as in the graph; its
external data is that of the original, where it is. A swap is right if what was written is the same
function (:mod:`normswap.proof`).

Source: Wu and He, "Group Normalization", ECCV 2018, equations 1 to 6.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from normswap.bodies import bodies
from normswap.dtypes import NUMPY_DTYPES, is_float, round_to
from normswap.errors import ModelError
from normswap.files.scratch import scratch_folder
from normswap.graph.build import gs_nodes
from normswap.groupnorm.widths import one_width_each
from normswap.model.outlined import outlined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from normswap.groupnorm.plan import SwapPlan
    from normswap.model import Model

Affine = Literal["kept", "dropped"] | tuple[float, ...]
"""A scale or bias: the node's own, none, or other numbers."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What a BatchNormalization is read as.

    Attributes
    ----------
    node : int
        Its place among the BatchNormalizations of the model: those of the graph in order, then of
        its bodies, body by body, and of the functions, of which there is one for each width that
        they are called for (:mod:`normswap.groupnorm.widths`).
    output : str
        The tensor that it makes.
    type : str
        Element type of what it reads and makes: a name of ``TensorProto.DataType``.
    rank : int or None
        Number of axes of that, None where unknown.
    channels, num_groups : int
    epsilon : float
    scale, bias : "kept", "dropped" or tuple of float
        The affine behind it.
    normalized : bool
        Whether the statistics of the node still come first, with scale 1 and B 0, and the group
        normalization is of what that makes.
    """

    node: int
    output: str
    type: str
    rank: int | None
    channels: int
    num_groups: int
    epsilon: float
    scale: Affine = "kept"
    bias: Affine = "kept"
    normalized: bool = False

    @property
    def makes_sense(self) -> bool:
        """Whether there may be such a group normalization."""
        return (
            self.type in TensorProto.DataType.keys()  # noqa: SIM118 - it is no dict
            and is_float(TensorProto.DataType.Value(self.type))
            and (self.rank is None or self.rank >= 2)
            and 0 < self.num_groups <= self.channels
            and self.channels % self.num_groups == 0
        )


def batchnorm_places(model: Model) -> dict[int, int]:
    """Return the place of each BatchNormalization, by the key of its node; of an unedited model."""
    nodes = (key for key, node in enumerate(gs_nodes(model)) if _is_batchnorm(node.op, node.domain))
    return {key: place for place, key in enumerate(nodes)}


def torn_apart(plan: SwapPlan) -> set[int]:
    """Return the keys of layers in a function that are normalized first at some calls only."""
    seen: dict[int, set[bool]] = {}
    for swap in plan.swaps:
        if swap.number is not None and swap.statistics is not None:
            seen.setdefault(swap.number, set()).add(swap.statistics.normalized)
    return {number for number, ways in seen.items() if len(ways) > 1}


def intents_of(original: SwapPlan, plan: SwapPlan, places: Mapping[int, int]) -> tuple[Intent, ...]:
    """Return what a swap reads each BatchNormalization of a model as.

    Parameters
    ----------
    original : SwapPlan
        Made for the model.
    plan : SwapPlan
        That is carried out: the same, or one for what the model became when it was normalized.
    places : mapping of int to int
        The places of the model's BatchNormalizations, see :func:`batchnorm_places`.
    """
    before = {swap.key: swap.alone for swap in original.swaps}
    options = plan.options
    found: dict[int, Intent] = {}
    for swap in plan.swaps:
        key = swap.key if swap.number is None else swap.number
        layer = before[key]
        fitted = options.affines.get(swap.place)
        scale: Affine = "kept" if options.keep_scale else "dropped"
        bias: Affine = "kept" if options.keep_bias else "dropped"
        if fitted is not None and fitted.scale is not None:
            scale = tuple(fitted.scale.tolist())
        if fitted is not None and fitted.bias is not None:
            bias = tuple(fitted.bias.tolist())
        found[places[key]] = Intent(
            node=places[key],
            output=layer.y,
            type=TensorProto.DataType.Name(layer.data_type),
            rank=layer.rank,
            channels=layer.channels,
            num_groups=swap.alone.num_groups,
            epsilon=swap.alone.epsilon,
            scale=scale,
            bias=bias,
            normalized=swap.statistics is not None and swap.statistics.normalized,
        )
    return tuple(found[place] for place in sorted(found))


@contextlib.contextmanager
def written_out(
    original: Path,
    intents: Iterable[Intent],
    weights: Mapping[str, np.ndarray] | None = None,
) -> Iterator[tuple[Path, Path]]:
    """Give the network that a swap should come to, in a temporary file.

    Parameters
    ----------
    original : Path
    intents, weights
        See :func:`write_out`.

    Yields
    ------
    (Path, Path)
        The file, and the folder in which its external data is.

    Raises
    ------
    ModelError
        If the model has no such node, or no such initializer.
    """
    with contextlib.ExitStack() as stack:
        source = original.resolve()
        model = outlined(source)  # whose weights are read where they are
        apart = stack.enter_context(one_width_each(source)) if model.functions else None
        if apart is not None and apart.path is not None:
            source = apart.path.resolve()
            model = outlined(source)
        write_out(model, intents, weights)
        path = stack.enter_context(scratch_folder("intended")) / "intended.onnx"
        path.write_bytes(model.SerializeToString())
        del model
        yield path, source.parent


def write_out(
    model: onnx.ModelProto,
    intents: Iterable[Intent],
    weights: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Make of a model, in place, the network that its swap should come to.

    Parameters
    ----------
    model : onnx.ModelProto
        Its external data is not touched.
    intents : iterable of Intent
    weights : mapping of str to numpy.ndarray, optional
        Initializers of the graph in whose place others come, of any shape and type.

    Raises
    ------
    ModelError
        If the model has no such node that can be read so, or no such initializer.
    """
    by_place = {intent.node: intent for intent in intents}
    names = set(_names(model))
    place = 0
    for holder, opset in _graphs(model):
        nodes: list[onnx.NodeProto] = []
        for node in holder.node:
            intent = None
            if _is_batchnorm(node.op_type, node.domain):
                intent = by_place.pop(place, None)
                place += 1
            if intent is None:
                nodes.append(node)
                continue
            if node.output[0] != intent.output or len(node.input) < 5 or not intent.makes_sense:
                raise ModelError(
                    f"The node that makes {intent.output!r} is not the BatchNormalization to swap."
                )
            nodes += _Writing(node, intent, opset, names).nodes
        del holder.node[:]
        holder.node.extend(nodes)
    if by_place:
        missing = next(iter(by_place.values()))
        raise ModelError(f"The model has no BatchNormalization that makes {missing.output!r}.")
    _replace_weights(model, weights or {})


def _replace_weights(model: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> None:
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, values in weights.items():
        if name not in stored:
            raise ModelError(f"The model has no initializer {name!r}.")
        stored[name].CopyFrom(numpy_helper.from_array(values, name))


def _is_batchnorm(op: str, domain: str | None) -> bool:
    return op == "BatchNormalization" and domain in {"", "ai.onnx", None}


def _graphs(
    model: onnx.ModelProto,
) -> Iterator[tuple[onnx.GraphProto | onnx.FunctionProto, int]]:
    """Yield graphs, each before its bodies, and the opset that they are of."""

    def nested(
        holder: onnx.GraphProto | onnx.FunctionProto, opset: int
    ) -> Iterator[tuple[onnx.GraphProto | onnx.FunctionProto, int]]:
        yield holder, opset
        for node in holder.node:  # as it is after that; what was written out has no bodies
            for body in bodies(node):
                yield from nested(body, opset)

    yield from nested(model.graph, _opset(model.opset_import))
    for function in model.functions:
        yield from nested(function, _opset(function.opset_import or model.opset_import))


def _opset(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    return next((i.version for i in imports if i.domain in {"", "ai.onnx"}), 1)


def _names(model: onnx.ModelProto) -> Iterator[str]:
    """Yield all names that a model uses."""
    for holder, _ in _graphs(model):
        for node in holder.node:
            yield from (node.name, *node.input, *node.output)
        if isinstance(holder, onnx.GraphProto):
            ports = (*holder.input, *holder.output, *holder.value_info, *holder.initializer)
            yield from (port.name for port in ports)
        else:
            yield from (*holder.input, *holder.output)


class _Writing:
    """Writes one group normalization out.

    Attributes
    ----------
    nodes : list of onnx.NodeProto
    """

    def __init__(self, node: onnx.NodeProto, intent: Intent, opset: int, names: set[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._intent = intent
        self._type = TensorProto.DataType.Value(intent.type)
        self._opset = opset
        self._names = names
        x = self._standardized(node) if intent.normalized else node.input[0]
        y = self._normalized(self._cast(x, TensorProto.DOUBLE, "wide"))
        rank = intent.rank
        if rank is None:  # along channels whatever the rank is: (N, C, everything else)
            y = self._reshape(y, [0, intent.channels, -1], "channels")
        along = [intent.channels, *[1] * (1 if rank is None else rank - 2)]
        for op, affine, own in (
            ("Mul", intent.scale, node.input[1]),
            ("Add", intent.bias, node.input[2]),
        ):
            if affine != "dropped":
                value = own if affine == "kept" else self._numbers(affine, op)
                wide = self._cast(value, TensorProto.DOUBLE, f"wide_{op}")
                y = self._op(op, [y, self._reshape(wide, along, f"laid_{op}")], op)
        if rank is None:
            y = self._op("Reshape", [y, self._op("Shape", [x], "shape")], "unflattened")
        self._op("Cast", [y], "narrow", output=node.output[0], to=self._type)

    def _normalized(self, wide: str) -> str:
        """Normalize the rows of samples and groups."""
        rank, each = self._intent.rank, self._intent.channels // self._intent.num_groups
        if rank is None:
            shape, axes = [0, self._intent.num_groups, -1], [2]
        else:  # which asks for no size of x
            shape, axes = [-1, each, *[0] * (rank - 2)], list(range(1, rank))
        rows = self._reshape(wide, shape, "rows")
        centred = self._op("Sub", [rows, self._mean(rows, axes, "mean")], "centred")
        squares = self._op("Mul", [centred, centred], "squares")
        variance = self._mean(squares, axes, "variance")
        # An epsilon is a float32 attribute, unless the data has more digits.
        kind = NUMPY_DTYPES[self._stored]
        epsilon = self._constant(np.array(self._intent.epsilon, kind), "epsilon")
        epsilon = self._cast(epsilon, TensorProto.DOUBLE, "wide_epsilon")
        deviation = self._op("Sqrt", [self._op("Add", [variance, epsilon], "spread")], "deviation")
        y = self._op("Div", [centred, deviation], "normalized")
        if rank is None:
            return y
        return self._reshape(y, [-1, self._intent.channels, *[0] * (rank - 2)], "unrowed")

    def _standardized(self, node: onnx.NodeProto) -> str:
        """Keep the node's statistics, without its affine."""
        kind = NUMPY_DTYPES[self._type]
        one, zero = (
            self._constant(make(self._intent.channels, kind), what)
            for make, what in ((np.ones, "one"), (np.zeros, "zero"))
        )
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        kept.input[1], kept.input[2] = one, zero
        kept.output[0] = self._fresh("standardized")
        del kept.output[1:]
        attributes = [a for a in kept.attribute if a.name != "spatial"]  # which runtimes refuse
        del kept.attribute[:]
        kept.attribute.extend(attributes)
        self.nodes.append(kept)
        return str(kept.output[0])

    @property
    def _stored(self) -> int:
        """The type that numbers of a swap are stored in."""
        double = self._type == TensorProto.DOUBLE
        return int(TensorProto.DOUBLE if double else TensorProto.FLOAT)

    def _numbers(self, values: Sequence[float], what: str) -> str:
        return self._constant(np.asarray(round_to(np.array(values), self._stored)), what)

    def _mean(self, value: str, axes: list[int], what: str) -> str:
        if self._opset < 18:
            return self._op("ReduceMean", [value], what, axes=axes, keepdims=1)
        given = self._constant(np.array(axes, np.int64), f"{what}_axes")
        return self._op("ReduceMean", [value, given], what, keepdims=1)

    def _reshape(self, value: str, shape: list[int], what: str) -> str:
        given = self._constant(np.array(shape, np.int64), f"{what}_shape")
        return self._op("Reshape", [value, given], what)

    def _cast(self, value: str, to: int, what: str) -> str:
        return self._op("Cast", [value], what, to=to)

    def _constant(self, array: np.ndarray, what: str) -> str:
        if array.dtype == np.int64 and self._opset < 9:  # when a Constant was of floats only
            wide = self._constant(array.astype(np.float64), what)
            return self._cast(wide, TensorProto.INT64, what)
        return self._op("Constant", [], what, value=numpy_helper.from_array(array))

    def _op(
        self, op: str, inputs: list[str], what: str, *, output: str = "", **attributes: object
    ) -> str:
        made = output or self._fresh(what)
        self.nodes.append(helper.make_node(op, inputs, [made], self._fresh(f"{what}_node")))
        self.nodes[-1].attribute.extend(
            helper.make_attribute(name, value) for name, value in attributes.items()
        )
        return made

    def _fresh(self, what: str) -> str:
        """Return a name that nothing has."""
        hint = name = f"{self._intent.output}/intended/{what}"
        number = 1
        while name in self._names:
            name, number = f"{hint}_{number}", number + 1
        self._names.add(name)
        return name
