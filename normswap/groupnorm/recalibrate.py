"""Re-estimate the running statistics of BatchNormalization, and freeze training-mode exports.

Source: ONNX operator BatchNormalization, opset 15: with ``current_mean`` and ``current_var`` the
mean and the population variance of a batch, by channel ::

    running = momentum * running + (1 - momentum) * current

The cumulative estimate is that of all data seen as one batch, which is what momentum only
approaches. Every normalization works with the statistics of its batch meanwhile, as in training
(Wu and Johnson, "Rethinking Batch in BatchNorm", 2021, section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from onnx import TensorProto

from normswap.dtypes import NUMPY_DTYPES, is_float, round_to
from normswap.errors import DataError, ModelError, UsageError
from normswap.finite import flaw_of
from normswap.graph.batchnorm import EXPORT_TIP, epsilon_of, is_batchnorm, require_rewritable
from normswap.graph.build import build_network, gs_nodes
from normswap.graph.mode import mode_of
from normswap.graph.names import Names
from normswap.graph.normalization import site_of
from normswap.graph.reasons import Blocked, Reason, blocked_by
from normswap.groupnorm.builder import ConstantPool, LayerBuilder
from normswap.groupnorm.layer import Layer, Runtime
from normswap.model import ArrayTensor, load, make_constant, stage
from normswap.runtime.session import Session
from normswap.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import onnx_graphsurgeon as gs

    from normswap.graph.network import Node, Value
    from normswap.graph.normalization import Site
    from normswap.model import Model
    from normswap.progress import Progress


DEFAULT_MOMENTUM = 0.9


@dataclass(frozen=True, slots=True)
class RecalibrateOptions:
    """How statistics are estimated.

    Attributes
    ----------
    momentum : float or None
        Of the running estimate, batch after batch, from the statistics that the model has; None for
        the statistics of all data as one batch.
    freeze : bool
        Turn normalizations in training mode into inference ones.
    timeout : float
        Seconds for one run.

    Raises
    ------
    UsageError
        If the momentum is not in [0, 1).
    """

    momentum: float | None = None
    freeze: bool = False
    timeout: float = 600.0

    def __post_init__(self) -> None:
        """Refuse a momentum that there is not."""
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UsageError(
                f"The momentum is {self.momentum}, and must be at least 0 and below 1.",
                tip="It is what the old statistics count; PyTorch's momentum is 1 minus that.",
            )


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """A normalization with new statistics.

    Attributes
    ----------
    site : Site
    mean_shift : float
        How far the means moved: root mean square over channels, in old standard deviations. Of
        channels whose old statistics were finite; NaN where none were.
    variance_ratio : float
        Geometric mean over these channels of new variance over old.
    frozen : bool
        Whether it was in training mode and is not any more.
    mended : tuple of str
        What was not finite of the old statistics.
    """

    site: Site
    mean_shift: float
    variance_ratio: float
    frozen: bool
    mended: tuple[str, ...] = ()


class RunningStatistics:
    """Mean and population variance by channel, over batches.

    Parameters
    ----------
    mean, var : (C,) ndarray of float64
        What there is before the first batch; counts with a momentum only.
    momentum : float or None
    """

    def __init__(self, mean: np.ndarray, var: np.ndarray, momentum: float | None) -> None:
        self.mean = mean
        self.var = var
        self._momentum = momentum
        self._count = 0

    def add(self, mean: np.ndarray, var: np.ndarray, count: int) -> None:
        """Take in the statistics of a batch of `count` elements a channel."""
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused later
            self._add(mean, var, count)

    def _add(self, mean: np.ndarray, var: np.ndarray, count: int) -> None:
        if self._momentum is not None:
            self.mean = self._momentum * self.mean + (1 - self._momentum) * mean
            self.var = self._momentum * self.var + (1 - self._momentum) * var
            return
        # The law of total variance: within batches, and between them.
        share = count / (self._count + count)
        shift = mean - self.mean
        self.var = (1 - share) * self.var + share * var + share * (1 - share) * shift**2
        self.mean = self.mean + share * shift
        if not self._count:
            self.mean, self.var = mean, var
        self._count += count


def batchnorms(model: Model, *, freeze: bool) -> list[Node]:
    """Return the normalizations to recalibrate, or raise one error for all that can't be."""
    network = build_network(model)
    nodes = [node for graph in network.graphs for node in graph.topological() if is_batchnorm(node)]
    refused = []
    for node in nodes:
        block = blocked_by(_require_recalibratable, node, freeze=freeze)
        if block is not None:
            refused.append(f"{node.title}: {block.detail}")
    if refused:
        more = f"; and {len(refused) - 8} more" if len(refused) > 8 else ""
        raise ModelError(
            f"{len(refused)} of {len(nodes)} BatchNormalizations of {model.name} can't be "
            f"recalibrated: {'; '.join(refused[:8])}{more}."
        )
    if not nodes:
        raise ModelError(
            f"{model.name} has no BatchNormalization to recalibrate.",
            tip=EXPORT_TIP,
        )
    return nodes


