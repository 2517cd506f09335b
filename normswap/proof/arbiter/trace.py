"""The child's side of localizing: every tensor that two models have in common, compared.

Both models are evaluated in one process, the original first. Its tensors go to disk, as many as
there is room for; the second model's are compared with them as they appear, and with them the
original's own movement when its weights are perturbed. Where there is no room for all tensors,
evenly spaced ones narrow the place down, and the next pass looks between the last good and the
first bad of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.proof.arbiter.evaluator import SETTINGS, EvaluationError, Settings
from normswap.proof.arbiter.task import as_float64, evaluator_of
from normswap.runtime.failures import WorkerError
from normswap.runtime.randomness import pinned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from normswap.runtime.worker import Job

_FLOORS = 8.0  # weight-rounding floors beyond which a tensor has left the original
_RESOLUTION = 1e-9


def trace(request: dict[str, Any], job: Job) -> dict[str, Any]:
    """Compare the tensors of two models.

    The request holds ``model`` and ``rewritten`` (paths), ``feeds`` (one set), ``folder`` and
    ``room`` (bytes of disk that may be used there), ``matches`` (names of tensors in the rewritten
    model that are another tensor of the original) and ``seeds`` (of both).
    """
    job.stage("reading both models")
    paths = (request["model"], request["rewritten"])
    models = [_Model(*each) for each in zip(paths, request["seeds"], strict=True)]
    inputs = {k: as_float64(v) for k, v in request["feeds"].items()}
    matches: Mapping[str, str] = request["matches"]
    job.stage("comparing their tensors in float64")
    sizes: dict[str, int] = {}
    shared = models[0].tensors() & {matches.get(n, n) for n in models[1].tensors()}

    def weigh(name: str, value: Any) -> None:
        if name in shared and isinstance(value, np.ndarray) and value.dtype == np.float64:
            sizes[name] = value.nbytes

    models[0].run(inputs, weigh)
    order = list(sizes)
    found: dict[str, dict[str, float]] = {}
    low, high = 0, len(order)
    while True:
        chosen = _affordable(order[low:high], sizes, request["room"])
        found.update(_compared(models, inputs, chosen, matches, Path(request["folder"])))
        if len(chosen) == high - low:
            break
        bad = next((n for n in chosen if left(found[n])), None)
        if bad is None:
            low = order.index(chosen[-1]) + 1
        else:
            high = order.index(bad) + 1
            good = [n for n in chosen if order.index(n) < high - 1]
            low = order.index(good[-1]) if good else low
        if high - low <= 1:
            break
    tensors = {name: {**found[name], "left": left(found[name])} for name in order if name in found}
    return {"tensors": tensors}


def left(numbers: Mapping[str, float]) -> bool:
    """Whether a tensor deviates by more than rounding the weights explains."""
    allowed = _FLOORS * numbers["floor"] + _RESOLUTION * numbers["scale"]
    return not numbers["error"] <= allowed


class _Model:
    def __init__(self, path: str, seeds: Sequence[float | None]) -> None:
        model = pinned(path, seeds)
        self.settings = Settings(folder=str(Path(path).parent))
        SETTINGS.set(self.settings)
        self._evaluator = evaluator_of(model)

    def tensors(self) -> set[str]:
        """Return the names of all results of the main graph."""
        return {name for node in self._evaluator.rt_nodes_ for name in node.output if name}

    def run(
        self, inputs: Mapping[str, Any], tap: Callable[[str, Any], None], sample: int = 0
    ) -> None:
        """Evaluate, and hand every result to `tap`."""
        self.settings.tap, self.settings.sample = tap, sample
        SETTINGS.set(self.settings)
        try:
            self._evaluator.run(None, inputs)
        except EvaluationError as error:
            raise WorkerError("arbiter", str(error)[:500]) from error


def _affordable(names: Sequence[str], sizes: Mapping[str, int], room: int) -> list[str]:
    """Return as many tensors as there is room for, evenly spaced, the last one included."""
    step = 1
    while True:
        chosen = list(names[::-1][::step])[::-1]
        if len(chosen) <= 1 or sum(sizes[n] for n in chosen) <= room:
            return chosen
        step *= 2


def _compared(
    models: Sequence[_Model],
    inputs: Mapping[str, Any],
    names: Sequence[str],
    matches: Mapping[str, str],
    folder: Path,
) -> dict[str, dict[str, float]]:
    """Return scale, floor and error of tensors: root mean squares in float64."""
    files = {name: folder / f"tensor{index}.npy" for index, name in enumerate(names)}
    numbers: dict[str, dict[str, float]] = {}

    def keep(name: str, value: Any) -> None:
        if name in files:
            np.save(files[name], value, allow_pickle=False)
            numbers[name] = {"scale": _rms(value), "floor": 0.0, "error": float("inf")}

    def compare(field: str) -> Callable[[str, Any], None]:
        def tap(name: str, value: Any) -> None:
            original = matches.get(name, name)
            if original in files and isinstance(value, np.ndarray):
                kept = np.load(files[original], mmap_mode="r")
                same = kept.shape == value.shape
                numbers[original][field] = _rms(value - kept) if same else float("inf")

        return tap

    models[0].run(inputs, keep)
    models[0].run(inputs, compare("floor"), sample=1)
    models[1].run(inputs, compare("error"))
    for file in files.values():
        file.unlink(missing_ok=True)
    return numbers


def _rms(value: np.ndarray) -> float:
    finite = value[np.isfinite(value)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
