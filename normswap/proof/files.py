"""From two model files to what is proved of them."""

from __future__ import annotations

import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import onnx

from normswap.errors import ModelError, UsageError
from normswap.inputs.dims import UNEVEN, RequestedSizes, solve
from normswap.inputs.random import Distribution, make_case
from normswap.model.outlined import outlined
from normswap.progress import Progress, silent
from normswap.proof.budget import Budget
from normswap.proof.constants import Constants
from normswap.proof.flat import NotFlatError
from normswap.proof.flattening import flattened
from normswap.proof.numbering import Side
from normswap.proof.prove import prove
from normswap.proof.reordered import Reordered, put_in_order, require_whole
from normswap.proof.result import Proof
from normswap.proof.sizes import Inferred, Sizes, sizes_of
from normswap.proof.witness import witness
from normswap.runtime.randomness import pin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from normswap.inputs.signature import Shape, Signature
    from normswap.runtime.arrays import Feeds

_BATCH = (2, 5)
_SIDE = 64  # of an image that a network is simulated on
_ANY = RequestedSizes({}, {})


def prove_files(
    original: Signature,
    rewritten: Signature,
    *,
    requested: RequestedSizes = _ANY,
    budget: Budget | None = None,
    alone: bool = False,
    orders: Sequence[Reordered] = (),
    ranges: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    progress: Progress = silent,
) -> Proof:
    """Prove, as far as it goes, that the model in a file is the function of that in another.

    Parameters
    ----------
    original, rewritten : Signature
        Drawing alike (`normswap.inputs.signature.drawing_alike`).
    requested : RequestedSizes
        Sizes that a person asked for; open ones are all the same to a proof, but for a few that
        are tried.
    budget : Budget, optional
        When it is over, what is left stays open.
    alone : bool
        Whether nothing else is going to be asked: then a witness is looked for where not all is
        proved.
    orders : sequence of Reordered
        The order in which channels of the rewritten model are, where that has permuted them.
    ranges : mapping of str to (float, float)
        Of inputs, by name: nothing else is shown to differ.
    progress : callable
        Is told how far it is.

    Returns
    -------
    Proof
        With a reason and nothing else where there is none.

    Raises
    ------
    ModelError
        If external data can't be read.
    """
    began = time.perf_counter()
    budget = Budget() if budget is None else budget

    def feeds() -> Iterator[Feeds]:
        return _feeds(original, requested, ranges)

    try:
        a, b, _ = sides_of(original, rewritten, requested, orders)
        with np.errstate(all="ignore"):  # infinity and NaN are values like any others here
            found = prove(a, b, feeds=feeds, budget=budget, vary=not ranges, progress=progress)
            if alone and not found.is_whole and found.witness is None:
                progress("proving: looking for inputs that show a difference")
                found = replace(found, witness=witness(a, b, feeds(), budget))
            return replace(found, seconds=time.perf_counter() - began)
    except ModelError:
        raise
    except (NotFlatError, UsageError) as error:
        return Proof(reason=str(error), seconds=time.perf_counter() - began)
    except Exception as error:  # noqa: BLE001 - of models that break a rule; then nothing is proved
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        return Proof(reason=reason, seconds=time.perf_counter() - began)


def sides_of(
    original: Signature,
    rewritten: Signature,
    requested: RequestedSizes = _ANY,
    orders: Sequence[Reordered] = (),
) -> tuple[Side, Side, list[dict[str, Shape]]]:
    """Read both models; return them, without classes, and the sizes of inputs that are tried.

    Parameters
    ----------
    original, rewritten, requested, orders
        See :func:`prove_files`.

    Raises
    ------
    ModelError
        If external data can't be read.
    NotFlatError, UsageError
        If a model can't be laid flat, or has no sizes.
    """
    shapes = _shapes(original, requested)
    known: Inferred = {}
    a = _side(original, shapes, known)
    if len(shapes) > 1:
        found = _uneven(a, shapes, known)
        if found is not None:
            shapes.append(found[0])
            a.sizes = (*a.sizes, found[1])
    b = _side(rewritten, shapes, known, orders)
    return a, b, shapes


