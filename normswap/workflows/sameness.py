"""What is known of a network that became another on its way, and is to be the same function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from normswap.check.options import CheckOptions
from normswap.check.verdict import Verdict
from normswap.inputs.signature import drawing_alike, read_signature
from normswap.plain import AsDict
from normswap.proof.files import prove_files
from normswap.workflows.check import check_files
from normswap.workflows.result import advising

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from normswap.progress import Progress
    from normswap.proof.reordered import Reordered


@dataclass(frozen=True, slots=True)
class Sameness(AsDict):
    """Whether a network that was normalized or permuted is the same function as the original.

    Attributes
    ----------
    proved : bool
        Whether it is for all inputs; else it was tested.
    reasons : tuple of str
        Why it is not.
    """

    verdict: Verdict
    proved: bool
    reasons: tuple[str, ...] = ()


def same_as(
    original: Path,
    changed: Path,
    check: CheckOptions,
    progress: Progress,
    *,
    what: str,
    orders: Sequence[Reordered] = (),
) -> Sameness:
    """Say whether a network is the function that it was: prove it, or test it.

    Parameters
    ----------
    check : CheckOptions
        How it is tested where it can't be proved.
    what : str
        What was done to it, in a word.
    orders : sequence of Reordered
        The order in which channels are, where they were permuted.
    """
    models = drawing_alike(read_signature(original), read_signature(changed))

    def proving(stage: str) -> None:
        progress(f"the {what} network: {stage}")

    proving("proving")
    if prove_files(*models, orders=orders, progress=proving).is_whole:
        return Sameness(Verdict.EQUIVALENT, proved=True)
    how = CheckOptions(check.provider, check.provider_options, seed=check.seed)
    how = replace(how, input_shapes=check.input_shapes, timeout=check.timeout)
    names = ("the original model", f"the {what} model")
    with advising():
        report = check_files(original, changed, how, names=names, progress=progress)
    return Sameness(report.verdict, proved=False, reasons=report.reasons)
