"""The child's side: how long models take, run in turn in one process.

Machines are disturbed by other work, and what disturbs a run only ever makes it longer. So the
models that are to be compared run one after the other, round after round, and each is told by its
shortest run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.runtime.arrays import dtype_of
from normswap.runtime.failures import WorkerError
from normswap.runtime.sessions import choose_provider, open_session

if TYPE_CHECKING:
    import onnxruntime as ort

    from normswap.runtime.sessions import Provider
    from normswap.runtime.worker import Channel

WARM_UP = 2
"""Rounds that don't count: the first runs of a session ask for memory."""

LEAST_ROUNDS = 8


def race(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Time models against each other.

    The request holds ``provider``, ``provider_options``, ``threads`` (0 for as many as there are
    cores), ``seconds`` that a trial may take at least, and ``trials``: each has ``models``, the
    bytes of each by name; ``input``, the name of their one input; and its ``shape`` and
    ``dtype``. The response holds, for each trial, the seconds of every model that ran, by name.
    """
    provider = choose_provider(request["provider"], request["provider_options"])
    trials = []
    for number, trial in enumerate(request["trials"]):
        job.stage(f"timing {number + 1} of {len(request['trials'])}")
        x = np.random.default_rng(0).normal(size=trial["shape"]).astype(dtype_of(trial["dtype"]))
        trials.append(_trial(_runners(trial, provider, request), request["seconds"], x))
    return {"provider": provider.name, "trials": trials}


class _Runner:
    """A model and its shortest run so far."""

    def __init__(self, session: ort.InferenceSession, name: str) -> None:
        self._session = session
        self._input = name
        self.seconds = float("inf")

    def run(self, x: np.ndarray) -> None:
        """Run once and look at the clock."""
        began = time.perf_counter()
        self._session.run(None, {self._input: x})
        self.seconds = min(self.seconds, time.perf_counter() - began)


def _runners(
    trial: dict[str, Any], provider: Provider, request: dict[str, Any]
) -> dict[str, _Runner]:
    """Load what can be loaded."""
    found = {}
    for name, model in trial["models"].items():
        try:
            session = open_session(
                model.tobytes(),
                provider,
                level="default",
                threads=request["threads"],
                in_a_hurry=True,
            )
        except WorkerError as error:
            if error.kind == "provider":
                raise
            continue  # this runtime has no kernel for it, and so it is in no race
        found[name] = _Runner(session, trial["input"])
    return found


def _trial(runners: dict[str, _Runner], seconds: float, x: np.ndarray) -> dict[str, float]:
    for name, runner in list(runners.items()):
        try:
            for _ in range(WARM_UP):
                runner.run(x)
        except Exception:  # noqa: BLE001 - a kernel may refuse only when it runs, as it likes
            del runners[name]
        runner.seconds = float("inf")
    end = time.perf_counter() + seconds
    rounds = 0
    while runners and (rounds < LEAST_ROUNDS or time.perf_counter() < end):
        for runner in runners.values():
            runner.run(x)
        rounds += 1
    return {name: runner.seconds for name, runner in runners.items()}
