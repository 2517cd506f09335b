"""What a check found, as data: everything a renderer needs, and everything to judge it again."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from normswap.check.evidence import Evidence  # noqa: TC001 - msgspec reads the annotations
from normswap.check.verdict import Judgement, Verdict, judge, overall
from normswap.errors import DataError, ExitCode
from normswap.inputs.archives import save_sets
from normswap.inputs.random import Case  # noqa: TC001 - the same
from normswap.plain import AsDict, told
from normswap.proof.result import Proof  # noqa: TC001 - the same
from normswap.runtime.arrays import Feeds  # noqa: TC001 - the same
from normswap.spelling import no_such_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from normswap.check.options import Tolerance


@dataclass(frozen=True, slots=True)
class RunReport:
    """One model in one child process.

    Attributes
    ----------
    model : str
        ``original`` or ``rewritten``; ``module`` or ``exported`` of a file and its module.
    engine : str
        ``onnxruntime``, ``arbiter`` or ``torch``.
    provider : str
        The execution provider asked for; empty for the arbiter.
    providers : tuple of str
        The providers really in use, as the runtime tells.
    fallback : tuple of str or None
        Nodes that the runtime gave to the CPU in spite of the provider asked for; None where
        this runtime does not tell.
    imprecise : tuple of str
        Of the arbiter: operators that it evaluated in less than float64.
    load_seconds, run_seconds, wall_seconds : float
        Loading and running as the child measured, all levels and inputs together; and the whole
        life of the child.
    peak_memory : int or None
        Bytes.
    version : str
        Of the engine.
    options : dict of str to str
        Of the execution provider, those in effect.
    device : str
        What the provider ran on, its number first; empty where that is the CPU, or not known.
    arithmetic : str
        How that device computes: with TF32 or without, by which choice of algorithms.
    remarks : tuple of str
        What the process found out about providers and packages, one sentence each.
    """

    model: str
    engine: str
    provider: str
    providers: tuple[str, ...]
    fallback: tuple[str, ...] | None
    imprecise: tuple[str, ...]
    load_seconds: float
    run_seconds: float
    wall_seconds: float
    peak_memory: int | None
    version: str
    options: dict[str, str] = field(default_factory=dict)
    device: str = ""
    arithmetic: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputReport:
    """One output on one set of inputs: the evidence and the judgement on it."""

    case: str
    evidence: Evidence
    judgement: Judgement

    @property
    def name(self) -> str:
        """Name of the output."""
        return self.evidence.output


@dataclass(frozen=True, slots=True)
class CaseReport:
    """One set of inputs."""

    name: str
    distribution: str
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Power:
    """What this very check would have caught.

    Attributes
    ----------
    method : str
        ``estimate`` (from the evidence at hand) or ``planted`` (`--self-test`).
    smallest_scale_error : float or None
        Of the outputs' scale: the smallest error that every output's tolerance rejects.
    planted, caught, silent : int
        Faults planted, those caught, and those that change no output by more than float64's own
        rounding on these inputs, which no comparison could catch.
    missed : tuple of str
        The faults that changed an output and were not caught.
    """

    method: str
    smallest_scale_error: float | None = None
    planted: int = 0
    caught: int = 0
    silent: int = 0
    missed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DepartureReport:
    """A model on which the runtime is further from float64 than rounding explains.

    Attributes
    ----------
    model, role : str
        What to call it; ``original`` or ``rewritten``.
    output, case : str
        Where it departs most.
    level : str
        ``disabled`` or ``default``, the runtime's optimization level; ``both``.
    error, explained : float
        The maximum, and how much of it rounding explains; of an output of integers, elements.
    searched : bool
        Whether its nodes were gone through for the first that departs.
    operator, node, tensor : str
        That node; empty where none was found.
    node_error : float
        The maximum error of `tensor`, on the inputs that the node has in the runtime.
    alone : dict of str to bool
        By level: whether the node is right when it is run alone on the same inputs.
    """

    model: str
    role: str
    output: str
    case: str
    level: str
    error: float
    explained: float
    searched: bool = False
    operator: str = ""
    node: str = ""
    tensor: str = ""
    node_error: float = 0.0
    alone: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceFinding:
    """Why a file is not the module that it was exported from.

    Attributes
    ----------
    code : str
        ``mode`` (one of the two is in training mode), ``weight``, ``layer``, ``outputs`` (which
        are in another order), ``sizes`` (that the file should take) or ``interface``.
    place : str
        The layer, weight, output or node; empty where it is about the whole model.
    message : str
    """

    code: str
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What a module says to the file that was exported from it.

    Attributes
    ----------
    module : str
        What to call it.
    findings : tuple of SourceFinding
    weights, weights_same : int
        Of the module's, those found in the file, and those of them that are the same to their bits.
    layers, layers_right : int
        Its submodules, and those whose values are in the file; 0 where that was not looked at,
        since the outputs are the same.
    """

    module: str
    findings: tuple[SourceFinding, ...] = ()
    weights: int = 0
    weights_same: int = 0
    layers: int = 0
    layers_right: int = 0


