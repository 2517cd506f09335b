"""What a network is run on in the check: some of the user's data, or inputs that it takes."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from normswap.errors import RunError, RunTimeoutError
from normswap.inputs.dims import RequestedSizes, batch_is_free, solve, spatial_sizes, tip
from normswap.inputs.random import Case, Distribution, make_case
from normswap.runtime.failures import ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from normswap.check.options import CheckOptions
    from normswap.inputs.signature import Signature
    from normswap.progress import Progress
    from normswap.runtime.session import Session


SAMPLES = 2
MOST = 8  # batches of the user's data at depth FULL
_MORE = (
    *((each, SAMPLES) for each in Distribution if each is not Distribution.USER),
    *((Distribution.NORMAL, batch) for batch in (1, 7)),
)


def make_feeds(
    session: Session,
    signature: Signature,
    options: CheckOptions,
    batches: Iterable[Mapping[str, Any]] | None,
    progress: Progress,
    *,
    samples: int,
    first_size: int | None = None,
) -> Mapping[str, Any]:
    """Return inputs for a network.

    Parameters
    ----------
    session : Session
        The network, on which random inputs are tried.
    signature : Signature
        Of the same.
    options : CheckOptions
    batches : iterable of feeds, optional
        The user's data; random inputs if left out.
    progress : callable
    samples : int
        How many samples are in a batch, where the network leaves that open.
    first_size : int, optional
        Spatial size that is tried first, where the network leaves that open.

    Raises
    ------
    RunError
        The network takes no input that was tried.
    """
    if batches is not None:
        return _few(signature, batches, samples)
    return _accepted(session, signature, options, progress, samples, first_size)[0].feeds


def data_feeds(
    signature: Signature, options: CheckOptions, batches: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return what of the user's data a check runs on: a few samples, or some batches if FULL."""
    if options.full:
        return list(islice(batches, MOST))
    return [_few(signature, batches, SAMPLES)]


def _few(
    signature: Signature, batches: Iterable[Mapping[str, Any]], samples: int
) -> Mapping[str, Any]:
    first = next(iter(batches))
    free = batch_is_free(signature, RequestedSizes({}, {}))
    return {name: value[:samples] if free else value for name, value in first.items()}


def make_cases(
    session: Session,
    signature: Signature,
    options: CheckOptions,
    batches: Iterable[Mapping[str, Any]] | None,
    progress: Progress,
    notes: list[str],
    *,
    part: Callable[[Case], Sequence[str]],
) -> list[Case]:
    """Return the inputs of a check: a few samples, or at depth FULL several sets of them.

    Parameters
    ----------
    session, signature, options, batches, progress
        See :func:`make_feeds`.
    notes : list of str
        Is told of inputs that the network does not take.
    part : callable
        Returns what will be computed of the network on inputs.

    Raises
    ------
    RunError
        The network takes no input that was tried.
    """
    if batches is not None:
        found = data_feeds(signature, options, batches)
        return [Case("data", Distribution.USER, dict(feeds)) for feeds in found]
    first, spatial = _accepted(session, signature, options, progress, SAMPLES, None, part)
    cases = {first.name: first}
    requested = RequestedSizes(options.input_shapes, {})
    for distribution, samples in _MORE if options.full else ():
        shapes = solve(signature, requested, batch=samples, spatial=spatial)
        case = make_case(signature, shapes, distribution, seed=options.seed, ranges={})
        if case.name in cases:
            continue
        progress(f"trying {case.name}")
        try:
            session.run(case.feeds, part=part(case))
        except (RunTimeoutError, ProviderError):
            raise
        except RunError as error:
            notes.append(f"not tested on {case.name}: {error}")
        else:
            cases[case.name] = case
    return list(cases.values())


def _accepted(
    session: Session,
    signature: Signature,
    options: CheckOptions,
    progress: Progress,
    samples: int,
    first_size: int | None,
    part: Callable[[Case], Sequence[str]] = lambda _: (),
) -> tuple[Case, int]:
    """Return random inputs that a network takes, and the spatial size that they have."""
    requested = RequestedSizes(options.input_shapes, {})
    refusal: RunError | None = None
    sizes = list(spatial_sizes(signature, requested))
    if first_size is not None and len(sizes) > 1:
        sizes.insert(0, first_size)
    for spatial in sizes:
        progress("looking for inputs that the model accepts")
        shapes = solve(signature, requested, batch=samples, spatial=spatial)
        case = make_case(signature, shapes, Distribution.NORMAL, seed=options.seed, ranges={})
        try:
            session.run(case.feeds, part=part(case))
        except (RunTimeoutError, ProviderError):
            raise
        except RunError as error:
            if refusal is None:
                refusal = error
                refusal.tip = refusal.tip or tip(signature, shapes)
        else:
            return case, spatial
    raise refusal or RunError("No sizes are known for which inputs could be made.")
