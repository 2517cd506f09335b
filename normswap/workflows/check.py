"""A check from beginning to end."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from normswap.check import cancellation
from normswap.check.alone import concluded
from normswap.check.batching import batch_evidence
from normswap.check.compare import compare, judge_all
from normswap.check.departure import disbelieved, find_departures, measure_rounding, suspected
from normswap.check.deployment import deploy, proved_outputs, with_proof
from normswap.check.executions import provider_notes
from normswap.check.golden import against_expected
from normswap.check.memory import shortage
from normswap.check.observations import Observations
from normswap.check.observe import observe_original, observe_rewritten
from normswap.check.options import CheckOptions
from normswap.check.power import estimate, self_test
from normswap.check.report import CaseReport, CheckReport, OutputReport, reasons_of
from normswap.check.runner import LEVELS, Execution, Runner
from normswap.check.starting import is_enough, start
from normswap.check.verdict import NOT_FINITE, Verdict, overall
from normswap.errors import DataError, ModelError, UsageError
from normswap.files.beside import placed
from normswap.files.scratch import scratch_folder
from normswap.graph.build import gs_nodes
from normswap.groupnorm.carried import constants_not_finite
from normswap.inputs.data import load_cases, load_outputs
from normswap.inputs.dims import RequestedSizes
from normswap.inputs.signature import (
    Signature,
    drawing_alike,
    read_signature,
    structural_differences,
)
from normswap.model import load
from normswap.model.sources import name_of
from normswap.progress import Progress, silent
from normswap.proof.budget import Budget
from normswap.proof.files import prove_files
from normswap.runtime.providers import CPU, full_name
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.check.report import DepartureReport, Power
    from normswap.model.sources import Source
    from normswap.proof.result import Proof
    from normswap.runtime.arrays import Feeds
    from normswap.runtime.child import Child


_BUDGETS = {False: (60.0, 2e11), True: (600.0, 1.2e12)}
"""Seconds and work after which a proof is left as it is, at depth QUICK and at FULL."""

NOTHING = "there are no outputs to compare"
"""Why a check without any has no result."""


def check(
    original: Source,
    rewritten: Source,
    options: Literal["quick", "full", "proof"] | CheckOptions = "quick",
    *,
    certificate: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> CheckReport:
    """Decide whether two models are the same function.

    There is no tolerance to choose: it is derived from the models themselves, from the effect of
    rounding on them in onnxruntime and in float64. Both run on the same inputs, which are drawn to
    suit the shapes, dtypes and meanings of their inputs, each in its own child process.

    Parameters
    ----------
    original, rewritten : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        The models; a Graph of onnx-graphsurgeon, a Model of onnx-ir, an ONNXProgram of torch.
        External data is found beside a path. They may be the same file, for example with
        `CheckOptions.against_provider`.
    options : {"quick", "full", "proof"} or CheckOptions
        How thoroughly to compare, or by proof alone, which runs nothing; a CheckOptions also says
        on which inputs, with which tolerance, and on which provider.
    certificate : path, optional
        Where to write what was proved, for :func:`normswap.verify`. It is written if the models are
        equivalent and neither is a conversion of the other to a narrower type; an existing file is
        replaced.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    CheckReport
        ``verdict`` is EQUIVALENT, DIFFERENT or INCONCLUSIVE; if it is not the first, ``reasons``
        says why. ``outputs`` has the figures, and ``failing`` the inputs on which the models
        differ.

    Raises
    ------
    ModelError
        A model is unreadable or invalid.
    DataError
        The user's data is unreadable or invalid.
    RunError, RunTimeoutError
        The runtime could not load or run a model, crashed, or took too long.
    UsageError
        An option names an input, output or dimension that the models don't have. It is a
        ValueError.

    Examples
    --------
    >>> import normswap
    >>> folded = normswap.fold("models/mlp.onnx", check=None).model
    >>> report = normswap.check("models/mlp.onnx", folded)
    >>> report.verdict is normswap.Verdict.EQUIVALENT
    True
    >>> folded.graph.initializer[0].raw_data = bytes(len(folded.graph.initializer[0].raw_data))
    >>> report = normswap.check("models/mlp.onnx", folded)
    >>> report.verdict is normswap.Verdict.DIFFERENT, report.outputs[0].name
    (True, 'logits')
    """
    how = options if isinstance(options, CheckOptions) else CheckOptions(depth=options)
    certified = None
    if certificate is not None:
        from normswap.workflows.certificate import certifiable

        certified = certifiable(how, certificate, original, rewritten)
    with ExitStack() as stack:
        first = stack.enter_context(file_of(original))
        second = first if rewritten is original else stack.enter_context(file_of(rewritten))
        names = (name_of(original), name_of(rewritten))
        report = check_files(first, second, how, names=names, progress=progress)
        models = zip(names, (first, second), strict=True)
        training = {Path(name).name for name, path in models if _trains(path)}
        report = replace(report, notes=(*report.notes, *_mode_note(sorted(training))))
        converted = report.proof is not None and bool(report.proof.precision)
        if certified is not None and report.verdict is Verdict.EQUIVALENT and not converted:
            from normswap.workflows.certificate import certify

            called = (Path(names[0]).name, Path(names[1]).name)
            made = certify(first, second, report, how, names=called, progress=progress)
            with placed(str(made), certified):
                pass
    return report


def check_files(
    original: Path,
    rewritten: Path,
    options: CheckOptions,
    *,
    names: tuple[str, str],
    progress: Progress = silent,
    child: Child | None = None,
    home: Path | None = None,
    data: Sequence[Feeds] = (),
    strict: bool = False,
) -> CheckReport:
    """Do what :func:`check` says, on files that may be temporary.

    Parameters
    ----------
    names : (str, str)
        What to call the models; the paths where it is empty.
    child : Child, optional
        A process that was started for this (`normswap.check.starting.start`).
    home : Path, optional
        The folder of the original's external data, where that is not its own.
    data : sequence of feeds
        Inputs in the place of random ones; nobody asked for more than they are needed for.
    strict : bool
        Whether a region that is another function is a verdict, even where no input shows it.
    """
    began = time.perf_counter()
    _refuse_useless_limit(options)
    with ExitStack() as stack:
        if child is None and is_enough(options):  # its start goes on while the models are read
            child = start(options, stack)
        first, second = drawing_alike(read_signature(original), read_signature(rewritten))
        first = replace(first, called=names[0], home=home)
        second = replace(second, called=names[1])
        _refuse_unknown_outputs(first, options)
        conclude = partial(_report, first, second, options, began)
        structure = tuple(structural_differences(first, second))
        lacking = "" if structure or options.proves_only else shortage(first, second, options)
        if child is not None and (structure or lacking or options.proves_only):
            child.kill()  # nothing will run
        if structure:
            return conclude(Observations(), structure=structure)
        if options.proves_only or lacking:
            made = _prove(first, second, options, progress, alone=True)
            verdict, reasons = concluded(made)
            report = conclude(Observations(), proof=made)
            notes = (*report.notes, *([lacking] if lacking else []))
            return replace(report, verdict=verdict, reasons=reasons, notes=notes)
        runner = Runner(stack.enter_context(scratch_folder("check")), options, progress)
        proof = None
        if child is not None:
            proof, seen, outputs = _proved(runner, child, first, second, options, data)
            if seen is not None and outputs is not None:
                return conclude(seen, outputs=outputs, proof=proof)
        elif options.proof and options.arbiter:
            proof = _prove(first, second, options, progress)
        if data:
            options = replace(options, data=data)
        alone = observe_original(runner, first, options)
        seen = observe_rewritten(runner, second, options, alone)
        outputs = compare(first, seen, options.tolerances)
        departed: tuple[DepartureReport, ...] = ()
        if suspected(outputs):
            measure_rounding(runner, first, second, seen, options)
            outputs = compare(first, seen, options.tolerances)
            departed = find_departures(runner, first, second, seen, outputs, options)
            if departed:
                outputs = disbelieved(outputs)
        if proof is not None and not departed and not options.tolerances:
            outputs = with_proof(outputs, proof, strict=strict)
        if options.batch_invariant:
            found = batch_evidence(runner, second, seen.cases[0], options)
            named = [(f"same sample alone and in a batch, {level}", e) for level, e in found]
            outputs += judge_all(named, options.tolerances)
        power = estimate(outputs) if options.power else None
        if options.self_test:
            power = self_test(runner, second, seen, options) or power
    return conclude(seen, outputs=outputs, power=power, departures=departed, proof=proof)


def _prove(
    first: Signature,
    second: Signature,
    options: CheckOptions,
    progress: Progress,
    *,
    alone: bool = False,
) -> Proof:
    progress("proving")
    budget = Budget(*_BUDGETS[options.full])
    if alone:
        budget = Budget(options.timeout, clock=time.perf_counter)
    return prove_files(
        first,
        second,
        requested=RequestedSizes(options.input_shapes, options.symbolic_dims),
        budget=budget,
        alone=alone,
        ranges=options.value_ranges,
        progress=progress,
    )


def _proved(
    runner: Runner,
    child: Child,
    first: Signature,
    second: Signature,
    options: CheckOptions,
    data: Sequence[Feeds],
) -> tuple[Proof, Observations | None, tuple[OutputReport, ...] | None]:
    """Prove, while both models run once; return the outputs where that is all there is to do."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(deploy, runner, child, first, second, options, data)
        try:
            proof = _prove(first, second, options, runner.progress)
            runner.progress("running both models")
            seen = running.result()
        except BaseException:
            child.kill()  # nobody waits for it any more
            raise
    if not proof.is_whole or seen is None:
        return proof, None, None
    outputs = proved_outputs(first, seen, proof)
    if outputs is None:  # the original's own noise may account for it
        seen = deploy(runner, child, first, second, options, data, levels=LEVELS[::-1])
        outputs = None if seen is None else proved_outputs(first, seen, proof)
    return proof, seen, outputs


