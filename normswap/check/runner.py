"""Where the models are run: children, what they are asked, and what they give."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from normswap.check.report import RunReport
from normswap.proof.coverage import Unseen
from normswap.runtime.child import Child, run_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from normswap.check.options import CheckOptions
    from normswap.inputs.signature import Signature
    from normswap.progress import Progress
    from normswap.proof.faults import Fault
    from normswap.runtime.arrays import Feeds


LEVELS = ("disabled", "default")  # the level of the verdict, and the one that users run


@dataclass(frozen=True, slots=True)
class Execution:
    """One legal way to run a model: an optimization level and a number of threads (0: all)."""

    level: str
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Results:
    """What a model gave.

    Attributes
    ----------
    values : tuple of tuple of Feeds
        By execution (of the arbiter: the plain evaluation, then the perturbed ones), then by
        case; each a dict from output name to value.
    report : RunReport
    kept : tuple of int
        Of the arbiter: those of the driving inputs that reached something new; their results
        are after those of the cases.
    unseen : tuple of Unseen
        Of the arbiter: the sides of kinks that no input reached.
    """

    values: tuple[tuple[Feeds, ...], ...]
    report: RunReport
    kept: tuple[int, ...] = ()
    unseen: tuple[Unseen, ...] = ()


class Runner:
    """Runs models, each in a child process.

    Parameters
    ----------
    folder : Path
        For temporary files; emptied by its owner when all is done.
    options : CheckOptions
    progress : callable
    called : mapping of str to str, optional
        What roles are called, where that is something else.
    """

    def __init__(
        self,
        folder: Path,
        options: CheckOptions,
        progress: Progress,
        *,
        called: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._options = options
        self.progress = progress
        self._called = called or {}

    def execute(
        self,
        model: Signature,
        role: str,
        executions: Sequence[Execution],
        feeds: Sequence[Feeds],
        *,
        provider: str | None = None,
        child: Child | None = None,
    ) -> Results:
        """Run a model in onnxruntime, in every one of several ways on every set of inputs.

        In a process of its own, or in one that is there.
        """
        role = self._called.get(role, role)
        task = "normswap.runtime.ort:execute"
        request = {
            "model": str(model.path.resolve()),
            "home": str(model.folder),
            "provider": provider or self._options.provider,
            "provider_options": dict(self._options.provider_options),
            "seeds": list(model.seeds),
            "opened": bool(model.empty_axes),
            "feeds": list(feeds),
            "executions": [asdict(execution) for execution in executions],
        }
        self.progress(f"running the {role} model")
        if child is None:
            response = self._child(task, request, model, role)
        else:
            began = time.perf_counter()
            child.label = _label(model, role)
            response = child.call(task, request)
            response["wall_seconds"] = time.perf_counter() - began
        found = response["executions"]
        fallback = _fallback(response["provider"], [e["assignment"] for e in found])
        report = RunReport(
            model=role,
            engine="onnxruntime",
            provider=response["provider"],
            providers=tuple(found[0]["providers"]),
            fallback=fallback,
            imprecise=(),
            load_seconds=sum(e["load_seconds"] for e in found),
            run_seconds=sum(sum(e["seconds"]) for e in found),
            wall_seconds=response["wall_seconds"],
            peak_memory=response["peak_memory"],
            version=response["version"],
            options=response["options"],
            device=response["device"],
            arithmetic=response["arithmetic"],
            remarks=tuple(response["remarks"]),
        )
        values = tuple(_given(response, e["results"]) for e in found)
        return Results(values, report)

    def evaluate(
        self,
        model: Signature,
        role: str,
        feeds: Sequence[Feeds],
        *,
        samples: int = 0,
        faults: Sequence[Fault] = (),
        rounding: str = "",
        drive: Mapping[str, Any] | None = None,
        timeout: float,
    ) -> Results:
        """Evaluate a model in float64.

        As it is, then with its weights perturbed `samples` times, every result too where
        `rounding` names a type to perturb them in, then with each fault. `drive` is of
        `normswap.proof.arbiter.task.evaluate`.

        Raises
        ------
        RunError
            It cannot be evaluated, or not in time.
        """
        role = self._called.get(role, role)
        task = "normswap.proof.arbiter.task:evaluate"
        request = {
            "model": str(model.path.resolve()),
            "home": str(model.folder),
            "feeds": list(feeds),
            "samples": samples,
            "faults": [fault.to_dict() for fault in faults],
            "rounding": rounding,
            "seeds": list(model.seeds),
            "drive": drive,
        }
        self.progress(f"evaluating the {role} model in float64")
        response = self._child(task, request, model, role, timeout=timeout)
        report = RunReport(
            model=role,
            engine="arbiter",
            provider="",
            providers=(),
            fallback=None,
            imprecise=tuple(response["imprecise"]),
            load_seconds=response["load_seconds"],
            run_seconds=sum(response["seconds"]),
            wall_seconds=response["wall_seconds"],
            peak_memory=response["peak_memory"],
            version=response["version"],
        )
        values = tuple(_given(response, row) for row in response["results"])
        unseen = tuple(Unseen(**item) for item in response["unseen"])
        return Results(values, report, tuple(response["kept"]), unseen)

    def locate(
        self,
        model: Signature,
        role: str,
        feeds: Feeds,
        *,
        output: str,
        level: str,
        provider: str,
        rounding: str,
        timeout: float,
    ) -> dict[str, Any] | None:
        """Find the node at which the runtime leaves float64; see `arbiter.locate`."""
        task = "normswap.proof.arbiter.locate:locate"
        request = {
            "model": str(model.path.resolve()),
            "home": str(model.folder),
            "seeds": list(model.seeds),
            "feeds": feeds,
            "output": output,
            "level": level,
            "provider": provider,
            "provider_options": dict(self._options.provider_options),
            "rounding": rounding,
        }
        self.progress(f"looking for the operator of the {role} model that departs from float64")
        response = self._child(task, request, model, role, timeout=timeout)
        found: dict[str, Any] | None = response["found"]
        return found

    def _child(
        self,
        task: str,
        request: Mapping[str, Any],
        model: Signature,
        role: str,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        return run_task(
            task,
            request,
            label=_label(model, role),
            timeout=min(timeout or self._options.timeout, self._options.timeout),
            memory_limit=self._options.memory_limit,
        )


def _label(model: Signature, role: str) -> str:
    return f"the {role} model ({model.name})"


def _given(response: Mapping[str, Any], numbers: Sequence[int]) -> tuple[Feeds, ...]:
    """Return what was sent under some numbers."""
    return tuple(response["sent"][number] for number in numbers)


def _fallback(
    provider: str, assignments: Sequence[Mapping[str, list[str]] | None]
) -> tuple[str, ...] | None:
    if any(assignment is None for assignment in assignments):
        return None
    nodes = {
        node: None
        for assignment in assignments
        for name, given in (assignment or {}).items()
        if name != provider
        for node in given
    }
    return tuple(nodes)
