"""Whether a fold is right, judged by onnxruntime in float32 and by NumPy in float64.

A graph in float64 is judged twice: onnxruntime runs it and its fold in float32, without its
optimizer, where a fold that is another function shows; and both are evaluated in float64, where
the fold differs from the original by rounding only, or is wrong. The evaluator counts only where it
agrees with onnxruntime about the original. What rounding explains is measured: the weights of the
original are moved by half a unit in their last place, and what that does to the result is allowed
for, many times over.
"""

from __future__ import annotations

import enum
import io
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto
from onnx.reference.op_run import OpRun

from normswap.check.arbiter.evaluator import SETTINGS, Float64Evaluator, Settings
from normswap.check.arbiter.registry import operators
from normswap.folding.apply import apply_plan
from normswap.folding.planner import make_plan
from normswap.model import load, write_to
from support.folding import every_node, feeds_for

FLOOR = 1e-12
"""What is allowed in float64 in any case, relative to the largest value of an output (or to 1)."""

SLACK = 32.0
"""By how much more than a perturbation of half a unit a fold may move a result."""

COARSE = 1e-3
"""How far apart two runs in float32 may be, relative to the largest value (or to 1).

What a fold does wrong within it shows in float64.
"""


class Fault(enum.Enum):
    """What may be wrong with a fold."""

    CRASHED = "crashed"
    INVALID = "invalid"
    WRONG = "wrong"
    LOST = "not accounted for"
    SECOND = "changed by a second fold"


@dataclass
class Judgement:
    """What was found out about one graph.

    Attributes
    ----------
    fault : Fault or None
    detail : str
    folded, batchnorms : int
        How many BatchNormalizations went, of how many.
    unmade : str
        Why the graph is no model in the first place: onnxruntime's words. Then nothing is judged.
    in_float64 : bool
        Whether the evaluator in float64 counted.
    """

    fault: Fault | None = None
    detail: str = ""
    folded: int = 0
    batchnorms: int = 0
    unmade: str = ""
    in_float64: bool = False
    notes: list[str] = field(default_factory=list)


def fold(model, options):
    """Fold a model that is in memory; return it, as bytes, and the plan."""
    loaded = load(model.SerializeToString())
    plan = make_plan(loaded, **options)
    apply_plan(plan, loaded)
    stream = io.BytesIO()
    write_to(loaded, stream)
    return stream.getvalue(), plan


def judge(case) -> Judgement:
    """Fold a graph and say whether that is right."""
    found = Judgement(batchnorms=case.batchnorms)
    feeds = feeds_for(case.model, sizes={"N": 2})
    if "condition" in feeds:
        feeds["condition"] = np.array(True)
    original = narrowed(case.model)
    try:
        wants = run(original, feeds)
    except Exception as error:  # noqa: BLE001 - the runtime raises anything
        found.unmade = " ".join(str(error).split())[:200]
        return found
    try:
        written, plan = fold(case.model, case.options)
        folded = onnx.ModelProto.FromString(written)
        again, second = fold(folded, case.options)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
        found.fault, found.detail = Fault.CRASHED, f"{type(error).__name__}: {error}"[:300]
        return found
    gone = [entry for entry in plan.folded if entry.site.op == "BatchNormalization"]
    found.folded = len(gone)
    checks = (
        (Fault.INVALID, lambda: validity(case.model, folded)),
        (Fault.LOST, lambda: accounting(case, plan, folded)),
    )
    for fault, check in checks:
        if detail := check():
            found.fault, found.detail = fault, detail
            return found
    try:
        gots = run(narrowed(folded), feeds)
    except Exception as error:  # noqa: BLE001 - the runtime raises anything
        found.fault, found.detail = Fault.INVALID, " ".join(str(error).split())[:300]
        return found
    if detail := compare(case.model, folded, feeds, wants, gots, found):
        found.fault, found.detail = Fault.WRONG, detail
    elif second.folded or again != written:
        nodes = [entry.site.node for entry in second.folded]
        found.fault, found.detail = Fault.SECOND, f"folds {nodes}" if nodes else "other bytes"
    return found


# Validity -----------------------------------------------------------------------------------------


