"""Whether a fold is right, judged by onnxruntime in float32 and by NumPy in float64.

A graph in float64 is judged twice: onnxruntime runs it and its fold in float32, without its
optimizer, where a fold that is another function shows; and both are evaluated in float64, where
the fold differs from the original by rounding only, or is wrong. The evaluator counts only where it
agrees with onnxruntime about the original. What rounding explains is measured: the weights of the
original are moved by half a unit in their last place, and what that does to the result is allowed
for, many times over. What rounding does within an operator (a mean of values that hardly differ)
shows in the runtime alone, so that is run on moved weights and results too before a fold is called
wrong.
"""

from __future__ import annotations

import contextlib
import contextvars
import enum
import io
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
from onnx import TensorProto

from normswap.folding.apply import apply_plan
from normswap.folding.planner import make_plan
from normswap.model import load, write_to
from normswap.proof.arbiter.evaluator import SETTINGS, Float64Evaluator, Settings
from support.folding import every_node, feeds_for
from support.graphs import every_graph
from support.shaken import shaken

FLOOR = 1e-12
"""What is allowed in float64 in any case, relative to the largest value of an output (or to 1)."""

SLACK = 32.0
"""By how much more than a perturbation of half a unit a fold may move a result."""

COARSE = 1e-3
"""How far apart two runs in float32 may be, relative to the largest value (or to 1).

What a fold does wrong within it shows in float64.
"""


DIGITS = {TensorProto.FLOAT: 32 * 2.0**-23, TensorProto.FLOAT16: 4 * 2.0**-10}
"""What a result may be off, relative to its largest value, by the coarsest type of a model.

A fold puts constants where the model had results, which the runtime rounds and float64 does not.
"""

FINE = 2.0**-40
"""What is rounded by more than this is so by the runtime."""

DOUBLE = 2.0**-52
"""By what the evaluator rounds."""

ROUGH = 0.01
"""A result that moves by this much with the last place of the weights tells nothing."""


SHAKES = 24
"""How often the runtime is shaken: few digits are few values, and one may come again by chance."""


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
        if not hangs_on_luck(original, narrowed(folded), feeds):
            found.fault, found.detail = Fault.INVALID, " ".join(str(error).split())[:300]
            return found
        found.notes.append("the runtime infers a size that it does not make")
        gots = run(narrowed(folded), feeds, shares=False)
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


def run(model, feeds, *, shares=True):
    """Run a model in onnxruntime, as it is written, on one thread; tensors may share memory."""
    options = ort.SessionOptions()
    options.enable_mem_reuse = shares
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


def run_all(models, feeds):
    """Return the results of those models that run."""
    results = []
    for model in models:
        with contextlib.suppress(Exception):  # the runtime raises anything
            results.append(run(model, feeds))
    return results


def hangs_on_luck(model, folded, feeds):
    """Whether a fold does not run only since the runtime takes some size for another one.

    It plans which tensors share memory by the sizes that it infers, and stops where one is made of
    another size than that of which it takes over the memory. Which those are, any change of the
    graph may change; the original has the same fault in it.
    """
    try:
        run(folded, feeds, shares=False)
    except Exception:  # noqa: BLE001 - the runtime raises anything
        return False
    return any(list(array.shape) != shape for shape, array in every_result(model, feeds) if shape)


def overflows(model, feeds):
    """Whether a model makes something that is beyond the range of its type."""
    narrow = narrowed(model)
    made = [*run(narrow, feeds), *(array for _, array in every_result(narrow, feeds))]
    return any(a.dtype.kind == "f" and np.isinf(a).any() for a in made)


def unclipped(model):
    """Return a model whose Clips let everything pass."""
    copy = onnx.inliner.inline_local_functions(model)
    for node in every_node(copy.graph):
        if node.op_type == "Clip":
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    return copy


def every_result(model, feeds):
    """Return what is inferred of the size of every result, or None, and the result."""
    inferred = onnx.shape_inference.infer_shapes(laid_open(model, feeds))
    sizes = {}
    for info in inferred.graph.value_info:
        if info.type.WhichOneof("value") == "tensor_type":
            dims = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
            known = info.type.tensor_type.HasField("shape") and all(dims)
            sizes[info.name] = dims if known else None
    probe = onnx.ModelProto()
    probe.CopyFrom(inferred)
    del probe.graph.output[:], probe.graph.value_info[:]
    probe.graph.output.extend(i for i in inferred.graph.value_info if i.name in sizes)
    for info in probe.graph.output:
        info.type.tensor_type.ClearField("shape")
    made = run(probe, feeds, shares=False) if sizes else []
    return list(zip(sizes.values(), made, strict=True))