@dataclass(frozen=True, slots=True)
class CheckReport(AsDict):
    """The result of a check.

    Attributes
    ----------
    verdict : Verdict
    reasons : tuple of str
        Why it is not EQUIVALENT: one sentence each, the most serious first.
    notes : tuple of str
        Anything else worth knowing.
    original, rewritten : str
        Paths.
    structure : tuple of str
        Differences that show without running the models (`structural_differences`).
    cases : tuple of CaseReport
    outputs : tuple of OutputReport
        One for every output (every element of a sequence) on every set of inputs.
    runs : tuple of RunReport
    power : Power or None
    departures : tuple of DepartureReport
        Where the runtime departs from float64, which is then not relied on.
    proof : Proof or None
        What was proved, region by region.
    source : SourceReport or None
        If the original is not a file, but the torch module that the other one was exported from.
    required : {"", "proved"}
        ``"proved"`` if equivalence has to be proved for exit code 0.
    depth, provider, against_provider : str
    seed : int
    seconds : float
        Of the whole check.
    failing, inputs : tuple of Case
        The inputs on which the models differ, and all of them, as arrays; not part of the JSON.
    golden : tuple of dict
        Outputs of the original without the runtime's optimizations, for each of `inputs`.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    original: str
    rewritten: str
    structure: tuple[str, ...] = ()
    cases: tuple[CaseReport, ...] = ()
    outputs: tuple[OutputReport, ...] = ()
    runs: tuple[RunReport, ...] = ()
    power: Power | None = None
    departures: tuple[DepartureReport, ...] = ()
    proof: Proof | None = None
    source: SourceReport | None = None
    required: Literal["", "proved"] = ""
    depth: str = "quick"
    provider: str = "cpu"
    against_provider: str | None = None
    seed: int = 0
    seconds: float = 0.0
    failing: tuple[Case, ...] = field(default=(), compare=False, repr=False)
    inputs: tuple[Case, ...] = field(default=(), compare=False, repr=False)
    golden: tuple[Feeds, ...] = field(default=(), compare=False, repr=False)

    SCHEMA: ClassVar[str] = "normswap/check/1"
    TOLD = ("exit_code", "is_proved")

    @property
    def is_proved(self) -> bool:
        """Whether the models are equivalent, and all of that is proved."""
        proof = self.proof
        return self.verdict is Verdict.EQUIVALENT and proof is not None and proof.is_whole

    @property
    def is_by_proof_alone(self) -> bool:
        """Whether neither model was run."""
        return self.proof is not None and not self.outputs

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did nothing but this check ends."""
        return ExitCode.FINDINGS if self.shortfall else self.verdict.exit_code

    @property
    def shortfall(self) -> str:
        """What is missing of what was required, in a sentence; empty where nothing is."""
        if self.verdict is not Verdict.EQUIVALENT or self.required != "proved" or self.is_proved:
            return ""
        if self.proof is None:
            return "a proof was required, but none was attempted"
        open_ = [f"{o.name} ({o.reason})" for o in self.proof.outputs if o.reason]
        why = self.proof.reason or "; ".join(open_)
        return f"a proof was required, but the models were only tested: {why}"

    @property
    def worst(self) -> OutputReport | None:
        """The output that decides: the first of the gravest judgement, else the largest error."""
        order = (Verdict.DIFFERENT, Verdict.INCONCLUSIVE)
        for verdict in order:
            for output in self.outputs:
                if output.judgement.verdict is verdict:
                    return output
        return max(self.outputs, key=lambda output: relative_error(output.evidence), default=None)

    @property
    def basis(self) -> str:
        """What the verdict rests on: of each output its most telling basis, of those the least.

        The arbiter is none where the runtime departs from it.
        """
        order = ("structure", "noise floor", "tolerance", "values", "arbiter", "proof", "shape")
        best: dict[str, int] = {}
        for output in self.outputs:
            rank = order.index(output.judgement.basis)
            best[output.name] = max(rank, best.get(output.name, 0))
        least = min(best.values(), default=0)
        return order[min(least, order.index("noise floor")) if self.departures else least]

    def save_failing_inputs(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Save the exact inputs on which the models differ; returns the files written.

        With one failing set of inputs `path` is the file, with several it is numbered
        (``failing.npz``, ``failing.1.npz``). Load them with ``--load-inputs``. Tensors of types
        that NumPy does not know are saved as the unsigned integers of their bits. Sequences are
        saved element by element.
        """
        return save_sets(path, [case.feeds for case in self.failing])

    def save_inputs(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Save all inputs of the check, as `save_failing_inputs` does."""
        return save_sets(path, [case.feeds for case in self.inputs])

    def save_outputs(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Save what the original gave for these inputs: golden files, for ``--load-outputs``."""
        return save_sets(path, self.golden)

    def rejudged(self, tolerances: Mapping[str, Tolerance]) -> CheckReport:
        """Return the report that other tolerances would have led to, from the same evidence.

        What does not rest on any stays as it is.
        """
        if self.is_by_proof_alone or self.structure:
            return self
        outputs = tuple(
            dataclasses.replace(output, judgement=judge(output.evidence, tolerances))
            for output in self.outputs
        )
        verdict = overall([output.judgement for output in outputs])
        reasons = reasons_of(outputs)
        return dataclasses.replace(self, outputs=outputs, verdict=verdict, reasons=reasons)


def relative_error(evidence: Evidence) -> float:
    """Return the largest error of an output, relative to the largest value of the original's."""
    metrics = evidence.verdict_level
    if metrics is None or metrics.reference_max == 0:
        return 0.0
    return metrics.max_abs / metrics.reference_max


def reasons_of(outputs: tuple[OutputReport, ...]) -> tuple[str, ...]:
    """Return what speaks against equivalence, a sentence for each output, the gravest first."""
    found: dict[str, str] = {}
    for verdict in (Verdict.DIFFERENT, Verdict.INCONCLUSIVE):
        for output in outputs:
            if output.judgement.verdict is verdict:
                sentence = f"output {output.name!r}: {output.judgement.reason} ({output.case})"
                found.setdefault(output.name, sentence)
    return tuple(found.values())


def from_dict(data: Mapping[str, Any]) -> CheckReport:
    """Return the report that `CheckReport.to_dict` turned into `data`, without its arrays.

    Raises
    ------
    DataError
        `data` is no report of this schema.
    """
    import msgspec

    schema = data.get("schema")
    if schema != CheckReport.SCHEMA:
        raise DataError(f"The report has schema {schema!r}, and {CheckReport.SCHEMA!r} is needed.")
    own = {name: data[name] for name in told(CheckReport) if name in data}
    try:
        # Not strict, since JSON has NaN and infinities as strings only.
        return msgspec.convert(own, CheckReport, strict=False)
    except msgspec.ValidationError as error:
        raise DataError(f"This is not a check report: {error}.") from error


def load_report(path: Path) -> CheckReport:
    """Read a report that was saved as JSON.

    Raises
    ------
    DataError
        The file cannot be read, or is no report.
    """
    if not path.is_file():
        told = f"{path} is not a check report: there is no such file."
        raise DataError(told, tip=no_such_file(path))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a check report: {error}.") from error
    if not isinstance(data, dict):
        raise DataError(f"{path} is not a check report: it is not a JSON object.")
    return from_dict(data)
