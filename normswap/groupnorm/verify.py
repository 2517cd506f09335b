"""The check of a swap: every node, and the whole network, against float64.

Two promises are kept apart. That the swapped network *is* the group-normalization network is
checked, against float64 NumPy that shares nothing with the forms. How far that network has
*drifted* from the original is measured, and is no error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import ml_dtypes
import numpy as np

from normswap.check import elements
from normswap.check.cancellation import is_rounding, order_of
from normswap.check.verdict import Verdict
from normswap.dtypes import is_floating
from normswap.errors import RunError, RunTimeoutError
from normswap.groupnorm.drift import DriftReport, measure_drift, samples_of
from normswap.groupnorm.feeds import make_cases
from normswap.groupnorm.hybrid import run_hybrid, taps, values
from normswap.groupnorm.isolation import check_isolated
from normswap.groupnorm.layercheck import LayerCheck, check_layer
from normswap.groupnorm.rounding import SLACK
from normswap.inputs.archives import save_sets
from normswap.inputs.dims import RequestedSizes, batch_is_free
from normswap.inputs.signature import read_signature
from normswap.plain import AsDict, called
from normswap.runtime.failures import ProviderError
from normswap.runtime.randomness import seed_notes
from normswap.runtime.session import Session

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from normswap.check.options import CheckOptions
    from normswap.errors import ExitCode
    from normswap.groupnorm.layer import Layer
    from normswap.groupnorm.plan import SwapPlan
    from normswap.inputs.random import Case
    from normswap.inputs.signature import Signature
    from normswap.progress import Progress


CHUNK = 32  # layers whose tensors are fetched at once
ROUNDINGS = {False: 1, True: 4}  # how often rounding is drawn, at depth QUICK and at FULL


Check = TypeVar("Check", "LayerCheck", "OutputCheck")


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """One output of the network.

    Attributes
    ----------
    output : str
    max_error : float
        Largest distance from the network whose normalizations are computed in float64.
    allowed : float
        What rounding may do, from the effect that one rounding in each layer has.
    """

    output: str
    max_error: float
    allowed: float

    TOLD = ("right",)

    @property
    def right(self) -> bool:
        """Whether the output is within what rounding may do."""
        return self.max_error <= self.allowed

    @property
    def ratio(self) -> float:
        """The error in units of what rounding may do."""
        if self.allowed in {0.0, math.inf}:
            return 0.0 if self.right else math.inf
        return self.max_error / self.allowed


@dataclass(frozen=True, slots=True)
class SwapCheck(AsDict):
    """What was found.

    Attributes
    ----------
    layers : tuple of LayerCheck
    outputs : tuple of OutputCheck
    invariance : tuple of OutputCheck
        How far the outputs of a sample depend on the other samples of its batch.
    drift : DriftReport
    notes : tuple of str
        What could not be checked, and why.
    cases : tuple of str
        The sets of inputs that it was found on.
    failing_cases : tuple of Case
        Those on which a layer or an output is not what it should be.
    """

    layers: tuple[LayerCheck, ...]
    outputs: tuple[OutputCheck, ...]
    invariance: tuple[OutputCheck, ...] = field(metadata=called("batch_invariance"))
    drift: DriftReport
    notes: tuple[str, ...] = field(default=())
    cases: tuple[str, ...] = ()
    failing_cases: tuple[Case, ...] = field(default=(), compare=False, repr=False)

    TOLD = ("verdict", "failing")

    @property
    def verdict(self) -> Verdict:
        """Whether every node and the network are the group normalization that they should be."""
        checks = (*self.outputs, *self.invariance)
        if any(not c.ratio <= 1 for c in self.layers) or any(not c.right for c in checks):
            return Verdict.DIFFERENT
        return Verdict.EQUIVALENT if self.layers or self.outputs else Verdict.INCONCLUSIVE

    @property
    def finding(self) -> str:
        """What the verdict means for a swap, in words."""
        return {
            Verdict.EQUIVALENT: "group normalization",
            Verdict.DIFFERENT: "not group normalization",
            Verdict.INCONCLUSIVE: "inconclusive",
        }[self.verdict]

    @property
    def failing(self) -> tuple[str, ...]:
        """Names of the inputs on which it failed."""
        return tuple(case.name for case in self.failing_cases)

    @property
    def exit_code(self) -> ExitCode:
        """How a command that found this ends."""
        return self.verdict.exit_code

    def save_failing_inputs(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Save the exact inputs on which the check failed; return the files.

        Several sets are numbered, see :mod:`normswap.inputs.archives`. A layer in a subgraph or a
        function is run by itself, so there are no inputs of the network on which it failed.
        """
        return save_sets(path, [case.feeds for case in self.failing_cases])


