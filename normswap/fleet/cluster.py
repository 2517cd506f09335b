"""Many models on many machines: a task a model, on a Dask cluster.

The scheduler gives a task to another worker if the one that had it is lost, and gives up where a
task has lost several. A task runs in a process of its own beside Dask's worker, as on one machine:
a model that ends its process takes no worker with it.

Source: https://distributed.dask.org, "Worker Resources" and "Resilience".
"""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normswap import __version__
from normswap.errors import RunError, UsageError
from normswap.fleet import remote
from normswap.fleet.pool import ask
from normswap.fleet.work import Outcome
from normswap.model.hashes import external_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from normswap.fleet.work import Job

RESOURCE = "MEMORY"
"""What workers offer, in bytes, with ``dask worker --resources "MEMORY=16e9"``."""

RESERVE = 500e6
"""Bytes that a process takes before it has a model."""

FACTOR = 4
"""How many times its size a model takes: itself, what is made of it, and both in the runtime."""

_AHEAD = 1000
"""Tasks that the scheduler is given before others are done."""

_RETRIES = 2
"""Of a task that could not be begun."""

_PATIENCE = 30
"""Seconds until a scheduler is taken to be none."""


def run(
    jobs: Iterable[Job], task: str, address: str, failed: Callable[[Job, Exception], Outcome]
) -> Iterator[Outcome]:
    """Do jobs on a cluster, and yield what comes of them as it comes.

    Parameters
    ----------
    task : str
        As of `normswap.fleet.pool.run`.
    address : str
        Of the scheduler.
    failed : callable
        Returns the outcome of a job that could not be done.

    Raises
    ------
    UsageError
        Dask is not installed.
    RunError
        There is no scheduler, or its workers have another normswap.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise UsageError(
            "--scheduler needs the package distributed of Dask.",
            tip="Install it: pip install 'normswap[dask]'",
        ) from None
    with _connected(Client, address) as client:
        _require_same(client)
        tasks = _Tasks(client, task)
        waiting = iter(jobs)
        done = as_completed([], loop=client.loop, with_results=True, raise_errors=False)
        try:
            yield from _refill(done, tasks, itertools.islice(waiting, _AHEAD), failed)
            for future, found in done:
                yield _outcome(tasks.jobs.pop(future.key), future.status, found, failed)
                future.release()
                yield from _refill(done, tasks, itertools.islice(waiting, 1), failed)
        finally:
            client.cancel(list(done.futures))


def _refill(
    done: Any, tasks: _Tasks, jobs: Iterable[Job], failed: Callable[[Job, Exception], Outcome]
) -> Iterator[Outcome]:
    """Give jobs to the scheduler; yield what comes of those that no worker can take."""
    for job in jobs:
        try:
            done.add(tasks.submit(job))
        except RunError as error:  # noqa: PERF203 - of this job, and the others go on
            yield failed(job, error)


class _Tasks:
    """Jobs by the names of their tasks."""

    def __init__(self, client: Any, task: str) -> None:
        self.jobs: dict[str, Job] = {}
        self._client = client
        self._task = task
        self._names = (f"normswap-{uuid.uuid4().hex}-{n}" for n in itertools.count())

    def submit(self, job: Job) -> Any:
        """Give a job to the scheduler.

        Raises
        ------
        RunError
            It takes more memory than any worker has.
        """
        where = self._where(int(RESERVE + FACTOR * size_of(job.models)))
        key = next(self._names)
        self.jobs[key] = job
        return self._client.submit(
            ask, job.to_dict(), self._task, key=key, pure=False, retries=_RETRIES, **where
        )

    def _where(self, memory: int) -> dict[str, Any]:
        """Return what asks the scheduler for memory: of what workers offer, or of their limits."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        offered = [worker["resources"].get(RESOURCE) for worker in workers.values()]
        declared = bool(offered) and None not in offered
        limits = {
            address: worker["resources"][RESOURCE] if declared else worker["memory_limit"]
            for address, worker in workers.items()
        }
        # A limit of 0 is none.
        fitting = [address for address, limit in limits.items() if not limit or limit >= memory]
        if limits and not fitting:
            raise RunError(
                f"The model needs about {memory / 1e9:.1f} GB of memory, but no "
                f"worker has more than {max(limits.values()) / 1e9:.1f} GB.",
                tip="Start a worker with more memory: --memory-limit, or --resources MEMORY=BYTES.",
            )
        if declared:
            return {"resources": {RESOURCE: memory}}
        return {} if len(fitting) == len(limits) else {"workers": fitting}


def _outcome(
    job: Job, status: str, found: Any, failed: Callable[[Job, Exception], Outcome]
) -> Outcome:
    if status == "error":
        error = found[1]
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if type(error).__name__ == "KilledWorker":
            said = "it crashed every worker that tried it"
        return failed(job, RunError(f"{job.name} could not be processed: {said}."))
    if "died" in found:
        return failed(job, RunError(found["died"], tip=found["tip"]))
    return Outcome(**found["outcome"])


@contextlib.contextmanager
def _connected(client: Any, address: str) -> Iterator[Any]:
    try:
        made = client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"No Dask scheduler could be reached at {address}: {' '.join(str(error).split())}.",
            tip="Start one with `dask scheduler`, and give its address, such as tcp://host:8786.",
        ) from error
    with made:
        yield made


def _version() -> str:
    from normswap import __version__ as version

    return version


def _require_same(client: Any) -> None:
    """Refuse workers that would do something else."""
    try:
        found = client.run(_version)
    except ImportError as error:
        raise RunError(
            f"normswap is not installed on the workers of {client.scheduler.address}: {error}.",
            tip="Install the same version of normswap there.",
        ) from error
    for address, version in found.items():
        if version != __version__:
            raise RunError(
                f"Worker {address} has normswap {version}, but this is normswap {__version__}.",
                tip="Install the same version of normswap there.",
            )


def size_of(models: Iterable[str]) -> int:
    """Return the bytes of models, external data included; 0 of what won't tell."""
    total = 0
    for model in models:
        with contextlib.suppress(OSError):
            if remote.is_url(model):
                total += remote.size_of(model)
            else:
                files = (Path(model), *external_files(Path(model)).values())
                total += sum(os.path.getsize(file) for file in files)  # noqa: PTH202 - of many
    return total
