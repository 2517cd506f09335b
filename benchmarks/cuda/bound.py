"""Sessions whose inputs and outputs are on the device already, run in turn and timed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from normswap.runtime.sessions import choose_provider, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping

WARM_UP = 5
"""Rounds that don't count."""

AS_DEPLOYED = {"use_tf32": "1", "cudnn_conv_algo_search": "EXHAUSTIVE"}
"""onnxruntime's own defaults on CUDA, in the place of a check's."""


class Bound:
    """A session of a model with one input and one output that matters."""

    def __init__(
        self, model: bytes, provider: str, x: np.ndarray, options: Mapping[str, str] | None = None
    ) -> None:
        given = {} if provider == "cpu" else dict(options or {})
        chosen = choose_provider(provider, given)
        kind = "cpu" if provider == "cpu" else "cuda"
        self.session: ort.InferenceSession = open_session(model, chosen, level="default", threads=0)
        self._binding = self.session.io_binding()
        value = ort.OrtValue.ortvalue_from_numpy(x, kind, 0)
        self._binding.bind_ortvalue_input(self.session.get_inputs()[0].name, value)
        for output in self.session.get_outputs():
            self._binding.bind_output(output.name, kind, 0)

    def run(self) -> float:
        """Return the seconds of one run, until the device is done."""
        began = time.perf_counter()
        self.session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return time.perf_counter() - began

    def result(self) -> np.ndarray:
        """Return what the last run gave."""
        result: np.ndarray = self._binding.copy_outputs_to_cpu()[0]
        return result


def seconds(sessions: Mapping[str, Any], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of each session's runs, all sessions in turn in every round."""
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(rounds + WARM_UP):
        for name, session in sessions.items():
            spent = session.run()
            if number >= WARM_UP:
                taken[name].append(spent)
    return {name: np.array(values) for name, values in taken.items()}