def laid_open(model, feeds):
    """Return a model of the fed sizes, with its functions and taken branches in the main graph."""
    copy = onnx.inliner.inline_local_functions(model)
    for info in copy.graph.input:
        for dim, size in zip(
            info.type.tensor_type.shape.dim, np.shape(feeds.get(info.name, ())), strict=False
        ):
            dim.dim_value = size
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    while nodes:
        node = nodes.pop(0)
        if node.op_type != "If" or node.input[0] not in feeds:
            copy.graph.node.append(node)
            continue
        taken = "then_branch" if feeds[node.input[0]] else "else_branch"
        body = next(a.g for a in node.attribute if a.name == taken)
        copy.graph.initializer.extend(body.initializer)
        made = [
            onnx.helper.make_node("Identity", [inner.name], [name])
            for inner, name in zip(body.output, node.output, strict=True)
        ]
        nodes = [*body.node, *made, *nodes]
    return copy


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


UNIT = contextvars.ContextVar("UNIT", default=(0.0, frozenset()))
"""By how much of itself every result is moved, as rounding in another type would, but for some."""


class Evaluator(Float64Evaluator):
    """An evaluator that can round as a runtime does, in bodies and functions too."""

    def __init__(self, proto, *args, **fields):
        super().__init__(proto, *args, **fields)
        unit, kept = UNIT.get()
        for number, node in enumerate(self.rt_nodes_ if unit else ()):
            if kept.isdisjoint(node.output):
                node.run = rounded(node.run, unit, number)


def rounded(function, unit, seed):
    """Return a function that returns what another one does, a little off."""
    rng = np.random.default_rng(seed)

    def moved_a_little(array):
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            return array
        return array * (1 + rng.uniform(-unit, unit, array.shape))

    def run_and_move(*args, **fields):
        return tuple(moved_a_little(array) for array in function(*args, **fields))

    return run_and_move


class UnknownError(Exception):
    """The evaluator in float64 has no value."""


def evaluate(model, feeds, unit=0.0):
    """Evaluate a model in float64, with its results moved by up to a unit."""
    token, other = SETTINGS.set(Settings()), UNIT.set((unit, no_weights(model)))
    try:
        wide = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in feeds.items()}
        results = Evaluator(model).run(None, wide)
    except Exception as error:
        raise UnknownError(" ".join(str(error).split())[:80]) from error
    finally:
        SETTINGS.reset(token)
        UNIT.reset(other)
    return [stacked(v, info) for v, info in zip(results, model.graph.output, strict=True)]


