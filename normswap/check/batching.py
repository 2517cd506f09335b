"""Batch invariance: the result of a sample does not depend on the batch it comes in.

A GroupNormalization and a folded BatchNormalization treat samples alone. A BatchNormalization
that computes its statistics from the batch does not, and should not be deployed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from normswap.check.evidence import ZERO, Evidence, gather
from normswap.check.observations import tensors_of
from normswap.check.runner import LEVELS, Execution, Runner
from normswap.errors import UsageError
from normswap.inputs.dims import RequestedSizes, batch_is_free
from normswap.inputs.random import Case, Distribution

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.check.options import CheckOptions
    from normswap.inputs.signature import Signature

_SAMPLES = 3


def batch_evidence(
    runner: Runner, model: Signature, case: Case, options: CheckOptions
) -> list[tuple[str, Evidence]]:
    """Compare samples that a rewritten model runs in a batch with the same samples run alone.

    Parameters
    ----------
    runner : Runner
    model : Signature
    case : Case
        Whose first sample, with two scaled copies of it, makes the batch: samples of different
        size are what shared statistics give away.
    options : CheckOptions

    Returns
    -------
    list of (str, Evidence)
        Each with the optimization level it was seen at.

    Raises
    ------
    UsageError
        The model has a fixed batch size, or nothing that could be batched.
    """
    requested = RequestedSizes(options.input_shapes, options.symbolic_dims)
    arrays = [value for value in case.feeds.values() if isinstance(value, np.ndarray)]
    batched = len(arrays) == len(case.feeds) and all(array.ndim for array in arrays)
    if not arrays or not batched or not batch_is_free(model, requested):
        raise UsageError(
            f"{model.name} accepts only one batch size, so a sample can't be compared "
            "alone and in a batch.",
            tip="Leave out --batch-invariant, or export the model with a dynamic batch size.",
        )
    samples = [_sample(case.feeds, number) for number in range(_SAMPLES)]
    together = {name: np.concatenate([sample[name] for sample in samples]) for name in case.feeds}
    cases = [Case("", Distribution.USER, feeds) for feeds in (together, *samples)]
    executions = [Execution(level) for level in LEVELS]
    results = runner.execute(model, "rewritten", executions, [case.feeds for case in cases])
    found = []
    for level, values in zip(LEVELS, results.values, strict=True):
        batch, *alone = (tensors_of(outputs) for outputs in values)
        for leaf, array in batch.items():
            parts = [outputs[leaf] for outputs in alone]
            joined = np.concatenate(parts) if array.ndim else parts[0]
            evidence = gather(leaf, [joined], [array], None)
            # What batches share shows grossly; kernels that round otherwise for another batch
            # size do not, and need no further excuse below the bound of noise.
            found.append((level, replace(evidence, backed=ZERO)))
    return found


def _sample(feeds: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """Return one sample: the first of a batch, larger by a power of two for floats."""
    scaled = {}
    for name, array in feeds.items():
        first = array[:1]
        grows = first.dtype.kind in "fV"
        scaled[name] = (first * first.dtype.type(2**number)) if grows else first
    return scaled
