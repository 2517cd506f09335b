"""How the channels of normalized tensors vary together over data, as products of their features.

A channel has two features a sample: the mean m of its normalized elements, and half of what their
mean square is off 1. The sum over samples of their products is all that the search asks for, so
memory does not grow with the data. (That v - 1 of a group is the mean of its channels' own leaves
the square of the group's mean out, which is of fourth order; a search that kept it found nothing
better.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from normswap.groupnorm.layer import Layer
    from normswap.progress import Progress

    Floats = npt.NDArray[np.float64]

_AT_ONCE = 16  # layers whose tensors are fetched at a time


def measured(
    original: Path,
    layers: Mapping[int, tuple[Layer, Floats, Floats]],
    batches: Iterable[Mapping[str, Any]],
    progress: Progress,
) -> dict[int, Floats]:
    """Return the products of each layer's channels on data.

    Parameters
    ----------
    original : Path
        The network with BatchNormalizations.
    layers : mapping of int to (Layer, (C,) ndarray, (C,) ndarray)
        By any key: a layer of the main graph, its mean and its standard deviation.
    batches : iterable of feeds
    progress : callable

    Returns
    -------
    dict of int to (C, C) ndarray

    Raises
    ------
    RunError
        The runtime can't run the model.
    """
    found = {key: np.zeros((layer.channels,) * 2) for key, (layer, _, _) in layers.items()}
    taps = {layer.x: layer.data_type for layer, _, _ in layers.values()}
    if not taps:
        return {}
    samples = 0
    with Session(original, label="the original model", taps=taps, alike=True) as session:
        for number, feeds in enumerate(batches, start=1):
            progress(f"looking at channels, batch {number}")
            count = 0
            for start in range(0, len(layers), _AT_ONCE):
                keys = list(layers)[start : start + _AT_ONCE]
                names = sorted({layers[key][0].x for key in keys})
                tensors = session.run(feeds, names)
                for key in keys:
                    layer, mean, deviation = layers[key]
                    m, v = features(tensors[layer.x], mean, deviation)
                    found[key] += m.T @ m + v.T @ v
                    count = len(m)
            samples += count
    return {key: products / max(samples, 1) for key, products in found.items()}


def features(x: npt.NDArray[Any], mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
    """Return the two features of each channel in each sample.

    Parameters
    ----------
    x : (N, C, *spatial) ndarray
    mean, deviation : (C,) ndarray

    Returns
    -------
    (N, C) ndarray, (N, C) ndarray
    """
    flat = x.astype(np.float64).reshape(*x.shape[:2], -1)
    with np.errstate(all="ignore"):  # what is not finite is looked at by whoever asks
        n = (flat - mean[:, np.newaxis]) / deviation[:, np.newaxis]
        return n.mean(axis=2), (np.square(n).mean(axis=2) - 1) / 2