def _trains(path: Path) -> bool:
    """Whether a model is in training mode: it may well be equal to itself, and wrong."""
    try:
        model = load(path)
    except ModelError:  # what a check can run although nothing rewrites it
        return False
    if not any(node.op in {"BatchNormalization", "Dropout"} for node in gs_nodes(model)):
        return False
    from normswap.inspection.subject import Subject

    return bool(Subject(model).training)


def _mode_note(names: Sequence[str]) -> Iterator[str]:
    if names:
        verb, whose = ("are", "their") if names[1:] else ("is", "its")
        yield (
            f"{' and '.join(names)} {verb} in training mode: {whose} outputs depend on "
            "the other samples of the batch, or on chance; `normswap lint` names the "
            "nodes"
        )


@contextmanager
def file_of(source: Source) -> Iterator[Path]:
    """Give the path of a model; of one that is not in a file, that of a temporary one."""
    if isinstance(source, str | os.PathLike) and not Path(source).is_fifo():
        yield Path(source)
        return
    with load(source).original() as path:
        yield path


def check_outputs(
    model: Source, options: CheckOptions, *, progress: Progress = silent
) -> CheckReport:
    """Compare what a model gives with outputs that were saved earlier.

    Parameters
    ----------
    options : CheckOptions
        `data` and `load_outputs` are needed, unless the data comes with its outputs.

    Raises
    ------
    DataError
        There are no expected outputs, or not as many as inputs.
    """
    with file_of(model) as path:
        signature = replace(read_signature(path), called=name_of(model))
        return _check_outputs(signature, options, progress)


