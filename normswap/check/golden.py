"""Outputs that were saved earlier, as the standard that a model is held to.

Golden files are two: inputs and the outputs that some model gave for them. There is no original
to evaluate in float64 then, so the noise floor decides: the one of the model under test.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normswap.check.elements import tensors
from normswap.check.evidence import Distance, Evidence, gather
from normswap.check.metrics import measure
from normswap.dtypes import is_floating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.runtime.arrays import Feeds


def against_expected(expected: Feeds, executions: Sequence[Feeds]) -> list[Evidence]:
    """Compare what a model gives with what it should give.

    Parameters
    ----------
    expected : dict of str to Value
        Outputs by name; those of the model that are not in it are not compared.
    executions : sequence of dict
        What the model gives with the runtime's optimizations off, at its default level, and in
        any further legal executions.
    """
    found = []
    for name, value in expected.items():
        given = [dict(tensors(name, outputs.get(name))) for outputs in executions]
        for leaf, array in tensors(name, value):
            if leaf not in given[0]:
                fault = "the model did not return it"
                found.append(Evidence(leaf, array.dtype.name, array.shape, fault=fault))
                continue
            own = [outputs[leaf] for outputs in given]
            evidence = gather(leaf, [array, array], own[:2], None)
            if evidence.fault is None:
                noise = [measure(own[0], other) for other in own[1:]]
                evidence = replace(
                    evidence,
                    noise=Distance(
                        max((n.rms for n in noise), default=0.0),
                        max((n.max_abs for n in noise), default=0.0),
                    )
                    if is_floating(array.dtype)
                    else evidence.noise,
                    noise_mismatches=max((n.mismatches for n in noise), default=0),
                )
            found.append(evidence)
    return found