def validity(model, folded) -> str:
    """Say why a folded model is no model, if it is none."""
    try:
        onnx.checker.check_model(folded)
        if is_fully_valid(model):
            onnx.checker.check_model(folded, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return " ".join(str(error).split())[:300]
    if list(folded.graph.input) != list(model.graph.input):
        return "the inputs are others"
    if list(folded.graph.output) != list(model.graph.output):
        return "the outputs are others"
    return ""


def is_fully_valid(model) -> bool:
    """Whether onnx's inference has nothing against a model, which may be right nonetheless."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def accounting(case, plan, folded) -> str:
    """Say which BatchNormalization is in a plan not once, if any."""
    entries = [*plan.folded, *plan.kept]
    own = [e for e in entries if e.site.op == "BatchNormalization"]
    sites = [(entry.site.graph, entry.site.output) for entry in own]
    if len(set(sites)) < len(sites):
        return "one is in the plan twice"
    if any(not entry.detail for entry in plan.kept):
        return "one is kept without a reason"
    if case.model.functions:  # whose copies have sites of their own
        return "" if len(own) >= case.batchnorms else f"{len(own)} of {case.batchnorms} in the plan"
    if len(own) != case.batchnorms:
        return f"{len(own)} of {case.batchnorms} in the plan"
    nodes = [node.op_type for node in every_node(folded.graph)].count("BatchNormalization")
    stay = sum(e.site.op == "BatchNormalization" and e.form != "affine" for e in plan.kept)
    stay += sum(e.site.op != "BatchNormalization" and e.form == "normalize" for e in plan.kept)
    return "" if nodes == stay else f"{nodes} nodes where {stay} stay"


# Runs ---------------------------------------------------------------------------------------------


def run(model, feeds):
    """Run a model in onnxruntime, as it is written, on one thread."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    types = {port.name: port.type for port in session.get_inputs()}
    given = {
        name: value.astype(np.float32) if types[name] == "tensor(float)" else value
        for name, value in feeds.items()
    }
    return session.run(None, given)


def narrowed(model):
    """Return a model in float64 as one in float32; the runtime has kernels for that."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _narrow_graph(copy.graph)
    for function in copy.functions:
        _narrow_nodes(function.node)
    return copy


def _narrow_graph(graph):
    for tensor in graph.initializer:
        _narrow(tensor)
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type == TensorProto.DOUBLE:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    _narrow_nodes(graph.node)


def _narrow_nodes(nodes):
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _narrow(attribute.t)
            elif attribute.HasField("g"):
                _narrow_graph(attribute.g)
            elif attribute.name == "to" and attribute.i == TensorProto.DOUBLE:
                attribute.i = TensorProto.FLOAT


def _narrow(tensor):
    if tensor.data_type == TensorProto.DOUBLE:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


class GlobalLpPool(OpRun):
    """What onnx's reference does not have."""

    def _run(self, x, p=2):
        norms = np.linalg.norm(x.reshape(*x.shape[:2], -1), p, axis=2)
        return (norms.reshape(*x.shape[:2], *[1] * (x.ndim - 2)),)


class Evaluator(Float64Evaluator):
    """An evaluator that has it in bodies and functions too."""

    def __init__(self, proto, *args, **fields):
        super().__init__(proto, *args, **{**fields, "new_ops": [*operators(), GlobalLpPool]})


class UnknownError(Exception):
    """The evaluator in float64 has no value."""


def evaluate(model, feeds):
    """Evaluate a model in float64."""
    token = SETTINGS.set(Settings())
    try:
        wide = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in feeds.items()}
        return Evaluator(model).run(None, wide)
    except Exception as error:
        raise UnknownError(" ".join(str(error).split())[:80]) from error
    finally:
        SETTINGS.reset(token)


NOT_WEIGHTS = {"Resize", "Upsample", "Clip", "Dropout"}
"""What reads sizes, bounds and ratios, which rounding does not move."""


