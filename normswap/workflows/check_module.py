"""A file against the torch module that it was exported from, from beginning to end."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from normswap.check.compare import compare
from normswap.check.departure import suspected
from normswap.check.observations import Observations
from normswap.check.options import CheckOptions
from normswap.check.power import estimate
from normswap.check.report import CaseReport, CheckReport, SourceReport, reasons_of
from normswap.check.report import SourceFinding as Finding
from normswap.check.runner import LEVELS, Execution, Runner
from normswap.check.verdict import RULES, Verdict, overall
from normswap.errors import ModelError, RunError, RunTimeoutError, UsageError
from normswap.files.scratch import scratch_folder
from normswap.graph.batchnorm import is_batchnorm
from normswap.inputs.signature import read_signature
from normswap.inspection.subject import Subject
from normswap.model import load
from normswap.model.sources import name_of
from normswap.progress import Progress, silent
from normswap.proof.files import side_of
from normswap.proof.flat import NotFlatError
from normswap.runtime.failures import ProviderError
from normswap.source import causes
from normswap.source.binding import NotTakenError, bind
from normswap.source.factory import require_torch
from normswap.source.inputs import source_cases
from normswap.source.layers import compare_layers
from normswap.source.pairing import CALLED, ModuleAndFile
from normswap.source.weights import compare_weights
from normswap.workflows.check import NOTHING, file_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.check.report import OutputReport
    from normswap.inputs.random import Case
    from normswap.inputs.signature import Signature
    from normswap.model.sources import Source
    from normswap.source.layers import ModuleLayer
    from normswap.source.module import Module
    from normswap.source.weights import Weight

_PATIENCE = 60.0  # seconds for the layers

FOLDED = replace(RULES, function=2 * RULES.function)
"""Of files in which the exporter folded BatchNormalizations, in float32: what it rounds in the
factor of a channel is the same for all of its weights and adds up, where the floor is of weights
that are rounded one by one. Right files have been seen at 8.1 floors."""


def check_module(
    module: Any,
    model: Source,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    options: Literal["quick", "full"] | CheckOptions = "quick",
    *,
    title: str = "",
    progress: Progress = silent,
) -> CheckReport:
    """Decide whether a file is the torch module that it was exported from.

    The module, in float64 and in inference mode, is the truth. The file is evaluated in float64 and
    run in onnxruntime, as deployed, on the given arguments and on random ones, with other sizes too
    where its axes are dynamic. It may deviate by no more than rounding its weights explains; there
    is no tolerance to choose. If the file is a different function, the report names the mode,
    weight, layer or size that is the cause, if it can be found.

    Parameters
    ----------
    module : torch.nn.Module or torch.export.ExportedProgram
        It is copied, not changed.
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        The file.
    args : tensor, tuple or dict, optional
        Arguments of the module, as for ``torch.onnx.export``; a dict holds keyword arguments.
        Without any, they are made to suit the inputs of the file.
    kwargs : dict, optional
        Keyword arguments.
    options : {"quick", "full"} or CheckOptions
        As for :func:`normswap.check`. A module can't be proved.
    title : str
        What to call the module; its class by default.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    CheckReport
        Its ``source`` has the comparison of the module with the file.

    Raises
    ------
    UsageError
        It is not a module, or does not accept the arguments.
    ModelError
        The file is unreadable or invalid.
    RunError
        torch is not installed, or the file can't be run.

    Examples
    --------
    >>> import normswap
    >>> import torch  # doctest: +SKIP
    >>> net, x = torch.nn.Linear(3, 2).eval(), torch.ones(1, 3)  # doctest: +SKIP
    >>> program = torch.onnx.export(net, (x,), dynamo=True)  # doctest: +SKIP
    >>> normswap.check_module(net, program, x).verdict.value  # doctest: +SKIP
    'equivalent'
    """
    require_torch()
    from normswap.source.module import Module

    how = options if isinstance(options, CheckOptions) else CheckOptions(depth=options)
    _refuse(how)
    return check_source(Module(module, args, kwargs, title=title), model, how, progress)


def check_source(
    source: Module, model: Source, options: CheckOptions, progress: Progress = silent
) -> CheckReport:
    """Do what :func:`check_module` says, with a module that is a function of arrays already."""
    with file_of(model) as path:
        signature = replace(read_signature(path), called=name_of(model))
        return _Check(source, signature, options, progress).report()


def _refuse(options: CheckOptions) -> None:
    if options.proves_only:
        raise UsageError(
            "A module has no graph, so nothing can be proved about it.",
            tip="Use depth 'quick' or 'full'.",
        )
    for name in ("against_provider", "load_outputs", "self_test", "batch_invariant"):
        if getattr(options, name):
            raise UsageError(
                f"{name!r} can't be used with a module: it is for comparing two files."
            )


class _Check:
    """A check, as far as it has come."""

    def __init__(
        self, source: Module, signature: Signature, options: CheckOptions, progress: Progress
    ) -> None:
        self._source = source
        self._signature = signature
        self._options = options
        self._progress = progress
        self._began = time.perf_counter()
        self._findings: list[Finding] = []
        self._weights: tuple[Weight, ...] = ()
        self._layers = (0, 0)

    def report(self) -> CheckReport:
        """Do it all."""
        seen, pair = Observations(), self._bound()
        outputs: tuple[OutputReport, ...] = ()
        if pair is not None:
            cases, others = source_cases(
                self._signature, self._options, pair.binding.example(self._signature)
            )
            cases = self._taken(pair, cases)
            if cases:
                self._findings += causes.of_outputs(self._signature, pair.made(cases[0]))
            if not self._findings:
                seen, outputs = self._observed(pair, cases, others)
        verdict = overall([output.judgement for output in outputs])
        if self._findings:
            verdict = Verdict.DIFFERENT
        shows = {o.case for o in outputs if o.judgement.verdict is not Verdict.EQUIVALENT}
        telling = [case for case in seen.cases if case.name in shows] or seen.cases
        self._name_causes(pair, seen, _smallest(telling), same=verdict is Verdict.EQUIVALENT)
        return self._concluded(seen, outputs, verdict)

    def _bound(self) -> ModuleAndFile | None:
        """Return the module and its file, with their arguments put to inputs."""
        binding, wrong = bind(self._signature, self._source.arguments)
        self._findings += [Finding("interface", name, what) for name, what in wrong.items()]
        if binding is None:
            return None
        self._progress("running the module in float64")
        given = [a.example for a in binding.arguments if a.example is not None]
        if len(given) == len(binding.arguments):
            try:
                self._source.outputs(given)
            except NotTakenError as error:
                raise UsageError(
                    f"{self._source.title} does not accept the arguments that its factory "
                    f"returned: {error}"
                ) from error
        return (
            None if wrong else ModuleAndFile(self._source, self._signature, binding, self._options)
        )

    def _taken(self, pair: ModuleAndFile, cases: Sequence[Case]) -> list[Case]:
        """Return the inputs, if the module takes them as the file says."""
        try:
            for case in cases:
                pair.made(case)
        except NotTakenError as error:
            what = f"the module does not accept the inputs of the file ({case.name}): {error}"
            self._findings.append(Finding("interface", "", what))
            return []
        return list(cases)

    def _observed(
        self, pair: ModuleAndFile, cases: Sequence[Case], others: Sequence[Case]
    ) -> tuple[Observations, tuple[OutputReport, ...]]:
        with scratch_folder("check") as folder:
            runner = Runner(folder, self._options, self._progress, called=CALLED)
            accepted = self._accepted(runner, pair, cases[0], others)
            seen = pair.observe(runner, [*cases, *accepted])
            outputs = self._judged(seen)
            if suspected(outputs):
                pair.measure_rounding(runner, seen)
                outputs = self._judged(seen)
        return seen, outputs

    def _judged(self, seen: Observations) -> tuple[OutputReport, ...]:
        outputs = compare(self._signature, seen, self._options.tolerances)
        if overall([o.judgement for o in outputs]) is Verdict.DIFFERENT and self._is_folded:
            return compare(self._signature, seen, self._options.tolerances, FOLDED)
        return outputs

    @cached_property
    def _is_folded(self) -> bool:
        """Whether the file has fewer BatchNormalizations than the module."""
        own = sum(name.endswith("running_var") for name, _ in self._source.weights())
        return own > self._nodes[1]

    @cached_property
    def _nodes(self) -> tuple[list[str], float]:
        """The file's nodes that train, and how many BatchNormalizations it has.

        None and any number, where it can't be made a graph.
        """
        try:
            subject = Subject(load(self._signature.path))
            training = [f"{node.op} {node.title}" for node in subject.training]
            return training, sum(map(is_batchnorm, subject.network.nodes()))
        except ModelError:
            return [], math.inf

    def _accepted(
        self, runner: Runner, pair: ModuleAndFile, usual: Case, others: Sequence[Case]
    ) -> list[Case]:
        """Return the other sizes that both take; note the first that only the module does."""
        # An axis may be open and yet not take every size.
        taken = [case for case in others if pair.takes(case)]
        if not taken or self._refusal(runner, [usual, *taken]) is None:
            return taken
        if self._refusal(runner, [usual]) is not None:
            return []  # that is none of sizes, and told when it is run
        for at, case in enumerate(taken):
            refusal = self._refusal(runner, [case])
            if refusal is not None:
                what = (
                    f"the file leaves {_changed(usual, case)}, but fails with the new size: "
                    f"{refusal}"
                )
                self._findings.append(Finding("sizes", "", what))
                return taken[:at]
        return taken

    def _refusal(self, runner: Runner, cases: Sequence[Case]) -> RunError | None:
        """Return what the runtime says where it does not take some inputs."""
        feeds = [case.feeds for case in cases]
        try:
            runner.execute(self._signature, "original", [Execution(LEVELS[1])], feeds)
        except (RunTimeoutError, ProviderError):
            raise
        except RunError as error:
            return error
        return None

    def _name_causes(
        self, pair: ModuleAndFile | None, seen: Observations, case: Case | None, *, same: bool
    ) -> None:
        """Find out why the file is another function on some inputs, or the same by luck only."""
        training: tuple[str, ...] = ()
        if pair is not None and case is not None:
            training = self._source.training(pair.binding.arrays(case.feeds))
        found = list(causes.of_mode(training, self._nodes[0], same=same))
        self._progress("looking for the module's weights and layers")
        shapes = {} if case is None else case.shapes()
        try:
            side = side_of(self._signature, shapes)
        except (NotFlatError, ModelError):
            side = None  # what can be run may be beyond this
        if side is not None:
            weights = list(self._source.weights())
            self._weights = tuple(compare_weights(weights, side))
            found += causes.of_weights(self._weights, same=same) if weights else ()
        if not same and pair is not None and case is not None:
            found += causes.of_order(self._signature, seen, pair.made)
            layers: list[ModuleLayer] = []
            try:
                self._source.outputs(pair.binding.arrays(case.feeds), watch=layers.append)
            except NotTakenError:
                layers = []
            if side is not None and layers:
                compared = compare_layers(layers, side, case.feeds, patience=_PATIENCE)
                self._layers = compared.layers, compared.right
                if compared.first is not None:
                    found.append(causes.of_layer(compared.first, self._weights))
        self._findings[:0] = found

    def _concluded(
        self, seen: Observations, outputs: tuple[OutputReport, ...], verdict: Verdict
    ) -> CheckReport:
        if self._findings:
            verdict = Verdict.DIFFERENT
        failing = {o.case for o in outputs if o.judgement.verdict is Verdict.DIFFERENT}
        messages = tuple(finding.message for finding in self._findings)
        same = sum(weight.kind == "same" for weight in self._weights)
        return CheckReport(
            verdict=verdict,
            reasons=(*messages, *reasons_of(outputs)) or (() if outputs else (NOTHING,)),
            notes=tuple(seen.notes),
            original=self._source.title,
            rewritten=self._signature.title,
            cases=tuple(CaseReport(c.name, c.distribution.value, c.shapes()) for c in seen.cases),
            outputs=outputs,
            runs=tuple(seen.runs),
            power=estimate(outputs) if self._options.power and outputs else None,
            source=SourceReport(
                module=self._source.title,
                findings=tuple(self._findings),
                weights=len(self._weights),
                weights_same=same,
                layers=self._layers[0],
                layers_right=self._layers[1],
            ),
            depth=str(getattr(self._options.depth, "value", self._options.depth)),
            provider=self._options.provider,
            seed=self._options.seed,
            seconds=time.perf_counter() - self._began,
            failing=tuple(case for case in seen.cases if case.name in failing),
            inputs=tuple(seen.cases),
        )


def _smallest(cases: Sequence[Case]) -> Case | None:
    """Return the first of some inputs with the fewest elements."""
    return min(cases, key=lambda c: sum(map(math.prod, c.shapes().values())), default=None)


def _changed(usual: Case, other: Case) -> str:
    """Say which axis has another size."""
    before, after = usual.shapes(), other.shapes()
    return next(
        (
            f"axis {axis} of input {name!r} open (size {old} changed to {new})"
            for name, shape in after.items()
            for axis, (old, new) in enumerate(zip(before[name], shape, strict=True))
            if old != new
        ),
        "sizes open",
    )