def stacked(value, info):
    """Return what two turns of a Loop made as a stack, where the reference has it in a row."""
    dims = info.type.tensor_type.shape.dim
    is_flat = info.type.tensor_type.HasField("shape") and value.ndim == len(dims) - 1 > 0
    if is_flat and value.shape[0] % 2 == 0:
        return value.reshape(2, value.shape[0] // 2, *value.shape[1:])
    return value


NOT_WEIGHTS = {"Resize", "Upsample", "Clip", "Dropout"}
"""What reads sizes, bounds and ratios, which rounding does not move."""


def nodes_of(model):
    """Return the nodes of a model, its bodies and functions."""
    nodes = list(every_node(model.graph))
    for function in model.functions:
        nodes += list(every_node(function))
    return nodes


def no_weights(model):
    """Return the names of sizes, bounds and ratios, and of what they are made of."""
    nodes = nodes_of(model)
    names = {n for node in nodes if node.op_type in NOT_WEIGHTS for n in node.input[1:] if n}
    for node in reversed(nodes):
        if not names.isdisjoint(node.output):
            names.update(filter(None, node.input))
    return frozenset(names)


def moved(model, sample, *, widened=True):
    """Return a model whose weights are moved by up to a unit in the last place of their type.

    Widened, they are in float64 then, where a step of less than a unit is one: the evaluator
    computes in float64 whatever the type is. The runtime needs them as they were.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes, kept = nodes_of(copy), no_weights(copy)
    tensors = [t for graph in every_graph(copy.graph) for t in graph.initializer]
    tensors = [t for t in tensors if t.name not in kept]
    tensors += [
        node.attribute[0].t
        for node in nodes
        if node.op_type == "Constant" and node.output[0] not in kept
    ]
    rng = np.random.default_rng(sample)
    for tensor in tensors:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            info = np.finfo(array.dtype)
            unit, step = (float(x) for x in (info.eps, info.smallest_subnormal))
            wide = array.astype(np.float64) * (1 + rng.uniform(-unit, unit, array.shape))
            wide += rng.uniform(-step, step, array.shape)  # what is tiny has fewer digits
            values = wide if widened else wide.astype(array.dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return copy


# Comparison ---------------------------------------------------------------------------------------


class Truth:
    """The results of a model in float64, and what rounding does to them.

    Attributes
    ----------
    values : list of numpy.ndarray
    """

    def __init__(self, model, feeds):
        self.model, self.feeds = model, feeds
        self.values = evaluate(model, feeds)
        self._runs = {}

    def noise(self, index, unit=DOUBLE):
        """Return how far an output moves with the last place of the weights and of every result.

        Results are rounded to float64 by the evaluator, and to float32 or less by the runtime.
        """
        if unit not in self._runs:
            base = narrowed(self.model) if unit > FINE else self.model
            variants = [moved(base, sample) for sample in (1, 2, 3)]
            self._runs[unit] = [evaluate(variant, self.feeds, unit) for variant in variants]
        return max(deviation(self.values[index], run[index]) for run in self._runs[unit])

    def spread(self, index, unit):
        """Return the same, of each element by itself."""
        self.noise(index, unit)
        return spread(self.values[index], [run[index] for run in self._runs[unit]])


def compare(model, folded, feeds, wants, gots, found) -> str:
    """Say which output of a fold differs, if any."""
    names = [info.name for info in model.graph.output]
    for name, want, got in zip(names, wants, gots, strict=True):
        if want.shape != got.shape:
            return f"{name} is of shape {got.shape}, not {want.shape}"
        if want.dtype != got.dtype:
            return f"{name} is {got.dtype}, not {want.dtype}"
    try:
        truth = Truth(model, feeds)
    except UnknownError as error:
        found.notes.append(str(error))
        truth = None
    trusted = [truth is not None and agree(truth, i, want) for i, want in enumerate(wants)]
    if truth is not None and not all(trusted):
        nodes = list(every_node(model.graph))
        makers = {n: f"{node.op_type}.{i}" for node in nodes for i, n in enumerate(node.output)}
        maker = makers.get(names[trusted.index(False)])
        found.notes.append(f"float64 departs from the runtime on a {maker}")
    found.in_float64 = all(trusted)
    truths = [truth if fine else None for fine in trusted]
    detail = in_runtime(model, feeds, wants, gots, truths, found)
    if detail or not any(trusted):
        return detail
    try:
        results = evaluate(folded, feeds)
    except UnknownError as error:
        found.in_float64 = False
        found.notes.append(f"the fold: {error}")
        return ""
    return in_float64(model, truth, results, trusted)


def in_runtime(model, feeds, wants, gots, truths, found) -> str:
    """Say which output differs in the runtime by more than it errs on the original."""
    names = [info.name for info in model.graph.output]
    variants = None
    for index, (name, want, got, truth) in enumerate(zip(names, wants, gots, truths, strict=True)):
        if want.dtype.kind != "f":
            continue
        epsilon = float(np.finfo(want.dtype).eps)
        unit = epsilon / float(np.finfo(np.float32).eps)
        magnitude = size_of(want)
        if truth is None:
            counts, allowed = np.ones(want.shape, bool), 10 * COARSE * unit * magnitude
        else:
            counts = np.isfinite(truth.values[index])
            departs = deviation(truth.values[index], want)
            allowed = COARSE * unit * magnitude + SLACK * departs
        error = deviation(want[counts], got[counts])
        if not error <= allowed:
            if variants is None:
                narrow = narrowed(model)
                moves = [moved(narrow, sample, widened=False) for sample in (1, 2, 3)]
                moves += [shaken(narrow, sample) for sample in range(SHAKES)]
                variants = run_all(moves, feeds)
            noise = spread(want, [results[index] for results in variants])
            if truth is not None:
                noise = np.maximum(noise, truth.spread(index, epsilon))
            counts &= noise <= ROUGH * magnitude  # the rest of what comes out is rounding
            error = deviation(want[counts], got[counts])
            allowed += SLACK * float(noise[counts].max(initial=0))
        if np.isinf(error):
            # What no number may be made of by chance is one again behind a Clip.
            bare = unclipped(narrowed(model))
            base, *moves = run_all([bare, *(shaken(bare, s) for s in range(SHAKES))], feeds)
            noise = spread(base[index], [results[index] for results in moves])
            counts &= noise <= ROUGH * magnitude
            if np.isnan(want).mean() > 0.5 or (
                want.dtype == np.float16 and overflows(model, feeds)
            ):
                found.notes.append("most of the original is no number, or beyond its type's range")
                counts &= np.isfinite(got)
            error = deviation(want[counts], got[counts])
        if not error <= allowed:
            return f"{name} is {error:.1e} off in the runtime where {magnitude:.1e} is the largest"
    return ""


def in_float64(model, truth, gots, trusted) -> str:
    """Say which output differs in float64 by more than rounding of the weights explains."""
    names = [info.name for info in model.graph.output]
    coarsest = max(DIGITS.get(elem_type, 0.0) for elem_type in float_types(model))
    for index, (name, got) in enumerate(zip(names, gots, strict=True)):
        want = truth.values[index]
        if not trusted[index]:
            continue
        if want.shape != got.shape:
            return f"{name} is of shape {got.shape} in float64, not {want.shape}"
        if want.dtype.kind != "f":
            if not np.array_equal(want, got):
                return f"{name} differs in float64"
            continue
        digits = coarsest * largest(want)
        error, floor = deviation(want, got), max(FLOOR * size_of(want), digits)
        if error > floor and not error <= floor + SLACK * truth.noise(index):
            # What is divided by rounding may be no number by chance; all else is judged.
            chance = ~np.isfinite(got) & (truth.spread(index, DOUBLE) > ROUGH * size_of(want))
            if deviation(want[~chance], got[~chance]) <= floor + SLACK * truth.noise(index):
                continue
            return (
                f"{name} is {error:.1e} off in float64 where {size_of(want):.1e} is the largest"
                f" and rounding does {truth.noise(index):.1e}"
            )
    return ""


def float_types(model):
    """Return the types of what goes into a model and comes out: one of them computes in between."""
    ports = (*model.graph.input, *model.graph.output)
    weights = (tensor for graph in every_graph(model.graph) for tensor in graph.initializer)
    return {i.type.tensor_type.elem_type for i in ports} | {t.data_type for t in weights}


def largest(array) -> float:
    return float(np.abs(array[np.isfinite(array)], dtype=np.float64).max(initial=0))


def size_of(array) -> float:
    return max(largest(array), 1.0)


def deviation(want, got) -> float:
    """Return the largest difference of what is finite in the first; infinite where only one is."""
    want, got = np.asarray(want, np.float64), np.asarray(got, np.float64)
    defined = np.isfinite(want) & (np.abs(want) < 1e30)
    with np.errstate(all="ignore"):
        error = np.abs(want - got)[defined]
    return float(np.where(np.isnan(error), np.inf, error).max(initial=0))


def spread(value, others):
    """Return how far each element is from others; infinite where only one of them is a number."""
    with np.errstate(all="ignore"):
        moves = [np.abs(np.subtract(value, other, dtype=np.float64)) for other in others]
    return np.max([np.where(np.isnan(move), np.inf, move) for move in moves], axis=0, initial=0)


def agree(truth, index, want) -> bool:
    """Whether the evaluator and the runtime compute the same of the original."""
    value = truth.values[index]
    if value.shape != want.shape:
        return False
    if want.dtype.kind != "f":
        return np.array_equal(value, want)
    departs = deviation(value, want)
    unit = float(np.finfo(want.dtype).eps)
    if departs <= 2e3 * unit * largest(want):
        return True
    return departs <= SLACK * truth.noise(index, unit)


__all__ = ["Fault", "Judgement", "fold", "judge", "narrowed"]
