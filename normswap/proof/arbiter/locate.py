"""The child's side of finding the operator at which the runtime leaves float64.

Every node of the main graph is evaluated in float64 by itself, on the inputs that it has in the
runtime, and held to what the runtime makes of them there; so an operator is not blamed for what
was wrong before it. The first node that is off is then run alone, in the runtime, on the same
inputs: a kernel that is right alone and wrong in the model says whose fault it is.

Some faults are gone as soon as results are looked at: fusions, and buffers that are written over.
Then the model is cut off behind ever earlier nodes, up to the first whose result is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx

from normswap.bodies import reads
from normswap.dtypes import is_floating
from normswap.proof.arbiter.evaluator import SETTINGS, EvaluationError, Float64Evaluator, Settings
from normswap.proof.arbiter.task import as_float64
from normswap.runtime.arrays import dtype_of
from normswap.runtime.failures import WorkerError
from normswap.runtime.randomness import is_random, pinned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.runtime.worker import Channel

_CHUNK = 128  # nodes whose tensors are fetched at once
_SAMPLES = 2
_FLOORS = 64.0  # movements under rounding of the inputs; a long sum rounds oftener than once
_ULPS = 64.0
_CUTS = 64  # places that a model is cut off at
_UNEVALUATED = (EvaluationError, RuntimeError, TypeError, ValueError)
_FLIPS = 0.05  # part of the elements of a result of integers; near ties happen


def locate(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Find the first node at which the runtime leaves float64.

    The request holds ``model``, ``home`` (the folder of its external data), ``seeds``, ``feeds``
    (one set), ``output`` (that is off), ``level`` (of optimization), ``provider`` and
    ``provider_options``, and ``rounding`` (the type that it computes in). The
    response's ``found`` is None where no node is off. Else it has ``operator``, ``node``,
    ``tensor``, ``error``, ``explained``, and ``alone``: by level, whether the node alone is right.
    """
    from normswap.runtime.sessions import choose_provider

    job.stage("looking for the operator at which the runtime departs from float64")
    provider = choose_provider(request["provider"], request["provider_options"])
    runtime = _Runtime(provider, request["home"])
    model = pinned(request["model"], request["seeds"])
    feeds = request["feeds"]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    for start in range(0, len(nodes), _CHUNK):
        chunk = nodes[start : start + _CHUNK]
        values = runtime.tensors(model, chunk, feeds, request["level"])
        for node in chunk:
            if is_random(node):
                continue  # its numbers are others in float64; what it gives is taken as it is
            found = _off(_Single(model, node, {**feeds, **values}, weights), values, request)
            if found is not None:
                found["alone"] = runtime.alone(found.pop("single"), found.pop("truth"), found)
                return {"found": found}
    return {"found": _walk_back(runtime, model, feeds, request)}


