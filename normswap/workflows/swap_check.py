"""The check of a swap: what was written, beside the network that it should be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from normswap.check.report import CheckReport
from normswap.check.verdict import Verdict
from normswap.groupnorm.behaviour import Invariance, observe
from normswap.groupnorm.drift import DriftReport
from normswap.groupnorm.feeds import data_feeds
from normswap.inputs.signature import read_signature
from normswap.plain import called
from normswap.progress import Progress, silent
from normswap.workflows.certificate import meant
from normswap.workflows.check import check_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from normswap.check.options import CheckOptions
    from normswap.groupnorm.intent import Intent
    from normswap.groupnorm.plan import SwapPlan
    from normswap.runtime.arrays import Feeds
    from normswap.runtime.child import Child


@dataclass(frozen=True, slots=True)
class SwapCheck(CheckReport):
    """The check of a swap: what was written, beside the network that it should be.

    That is the original, in which each BatchNormalization that was swapped is read as a group
    normalization (:mod:`normswap.groupnorm.intent`).

    Attributes
    ----------
    drift : DriftReport
        How far it has moved from the original, which is no error.
    invariance : tuple of Invariance
        How far the outputs of a sample depend on the other samples of its batch.
    """

    drift: DriftReport = field(default_factory=DriftReport)
    invariance: tuple[Invariance, ...] = field(default=(), metadata=called("batch_invariance"))

    @property
    def finding(self) -> str:
        """What the verdict means for a swap, in words."""
        return {
            Verdict.EQUIVALENT: "group normalization",
            Verdict.DIFFERENT: "not group normalization",
            Verdict.INCONCLUSIVE: "inconclusive",
        }[self.verdict]


def check_swap(
    original: Path,
    written: Path,
    plan: SwapPlan,
    intents: tuple[Intent, ...],
    options: CheckOptions,
    *,
    network: Path | None = None,
    names: tuple[str, str] = ("", ""),
    batches: Iterable[Mapping[str, Any]] | None = None,
    fed: bool = True,
    child: Child | None = None,
    progress: Progress = silent,
) -> SwapCheck:
    """Compare what was written with what the original is read as, and tell how it behaves.

    Parameters
    ----------
    plan : SwapPlan
        By which the one was made from the other.
    intents : tuple of Intent
        What the plan reads as what.
    network : Path, optional
        What the original became before it was swapped, where that is another network.
    names : (str, str)
        What to call the models; the paths where it is empty.
    batches : iterable of feeds, optional
        Data for the drift, and for what the comparison needs to be run.
    fed : bool
        Whether data may be what the comparison runs on.
    child : Child, optional
        A process that was started for this (`normswap.check.starting.start`).

    Raises
    ------
    RunError
        A model can't be run, and float64 can't stand in.
    """
    progress("checking")
    data: list[Feeds] = []
    if batches is not None and fed:
        data = [dict(f) for f in data_feeds(read_signature(original), options, batches)]
    with ThreadPoolExecutor(1) as pool, meant(original, intents) as (path, home):
        running = pool.submit(
            observe, network or original, written, plan, options, batches=batches, progress=progress
        )
        found = check_files(
            path,
            written,
            options,
            names=(names[0] or str(original), names[1]),
            progress=progress,
            child=child,
            home=home,
            data=data,
            strict=True,
        )
        seen = running.result()
    same = {f.name: getattr(found, f.name) for f in fields(found)}
    notes = tuple(dict.fromkeys((*found.notes, *seen.notes)))
    return SwapCheck(**{**same, "notes": notes, "drift": seen.drift, "invariance": seen.invariance})
