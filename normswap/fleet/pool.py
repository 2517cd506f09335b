"""Processes of this machine that work on models, each on one after another.

They are warm: what is imported for the first model is there for the next. One that dies takes its
model with it, and another one takes its place.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from typing import TYPE_CHECKING

from normswap.errors import ExitCode, RunError
from normswap.fleet.work import Job, Outcome
from normswap.runtime.child import Child, threads_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

_GRACE = 0.2
"""Seconds that workers have to put things in order; the program itself has little more."""

_own = threading.local()


class Worker(Child):
    """A process that does jobs.

    Parameters
    ----------
    beside : int
        How many of them share the processors.
    """

    def __init__(self, beside: int = 1) -> None:
        share = max(1, (os.cpu_count() or 1) // beside)
        threads = {} if beside == 1 else threads_of(share)
        super().__init__("a model", timeout=threading.TIMEOUT_MAX, environment=threads)

    def tip(self, code: int) -> str:  # noqa: ARG002
        """Return what follows, whatever has ended the process."""
        return "The other models are processed in a new process."

    def do(self, job: Job, task: str) -> Outcome:
        """Do a job.

        Parameters
        ----------
        task : str
            ``module:function`` of a task (`normswap.runtime.worker`) that takes a ``job`` and
            answers with its ``outcome``.

        Raises
        ------
        RunError
            The process died.
        """
        self.label, self._stage = job.name, "it was being processed"
        return Outcome(**self.call(task, {"job": job.to_dict()})["outcome"])

    def ask_to_end(self) -> None:
        """Ask the process to put things in order and end."""
        with contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait for its end, and then no longer."""
        with contextlib.suppress(Exception):
            self._process.wait(seconds)
        self.kill()


def run(
    jobs: Iterable[Job],
    task: str,
    workers: int,
    failed: Callable[[Job, Exception], Outcome],
    began: Callable[[Job], object],
) -> Iterator[Outcome]:
    """Do jobs, several at a time, and yield what comes of them as it comes.

    Parameters
    ----------
    task : str
        See `Worker.do`.
    failed : callable
        Returns the outcome of a job whose process died.
    began : callable
        Is told a job, before a worker is.
    """
    pool = _Pool(jobs, task, workers, failed, began)
    try:
        yield from pool.outcomes()
    except BaseException:
        pool.end()
        raise


class _Pool:
    """Threads, each with its worker."""

    def __init__(
        self,
        jobs: Iterable[Job],
        task: str,
        count: int,
        failed: Callable[[Job, Exception], Outcome],
        began: Callable[[Job], object],
    ) -> None:
        self._jobs = iter(jobs)
        self._task = task
        self._count = count
        self._failed = failed
        self._began = began
        self._lock = threading.Lock()
        self._done: queue.SimpleQueue[Outcome | Exception | None] = queue.SimpleQueue()
        self._workers: set[Worker] = set()
        self._is_over = False

    def outcomes(self) -> Iterator[Outcome]:
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self._count)]
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            found = self._done.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                running -= 1
            else:
                yield found
        for thread in threads:
            thread.join()

    def end(self) -> None:
        """End all workers; what they have begun is not written, or wholly."""
        with self._lock:
            self._is_over = True
            workers = list(self._workers)
        for worker in workers:
            worker.ask_to_end()
        until = time.monotonic() + _GRACE
        for worker in workers:
            worker.wait(max(0.0, until - time.monotonic()))

    def _serve(self) -> None:
        """Do jobs until there are none; in a thread, which a worker's life hangs on."""
        worker: Worker | None = None
        try:
            while (job := self._next()) is not None:
                try:
                    worker = worker or self._start()
                    self._done.put(worker.do(job, self._task))
                except RunError as error:  # noqa: PERF203 - of this job, and the others go on
                    if self._is_over:
                        return
                    self._done.put(self._failed(job, error))
                    self._stop(worker)
                    worker = None
        except Exception as error:  # noqa: BLE001 - it is raised where the outcomes are waited for
            self._done.put(error)
        finally:
            self._stop(worker)
            self._done.put(None)

    def _next(self) -> Job | None:
        with self._lock:
            job = None if self._is_over else next(self._jobs, None)
            if job is not None:
                self._began(job)
            return job

    def _start(self) -> Worker:
        worker = Worker(self._count)
        with self._lock:
            self._workers.add(worker)
            if self._is_over:
                worker.kill()
        return worker

    def _stop(self, worker: Worker | None) -> None:
        if worker is not None:
            with self._lock:
                self._workers.discard(worker)
            worker.close()


def ask(job: dict[str, Any], task: str) -> dict[str, Any]:
    """Do a job in a warm process of this thread, which a cluster's worker lends.

    Returns
    -------
    dict
        ``outcome``; or ``died``, why the process is gone.
    """
    worker: Worker | None = getattr(_own, "worker", None)
    try:
        if worker is None:
            worker = _own.worker = Worker()
        return {"outcome": worker.do(Job.of(job), task).whole()}
    except RunError as error:
        _own.worker = None
        if worker is not None:
            worker.close()
        return {"died": str(error), "tip": error.tip, "exit_code": int(ExitCode.RUN)}
