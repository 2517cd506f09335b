"""What the check of a rewrite found that is to be the same function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from normswap.errors import ExitCode
from normswap.report.standing import proof_line, standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from normswap.check.report import CheckReport


def print_check(
    check: CheckReport | None,
    console: Console,
    *,
    unchecked: bool,
    more: Callable[[], None] = lambda: None,
) -> None:
    """Print the verdict and what it rests on.

    Parameters
    ----------
    check : CheckReport or None
    console : Console
    unchecked : bool
        Whether to say so where there was no check.
    more : callable
        Prints what else was found, before the reasons and notes.
    """
    if check is None:
        if unchecked:
            console.print("[dim]not checked (--no-check)[/]")
        return
    colour = {ExitCode.OK: "green", ExitCode.FINDINGS: "red"}.get(check.exit_code, "yellow")
    line = f"[{colour}]{check.verdict.value}{standing(check)}[/]"
    worst = check.worst
    if check.is_proved and check.proof is not None:
        line += f": {escape(proof_line(check.proof))}"
    elif worst is not None and worst.evidence.verdict_level is not None:
        metrics = worst.evidence.verdict_level
        line += f": {len(check.outputs)} comparisons over {len(check.cases)} sets of inputs"
        line += f"; largest difference {metrics.max_abs:.1e} where the largest value is"
        line += f" {metrics.reference_max:.3g} (by {check.basis})"
    console.print(line)
    if check.is_proved and worst is not None and worst.evidence.verdict_level is not None:
        metrics = worst.evidence.verdict_level
        console.print(
            f"  in onnxruntime the largest difference is {metrics.max_abs:.1e} where the largest "
            f"value is {metrics.reference_max:.3g}"
        )
    elif check.proof is not None:
        console.print(f"  {escape(proof_line(check.proof))}")
    more()
    for sentence in (*check.reasons, *check.notes):
        console.print(f"  {escape(sentence)}")