def _walk_back(
    runtime: _Runtime,
    model: onnx.ModelProto,
    feeds: Mapping[str, Any],
    request: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Cut the model off behind ever earlier nodes as long as it is off there."""
    makers = {name: node for node in model.graph.node for name in node.output if name}
    known: dict[str, dict[str, Any] | None] = {}

    def off(name: str) -> dict[str, Any] | None:
        if name not in known and len(known) < _CUTS:
            known[name] = _off_when_cut(runtime, model, name, feeds, request)
        return known.get(name)

    tensor = request["output"].split("[", 1)[0]
    last = None
    while tensor in makers and (found := off(tensor)) is not None:
        last = found
        earlier = (name for name in dict.fromkeys(reads(makers[tensor])) if name in makers)
        tensor = next((name for name in earlier if off(name) is not None), "")
    if last is None or len(known) == _CUTS:
        return None
    node = makers[last["tensor"]]
    values = runtime.tensors(model, [node], feeds, request["level"])
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    single = _Single(model, node, {**feeds, **values}, weights)
    try:
        truth = single.truths(request["home"], request["rounding"])[0][last["tensor"]]
    except _UNEVALUATED:
        return {**last, "alone": {}}
    return {**last, "alone": runtime.alone(single, truth, last)}


def _off_when_cut(
    runtime: _Runtime,
    model: onnx.ModelProto,
    tensor: str,
    feeds: Mapping[str, Any],
    request: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Return what a tensor is off by where the model ends with it, None where it is right."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    nodes, seen = [], {tensor}
    for node in reversed(model.graph.node):
        if not seen.isdisjoint(node.output):
            nodes.append(node)
            seen.update(reads(node))
    del cut.graph.node[:], cut.graph.output[:], cut.graph.input[:]
    cut.graph.node.extend(reversed(nodes))
    cut.graph.output.append(onnx.ValueInfoProto(name=tensor))
    cut.graph.input.extend(value for value in model.graph.input if value.name in seen)
    needed = {name: value for name, value in feeds.items() if name in seen}
    settings = Settings(folder=request["home"], rounding=dtype_of(request["rounding"]))
    SETTINGS.set(settings)
    try:
        given = runtime.outputs(cut, needed, request["level"])[tensor]
        evaluator = Float64Evaluator(cut)
        wide = {name: as_float64(value) for name, value in needed.items()}
        truth, *perturbed = _samples(evaluator, wide, settings)
    except (WorkerError, *_UNEVALUATED):
        return None
    if not isinstance(given, np.ndarray) or not isinstance(truth[tensor], np.ndarray):
        return None
    error, explained = _distance(given, truth[tensor], [p[tensor] for p in perturbed], request)
    if error <= explained:
        return None
    maker = next(node for node in nodes if tensor in node.output)
    return _told(maker, tensor, error, explained)


def _told(node: onnx.NodeProto, tensor: str, error: float, explained: float) -> dict[str, Any]:
    return {
        "operator": node.op_type,
        "node": node.name,
        "tensor": tensor,
        "error": error,
        "explained": explained,
    }


def _samples(
    evaluator: Float64Evaluator, feeds: Mapping[str, Any], settings: Settings
) -> list[dict[str, Any]]:
    """Evaluate as it is, then perturbed."""
    results = []
    for settings.sample in range(_SAMPLES + 1):
        made = evaluator.run(None, feeds)
        results.append(dict(zip(evaluator.output_names, made, strict=True)))
    return results


class _Single:
    """One node as a model of its own, and the values that it reads."""

    def __init__(
        self,
        model: onnx.ModelProto,
        node: onnx.NodeProto,
        values: Mapping[str, Any],
        weights: Mapping[str, onnx.TensorProto],
    ) -> None:
        self.node = node
        self.model = onnx.ModelProto(ir_version=model.ir_version, graph={"name": "node"})
        self.model.opset_import.extend(model.opset_import)
        self.model.functions.extend(model.functions)
        graph = self.model.graph
        graph.node.append(node)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
        names = dict.fromkeys(reads(node))
        graph.initializer.extend(weights[n] for n in names if n in weights and n not in values)
        self.values = {name: values[name] for name in names if name in values}

    def truths(self, home: str, rounding: str) -> list[dict[str, Any]]:
        """Evaluate in float64: as it is, then with all that it reads perturbed."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        feeds = {}
        for name, value in self.values.items():
            if isinstance(value, np.ndarray) and value.dtype != object:
                model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
            else:
                model.graph.input.append(onnx.ValueInfoProto(name=name))
                feeds[name] = as_float64(value)
        settings = Settings(folder=home, rounding=dtype_of(rounding))
        SETTINGS.set(settings)
        return _samples(Float64Evaluator(model), feeds, settings)


def _off(
    single: _Single, values: Mapping[str, Any], request: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what a node is off by, None where it is right or can't be told."""
    try:
        truth, *perturbed = single.truths(request["home"], request["rounding"])
    except _UNEVALUATED:
        return None  # the whole model was evaluated; this node can't be by itself
    for name, value in truth.items():
        given = values.get(name)
        if not isinstance(value, np.ndarray) or not isinstance(given, np.ndarray):
            continue
        error, explained = _distance(given, value, [p[name] for p in perturbed], request)
        if not error <= explained:
            told = _told(single.node, name, error, explained)
            return {**told, "single": single, "truth": value}
    return None


def _distance(
    given: np.ndarray, truth: np.ndarray, perturbed: Sequence[Any], request: Mapping[str, Any]
) -> tuple[float, float]:
    """Return how far a result is from float64, and how far rounding may take it."""
    if given.shape != truth.shape:
        return float("inf"), 0.0
    if not is_floating(given.dtype):
        flips = [int(np.count_nonzero(truth != p)) for p in perturbed if p.shape == truth.shape]
        allowed = 4 * max(flips, default=0) + int(_FLIPS * truth.size) + 1
        return float(np.count_nonzero(given != truth)), float(allowed)
    unit = max(float(ml_dtypes.finfo(d).eps) for d in (given.dtype, request["rounding"])) / 2
    finite = np.isfinite(truth) & np.isfinite(given)
    if np.count_nonzero(np.isfinite(given) & ~np.isfinite(truth)) > 1e-3 * truth.size + 1:
        return float("inf"), 0.0
    scale = float(np.abs(truth[finite]).max(initial=0.0))
    moved = [_most(p, truth) for p in perturbed if getattr(p, "shape", None) == truth.shape]
    return (
        _most(given.astype(np.float64), truth),
        _FLOORS * max(moved, default=0.0) + _ULPS * unit * scale,
    )


def _most(a: np.ndarray, b: np.ndarray) -> float:
    finite = np.isfinite(a) & np.isfinite(b)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0))


