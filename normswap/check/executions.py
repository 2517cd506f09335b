"""The ways in which a model is run, and what a person should know of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.check.observations import tensors_of
from normswap.check.runner import LEVELS, Execution
from normswap.runtime.providers import CPU, full_name

if TYPE_CHECKING:
    import numpy as np

    from normswap.check.options import CheckOptions
    from normswap.check.report import RunReport
    from normswap.check.runner import Results

_NAMED = 8  # nodes that did not run where they should, in a sentence


def levels() -> list[Execution]:
    """Return the executions of a model that is compared: one at each level."""
    return [Execution(level) for level in LEVELS]


def executions(options: CheckOptions, provider: str) -> list[Execution]:
    """Return the legal executions of a model that its noise floor on a provider is taken from."""
    found = levels()
    if options.full:
        found += [Execution("disabled", 1), Execution("basic"), Execution("extended", 1)]
    if repeats(options, provider):
        found += [Execution("disabled")]  # once more, to see whether anything is random
    return found


def repeats(options: CheckOptions, provider: str) -> bool:
    """Whether a run is repeated: devices may sum in another order every time, the CPU does not."""
    return options.full or full_name(provider) != CPU


def determinism_notes(original: Results) -> list[str]:
    """Return a sentence, if need be, on a model whose result changes from run to run."""
    first, again = original.values[0], original.values[-1]
    changing = {
        leaf: None
        for one, other in zip(first, again, strict=True)
        for leaf, array in tensors_of(one).items()
        if not _same_bits(array, tensors_of(other).get(leaf))
    }
    if not changing:
        return []
    return [f"the outputs of the original change from run to run: {', '.join(changing)}"]


def _same_bits(a: np.ndarray, b: np.ndarray | None) -> bool:
    if b is None or a.shape != b.shape:
        return False
    if a.dtype == object:
        return bool((a == b).all())
    return a.tobytes() == b.tobytes()


def provider_notes(run: RunReport) -> list[str]:
    """Return what a person should know of where and how a model was run; nothing of the CPU."""
    notes = list(run.remarks)
    if run.provider == CPU:
        return notes
    where = f" on device {run.device}" if run.device else ""
    notes.append(
        f"the {run.model} model ran in {run.provider}{where}, onnxruntime {run.version}"
        + (f": {run.arithmetic}" if run.arithmetic else "")
    )
    if run.fallback is None:
        notes.append(
            f"onnxruntime {run.version} does not report which nodes of the {run.model} "
            "model ran on the CPU instead; newer versions do"
        )
    elif run.fallback:
        nodes = ", ".join(run.fallback[:_NAMED])
        more = f" and {len(run.fallback) - _NAMED} more" if len(run.fallback) > _NAMED else ""
        notes.append(
            f"{len(run.fallback)} nodes of the {run.model} model did not run in {run.provider}: "
            f"{nodes}{more}"
        )
    return notes
