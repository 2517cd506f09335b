"""The child's side of the arbiter."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from normswap.dtypes import is_floating
from normswap.proof.arbiter.evaluator import SETTINGS, EvaluationError, Float64Evaluator, Settings
from normswap.proof.coverage import Coverage, Unseen
from normswap.proof.faults import Fault
from normswap.runtime.arrays import Feeds, Value, dtype_of
from normswap.runtime.failures import WorkerError
from normswap.runtime.randomness import pinned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.runtime.worker import Channel

_LACKING = re.compile(r"No registered implementation for operator '(\w+)' and domain '([\w.]*)'")


def evaluate(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Evaluate one model in float64.

    The request holds ``model``, ``home`` (the folder of its external data), ``feeds`` (inputs, one
    set a case), ``samples`` (how many times the weights are perturbed, beside the plain
    evaluation), ``rounding`` (the name of the type that results are perturbed in as well, empty for
    none), ``faults`` (each planted
    in one more evaluation), ``seeds`` (`normswap.runtime.randomness`) and ``drive``: None, or
    ``feeds`` that may reach sides of kinks that the others don't, whether ``channels`` count, and
    what is ``hopeless``. Those that reach something new are evaluated as the others are; the
    response says which, and what was ``unseen`` to the end. Its ``results`` are numbers of what
    was sent.
    """
    job.stage("reading it for evaluation in float64")
    began = time.perf_counter()
    model = pinned(request["model"], request["seeds"])
    settings = Settings(folder=request["home"])
    if request["rounding"]:
        settings.rounding = dtype_of(request["rounding"])
    SETTINGS.set(settings)
    evaluator = evaluator_of(model)
    loaded = time.perf_counter()
    job.stage("evaluating it in float64")
    results = []
    seconds = []
    unseen: list[Unseen] = []
    variants: list[tuple[int, Fault | None]] = [(k, None) for k in range(request["samples"] + 1)]
    variants += [(0, Fault(**fault)) for fault in request["faults"]]
    everything = list(request["feeds"])
    driven = _Drive(request["drive"])
    settings.coverage = Coverage.of(model) if request["drive"] is not None else None
    for settings.sample, settings.fault in variants:
        row = []
        for feeds in everything:
            inputs = {k: as_float64(v) for k, v in feeds.items()}
            started = time.perf_counter()
            try:
                values = evaluator.run(None, inputs)
            except EvaluationError as error:
                raise WorkerError("arbiter", str(error)[:500]) from error
            seconds.append(time.perf_counter() - started)
            row.append(job.send(dict(zip(evaluator.output_names, values, strict=True))))
        if settings.coverage is not None:
            for feeds in driven.reaching(evaluator, settings.coverage):
                everything.append(feeds)
                row.append(job.send(driven.values))
            unseen = settings.coverage.unseen()
            settings.coverage = None  # the perturbed ones reach nothing else
        results.append(row)
    return {
        "results": results,
        "kept": driven.kept,
        "unseen": [asdict(item) for item in unseen],
        "load_seconds": loaded - began,
        "seconds": seconds,
        "imprecise": sorted(settings.imprecise),
        "version": onnx.__version__,
    }


def evaluator_of(model: onnx.ModelProto) -> Float64Evaluator:
    """Return an evaluator of a model; `SETTINGS` must be set.

    Raises
    ------
    WorkerError
        It has an operator that the arbiter lacks, or is otherwise beyond it.
    """
    try:
        return Float64Evaluator(model)
    except Exception as error:
        text = " ".join(str(error).split())
        lacking = _LACKING.match(text)  # onnx goes on with all that there is, as Python's classes
        if lacking is not None:
            domain = f" of {lacking[2]}" if lacking[2] else ""
            text = f"{lacking[1]}{domain} is not supported in float64"
        raise WorkerError("arbiter", text[:500]) from error


class _Drive:
    """Evaluates further inputs as long as they reach what nothing reached before.

    Attributes
    ----------
    kept : list of int
        Which of them did.
    values : Feeds
        What the model gave for the last one of these.
    """

    def __init__(self, request: dict[str, Any] | None) -> None:
        self._request = request or {"feeds": [], "channels": False, "hopeless": []}
        self.kept: list[int] = []
        self.values: Feeds = {}

    def _goal(self, coverage: Coverage) -> tuple[bool, bool]:
        """Return whether there is anything left to reach, and any side as a whole."""
        left = [u for u in coverage.unseen() if u.what not in self._request["hopeless"]]
        whole = any(item.whole for item in left)
        return whole or (bool(left) and self._request["channels"]), whole

    def reaching(self, evaluator: Float64Evaluator, coverage: Coverage) -> Iterator[Feeds]:
        """Yield the inputs that reach something new, in their order."""
        for index, feeds in enumerate(self._request["feeds"]):
            goes_on, whole = self._goal(coverage)
            if not goes_on:
                return
            coverage.gained = False
            inputs = {k: as_float64(v) for k, v in feeds.items()}
            try:
                values = evaluator.run(None, inputs)
            except EvaluationError:
                continue  # a model may refuse values that are out of its ordinary
            if coverage.gained:
                self.kept.append(index)
                self.values = dict(zip(evaluator.output_names, values, strict=True))
                yield feeds
            elif not whole:
                return  # channels that are dead on one are dead on most


def as_float64(value: Value) -> Value:
    """Return a value with its floats, in whatever they are nested, in float64."""
    if isinstance(value, list):
        return [as_float64(item) for item in value]
    if isinstance(value, np.ndarray) and is_floating(value.dtype):
        return value.astype(np.float64)
    return value