def _check_outputs(signature: Signature, options: CheckOptions, progress: Progress) -> CheckReport:
    began = time.perf_counter()
    _refuse_useless_limit(options)
    _refuse_unknown_outputs(signature, options)
    if options.data is None:
        raise UsageError(
            "Saved outputs can be compared only on the inputs that they were made from.",
            tip="Add --load-inputs.",
        )
    cases = load_cases(signature, options.data)
    expected = [case.expected for case in cases]
    if options.load_outputs is not None:
        expected = load_outputs(signature, options.load_outputs)
    given = sum(map(bool, expected))
    if given != len(cases):
        raise DataError(
            f"There are {len(cases)} sets of inputs, but {given} sets of outputs: each "
            "set of inputs needs its own."
        )
    seen = Observations(cases=cases)
    with scratch_folder("check") as folder:
        runner = Runner(folder, options, progress)
        executions = [Execution(level) for level in LEVELS]
        feeds = [case.feeds for case in cases]
        seen.original = runner.execute(signature, "original", executions, feeds)
    seen.runs.append(seen.original.report)
    seen.add_notes(provider_notes(seen.original.report))
    evidence = [
        (case.name, item)
        for index, case in enumerate(cases)
        for item in against_expected(
            expected[index], [execution[index] for execution in seen.original.values]
        )
    ]
    outputs = judge_all(evidence, options.tolerances)
    return _report(signature, signature, options, began, seen, outputs=outputs)


