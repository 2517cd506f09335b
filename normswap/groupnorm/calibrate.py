"""Refit the affine of every layer, so that the swapped network follows the original on real data.

For channel c of a layer, with n the normalized activation and z what the BatchNormalization of the
original network gives for the same element::

    minimize sum (scale * n + bias - z)^2      =>      scale = cov(n, z) / var(n)
                                                       bias  = mean(z) - scale * mean(n)

over all elements of the channel in all samples. Layer by layer, each with the refitted ones before
it in place, so that later layers make up for what earlier ones could not; or, in one pass, with n
from the activations of the original network.

A layer that is used twice (several nodes read the same scale, B, mean and variance) gets one
affine, fitted to all its uses as far as they have been gone through.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_graphsurgeon as gs

from normswap.dtypes import NUMPY_DTYPES
from normswap.errors import DataError
from normswap.files.scratch import scratch_folder
from normswap.finite import flaw_of
from normswap.graph.names import Names
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.layer import Layer, Runtime, elements_of_group
from normswap.groupnorm.options import FittedAffine
from normswap.groupnorm.planner import by_itself, with_layers
from normswap.groupnorm.policy import divisors
from normswap.groupnorm.reference import normalize
from normswap.groupnorm.words import SHARE
from normswap.model import load, stage
from normswap.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from normswap.groupnorm.plan import SwapPlan
    from normswap.progress import Progress

    Batches = Iterable[Mapping[str, Any]]


CHUNK = 16
"""Layers whose tensors are fetched at once in the one-pass variant."""


class PairMoments:
    """Running means and second moments of pairs (n, z) by channel.

    Batches are merged by the update of Chan, Golub and LeVeque (1983), so that large means don't
    cancel and memory does not grow with the data.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros((2, channels))
        self.nn = np.zeros(channels)
        self.nz = np.zeros(channels)
        self.zz = np.zeros(channels)

    def add(self, n: npt.NDArray[Any], z: npt.NDArray[Any]) -> None:
        """Take in a batch.

        Parameters
        ----------
        n, z : (N, C, *spatial) ndarray
        """
        with np.errstate(invalid="ignore", over="ignore"):  # a fit that is not finite is refused
            self._add(n, z)

    def _add(self, n: npt.NDArray[Any], z: npt.NDArray[Any]) -> None:
        channels = n.shape[1]
        pair = [np.moveaxis(v.astype(np.float64), 1, 0).reshape(channels, -1) for v in (n, z)]
        count = pair[0].shape[1]
        mean = np.stack([v.mean(axis=1) for v in pair])
        a, b = (v - m[:, None] for v, m in zip(pair, mean, strict=True))
        total = self.count + count
        shift = mean - self.mean
        weight = self.count * count / total
        self.nn += np.einsum("ce,ce->c", a, a) + weight * shift[0] ** 2
        self.nz += np.einsum("ce,ce->c", a, b) + weight * shift[0] * shift[1]
        self.zz += np.einsum("ce,ce->c", b, b) + weight * shift[1] ** 2
        self.mean += shift * (count / total)
        self.count = total

    def fit(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the scale and bias of least squares.

        A channel whose n never varies gets scale 0: the best that is left is the mean of z.
        """
        varies = ~(self.nn == 0)  # NaN counts, so that it is not lost
        with np.errstate(invalid="ignore", over="ignore"):
            scale = np.divide(self.nz, self.nn, out=np.zeros_like(self.nn), where=varies)
            return scale, self.mean[1] - scale * self.mean[0]

    @property
    def loss(self) -> float:
        """Sum of squares that the fit leaves."""
        with np.errstate(invalid="ignore", over="ignore"):
            explained = np.divide(
                self.nz**2, self.nn, out=np.zeros_like(self.nn), where=self.nn > 0
            )
            return float(np.maximum(self.zz - explained, 0).sum())


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """How layers are refitted.

    Attributes
    ----------
    one_pass : bool
        Fit all layers to the activations of the original network, in a single pass over the data.
    search_groups : bool
        Give every layer the number of groups, of all that divide its channels, with which the fit
        is best.
    timeout : float
        Seconds for one run.
    refit : bool
        Fit the weights of linear layers too; see :mod:`normswap.groupnorm.refit`.
    holdout : float or str
        The share of the samples that is held out, to judge by; or the name of an array of the data
        that says what each sample belongs to, so that no unit is on both sides.
    """

    one_pass: bool = False
    search_groups: bool = False
    timeout: float = 600.0
    refit: bool = False
    holdout: float | str = SHARE

    @property
    def units(self) -> str | None:
        """The name of the array that says what samples belong to, if there is one."""
        return self.holdout if isinstance(self.holdout, str) else None


def calibrate(
    original: Path,
    plan: SwapPlan,
    batches: Batches,
    how: CalibrationOptions,
    progress: Progress,
) -> dict[tuple[str, str], FittedAffine]:
    """Fit the affine of every layer in the main graph.

    Parameters
    ----------
    original : Path
        The model before the swap.
    plan : SwapPlan
        Of the swap.
    batches : iterable of feeds
        Gone through once for each layer, or once in all with `CalibrationOptions.one_pass`.
    how : CalibrationOptions
    progress : callable

    Returns
    -------
    dict of (str, str) to FittedAffine
        For `SwapOptions.affines`.

    Raises
    ------
    DataError
        What is fitted to a layer is not finite.
    RunError
        The runtime can't run a model.
    """
    plan = by_itself(plan)
    layers = plan.visible_layers
    taps = {name: layer.data_type for layer in layers for name in (layer.x, layer.y)}
    with Session(
        original, label="the original model", taps=taps, alike=True, timeout=how.timeout
    ) as before:
        if how.one_pass:
            found = _one_pass(before, plan, batches, how, progress)
        else:
            found = _in_order(original, before, plan, batches, how, progress)
    return {("", name): affine for name, affine in found.items()}


def _candidates(layer: Layer, how: CalibrationOptions) -> list[int]:
    if not how.search_groups:
        return [layer.num_groups]
    known = layer.shape, layer.channels
    return [groups for groups in divisors(layer.channels) if elements_of_group(*known, groups) != 1]


def _fitted(moments: Mapping[int, PairMoments], layer: Layer) -> FittedAffine:
    """Return the fit of the number of groups that leaves the least; of equals, that asked for.

    Raises
    ------
    DataError
        If that is not finite, or not in the type in which the layer computes.
    """
    groups = min(moments, key=lambda g: (moments[g].loss, g != layer.num_groups, g))
    scale, bias = moments[groups].fit()
    for what, values in (("scale", scale), ("bias", bias)):
        name = f"the fitted {what} of {layer.name}"
        flaw = flaw_of(name, values, NUMPY_DTYPES[layer.compute_type])
        if flaw is not None:
            raise DataError(
                f"On this data {flaw}.",
                tip="The network overflows on this data. Scale the data as in training, or leave "
                "out samples with extreme values.",
            )
    return FittedAffine(scale, bias, groups)


class _Fits:
    """The moments of every layer, those of one that is used several times together."""

    def __init__(self, plan: SwapPlan, how: CalibrationOptions) -> None:
        self._uses: dict[tuple[str, ...], list[Layer]] = {}
        self._keys: dict[str, tuple[str, ...]] = {}
        for swap in plan.swaps:
            if not swap.site.graph:
                self._uses.setdefault(swap.parameters, []).append(swap.layer)
                self._keys[swap.layer.y] = swap.parameters
        self._moments = {
            key: {g: PairMoments(uses[0].channels) for g in _candidates(uses[0], how)}
            for key, uses in self._uses.items()
        }

    def add(self, layer: Layer, x: npt.NDArray[Any], z: npt.NDArray[Any]) -> None:
        """Take in a batch of a use."""
        for groups, moments in self._moments[self._keys[layer.y]].items():
            moments.add(normalize(x, num_groups=groups, epsilon=layer.epsilon), z)

    def fitted(self, layer: Layer) -> dict[str, FittedAffine]:
        """Return the affine of a layer, by the name of the output of every use."""
        key = self._keys[layer.y]
        affine = _fitted(self._moments[key], layer)
        return {use.y: affine for use in self._uses[key]}


def _one_pass(
    before: Session,
    plan: SwapPlan,
    batches: Batches,
    how: CalibrationOptions,
    progress: Progress,
) -> dict[str, FittedAffine]:
    layers, fits = plan.visible_layers, _Fits(plan, how)
    for number, feeds in enumerate(batches, start=1):
        progress(f"calibrating, batch {number}")
        for start in range(0, len(layers), CHUNK):
            chunk = layers[start : start + CHUNK]
            names = sorted({name for layer in chunk for name in (layer.x, layer.y)})
            tensors = before.run(feeds, names)
            for layer in chunk:
                fits.add(layer, tensors[layer.x], tensors[layer.y])
    return {name: affine for layer in layers for name, affine in fits.fitted(layer).items()}


def _in_order(
    original: Path,
    before: Session,
    plan: SwapPlan,
    batches: Batches,
    how: CalibrationOptions,
    progress: Progress,
) -> dict[str, FittedAffine]:
    fitted: dict[str, FittedAffine] = {}
    layers, fits = plan.visible_layers, _Fits(plan, how)
    network = _Parametrized(original, plan, how.timeout)
    try:
        for number, layer in enumerate(layers, start=1):
            progress(f"calibrating layer {number} of {len(layers)}")
            for feeds in batches:
                z = before.run(feeds, [layer.y])[layer.y]
                x = network.activation(layer.x, feeds, fitted)
                fits.add(layer, x, z)
            new = fits.fitted(layer)
            fitted.update(new)
            if any(network.groups[name] != affine.num_groups for name, affine in new.items()):
                network.regroup(fitted)
    finally:
        network.close()
    return fitted


class _Parametrized:
    """The swapped network with every scale and bias as an input, so that one session does."""

    def __init__(self, original: Path, plan: SwapPlan, timeout: float) -> None:
        self._original = original
        self._plan = plan
        self._timeout = timeout
        self._life = contextlib.ExitStack()
        self._folder = self._life.enter_context(scratch_folder())
        self._session: Session | None = None
        self._inputs: dict[str, tuple[str, str, np.dtype[Any]]] = {}
        self._neutral: dict[str, np.ndarray] = {}
        self.groups: dict[str, int] = {}  # of every layer, by the name of its output
        self.regroup({})

    def regroup(self, fitted: Mapping[str, FittedAffine]) -> None:
        """Build the network anew, with the numbers of groups that were found."""
        if self._session is not None:
            self._session.close()
        model = load(self._original)
        names = Names(model)
        layers = []
        for swap in self._plan.swaps:
            layer = swap.layer
            if not swap.site.graph:
                found = fitted.get(layer.y)
                groups = (found and found.num_groups) or layer.num_groups
                self.groups[layer.y] = groups
                layer = self._opened(replace(layer, num_groups=groups), model.graph, names)
            layers.append(layer)
        apply_swaps(with_layers(self._plan, layers), model)
        with stage(model, self._folder / "network.onnx", overwrite=True) as staged:
            staged.commit()
        taps = {layer.x: layer.data_type for layer in layers if layer.y in self._inputs}
        self._session = Session(
            self._folder / "network.onnx",
            label="the swapped model",
            taps=taps,
            alike=True,
            timeout=self._timeout,
        )

    def _opened(self, layer: Layer, graph: gs.Graph, names: Names) -> Layer:
        """Make a layer's scale and bias inputs of the graph."""
        dtype = NUMPY_DTYPES[layer.compute_type]
        tensors = [
            gs.Variable(names.fresh(f"{layer.name}/{what}"), dtype, (layer.channels,))
            for what in ("scale_input", "bias_input")
        ]
        graph.inputs.extend(tensors)
        self._inputs[layer.y] = (tensors[0].name, tensors[1].name, dtype)
        self._neutral[tensors[0].name] = np.ones(layer.channels, dtype)
        self._neutral[tensors[1].name] = np.zeros(layer.channels, dtype)
        return replace(
            layer,
            scale=Runtime(tensors[0].name, layer.compute_type),
            bias=Runtime(tensors[1].name, layer.compute_type),
        )

    def activation(
        self, name: str, feeds: Mapping[str, Any], fitted: Mapping[str, FittedAffine]
    ) -> np.ndarray:
        """Return what comes to a layer, the layers before it being fitted."""
        parameters = dict(self._neutral)
        for key, affine in fitted.items():
            scale, bias, dtype = self._inputs[key]
            parameters[scale] = affine.scale.astype(dtype)
            parameters[bias] = affine.bias.astype(dtype)
        if self._session is None:
            raise AssertionError("the network is closed")
        return self._session.run({**feeds, **parameters}, [name])[name]

    def close(self) -> None:
        """Remove the network."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._life.close()
