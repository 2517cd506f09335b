"""What a proof says by itself, where neither model is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.check.verdict import Verdict
from normswap.proof.result import Standing

if TYPE_CHECKING:
    from normswap.proof.result import Proof, Witness


def concluded(proof: Proof) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict, and why it is not EQUIVALENT.

    They are different where an output is so in float64 by more than rounding constants explains;
    or by more than float64 rounds, where all is equal but for one region that is off by little.
    """
    if proof.is_whole:
        return Verdict.EQUIVALENT, ()
    if proof.reason:
        return Verdict.INCONCLUSIVE, (f"nothing is proved: {proof.reason}",)
    regions = [f"not proved: {region}" for region in proof.apart]
    if proof.witness is not None and _shows(proof, proof.witness):
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


def _shows(proof: Proof, witness: Witness) -> bool:
    standings = {output.name: output.standing for output in proof.outputs}
    apart = standings.get(witness.output) is Standing.APART
    return witness.is_plain or (apart and proof.fault is not None)