def _refuse_unknown_outputs(signature: Signature, options: CheckOptions) -> None:
    names = [port.name for port in signature.outputs]
    for name in options.tolerances:
        if name and name.split("[", 1)[0] not in names:
            raise UsageError(
                f"A tolerance is given for output {name!r}, but the model has no such output.",
                tip=did_you_mean(name, names) or f"Its outputs are {', '.join(names)}.",
            )


def _refuse_useless_limit(options: CheckOptions) -> None:
    """Refuse to limit the address space of a device: its driver reserves far more than it uses."""
    names = (options.provider, options.against_provider or CPU)
    if options.memory_limit is not None and any(full_name(name) != CPU for name in names):
        raise UsageError(
            "--memory-limit (memory_limit=) limits the address space, and device "
            "providers need more than that to start.",
            tip="To limit the memory of the device, use --gpu-mem-limit.",
        )


def _report(
    first: Signature,
    second: Signature,
    options: CheckOptions,
    began: float,
    seen: Observations,
    *,
    structure: tuple[str, ...] = (),
    outputs: tuple[OutputReport, ...] = (),
    power: Power | None = None,
    departures: tuple[DepartureReport, ...] = (),
    proof: Proof | None = None,
) -> CheckReport:
    verdict = overall([output.judgement for output in outputs])
    failing = {o.case for o in outputs if o.judgement.verdict is Verdict.DIFFERENT}
    reasons = (*structure, *reasons_of(outputs))
    if verdict is Verdict.DIFFERENT and proof is not None and not structure:
        told = "".join(reasons)
        places = (str(region) for region in proof.apart)
        reasons += tuple(f"not equal: {place}" for place in places if place not in told)
    seen.add_notes([remark for case in seen.cases for remark in case.remarks])
    seen.add_notes(cancellation.notes(outputs))
    if proof is not None and proof.stopped:
        seen.add_notes([f"the proof was stopped early: {proof.stopped}"])
    if first.home is None and any(o.judgement.reason == NOT_FINITE for o in outputs):
        seen.add_notes(constants_not_finite(load(first.path, name=first.name)))
    golden = seen.original.values[0] if seen.original is not None else ()
    return CheckReport(
        verdict=Verdict.DIFFERENT if structure else verdict,
        reasons=reasons or (() if outputs else (NOTHING,)),
        notes=tuple(seen.notes),
        original=first.title,
        rewritten=second.title,
        structure=structure,
        cases=tuple(CaseReport(c.name, c.distribution.value, c.shapes()) for c in seen.cases),
        outputs=outputs,
        runs=tuple(seen.runs),
        power=power,
        departures=departures,
        proof=proof,
        depth=str(getattr(options.depth, "value", options.depth)),
        provider=options.provider,
        against_provider=options.against_provider,
        seed=options.seed,
        seconds=time.perf_counter() - began,
        failing=tuple(c for c in seen.cases if {c.name, f"{c.name}, expected outputs"} & failing),
        inputs=tuple(seen.cases[: len(golden)] if golden else seen.cases),
        golden=golden,
    )