def moved(model, sample):
    """Return a model whose weights are moved by up to a unit in the last place of their type."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = list(every_node(copy.graph))
    for function in copy.functions:
        nodes += list(every_node(function))
    kept = {n for node in nodes if node.op_type in NOT_WEIGHTS for n in node.input[1:]}
    rng = np.random.default_rng(sample)
    for graph in every_graph(copy.graph):
        for tensor in graph.initializer:
            if tensor.name not in kept:
                _move(tensor, rng)
    for node in nodes:
        if node.op_type == "Constant" and node.output[0] not in kept:
            _move(node.attribute[0].t, rng)
    return copy


def every_graph(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from every_graph(attribute.g)


def _move(tensor, rng):
    array = onnx.numpy_helper.to_array(tensor)
    if array.dtype.kind != "f":
        return
    unit = float(np.finfo(array.dtype).eps)
    # In float64, which is what the evaluator computes in whatever the type is. There a step of
    # half a unit may round to none, so that some go a whole one.
    wide = array.astype(np.float64) * (1 + rng.uniform(-unit, unit, array.shape))
    tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))


# Comparison ---------------------------------------------------------------------------------------


def compare(model, folded, feeds, wants, gots, found) -> str:
    """Say which output of a fold differs, if any."""
    names = [info.name for info in model.graph.output]
    try:
        exact = evaluate(model, feeds)
        samples = None
        trusted = [agree(a, w) for a, w in zip(exact, wants, strict=True)]
    except UnknownError as error:
        found.notes.append(str(error))
        exact, trusted = wants, [False] * len(wants)
    if not all(trusted) and not found.notes:
        makers = {node.output[0]: node.op_type for node in every_node(model.graph) if node.output}
        index = trusted.index(False)
        words = f"float64 departs from the runtime on a {makers.get(names[index])}"
        found.notes.append(words)
    found.in_float64 = all(trusted)
    for name, want, got, truth, fine in zip(names, wants, gots, exact, trusted, strict=True):
        if want.shape != got.shape:
            return f"{name} is of shape {got.shape}, not {want.shape}"
        if want.dtype != got.dtype:
            return f"{name} is {got.dtype}, not {want.dtype}"
        if want.dtype.kind != "f":
            continue
        magnitude = size_of(want)
        departs = deviation(truth, want) if fine else 0.0
        unit = float(np.finfo(want.dtype).eps) / float(np.finfo(np.float32).eps)
        allowed = COARSE * unit * (1 if fine else 10) * magnitude + SLACK * departs
        error = deviation(want, got)
        if not error <= allowed:
            words = f"{error:.1e} off in the runtime where {magnitude:.1e} is the largest"
            if not fine or not explained(model, folded, feeds, name, names, error):
                return f"{name} is {words}"
    if not found.in_float64:
        return ""
    for index, (name, truth, got) in enumerate(
        zip(names, exact, evaluate(folded, feeds), strict=True)
    ):
        if truth.shape != got.shape:
            return f"{name} is of shape {got.shape} in float64, not {truth.shape}"
        if truth.dtype.kind != "f":
            if not np.array_equal(truth, got):
                return f"{name} differs in float64"
            continue
        floor = FLOOR * size_of(truth)
        error = deviation(truth, got)
        if error <= floor:
            continue
        if samples is None:
            samples = [evaluate(moved(model, sample), feeds) for sample in (1, 2, 3)]
        noise = max(deviation(truth, other[index]) for other in samples)
        if not error <= floor + SLACK * noise:
            return (
                f"{name} is {error:.1e} off in float64 where {size_of(truth):.1e} is the largest"
                f" and rounding does {noise:.1e}"
            )
    return ""


def explained(model, folded, feeds, name, names, error) -> bool:
    """Whether rounding in the runtime's type explains an error in it."""
    index = names.index(name)
    narrow = narrowed(model)
    truth, *others = (
        evaluate(variant, feeds)[index] for variant in (narrow, moved(narrow, 1), moved(narrow, 2))
    )
    noise = max(deviation(truth, other) for other in others)
    return error <= SLACK * noise


def size_of(array) -> float:
    finite = np.abs(array[np.isfinite(array)], dtype=np.float64)
    return max(float(finite.max(initial=0)), 1.0)


def deviation(want, got) -> float:
    """Return the largest difference of what is finite in the first; infinite where only one is."""
    want, got = np.asarray(want, np.float64), np.asarray(got, np.float64)
    defined = np.isfinite(want) & (np.abs(want) < 1e30)
    with np.errstate(all="ignore"):
        error = np.abs(want - got)[defined]
    return float(np.where(np.isnan(error), np.inf, error).max(initial=0))


def agree(truth, want) -> bool:
    """Whether the evaluator and the runtime compute the same of the original."""
    if truth.shape != want.shape:
        return False
    if want.dtype.kind != "f":
        return np.array_equal(truth, want)
    unit = float(np.finfo(want.dtype).eps)
    return deviation(truth, want) <= 2e4 * unit * size_of(want)


__all__ = ["Fault", "Judgement", "fold", "judge", "narrowed"]