def _uneven(
    side: Side, tried: Sequence[dict[str, Shape]], known: Inferred
) -> tuple[dict[str, Shape], Sizes] | None:
    """Return sizes that little divides, and a batch of one, if a model takes such.

    A network that halves what it reads asks for sizes that can be halved.
    """
    first, second = tried

    def other(size: int, axis: int, more: int) -> int:
        return 1 if axis == 0 and size == _BATCH[0] else size + more

    for more in UNEVEN:
        shapes = {
            name: tuple(
                size if size == second[name][axis] else other(size, axis, more)
                for axis, size in enumerate(shape)
            )
            for name, shape in first.items()
        }
        found = sizes_of(side.flat, side.constants, shapes, known)
        if found.shapes.keys() >= side.sizes[0].shapes.keys():
            return shapes, found
    return None


def side_of(model: Signature, shapes: dict[str, Shape]) -> Side:
    """Read one model alone, without classes.

    Parameters
    ----------
    model : Signature
    shapes : dict of str to tuple of int
        Of its inputs.

    Raises
    ------
    ModelError
        If external data can't be read.
    NotFlatError
        If the model can't be laid flat.
    """
    return _side(model, [shapes], {})


def _side(
    model: Signature,
    shapes: Sequence[dict[str, Shape]],
    known: Inferred,
    orders: Sequence[Reordered] = (),
) -> Side:
    """Read one of the models.

    Raises
    ------
    ModelError
        If its external data can't be read.
    """
    # Where the data of a model is in another folder, its own file is none of that.
    read = (
        outlined(model.path.resolve())
        if model.home is None
        else onnx.load(model.path, load_external_data=False)
    )
    proto = pin(read, model.seeds)
    flat = flattened(proto, model.folder)
    found = put_in_order(flat, orders)
    constants = Constants(flat, model.name)
    sizes = tuple(sizes_of(flat, constants, given, known) for given in shapes)
    require_whole(found, sizes)
    return Side(flat, constants, sizes)


def _shapes(model: Signature, requested: RequestedSizes) -> list[dict[str, Shape]]:
    """Return shapes of a model's inputs: two of each where any size is open (`_uneven` is third).

    One that is asked for is as open as others are. An input of which not even the rank is known has
    none.
    """
    first = solve(model, requested, batch=_BATCH[0])
    second = {}
    for port in model.inputs:
        if port.name not in first or port.shape is None:
            first.pop(port.name, None)
            continue
        shape = list(first[port.name])
        demanded = {axis % len(shape) for axis in model.semantics[port.name].demands.sizes if shape}
        for axis, dim in enumerate(port.shape):
            if not isinstance(dim, int) and axis not in demanded:
                batch = axis == 0 and shape[axis] == _BATCH[0]
                shape[axis] = _BATCH[1] if batch else shape[axis] + -(-shape[axis] // 2)
        second[port.name] = tuple(shape)
    return [first] if second == first else [first, second]


def _feeds(
    model: Signature, requested: RequestedSizes, ranges: Mapping[str, tuple[float, float]]
) -> Iterator[Feeds]:
    """Yield inputs: of images as small as most networks take them, and of the model's own sizes."""
    own = solve(model, requested, batch=1)
    images = [
        port.name
        for port in model.inputs
        if port.kind == "tensor" and len(own.get(port.name, ())) > 3 and "float" in port.dtype
    ]
    small = {
        name: (*shape[:2], *(min(size, _SIDE) for size in shape[2:])) if name in images else shape
        for name, shape in own.items()
    }
    for shapes in [own] if small == own else [small, own]:
        yield make_case(model, shapes, Distribution.NORMAL, seed=0, ranges=ranges).feeds
