"""The step ``checks``: what a check makes of models on the device and across providers.

Several are checked at once, so that the seconds say what a check costs on a busy machine. A row
that says *twice* is two checks, and whether they found the same to the last digit.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.cuda.halved import halve
from normswap.check.options import CheckOptions
from normswap.errors import NormswapError
from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.policy import GroupPolicy
from normswap.workflows.check import check
from normswap.workflows.fold import fold
from normswap.workflows.swap import swap

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.cuda.page import Section

HEADER = ["model", "what", "verdict", "error / scale", "nodes on the CPU", "seconds"]


@dataclass(frozen=True)
class Task:
    """A row: a model, what is made of it, and how that is checked."""

    model: Path
    made: str  # "fold", "itself" or "swap"
    how: dict[str, Any]  # of CheckOptions, which can't be sent to another process
    half: bool = False
    twice: bool = False

    @property
    def options(self) -> CheckOptions:
        """How it is checked."""
        return CheckOptions(**self.how)

    @property
    def told(self) -> str:
        """What the row calls it."""
        one, other = self.options.provider, self.options.against_provider
        where = f"{one} against {other}" if other else f"on {one}"
        extras = [
            "float16" * self.half,
            "TF32" * (self.options.provider_options.get("use_tf32") == "1"),
            "with proof" * self.options.proof,
            "twice" * self.twice,
        ]
        return ", ".join([f"{self.made} {where}", *filter(None, extras)])


def tasks(provider: str, models: list[Path], thorough: set[str]) -> list[Task]:
    """Return the rows; the models that are named in `thorough` get all of them."""
    plain = {"provider": provider, "proof": False}
    across = {"provider": "cpu", "against_provider": provider, "proof": False}
    tf32 = {"provider_options": {"use_tf32": "1"}} if provider != "cpu" else {}
    found = []
    for model in models:
        found.append(Task(model, "fold", plain))
        if "training" not in model.stem:  # CUDA has no kernel of a BN that trains
            found.append(Task(model, "itself", across))
        if model.stem not in thorough:
            continue
        found += [
            Task(model, "fold", plain | {"proof": True}),
            Task(model, "fold", plain, twice=True),
            Task(model, "fold", plain, half=True),
            Task(model, "swap", plain | {"proof": True}),
        ]
        if tf32:
            found += [
                Task(model, "fold", plain | tf32),
                Task(model, "itself", across | tf32),
            ]
    return found


def run(section: Section, provider: str, models: list[Path], folder: Path, jobs: int) -> bool:
    """Make the rows; return whether all are equivalent, but for those that TF32 disturbs."""
    section.table(HEADER)
    thorough = {"digits_resnet", "resnet50", "mobilenetv2"}
    rows = tasks(provider, models, thorough)
    good = True
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting = {
            pool.submit(row, task, folder / "made" / str(n)): task for n, task in enumerate(rows)
        }
        for future in as_completed(waiting):
            cells, fine = future.result()
            section.row(cells)
            good = good and fine
    return good


def row(task: Task, folder: Path) -> tuple[list[str], bool]:
    """Make the models, check them, and return the cells and whether they are as they should be."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        one, other = _pair(task, folder)
        report = check(one, other, task.options)
        same = ""
        if task.twice:
            again = check(one, other, task.options)
            same = ", the same" if again.outputs == report.outputs else ", NOT the same"
    except NormswapError as error:
        return [task.model.stem, task.told, f"error: {error}", "", "", ""], False
    errors = [
        o.evidence.error_rewritten.max / o.evidence.scale.max
        for o in report.outputs
        if o.evidence.error_rewritten is not None and o.evidence.scale.max
    ]
    elsewhere = {node for run in report.runs for node in run.fallback or ()}
    verdict = report.verdict.value + ", proved" * report.is_proved + same
    cells = [
        task.model.stem,
        task.told,
        "; ".join([verdict, *report.reasons]),
        f"{max(errors):.1e}" if errors else "",
        ", ".join(sorted(elsewhere)[:3]) + ", ..." * (len(elsewhere) > 3),
        f"{report.seconds:.1f}",
    ]
    disturbed = "TF32" in task.told
    return cells, disturbed or (report.verdict.value == "equivalent" and "NOT" not in same)


def _pair(task: Task, folder: Path) -> tuple[Path, Path]:
    model = task.model
    if task.half:
        model = halve(model, folder / f"half-{model.name}")
    other = folder / f"other-{model.name}"
    options: dict[str, Any] = {"check": None}
    match task.made:
        case "fold":
            fold(model, other, **options)
            return model, other
        case "swap":
            # Against the same groups written plainly: what a swap is to come to.
            provider = task.options.provider
            plain = folder / f"plain-{model.name}"
            for target, form in ((plain, "primitive"), (other, "auto")):
                policy = GroupPolicy(groups=4)
                swap(model, target, SwapOptions(policy, form=form, provider=provider), **options)
            return plain, other
    return model, model
