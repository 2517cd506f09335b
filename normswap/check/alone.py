"""What a proof says by itself, where neither model is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.check.verdict import Verdict
from normswap.proof.result import Standing

if TYPE_CHECKING:
    from normswap.proof.result import Proof


def concluded(proof: Proof) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict, and why it is not EQUIVALENT.

    They are different where an output is so in float64 by more than rounding constants explains.
    """
    if proof.is_whole:
        return Verdict.EQUIVALENT, ()
    if proof.reason:
        return Verdict.INCONCLUSIVE, (f"nothing is proved: {proof.reason}",)
    regions = [f"not proved: {region}" for region in proof.apart]
    if proof.witness is not None and proof.witness.is_plain:
        return Verdict.DIFFERENT, (
            f"output {proof.witness.output!r}: {proof.witness}",
            *regions,
        )
    still = [
        f"output {output.name!r} is not proved: {output.reason}"
        for output in proof.outputs
        if output.standing is Standing.OPEN
    ]
    return Verdict.INCONCLUSIVE, (*still, *regions)
