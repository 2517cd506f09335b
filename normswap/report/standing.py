"""What a check has proved, in words that every format uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.check.report import CheckReport
    from normswap.proof.result import Proof


def standing(report: CheckReport) -> str:
    """Say, behind the verdict, whether what is equivalent is proved, or tested on inputs."""
    if report.verdict.value != "equivalent" or report.proof is None:
        return ""
    return ", proved" if report.is_proved else ", tested"


def proof_line(proof: Proof) -> str:
    """Say what was proved of two models, in a line."""
    if proof.reason:
        return f"nothing is proved: {proof.reason}"
    said = f"{proof.identical} of {proof.values} values are identical"
    count = len(proof.regions)
    if count:
        said += (
            f", {count} equal by regions of up to {proof.largest} nodes, off by "
            f"{proof.floors:.2g} of what rounding does at most"
        )
    return said
