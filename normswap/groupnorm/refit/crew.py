"""A fit of all layers at once, its batches divided among processes: one for each core.

Products of small matrices gain nothing from a second thread, and threads that wait for each other
take the time of what they wait for. So every process has one, as far as there are batches for all.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.groupnorm.choose import threads_here
from normswap.groupnorm.refit.share import split
from normswap.runtime.memory import free_memory
from normswap.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from normswap.groupnorm.refit.networks import Pair

    Array = npt.NDArray[Any]
    Tensors = Mapping[str, Array]
    Vector = npt.NDArray[np.float64]

ROOM = 3 << 29
"""Bytes of linearizations that are kept, by all together, where nobody knows how much is free; else
a third of it. To make one again takes several times as long as to use it."""

LARGEST = 8
"""Processes, at the most: each has the student, and a runtime of its own."""


def most_processes() -> int:
    """Return how many there are where there are batches for all."""
    return min(threads_here(), LARGEST)


def room_each(count: int) -> int:
    """Return the bytes of linearizations that each of some processes may keep."""
    free = free_memory()
    return (ROOM if free is None else free // 3) // count


@contextlib.contextmanager
def at_work(pair: Pair, batches: Iterable[object], timeout: float) -> Iterator[Crew]:
    """Start a crew, which ends with the context.

    Parameters
    ----------
    pair : Pair
    batches : iterable
        What is to be divided. Gone through as far as there can be processes for it.
    timeout : float
        Seconds for one run.
    """
    cores = threads_here()
    count = max(1, sum(1 for _ in islice(batches, most_processes())))
    with contextlib.ExitStack() as life, ThreadPoolExecutor(count) as threads:

        def start(_: int) -> Session:
            session = Session(
                pair.student.path,
                label="the swapped model",
                taps=pair.student.taps,
                alike=True,
                threads=cores // count,
                timeout=timeout,
            )
            return life.enter_context(session)

        yield Crew(pair, list(threads.map(start, range(count))), threads)


class Crew:
    """The linearization of the student over all batches, with its parameters as one vector.

    Parameters
    ----------
    pair : Pair
    sessions : sequence of Session
        Of the student.
    threads : ThreadPoolExecutor
        One for each of them.
    """

    def __init__(
        self, pair: Pair, sessions: Sequence[Session], threads: ThreadPoolExecutor
    ) -> None:
        self._names = sorted(pair.route.names)
        self._sessions = sessions
        self._threads = threads
        self._parameters: Tensors = {}
        self._call(
            "open_share",
            path=os.fspath(pair.student.path),
            parameters=self._names,
            ends=list(pair.student.ends),
            room=room_each(len(sessions)),
        )

    def begin(self, parameters: Tensors, aims: Sequence[tuple[str, float]]) -> None:
        """Linearize elsewhere, and forget all batches; as of :meth:`~.share.Share.begin`."""
        self._parameters = {name: parameters[name] for name in self._names}
        self._call("begin", parameters=parameters, aims=aims)

    def take(self, batches: Iterable[tuple[Tensors, Sequence[Array]]]) -> None:
        """Take in all batches, each as of :meth:`~.share.Share.take`."""
        pending = iter(batches)
        while some := [batch for _, batch in zip(self._sessions, pending, strict=False)]:
            requests = [{"feeds": feeds, "wanted": wanted} for feeds, wanted in some]
            self._each("take", requests)

    def push(self, along: Vector) -> float:
        """Return the energy of what the outputs do when the parameters move."""
        return sum(float(answer["energy"]) for answer in self._call("push", along=along))

    def pull(self, step: float) -> Vector:
        """Take a step along the last push, and return what then comes back to the parameters."""
        total: Vector = np.sum([a["slope"] for a in self._call("pull", step=step)], axis=0)
        return total

    def split(self, vector: Vector) -> dict[str, Array]:
        """Return a vector as a change of each parameter."""
        return split(vector, self._parameters)

    def _call(self, task: str, **request: object) -> list[dict[str, Any]]:
        return self._each(task, [request] * len(self._sessions))

    def _each(self, task: str, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Have the first processes do a task, each with a request of its own."""
        place = f"normswap.groupnorm.refit.share:{task}"
        calls = (
            self._threads.submit(session.call, place, request)
            for session, request in zip(self._sessions, requests, strict=False)
        )
        return [call.result() for call in list(calls)]