def _require_recalibratable(node: Node, *, freeze: bool) -> None:
    """Let pass a normalization whose mean and variance are constants by channel."""
    if node.graph.path:
        detail = f"it is in {node.graph.path}, and only the main graph can be recalibrated"
        raise Blocked(Reason.OUTER_SCOPE, node.title, detail)
    require_rewritable(node, in_training=True, with_statistics=not freeze, by_channel=True)
    mean, var = node.operand(3), node.operand(4)
    if mean.source is None or var.source is None:
        raise Blocked(Reason.NOT_CONSTANT, node.title, "its mean and variance are not constants")
    if mean.overridable or var.overridable:
        raise Blocked(Reason.OVERRIDABLE, node.title, "its mean or variance is a graph input")
    if not is_float(mean.data_type):
        raise Blocked(Reason.ELEMENT_TYPE, node.title, "its statistics are of no float type")


Found = dict[str, tuple[RunningStatistics, tuple[np.ndarray, np.ndarray]]]


def estimate(
    original: Path,
    batches: Iterable[Mapping[str, Any]],
    options: RecalibrateOptions,
    progress: Progress,
) -> tuple[Found, int]:
    """Run the network with the statistics of each batch, and gather them."""
    model = load(original)
    with scratch_folder() as folder:
        outputs, found = _open_statistics(model, options)
        path = folder / "training.onnx"
        with stage(model, path) as staged:
            staged.commit()
        taps = {name: TensorProto.DOUBLE for names in outputs.values() for name in names}
        samples = 0
        with Session(
            path, label="the model in training mode", taps=taps, timeout=options.timeout
        ) as session:
            for number, feeds in enumerate(batches, start=1):
                progress(f"estimating statistics, batch {number}")
                values = session.run(feeds, sorted(taps))
                for key, (mean, var, count) in outputs.items():
                    found[key][0].add(values[mean], values[var], int(values[count].reshape(-1)[0]))
                samples += max((len(v) for v in feeds.values() if v.ndim), default=1)
    return found, samples


def _open_statistics(
    model: Model, options: RecalibrateOptions
) -> tuple[dict[str, tuple[str, str, str]], Found]:
    """Put every normalization in training mode, with its statistics as tensors to tap."""
    network = build_network(model)
    surgeon = dict(enumerate(gs_nodes(model)))
    names = Names(model)
    pool = ConstantPool(names)
    outputs: dict[str, tuple[str, str, str]] = {}
    found: Found = {}
    new: dict[int, list[gs.Node]] = {}
    for node in network.graphs[0].topological():
        if not is_batchnorm(node):
            continue
        gs_node = surgeon[node.key]
        old = tuple(
            value.source.load().astype(np.float64).reshape(-1)
            for value in node.inputs[3:5]
            if value is not None and value.source is not None
        )
        key = node.out.name
        found[key] = (RunningStatistics(old[0], old[1], options.momentum), (old[0], old[1]))
        scale, bias = gs_node.inputs[1:3]
        data_type = next(v.data_type for v in node.inputs if v and v.data_type is not None)
        layer = Layer(
            name=node.title,
            x=gs_node.inputs[0].name,
            y=gs_node.outputs[0].name,
            scale=Runtime(scale.name, _type_of(node.input(1), data_type)),
            bias=Runtime(bias.name, _type_of(node.input(2), data_type)),
            channels=len(old[0]),
            num_groups=1,
            epsilon=epsilon_of(node),
            shape=None,
            data_type=data_type,
            opset=node.opset,
        )
        tensors = {tensor.name: tensor for tensor in (*gs_node.inputs, *gs_node.outputs)}
        gs_node.inputs.clear()
        gs_node.outputs.clear()
        builder = LayerBuilder(layer, tensors, pool, names)
        outputs[key] = _training_mode(builder)
        new[id(gs_node)] = builder.nodes
    graph = model.graph
    graph.nodes = [part for node in graph.nodes for part in new.get(id(node), [node])]
    return outputs, found


def _type_of(value: Value | None, default: int) -> int:
    return default if value is None or value.data_type is None else value.data_type


