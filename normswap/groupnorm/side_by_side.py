"""The original and the swapped network, each loaded once and fed the same."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from normswap.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from normswap.check.options import CheckOptions
    from normswap.groupnorm.layer import Layer


def session_of(
    model: Path, which: str, options: CheckOptions, layers: Iterable[Layer] = ()
) -> Session:
    """Load one of the two; what layers give may be asked for besides its outputs."""
    return Session(
        model,
        label=f"the {which} model",
        taps={layer.y: layer.data_type for layer in layers},
        provider=options.provider,
        provider_options=options.provider_options,
        timeout=options.timeout,
        alike=True,
    )


@contextmanager
def side_by_side(
    original: Path, swapped: Path, options: CheckOptions, layers: Iterable[Layer] = ()
) -> Iterator[tuple[Session, Session]]:
    """Load both, see :func:`session_of`."""
    layers = tuple(layers)
    with (
        session_of(original, "original", options, layers) as before,
        session_of(swapped, "swapped", options, layers) as after,
    ):
        yield before, after