class _Runtime:
    """onnxruntime, on one provider."""

    def __init__(self, provider: Any, home: str) -> None:
        self._provider = provider
        self._home = home

    def tensors(
        self,
        model: onnx.ModelProto,
        nodes: Sequence[onnx.NodeProto],
        feeds: Mapping[str, Any],
        level: str,
    ) -> dict[str, Any]:
        """Run a model and return what some of its nodes read and make."""
        made = {name for node in model.graph.node for name in node.output if name}
        wanted = dict.fromkeys(
            name for node in nodes for name in (*reads(node), *node.output) if name in made
        )
        tapped = onnx.ModelProto()
        tapped.CopyFrom(model)
        known = {value.name for value in tapped.graph.output}
        tapped.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in wanted if name not in known
        )
        results = self.outputs(tapped, feeds, level)
        return {name: results[name] for name in wanted}

    def alone(self, single: _Single, truth: np.ndarray, found: dict[str, Any]) -> dict[str, bool]:
        """Run a node alone, at both levels; return whether it is right there, of those that run."""
        model = onnx.ModelProto()
        model.CopyFrom(single.model)
        for name, value in single.values.items():
            if not isinstance(value, np.ndarray) or value.dtype == object:
                return {}
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            info = onnx.helper.make_tensor_value_info(name, kind, value.shape)
            model.graph.input.append(info)
        verdicts = {}
        for level in ("disabled", "default"):
            try:
                given = self.outputs(model, single.values, level)[found["tensor"]]
            except WorkerError:
                continue
            same = given.shape == truth.shape
            if is_floating(given.dtype):
                error = _most(given.astype(np.float64), truth) if same else float("inf")
            else:
                error = float(np.count_nonzero(given != truth)) if same else float("inf")
            verdicts[level] = error <= found["explained"]
        return verdicts

    def outputs(
        self, model: onnx.ModelProto, feeds: Mapping[str, Any], level: str
    ) -> dict[str, Any]:
        """Run a model and return its outputs."""
        from normswap.runtime.ort import outputs_of
        from normswap.runtime.sessions import open_session

        session = open_session(
            model.SerializeToString(), self._provider, level=level, threads=0, home=self._home
        )
        return outputs_of(session, dict(feeds), self._provider)
