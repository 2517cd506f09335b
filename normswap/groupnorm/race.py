"""Which form is the fastest on this machine: all that are precise, in a small network each.

Layers that are alike in all that matters race once. The small network without a normalization runs
beside them, and is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import NUMPY_DTYPES
from normswap.groupnorm.choose import contenders
from normswap.groupnorm.feeds import make_feeds
from normswap.groupnorm.options import Timings
from normswap.groupnorm.surroundings import INPUT, in_form, small_network
from normswap.inputs.signature import read_signature
from normswap.runtime.child import run_task
from normswap.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from normswap.check.options import CheckOptions
    from normswap.graph.sizes import Dim
    from normswap.groupnorm.layer import Layer, Parameter
    from normswap.groupnorm.plan import SwapPlan
    from normswap.progress import Progress


SECONDS = 0.3
"""That the runs of one kind of layer take at least."""

USUAL_SIZE = 224
"""Pixels of a side of an image, where the model leaves it open."""

MOST_ELEMENTS = 1 << 24
"""Of an activation; a larger one is cut, since all forms are in memory at once."""

CHUNK = 32
"""Layers whose tensors are fetched at once."""

_BARE = "bare"  # the small network without a normalization
_LEAST = 1e-7  # seconds that a form takes, whatever the noise says


@dataclass(frozen=True, slots=True)
class _Kind:
    """All of a layer that its speed depends on."""

    dims: tuple[Dim, ...]
    shape: tuple[int, ...]
    num_groups: int
    data_type: int
    opset: int
    scale: bool
    bias: bool
    before_convolution: bool


def measure(
    original: Path,
    plan: SwapPlan,
    how: CheckOptions,
    *,
    batches: Iterable[Mapping[str, Any]] | None = None,
    progress: Progress,
) -> dict[int, Timings]:
    """Time every form of every layer of a plan, but those that are imprecise.

    Parameters
    ----------
    original : Path
        The model that was planned for. It is run once where sizes are not static.
    plan : SwapPlan
    how : CheckOptions
        The provider, the shapes of the model's inputs, and how long a run may take.
    batches : iterable of feeds, optional
        Data whose sizes are taken where the model leaves them open.
    progress : callable

    Returns
    -------
    dict of int to Timings
        By the number of the node, for :func:`normswap.groupnorm.planner.with_timings`. Layers of
        subgraphs and functions whose sizes are not static are not in it.

    Raises
    ------
    RunError
        The runtime or the provider can't be used, or the model can't be run.
    """
    shapes = _shapes(original, plan, how, batches, progress)
    layers = {
        swap.key: swap.layer for swap in plan.swaps if np.prod(shapes.get(swap.key, (0,))) > 0
    }
    kinds = {key: _kind(layer, shapes[key]) for key, layer in layers.items()}
    kept = {kind: layers[key] for key, kind in kinds.items()}
    if not kept:
        return {}
    many = "1 kind of layer" if len(kept) == 1 else f"{len(kept)} kinds of layers"
    progress(f"timing the forms of {many}")
    response = run_task(
        "normswap.runtime.stopwatch:race",
        {
            "provider": how.provider,
            "provider_options": dict(how.provider_options),
            "threads": plan.options.threads or 0,
            "seconds": SECONDS,
            "trials": [_trial(kind, layer, plan.options.provider) for kind, layer in kept.items()],
        },
        label="timing the forms",
        timeout=how.timeout,
    )
    timings = {}
    for kind, found in zip(kept, response["trials"], strict=True):
        bare = found.pop(_BARE, 0.0)
        seconds = {form: max(each - bare, _LEAST) for form, each in found.items()}
        timings[kind] = Timings(kind.shape, seconds)
    return {key: timings[kind] for key, kind in kinds.items()}


def _shapes(
    original: Path,
    plan: SwapPlan,
    how: CheckOptions,
    batches: Iterable[Mapping[str, Any]] | None,
    progress: Progress,
) -> dict[int, tuple[int, ...]]:
    """Return the shape of each layer's x, by the number of its node."""
    found: dict[int, tuple[int, ...]] = {}
    seen: dict[int, Layer] = {}
    for swap in plan.swaps:
        layer = swap.layer
        sizes = tuple(dim for dim in layer.shape or () if isinstance(dim, int))
        if len(sizes) == layer.rank:
            found[swap.key] = sizes
        elif not swap.site.graph:  # onnxruntime shows the tensors of the main graph only
            seen[swap.key] = layer
    if not seen:
        return found
    with Session(
        original,
        label="the original model",
        taps={layer.x: layer.data_type for layer in seen.values()},
        provider=how.provider,
        provider_options=how.provider_options,
        timeout=how.timeout,
    ) as session:
        signature = read_signature(original)
        feeds = make_feeds(
            session, signature, how, batches, progress, samples=1, first_size=USUAL_SIZE
        )
        entries = list(seen.items())
        for start in range(0, len(entries), CHUNK):
            chunk = entries[start : start + CHUNK]
            tensors = session.run(feeds, sorted({layer.x for _, layer in chunk}))
            found.update((key, tensors[layer.x].shape) for key, layer in chunk)
    return found


def _kind(layer: Layer, shape: tuple[int, ...]) -> _Kind:
    dims = layer.shape or (None, layer.channels, *[None] * (len(shape) - 2))
    sizes = _cut(shape)
    return _Kind(
        dims=tuple(
            size if isinstance(dim, int) else dim for dim, size in zip(dims, sizes, strict=True)
        ),
        shape=sizes,
        num_groups=layer.num_groups,
        data_type=layer.data_type,
        opset=layer.opset,
        scale=layer.scale is not None,
        bias=layer.bias is not None,
        before_convolution=layer.before_convolution,
    )


def _cut(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Halve the batch, and then the longest sides, until an activation is small enough."""
    sizes = list(shape)
    sides = [0, *range(2, len(sizes))]
    while np.prod(sizes, dtype=np.float64) > MOST_ELEMENTS and any(sizes[at] > 1 for at in sides):
        at = 0 if sizes[0] > 1 else max(sides, key=lambda side: sizes[side])
        sizes[at] = (sizes[at] + 1) // 2
    return tuple(sizes)


def _trial(kind: _Kind, layer: Layer, provider: str) -> dict[str, Any]:
    """Return what the stopwatch is to do with the networks of one kind of layer."""
    how: dict[str, Any] = {
        "data_type": kind.data_type,
        "opset": kind.opset,
        "epsilon": layer.epsilon,
        "convolutions": kind.before_convolution,
        "activation": "Relu" if kind.before_convolution else "",
    }
    affine = (_like(layer.scale, layer, 1.0), _like(layer.bias, layer, 0.0))
    models = {_BARE: small_network(kind.dims, None, **how).SerializeToString()}
    network = small_network(kind.dims, affine, **how)
    for form in contenders(layer, provider):
        models[form.name], _ = in_form(network, kind.num_groups, form.name, provider)
    packed = {form: np.frombuffer(model, np.uint8) for form, model in models.items()}
    dtype = np.dtype(NUMPY_DTYPES[kind.data_type]).name
    return {"models": packed, "input": INPUT, "shape": kind.shape, "dtype": dtype}


def _like(parameter: Parameter, layer: Layer, neutral: float) -> npt.NDArray[np.float64]:
    """Return a constant scale or B that costs what a layer's own does."""
    if parameter is None:
        return np.full(layer.channels, neutral)
    if isinstance(parameter, np.ndarray):
        return parameter
    return np.random.default_rng(0).normal(size=layer.channels)