def verify_swap(
    original: Path,
    swapped: Path,
    plan: SwapPlan,
    options: CheckOptions,
    *,
    batches: Iterable[Mapping[str, Any]] | None = None,
    progress: Progress,
) -> SwapCheck:
    """Check a swapped model.

    Parameters
    ----------
    original, swapped : Path
    plan : SwapPlan
        By which `swapped` was made from `original`.
    options : CheckOptions
    batches : iterable of feeds, optional
        Data for the check and the drift; random inputs if left out.
    progress : callable

    Raises
    ------
    RunError
        A model can't be run.
    """
    signature = read_signature(original)
    layers = plan.visible_layers
    notes: list[str] = seed_notes(signature.random)
    known = taps(layers)
    names = [port.name for port in signature.outputs]
    floats = [
        port.name
        for port in signature.outputs
        if port.kind == "tensor" and port.dtype.startswith(("float", "bfloat"))
    ]

    def open_model(path: Path, label: str, **how: Any) -> Session:
        return Session(
            path,
            label=label,
            provider=options.provider,
            provider_options=options.provider_options,
            timeout=options.timeout,
            alike=True,
            **how,
        )

    with open_model(original, "the original model", taps=known["y"]) as before:
        refusal: RunError | None = None
        try:
            cases = make_cases(before, signature, options, batches, progress, notes)
        except (RunTimeoutError, ProviderError):
            raise
        except RunError as error:
            refusal = error
            with open_model(swapped, "the swapped model") as session:
                cases = _taken(session, signature, options, batches, progress, notes, refusal)
            notes.append(f"the drift from the original can't be told: {refusal}")
        progress("checking every swapped node")
        sizes: dict[str, int] = {}
        with open_model(
            swapped,
            "the swapped model",
            taps={**known["x"], **known["y"], **known["parameters"]},
            level="disabled",
        ) as plain:
            nodes = [_check_layers(plain, layers, case.feeds, sizes) for case in cases]
            outputs = [_tensors(plain.run(case.feeds)) for case in cases]
        rng = np.random.default_rng(options.seed)
        isolated = check_isolated(swapped, plan, open_model, rng)
        progress("checking the whole network")
        network: list[list[OutputCheck]] = []
        invariance: list[list[OutputCheck]] = []
        with open_model(swapped, "the swapped model", taps=known["y"]) as after:
            for case, unoptimized in zip(cases, outputs, strict=True):
                wanted = run_hybrid(
                    original,
                    plan,
                    case.feeds,
                    names,
                    open_model,
                    np.random.default_rng(options.seed),
                    roundings=ROUNDINGS[options.full],
                )
                truth = _tensors(wanted.truth)
                rounded = [_tensors(run) for run in wanted.rounded]
                noise = {
                    name: max(_distance(run.get(name), array) for run in rounded)
                    for name, array in truth.items()
                    if is_floating(array.dtype)
                }
                deployed = _tensors(after.run(case.feeds))
                runs = (unoptimized, deployed)
                network.append(
                    [
                        _judged(
                            name,
                            max(_distance(run.get(name), truth[name]) for run in runs),
                            noise[name],
                            truth[name],
                        )
                        for name in noise
                    ]
                )
                notes += _agreements(truth, deployed, case)
                notes += _cancelled(truth, network[-1], noise)
                many = len(cases) == 1 or samples_of(case.feeds) > 1
                invariance.append(
                    _invariance(after, case.feeds, deployed, signature, options, noise, notes)
                    if many
                    else []
                )
            drift = DriftReport()
            if refusal is None:
                drift = measure_drift(
                    before,
                    after,
                    batches if batches is not None else [case.feeds for case in cases],
                    floats,
                    [layer.y for layer in layers],
                    progress,
                    sizes=sizes,
                    own=batches is not None,
                )
            notes += dict.fromkeys((*before.notes, *after.notes, *drift.notes))
    failing = [
        case
        for case, layer_checks, *output_checks in zip(
            cases, nodes, network, invariance, strict=True
        )
        if any(not check.ratio <= 1 for check in layer_checks)
        or any(not check.right for checks in output_checks for check in checks)
    ]
    return SwapCheck(
        (*_worst(nodes, "layer"), *isolated),
        _worst(network, "output"),
        _worst(invariance, "output"),
        drift,
        tuple(dict.fromkeys(notes)),
        tuple(case.name for case in cases),
        tuple(failing),
    )


def _taken(
    session: Session,
    signature: Signature,
    options: CheckOptions,
    batches: Iterable[Mapping[str, Any]] | None,
    progress: Progress,
    notes: list[str],
    refusal: RunError,
) -> list[Case]:
    """Return the inputs that a swapped model takes whose original the runtime refuses.

    Raises
    ------
    RunError
        The refusal, where it refuses both.
    """
    try:
        return make_cases(session, signature, options, batches, progress, notes)
    except (RunTimeoutError, ProviderError):
        raise
    except RunError:
        raise refusal from None


def _worst(found: Sequence[Sequence[Check]], name: str) -> tuple[Check, ...]:
    """Return of the checks of each layer or output, set by set of inputs, the worst."""
    worst: dict[str, Check] = {}
    for check in (check for checks in found for check in checks):
        key = getattr(check, name)
        if key not in worst or not check.ratio <= worst[key].ratio:  # also where it is NaN
            worst[key] = check
    return tuple(worst.values())


