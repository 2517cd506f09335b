"""Where the runtime leaves float64 on one model: how far, at which level, at which operator.

A verdict that rests on float64 is worth something where the runtime agrees on what a model
computes. What rounding explains of a disagreement is measured, not guessed: both models are
evaluated in float64 again with every weight and every result perturbed as rounding would. What is
beyond that is a fault of the runtime, or of an operator of the arbiter, and who of them errs can
often be told: a level of optimization at which there is no departure, or the operator that is
right when it is run alone on the same inputs, convicts the runtime.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import onnx

from normswap.bodies import bodies
from normswap.check.arbitration import patience
from normswap.check.observations import tensors_of
from normswap.check.report import DepartureReport
from normswap.check.verdict import Verdict, departures
from normswap.errors import RunError
from normswap.runtime.providers import CPU, full_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.check.observations import Observations, Tensors
    from normswap.check.options import CheckOptions
    from normswap.check.report import OutputReport, RunReport
    from normswap.check.runner import Runner
    from normswap.check.verdict import Departure
    from normswap.inputs.signature import Signature

_SAMPLES = {False: 2, True: 4}
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_TF32 = "float16"  # has as many digits


def suspected(outputs: Sequence[OutputReport]) -> bool:
    """Whether the runtime is further from float64 somewhere than is plainly rounding."""
    return any(departures(output.evidence) for output in outputs)


def measure_rounding(
    runner: Runner,
    original: Signature,
    rewritten: Signature,
    seen: Observations,
    options: CheckOptions,
) -> None:
    """Have both models evaluated with weights and results perturbed, on the arbiter's inputs."""
    part = seen.arbitration
    if part is None:
        return
    rounding = type_of_rounding((original, rewritten), seen.runs)
    pairs: list[list[tuple[Tensors, Tensors]]] = [[] for _ in part.indices]
    for model, role in ((original, "original"), (rewritten, "rewritten")):
        try:
            found = runner.evaluate(
                model,
                role,
                part.feeds,
                samples=_SAMPLES[options.full],
                rounding=rounding,
                timeout=patience(options),
            )
        except RunError as error:
            seen.notes.append(f"the effect of rounding could not be measured: {error}")
            return
        for position, _ in enumerate(part.indices):
            plain, *moved = (tensors_of(row[position]) for row in found.values)
            pairs[position] += [(plain, each) for each in moved]
    for index, each in zip(part.indices, pairs, strict=True):
        seen.truths[index] = replace(seen.truths[index], rounded=tuple(each))


def find_departures(
    runner: Runner,
    original: Signature,
    rewritten: Signature,
    seen: Observations,
    outputs: Sequence[OutputReport],
    options: CheckOptions,
) -> tuple[DepartureReport, ...]:
    """Return, of each model the runtime departs on, the output it departs on most, and where.

    What a person should know of it goes into the notes of `seen`.
    """
    worst: dict[str, tuple[OutputReport, Departure]] = {}
    for output in outputs:
        for departure in departures(output.evidence):
            known = worst.get(departure.model)
            if known is None or departure.error > known[1].error:
                worst[departure.model] = (output, departure)
    models = {"original": original, "rewritten": rewritten}
    rounding = type_of_rounding((original, rewritten), seen.runs)
    found = []
    for role, (output, departure) in worst.items():
        model = models[role]
        report = DepartureReport(
            model=_label(model, role, models),
            role=role,
            output=output.name,
            case=output.case,
            level=departure.level,
            error=departure.error,
            explained=departure.explained,
        )
        report = _located(runner, model, report, seen, rounding, options)
        found.append(report)
    # Which of the two models is the original makes no difference to what is said.
    found.sort(key=lambda report: report.model)
    seen.add_notes(list(dict.fromkeys(map(sentence, found))))
    return tuple(found)


def disbelieved(outputs: Sequence[OutputReport]) -> tuple[OutputReport, ...]:
    """Return what is left of some outputs where float64 is not believed.

    Inputs that were made to reach limits and branches are evaluated in float64 alone. What that
    finds the same then says nothing, and what it finds different is inconclusive.
    """
    left = []
    for output in outputs:
        judgement = output.judgement
        if output.evidence.verdict_level is None:
            if judgement.verdict is Verdict.EQUIVALENT:
                continue
            if judgement.verdict is Verdict.DIFFERENT:
                reason = f"{judgement.reason}, by float64 alone, which is not trusted here"
                judgement = replace(judgement, verdict=Verdict.INCONCLUSIVE, reason=reason)
        left.append(replace(output, judgement=judgement))
    return tuple(left)


