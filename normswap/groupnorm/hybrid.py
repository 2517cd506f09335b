"""The network that a swap should be: the original one, its normalizations computed in float64.

Layer by layer, what comes to a BatchNormalization of the original is fetched, normalized in NumPy,
and fed in behind it; so nothing of the swapped file is in it, neither its nodes nor the constants
that they took in from beside them. NumPy can't be put into a subgraph or a function. There the
layers are swapped in the ``primitive`` form, the most precise one, whatever form the file has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from normswap.dtypes import NUMPY_DTYPES
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.layer import Layer, Parameter, Runtime
from normswap.groupnorm.planner import by_itself, with_layers
from normswap.groupnorm.reference import affine, normalize
from normswap.groupnorm.rounding import SLACK, GroupStatistics, by_channel
from normswap.model import load, stage
from normswap.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from normswap.groupnorm.plan import SwapPlan
    from normswap.runtime.session import Session

    Open = Callable[..., Session]
    Arrays = dict[str, np.ndarray]

SHARE = 1 / SLACK
"""Of what sums are off by: unlike one rounding, that is all that they can be."""


def values(parameter: Parameter, tensors: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return a scale or bias, which may be among the tensors of a run."""
    if isinstance(parameter, Runtime):
        return tensors[parameter.name]
    return parameter


def taps(layers: Sequence[Layer]) -> dict[str, dict[str, int]]:
    """Return name and element type of the tensors that layers read and make."""
    runtime = [p for layer in layers for p in (layer.scale, layer.bias) if isinstance(p, Runtime)]
    return {
        "x": {layer.x: layer.data_type for layer in layers},
        "y": {layer.y: layer.data_type for layer in layers},
        "parameters": {p.name: p.data_type for p in runtime},
    }


@dataclass(frozen=True, slots=True)
class Hybrid:
    """What the outputs should be.

    Attributes
    ----------
    truth : dict of str to ndarray
        The outputs of the network with float64 normalizations.
    rounded : dict of str to ndarray
        What they are when every normalization is off by up to one unit of rounding, and its
        statistics by a share of what sums are, which tells what rounding alone can do to them.
    """

    truth: Arrays
    rounded: Arrays


def run_hybrid(
    original: Path,
    plan: SwapPlan,
    feeds: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    open_model: Open,
    rng: np.random.Generator,
) -> Hybrid:
    """Run the original network with every normalization that was swapped computed in float64.

    Parameters
    ----------
    original : Path
    plan : SwapPlan
        Of the swap.
    feeds : Mapping[str, ndarray]
    outputs : sequence of str
    open_model : callable
        Opens a :class:`Session`.
    rng : numpy.random.Generator
        Of the rounding errors.
    """
    whole = by_itself(plan, "primitive")
    layers = whole.visible_layers
    known = taps(layers)

    def open_reference(path: Path) -> Session:
        return open_model(
            path,
            "the original model",
            taps={**known["x"], **known["parameters"]},
            level="disabled",
        )

    if len(layers) == len(whole.swaps):
        with open_reference(original) as session:
            return Hybrid(*(_run(session, layers, feeds, outputs, noise) for noise in (None, rng)))
    results = []
    for noise in (None, rng):
        with (
            scratch_folder() as folder,
            open_reference(_with_hidden_swapped(original, whole, noise, folder)) as session,
        ):
            results.append(_run(session, layers, feeds, outputs, noise))
    return Hybrid(*results)


def _with_hidden_swapped(
    original: Path, plan: SwapPlan, rng: np.random.Generator | None, folder: Path
) -> Path:
    """Write the original with the layers swapped that are not in its main graph."""
    model = load(original)
    hidden = replace(plan, swaps=tuple(swap for swap in plan.swaps if swap.site.graph))
    if rng is not None:
        hidden = with_layers(hidden, [_rounded(swap.layer, rng) for swap in hidden.swaps])
    apply_swaps(hidden, model)
    path = folder / "reference.onnx"
    with stage(model, path) as staged:
        staged.commit()
    return path


def _rounded(layer: Layer, rng: np.random.Generator) -> Layer:
    """Return a layer whose results are off by up to one unit of rounding, channel by channel."""
    unit = float(ml_dtypes.finfo(NUMPY_DTYPES[layer.data_type]).eps)
    error = unit * rng.uniform(-1, 1, (2, layer.channels))
    scale, bias = layer.scale, layer.bias
    if not isinstance(scale, Runtime):
        scale = (np.ones(layer.channels) if scale is None else scale) * (1 + error[0])
    if isinstance(bias, np.ndarray):
        bias = bias * (1 + error[1])
    return replace(layer, scale=scale, bias=bias)


def _run(
    session: Session,
    layers: Sequence[Layer],
    feeds: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    rng: np.random.Generator | None,
) -> Arrays:
    """Compute the outputs; each run executes only what lies between two layers."""
    made: Arrays = {}
    for layer in layers:
        names = [layer.x]
        names += [p.name for p in (layer.scale, layer.bias) if isinstance(p, Runtime)]
        dtype = NUMPY_DTYPES[layer.data_type]
        tensors = session.run({**feeds, **made}, names)
        y = normalize(tensors[layer.x], num_groups=layer.num_groups, epsilon=layer.epsilon)
        if rng is not None:
            y = _with_rounding(y, layer, tensors[layer.x], rng)
        y = affine(y, values(layer.scale, tensors), values(layer.bias, tensors))
        if rng is not None:
            y *= 1 + float(ml_dtypes.finfo(dtype).eps) * rng.uniform(-1, 1, y.shape)
        made[layer.y] = y.astype(dtype)
    return session.run({**feeds, **made}, outputs)


def _with_rounding(
    normalized: npt.NDArray[np.float64], layer: Layer, x: np.ndarray, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return normalized activations whose statistics are off by what sums are, group by group."""
    with np.errstate(all="ignore"):
        statistics = GroupStatistics.of(layer, x)
        signs = rng.choice([-1.0, 1.0], (2, *statistics.mean.shape))
        factor = 1 + SHARE * signs[0] * statistics.spread_off / 2
        shift = SHARE * signs[1] * statistics.mean_off / np.sqrt(statistics.spread)
        return normalized * by_channel(layer, factor, x.ndim) + by_channel(layer, shift, x.ndim)