def _tensors(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return all tensors among some outputs, by name."""
    return {
        leaf: array
        for name, value in outputs.items()
        for leaf, array in elements.tensors(name, value)
    }


def _agreements(
    truth: Mapping[str, np.ndarray], deployed: Mapping[str, np.ndarray], case: Case
) -> list[str]:
    """Return how many values of outputs of other types are right, one sentence each.

    There is no verdict on them: what rounding does to a class, a flag or a text can't be said.
    """
    notes = []
    for name, array in truth.items():
        if is_floating(array.dtype):
            continue
        given = deployed.get(name)
        what = f"output {name!r} is of type {array.dtype.name} and not judged"
        if given is None or given.shape != array.shape:
            notes.append(
                f"{what}; it is of another shape than in the network with exact "
                f"normalizations ({case.name})"
            )
            continue
        same = int(np.count_nonzero(given == array))
        notes.append(
            f"{what}; {same} of {array.size} values are those of the network with exact "
            f"normalizations ({case.name})"
        )
    return notes


def _check_layers(
    session: Session, layers: Sequence[Layer], feeds: Mapping[str, Any], sizes: dict[str, int]
) -> list[LayerCheck]:
    """Check every layer, and note how large its result is for one sample."""
    checks = []
    for start in range(0, len(layers), CHUNK):
        chunk = layers[start : start + CHUNK]
        names = {name for kind in taps(chunk).values() for name in kind}
        tensors = session.run(feeds, sorted(names))
        for layer in chunk:
            x, y = tensors[layer.x], tensors[layer.y]
            scale, bias = values(layer.scale, tensors), values(layer.bias, tensors)
            checks.append(check_layer(layer, x, y, scale, bias))
            sizes[layer.y] = y.nbytes // samples_of(feeds)
    return checks


def _cancelled(
    truth: Mapping[str, np.ndarray], checks: Sequence[OutputCheck], noise: Mapping[str, float]
) -> list[str]:
    """Return a sentence on every output that is nothing but rounding."""
    notes = []
    for name, error in ((check.output, check.max_error) for check in checks if check.right):
        rounding = max(noise[name], error)
        finite = np.abs(truth[name].astype(np.float64))
        if is_rounding(float(finite.max(initial=0.0)), rounding):
            order = order_of(rounding, float(ml_dtypes.finfo(truth[name].dtype).eps))
            notes.append(
                f"output {name!r} is rounding around zero: its terms are of the order of {order} "
                "and cancel; its drift means nothing"
            )
    return notes


def _distance(one: np.ndarray | None, other: np.ndarray) -> float:
    """Return the largest difference; infinite where only one is finite, or the shapes differ."""
    if one is None or one.shape != other.shape:
        return math.inf
    a, b = one.astype(np.float64), other.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return math.inf
    finite = np.isfinite(a)
    return float(np.abs(a - b)[finite].max()) if finite.any() else 0.0


def _judged(name: str, distance: float, noise: float, truth: np.ndarray) -> OutputCheck:
    """Return a distance beside what rounding may do to this output."""
    wide = truth.astype(np.float64)
    largest = float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0))
    unit = float(ml_dtypes.finfo(truth.dtype).eps)
    return OutputCheck(name, distance, SLACK * (noise + unit * largest))


def _invariance(
    session: Session,
    feeds: Mapping[str, Any],
    outputs: Mapping[str, np.ndarray],
    signature: Signature,
    options: CheckOptions,
    noise: Mapping[str, float],
    notes: list[str],
) -> list[OutputCheck]:
    """Run the first sample without its batch, or with another batch where the size is fixed."""
    arrays = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray)}
    size = max((len(a) for a in arrays.values() if a.ndim), default=0)
    if size < 2:
        notes.append("batch invariance can't be tested with one sample in a batch")
        return []
    if batch_is_free(signature, RequestedSizes(options.input_shapes, {})):
        alone = {
            n: v[:1] if getattr(v, "ndim", 0) and len(v) == size else v for n, v in feeds.items()
        }
    else:
        alone = {
            n: _others(v) if getattr(v, "ndim", 0) and len(v) == size else v
            for n, v in feeds.items()
        }
    try:
        again = _tensors(session.run(alone))
    except RunError as error:
        notes.append(f"batch invariance can't be tested: {error}")
        return []
    return [
        _judged(name, _distance(again[name][:1], whole[:1]), noise[name], whole)
        for name, whole in outputs.items()
        if name in noise and name in again and whole.ndim and len(whole) == size
    ]


def _others(value: np.ndarray) -> np.ndarray:
    """Return a batch with the same first sample and others after it."""
    other = value[::-1].copy() if value.dtype.kind not in "fV" else value * value.dtype.type(2)
    other[0] = value[0]
    return other
