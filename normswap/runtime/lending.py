"""A process that has imported the runtime, lent to one check after another.

A check of one model has such a process to itself, and ends it. Where many models follow one
another, most of what a small one costs would be its start.
"""

from __future__ import annotations

import atexit
import contextlib
from typing import TYPE_CHECKING, Any

from normswap.runtime.child import Child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_idle: list[Child] | None = None


def keep() -> None:
    """Keep processes that are given back, from now on until this process ends."""
    global _idle  # noqa: PLW0603 - what a process keeps is the process's
    if _idle is None:
        _idle = []
        atexit.register(_close)


def _close() -> None:
    for child in _idle or ():
        child.close()


@contextlib.contextmanager
def lent(
    label: str,
    *,
    timeout: float,
    memory_limit: int | None,
    provider_options: Mapping[str, Any] | None = None,
) -> Iterator[Child]:
    """Lend a process that imports the runtime, or has done so.

    It ends with the context, unless such processes are kept and nothing went wrong. One that was
    given a limit or options of a provider is of no use to another check, and ends too.

    Parameters
    ----------
    label, timeout, memory_limit, provider_options
        As of `Child`.
    """
    kept = _idle is not None and memory_limit is None and not provider_options
    if kept and _idle:
        child = _idle.pop()
        child.lend(label, timeout)
    else:
        child = Child(
            label,
            timeout=timeout,
            memory_limit=memory_limit,
            provider_options=provider_options,
            warm=True,
        )
    try:
        yield child
    except BaseException:
        child.kill()  # an error is not kept waiting
        child.close()
        raise
    if kept and _idle is not None and child.is_well:
        _idle.append(child)
    else:
        child.close()
