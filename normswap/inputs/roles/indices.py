"""Which indices, positions and lengths lie within what they are of."""

from __future__ import annotations

import math

import numpy as np

from normswap.inputs.roles.rule import Allowed, Place, rule
from normswap.inputs.roles.sizes import unpooled

SEQUENCE_LENGTH = 3  # elements of a sequence that is an input


@rule(("Gather", 1), ("ArrayFeatureExtractor", 1))
def _index(place: Place) -> Allowed:
    last = place.use.op_type == "ArrayFeatureExtractor"
    size = place.size(-1 if last else place.attribute("axis", 0))
    return Allowed(0, size - 1)


@rule(("GatherElements", 1))
def _index_of_element(place: Place) -> Allowed:
    size = place.size(place.attribute("axis", 0))
    return Allowed(-size if size > 1 else 0, size - 1)


@rule(("ScatterElements", 1), ("Scatter", 1))
def _index_once(place: Place) -> Allowed:
    """Allow each place along the axis once: which of two updates wins is nobody's to say."""
    axis = place.attribute("axis", 0)
    size = place.size(axis)
    if not -len(place.shape) <= axis < len(place.shape) or place.shape[axis] > size:
        return Allowed(0, size - 1)
    line = [n for i, n in enumerate(place.shape) if i != axis % len(place.shape)]
    permuted = place.rng.random((*line, size)).argsort(axis=-1)[..., : place.shape[axis]]
    return Allowed(0, size - 1, np.moveaxis(permuted, -1, axis))


@rule(("GatherND", 1), ("ScatterND", 1))
def _tuple_of_indices(place: Place) -> Allowed:
    """Allow tuples that are within the data; of those that are written to, each once."""
    shape = place.data()
    skipped = place.attribute("batch_dims", 0)
    if not shape or not place.shape or 0 in shape or not place.shape[-1]:
        return Allowed(0, 0)
    indexed = shape[skipped : skipped + place.shape[-1]]
    tuples, places = place.count // place.shape[-1], math.prod(indexed)
    if place.use.op_type == "ScatterND" and tuples <= places:
        flat = place.rng.permutation(places)[:tuples]
    else:
        flat = place.rng.integers(places, size=tuples)
    return Allowed(0, min(indexed) - 1, np.stack(np.unravel_index(flat, indexed), axis=-1))


@rule(("SoftmaxCrossEntropyLoss", 1), ("NegativeLogLikelihoodLoss", 1))
def _label(place: Place) -> Allowed:
    return Allowed(0, place.size(1) - 1)


@rule(("OneHot", 0))
def _category(place: Place) -> Allowed:
    depth, made = place.constant(1), place.made()
    axis = place.attribute("axis", -1)
    size = 2 if depth is None else int(np.ravel(depth)[0])
    if depth is None and made is not None and -len(made) <= axis < len(made):
        size = made[axis]
    return Allowed(-size, size - 1)


@rule(("RotaryEmbedding", 3))
def _position(place: Place) -> Allowed:
    return Allowed(0, place.size(0, 1) - 1)


@rule(("TensorScatter", 2))
def _written_at(place: Place) -> Allowed:
    axis = place.attribute("axis", -2)
    return Allowed(0, max(place.size(axis) - place.size(axis, 1), 0))


@rule(("MaxUnpool", 1))
def _unpooled_index(place: Place) -> Allowed:
    """Allow each place of the output once."""
    made = place.made() or unpooled(place).values
    total = place.count if made is None else math.prod(int(size) for size in made)
    return Allowed(0, total - 1, place.rng.permutation(total)[: place.count])


@rule(("SequenceAt", 1), ("SequenceErase", 1), ("SequenceInsert", 2))
def _element(place: Place) -> Allowed:
    if place.use.inputs[0] in place.known.sequences:
        return Allowed(0, SEQUENCE_LENGTH - 1)
    # One that the graph makes has at least one element, if it is ever to be read.
    return Allowed(0, 0)


@rule(("Compress", 1))
def _kept(place: Place) -> Allowed:
    """Allow flags of which one is set, at least."""
    flags = place.rng.random(place.count) < 0.5
    flags[: place.count and 1] = True
    return Allowed(0, 1, place.rng.permutation(flags))


@rule(("Slice", 1))
def _from(place: Place) -> Allowed:
    shape = place.data()
    return Allowed(0, 1 if shape and min(shape) > 1 else 0)


@rule(("Slice", 2))
def _until(place: Place) -> Allowed:
    return Allowed(2, max([2, *(place.data() or ())]))


@rule(("Slice", 4))
def _by(_: Place) -> Allowed:
    return Allowed(1, 2)


@rule(("ReverseSequence", 1))
def _length_of_reversed(place: Place) -> Allowed:
    return Allowed(1, place.size(place.attribute("time_axis", 0)))


@rule(("RNN", 4), ("GRU", 4), ("LSTM", 4))
def _length(place: Place) -> Allowed:
    return Allowed(1, place.size(1 if place.attribute("layout", 0) else 0))


@rule(("Attention", 6))
def _valid_keys(place: Place) -> Allowed:
    return Allowed(1, place.size(2 if len(place.data(1) or ()) == 4 else 1, 1))