def _training_mode(builder: LayerBuilder) -> tuple[str, str, str]:
    """Build a normalization by the statistics of the batch; return the names of these.

    In float64, so that the statistics are those of the activations and not of the summation.
    """
    layer = builder.layer
    wide = builder.op("Cast", [builder.x], "wide", to=TensorProto.DOUBLE)
    view = builder.integers([0, layer.channels, -1], "channels_shape")
    x = builder.op("Reshape", [wide, view], "channels")

    def mean(value: gs.Tensor, what: str) -> gs.Variable:
        if layer.opset < 18:
            return builder.op("ReduceMean", [value], what, axes=[0, 2], keepdims=1)
        axes = builder.integers([0, 2], "batch_axes")
        return builder.op("ReduceMean", [value, axes], what, keepdims=1)

    average = mean(x, "batch_mean")
    centred = builder.op("Sub", [x, average], "centred")
    spread = mean(builder.op("Mul", [centred, centred], "squares"), "batch_var")
    vector = builder.integers([-1], "vector_shape")
    results = [
        builder.op("Reshape", [value, vector], what)
        for value, what in ((average, "current_mean"), (spread, "current_var"))
    ]
    sizes = builder.op("Shape", [x], "sizes")
    picked = builder.op("Gather", [sizes, builder.integers([0, 2], "batch_axes")], "counts", axis=0)
    float_counts = builder.op("Cast", [picked], "counts_wide", to=TensorProto.DOUBLE)
    count = builder.op("ReduceProd", [float_counts], "count", keepdims=1)
    epsilon = builder.typed(layer.epsilon, TensorProto.DOUBLE, "epsilon_wide", shared=True)
    deviation = builder.op(
        "Sqrt", [builder.op("Add", [spread, epsilon], "var_epsilon")], "deviation"
    )
    y = builder.op("Div", [centred, deviation], "normalized")
    column = builder.integers([layer.channels, 1], "column_shape")
    for op, parameter, what in (("Mul", layer.scale, "scale"), ("Add", layer.bias, "bias")):
        tensor = builder.tensor(cast("Runtime", parameter), TensorProto.DOUBLE, what)
        y = builder.op(op, [y, builder.op("Reshape", [tensor, column], what)], f"{what}d")
    y = builder.op("Reshape", [y, builder.original_shape()], "unflattened")
    builder.finish(builder.op("Cast", [y], "narrow", to=layer.data_type))
    return results[0].name, results[1].name, count.name


def install(
    node: Node,
    gs_node: gs.Node,
    statistics: RunningStatistics,
    old: tuple[np.ndarray, np.ndarray],
    options: RecalibrateOptions,
    names: Names,
) -> Recalibrated:
    """Give a node its new statistics as constants of its own."""
    for slot, values, what in (
        (3, statistics.mean, "input_mean"),
        (4, statistics.var, "input_var"),
    ):
        value = node.inputs[slot]
        data_type = (value and value.data_type) or TensorProto.FLOAT
        flaw = flaw_of(f"the new {what} of {node.title}", values, NUMPY_DTYPES[data_type])
        if flaw is not None:
            raise DataError(
                f"On this data {flaw}.",
                tip="The network overflows on it: scale it as in training, or leave out what is "
                "far off.",
            )
        constant = ArrayTensor(np.asarray(round_to(values, data_type)))
        gs_node.inputs[slot] = make_constant(names.fresh(f"{node.title}/{what}"), constant)
    training = mode_of(node).is_training
    if options.freeze:
        gs_node.attrs.pop("training_mode", None)
        while len(gs_node.outputs) > 1:
            gs_node.outputs.pop()
    epsilon = epsilon_of(node)
    flaws = [
        flaw_of(value.name, values)
        for value, values in zip(node.inputs[3:5], old, strict=True)
        if value is not None
    ]
    known = np.isfinite(old[0]) & np.isfinite(old[1])
    old_mean, old_var, mean, var = (v[known] for v in (*old, statistics.mean, statistics.var))
    with np.errstate(all="ignore"):
        shift = (mean - old_mean) / np.sqrt(old_var + epsilon)
        ratio = (var + epsilon) / (old_var + epsilon)
    return Recalibrated(
        site_of(node),
        float(np.sqrt(np.mean(shift**2))) if known.any() else math.nan,
        float(np.exp(np.mean(np.log(ratio)))) if known.any() else math.nan,
        frozen=options.freeze and training,
        mended=tuple(str(flaw) for flaw in flaws if flaw is not None),
    )
