"""What one process does for a fit of all layers at once: its share of the batches, and no other's.

A *push* takes a change of the parameters to that of the outputs: the network is run with a small
part of it. A *pull* takes what is missing of the outputs back to the parameters. Tensors stay in
the process, and only what is of the size of the parameters leaves it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.groupnorm.refit.adjoints.base import lying, upright
from normswap.groupnorm.refit.tangent import Linearized, find_route

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from normswap.groupnorm.refit.tangent import Route
    from normswap.runtime.partial import PartialModel
    from normswap.runtime.worker import Channel

    Array = npt.NDArray[Any]
    Tensors = Mapping[str, Array]
    Vector = npt.NDArray[np.floating[Any]]

PART = 3e-4
"""Of the size of the parameters: how far they are moved to see the outputs move. With thirty layers
a hundredth is no small move: what is seen is then as little as a sixth of what a pull says."""


def open_share(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Get ready, with the model that `normswap.runtime.partial` has loaded.

    The request holds the ``path`` of that model, the names of ``parameters`` and ``ends``, as of
    `find_route`, and ``room``, as of `Share`.
    """
    route = find_route(Path(request["path"]), request["parameters"], request["ends"])
    job.held["share"] = Share(job.held["model"], route, request["room"])
    return {}


def begin(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Linearize at other ``parameters``, with no batches; ``aims`` as of `Share.begin`."""
    share: Share = job.held["share"]
    share.begin(request["parameters"], [(name, by) for name, by in request["aims"]])
    return {}


def take(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Take in a batch, with ``feeds`` and ``wanted`` as of `Share.take`."""
    share: Share = job.held["share"]
    share.take(request["feeds"], request["wanted"])
    return {}


def push(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Answer with the ``energy`` of what the outputs do when the parameters move by ``along``."""
    share: Share = job.held["share"]
    return {"energy": share.push(request["along"])}


def pull(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Answer with what comes back, the ``slope``, after a ``step`` along the last push."""
    share: Share = job.held["share"]
    return {"slope": share.pull(request["step"])}


def split(vector: Vector, parameters: Tensors) -> dict[str, Array]:
    """Return a vector as a change of each parameter, in the order of their names."""
    names = sorted(parameters)
    parts = np.split(vector, np.cumsum([parameters[name].size for name in names])[:-1])
    shaped = zip(names, parts, strict=True)
    return {name: part.reshape(parameters[name].shape) for name, part in shaped}


@dataclass(slots=True)
class _Batch:
    """A batch, and the tensors on it that are judged, as one vector.

    Attributes
    ----------
    feeds : dict of str to ndarray
    shapes : list of (tuple of int, dtype)
        Of the tensors, as they lie in the vector.
    base, left, seen : (M,) ndarray
        What they are, what is missing of what they should be, and what the last push has done.
    linearized : Linearized, optional
    """

    feeds: Tensors
    shapes: list[tuple[tuple[int, ...], Any]]
    base: Vector
    left: Vector
    seen: Vector
    linearized: Linearized | None = None


class Share:
    """The linearization of a network over some batches, with its parameters as one vector.

    Parameters
    ----------
    model : PartialModel
    route : Route
        From the parameters to the outputs.
    room : int
        Bytes of linearizations that are kept; of batches for which there is no room, they are made
        anew each time.
    """

    def __init__(self, model: PartialModel, route: Route, room: int) -> None:
        self._model = model
        self._route = route
        self._room = room

    def begin(self, parameters: Tensors, aims: Sequence[tuple[str, float]]) -> None:
        """Linearize elsewhere, and forget all batches.

        Parameters
        ----------
        parameters : dict of str to ndarray
            All that are inputs of the network, in their own types; those of the route are moved.
        aims : sequence of (str, float)
            The tensors that are judged, and what each is multiplied by.
        """
        self._model.held |= parameters
        self._parameters = {name: parameters[name] for name in sorted(self._route.names)}
        self._aims = aims
        self._batches: list[_Batch] = []
        self._left = self._room
        self._size = math.sqrt(
            sum(float(np.square(v, dtype=np.float64).sum()) for v in self._parameters.values())
        )

    def take(self, feeds: Tensors, wanted: Sequence[Array]) -> None:
        """Take in a batch.

        Parameters
        ----------
        feeds : dict of str to ndarray
        wanted : sequence of ndarray
            What the tensors that are judged should be.
        """
        values = self._run(feeds, [name for name, _ in self._aims])
        shapes = [(lying(values[name]).shape, values[name].dtype) for name, _ in self._aims]
        base = self._vector(values[name] for name, _ in self._aims)
        self._batches.append(_Batch(feeds, shapes, base, self._vector(wanted) - base, base))

    def push(self, along: Vector) -> float:
        """Return the energy of what the outputs do, and keep it."""
        size = float(np.linalg.norm(along))
        part = PART * (self._size or 1.0) / size if size else 1.0
        moved = {
            name: (self._parameters[name] + part * change).astype(self._parameters[name].dtype)
            for name, change in split(along, self._parameters).items()
        }
        names = [name for name, _ in self._aims]
        energy = 0.0
        for batch in self._batches:
            values = self._run(batch.feeds, names, moved)
            batch.seen = self._vector(values[name] for name in names)
            batch.seen -= batch.base
            batch.seen /= part
            energy += float(batch.seen @ batch.seen)
        return energy

    def pull(self, step: float) -> Vector:
        """Take a step along the last push, and return what then comes back to the parameters."""
        total = {name: np.zeros(value.shape) for name, value in self._parameters.items()}
        for batch in self._batches:
            if step:
                batch.left -= step * batch.seen
            linearized = batch.linearized or self._linearized(batch)
            for name, part in linearized.pull(self._ends(batch)).items():
                total[name] += part
        return np.concatenate([value.reshape(-1) for value in total.values()])

    def _ends(self, batch: _Batch) -> dict[str, Array]:
        """Return what is missing of every tensor that is judged."""
        ends: dict[str, Array] = {}
        start = 0
        for (name, by), (shape, dtype) in zip(self._aims, batch.shapes, strict=True):
            count = math.prod(shape)
            part = batch.left[start : start + count].reshape(shape) * by
            part = upright(part.astype(dtype, copy=False))
            ends[name] = ends[name] + part if name in ends else part
            start += count
        return ends

    def _linearized(self, batch: _Batch) -> Linearized:
        names = [*self._route.taps, *(name for name, _ in self._aims)]
        found = Linearized(self._route, {**self._run(batch.feeds, names), **self._parameters})
        if found.nbytes <= self._left:
            self._left -= found.nbytes
            batch.linearized = found
        return found

    def _run(
        self, feeds: Tensors, names: Iterable[str], moved: Tensors | None = None
    ) -> dict[str, Array]:
        missing = sorted({name for name in names if name not in feeds})
        found = self._model.run(missing, {**feeds, **(moved or {})}) if missing else {}
        return {**feeds, **found}

    def _vector(self, values: Iterable[Array]) -> Vector:
        pairs = zip(values, self._aims, strict=True)
        return np.concatenate(
            [
                lying(v).astype(np.result_type(v, np.float32)).reshape(-1) * by
                for v, (_, by) in pairs
            ]
        )
