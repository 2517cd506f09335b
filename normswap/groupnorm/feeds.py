"""What a network is run on in the check: some of the user's data, or inputs that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normswap.errors import RunError, RunTimeoutError
from normswap.inputs.dims import Wishes, batch_is_free, solve, spatial_sizes
from normswap.inputs.random import Distribution, make_case
from normswap.runtime.failures import ProviderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from normswap.groupnorm.options import VerifyOptions
    from normswap.inputs.signature import Signature
    from normswap.progress import Progress
    from normswap.runtime.session import Session


def make_feeds(
    session: Session,
    signature: Signature,
    options: VerifyOptions,
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
    options : VerifyOptions
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
        first = next(iter(batches))
        free = batch_is_free(signature, Wishes({}, {}))
        return {name: value[:samples] if free else value for name, value in first.items()}
    wishes = Wishes(options.input_shapes, {})
    refusal: RunError | None = None
    sizes = list(spatial_sizes(signature, wishes))
    if first_size is not None and len(sizes) > 1:
        sizes.insert(0, first_size)
    for spatial in sizes:
        progress("looking for inputs that the model takes")
        shapes = solve(signature, wishes, batch=samples, spatial=spatial)
        case = make_case(signature, shapes, Distribution.NORMAL, seed=options.seed, ranges={})
        try:
            session.run(case.feeds)
        except (RunTimeoutError, ProviderError):
            raise
        except RunError as error:
            refusal = refusal or error
        else:
            return case.feeds
    raise refusal or RunError("There is no input to try.")