def _label(model: Signature, role: str, models: dict[str, Signature]) -> str:
    """Return what to call a model: its file's name, if that is a name of its own."""
    name = model.name
    if name.startswith("."):  # a rewrite that is not saved yet
        return f"the {role} model"
    same = len({each.name for each in models.values()}) == 1
    return model.title if same else name


def _located(
    runner: Runner,
    model: Signature,
    report: DepartureReport,
    seen: Observations,
    rounding: str,
    options: CheckOptions,
) -> DepartureReport:
    case = next((c for c in seen.cases if c.name == report.case), None)
    if case is None:
        return report
    provider = options.provider
    if report.role == "rewritten" and options.against_provider is not None:
        provider = options.against_provider
    try:
        node = runner.locate(
            model,
            report.role,
            case.feeds,
            output=report.output,
            level="default" if report.level == "default" else "disabled",
            provider=provider,
            rounding=rounding,
            timeout=patience(options),
        )
    except RunError as error:
        seen.notes.append(
            f"the operator at which onnxruntime departs from float64 was not searched for: {error}"
        )
        return report
    if node is None:
        return replace(report, searched=True)
    return replace(
        report,
        searched=True,
        operator=node["operator"],
        node=node["node"],
        tensor=node["tensor"],
        node_error=node["error"],
        alone=node["alone"],
    )


def sentence(report: DepartureReport) -> str:
    """Tell a person of a departure."""
    level = {
        "disabled": "with optimizations disabled",
        "default": "at its default optimization level",
        "both": "with and without optimizations",
    }[report.level]
    said = (
        f"onnxruntime departs from float64 on {report.model}, {level}: output "
        f"{report.output!r} is off by {report.error:.3g}, more than rounding can explain "
        f"({report.case})"
    )
    if report.operator:
        who = f"{report.operator} {report.node}".rstrip()
        said += (
            f"; it begins at {who}, whose output {report.tensor!r} is off by "
            f"{report.node_error:.3g}"
        )
    return f"{said}; {_why(report)}"


def _why(report: DepartureReport) -> str:
    """Say which of the two errs, as far as that can be told."""
    if report.level != "both":
        other = (
            "at its default optimization level"
            if report.level == "disabled"
            else "with optimizations disabled"
        )
        return f"{other} the result is right, so the error is onnxruntime's"
    if report.operator and any(report.alone.values()):
        return (
            "run alone on the same inputs, this node gives the right result, so the error is "
            "onnxruntime's"
        )
    if report.operator:
        return (
            "run alone on the same inputs, this node is off as well: either its kernel "
            "in onnxruntime or normswap's float64 operator is wrong, so float64 is not "
            "trusted here"
        )
    if report.searched:
        return (
            "each node agrees with float64 when it is run alone, so either onnxruntime "
            "is wrong, or the smallest rounding error decides the result"
        )
    return "the operator that causes it was not found, so float64 is not trusted here"


def type_of_rounding(models: Sequence[Signature], runs: Sequence[RunReport]) -> str:
    """Return the name of the coarsest floating-point type that the models compute in."""
    found: set[str] = set()
    for model in models:
        content = onnx.ModelProto.FromString(model.structure)
        found.update(filter(None, map(_name, _element_types(content))))
    known = [name for name in _FLOATS if name in found] or ["float32"]
    for run in runs:
        plain = run.provider in {"", full_name(CPU)} or "TF32 off" in run.arithmetic
        if not plain:
            known.append(_TF32)
    return max(known, key=lambda name: float(ml_dtypes.finfo(name).eps))


def _name(element_type: int) -> str | None:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(element_type).name)
    except KeyError:
        return None


def _element_types(model: onnx.ModelProto) -> Iterator[int]:
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        yield value.type.tensor_type.elem_type
    for tensor in model.graph.initializer:
        yield tensor.data_type
    yield from _of_nodes(model.graph.node)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_nodes(nodes: Any) -> Iterator[int]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in {"to", "dtype"}:
                yield int(attribute.i)
            if attribute.HasField("t"):
                yield attribute.t.data_type
        for body in bodies(node):
            yield from (tensor.data_type for tensor in body.initializer)
            yield from _of_nodes(body.node)
