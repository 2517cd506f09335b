"""Where the models are run: children, folders, and the values that go between."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normswap.check.report import RunReport
from normswap.proof.coverage import Unseen
from normswap.runtime.arrays import Feeds, Packer, unpack_all
from normswap.runtime.runner import run_worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from normswap.check.options import CheckOptions
    from normswap.inputs.random import Case
    from normswap.inputs.signature import Signature
    from normswap.progress import Progress
    from normswap.proof.faults import Fault


_ROOM = 2 << 30  # bytes of temporary files that localizing may take
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


class Bench:
    """Runs models in children that share one temporary folder.

    Parameters
    ----------
    folder : Path
        Emptied by its owner when all is done.
    options : CheckOptions
    progress : callable
    """

    def __init__(self, folder: Path, options: CheckOptions, progress: Progress) -> None:
        self._folder = folder
        self._options = options
        self.progress = progress
        self._children = 0

    def pack(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """Write the inputs of `cases` once, and return descriptions that any child can read."""
        home = self._new_folder("inputs")
        packer = Packer(home, "input")
        packed = [packer.pack_all(case.feeds) for case in cases]
        for feeds in packed:
            _make_absolute(feeds, home)
        return packed

    def execute(
        self,
        model: Signature,
        role: str,
        executions: Sequence[Execution],
        feeds: Sequence[Mapping[str, Any]],
        *,
        provider: str | None = None,
    ) -> Results:
        """Run a model in onnxruntime, in every one of several ways on every set of inputs."""
        request = {
            "task": "normswap.runtime.ort:execute",
            "model": str(model.path.resolve()),
            "provider": provider or self._options.provider,
            "provider_options": dict(self._options.provider_options),
            "seeds": list(model.seeds),
            "executions": [
                {"level": e.level, "threads": e.threads, "feeds": list(feeds)} for e in executions
            ],
        }
        self.progress(f"running the {role} model")
        response, home = self._child(request, model, role)
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
        values = tuple(tuple(unpack_all(r, home) for r in e["results"]) for e in found)
        shutil.rmtree(home)
        return Results(values, report)

    def evaluate(
        self,
        model: Signature,
        role: str,
        feeds: Sequence[Mapping[str, Any]],
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
        request = {
            "task": "normswap.proof.arbiter.task:evaluate",
            "model": str(model.path.resolve()),
            "feeds": list(feeds),
            "samples": samples,
            "faults": [fault.to_dict() for fault in faults],
            "rounding": rounding,
            "seeds": list(model.seeds),
            "drive": drive,
        }
        self.progress(f"evaluating the {role} model in float64")
        response, home = self._child(request, model, role, timeout=timeout)
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
        values = tuple(tuple(unpack_all(r, home) for r in row) for row in response["results"])
        shutil.rmtree(home)
        unseen = tuple(Unseen(**item) for item in response["unseen"])
        return Results(values, report, tuple(response["kept"]), unseen)

    def trace(
        self,
        original: Signature,
        rewritten: Signature,
        feeds: Mapping[str, Any],
        matches: Mapping[str, str],
        timeout: float,
    ) -> dict[str, dict[str, float]]:
        """Compare every tensor that both models have, in float64; see `arbiter.trace`."""
        request = {
            "task": "normswap.proof.arbiter.trace:trace",
            "model": str(original.path.resolve()),
            "rewritten": str(rewritten.path.resolve()),
            "feeds": feeds,
            "matches": dict(matches),
            "room": _ROOM,
            "seeds": [list(original.seeds), list(rewritten.seeds)],
        }
        self.progress("looking for the first tensor that diverges")
        response, _ = self._child(request, original, "original", timeout=timeout)
        tensors: dict[str, dict[str, float]] = response["tensors"]
        return tensors

    def locate(
        self,
        model: Signature,
        role: str,
        feeds: Mapping[str, Any],
        *,
        output: str,
        level: str,
        provider: str,
        rounding: str,
        timeout: float,
    ) -> dict[str, Any] | None:
        """Find the node at which the runtime leaves float64; see `arbiter.locate`."""
        request = {
            "task": "normswap.proof.arbiter.locate:locate",
            "model": str(model.path.resolve()),
            "seeds": list(model.seeds),
            "feeds": feeds,
            "output": output,
            "level": level,
            "provider": provider,
            "provider_options": dict(self._options.provider_options),
            "rounding": rounding,
        }
        self.progress(f"looking for the operator of the {role} model that departs from float64")
        response, _ = self._child(request, model, role, timeout=timeout)
        found: dict[str, Any] | None = response["found"]
        return found

    def _child(
        self, request: Mapping[str, Any], model: Signature, role: str, timeout: float | None = None
    ) -> tuple[dict[str, Any], Path]:
        home = self._new_folder(role)
        response = run_worker(
            request,
            home,
            label=f"the {role} model ({model.name})",
            timeout=min(timeout or self._options.timeout, self._options.timeout),
            memory_limit=self._options.memory_limit,
        )
        return response, home

    def _new_folder(self, role: str) -> Path:
        self._children += 1
        home = self._folder / f"{self._children}-{role}"
        home.mkdir()
        return home


def _make_absolute(description: Any, home: Path) -> None:
    """Turn the file names in a description into absolute paths, in place."""
    for item in description.values() if isinstance(description, dict) else description:
        if isinstance(item, dict | list):
            _make_absolute(item, home)
    if isinstance(description, dict) and isinstance(description.get("file"), str):
        description["file"] = str(home / description["file"])


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
