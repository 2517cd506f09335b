"""Which indices, positions and lengths lie within what they are of."""

from __future__ import annotations

import math

import numpy as np

from normswap.inputs.roles.rule import Allowed, Slot, rule
from normswap.inputs.roles.sizes import unpooled

SEQUENCE_LENGTH = 3  # elements of a sequence that is an input


@rule(("Gather", 1), ("ArrayFeatureExtractor", 1))
def _index(slot: Slot) -> Allowed:
    last = slot.use.op_type == "ArrayFeatureExtractor"
    size = slot.size(-1 if last else slot.attribute("axis", 0))
    return Allowed(0, size - 1)


@rule(("GatherElements", 1))
def _index_of_element(slot: Slot) -> Allowed:
    size = slot.size(slot.attribute("axis", 0))
    return Allowed(-size if size > 1 else 0, size - 1)


@rule(("ScatterElements", 1), ("Scatter", 1))
def _index_once(slot: Slot) -> Allowed:
    """Allow each place along the axis once: which of two updates wins is nobody's to say."""
    axis = slot.attribute("axis", 0)
    size = slot.size(axis)
    if not -len(slot.shape) <= axis < len(slot.shape) or slot.shape[axis] > size:
        return Allowed(0, size - 1)
    line = [n for i, n in enumerate(slot.shape) if i != axis % len(slot.shape)]
    permuted = slot.rng.random((*line, size)).argsort(axis=-1)[..., : slot.shape[axis]]
    return Allowed(0, size - 1, np.moveaxis(permuted, -1, axis))


@rule(("GatherND", 1), ("ScatterND", 1))
def _tuple_of_indices(slot: Slot) -> Allowed:
    """Allow tuples that are within the data; of those that are written to, each once."""
    shape = slot.data()
    skipped = slot.attribute("batch_dims", 0)
    if not shape or not slot.shape or 0 in shape or not slot.shape[-1]:
        return Allowed(0, 0)
    indexed = shape[skipped : skipped + slot.shape[-1]]
    tuples, places = slot.count // slot.shape[-1], math.prod(indexed)
    if slot.use.op_type == "ScatterND" and tuples <= places:
        flat = slot.rng.permutation(places)[:tuples]
    else:
        flat = slot.rng.integers(places, size=tuples)
    return Allowed(0, min(indexed) - 1, np.stack(np.unravel_index(flat, indexed), axis=-1))


@rule(("SoftmaxCrossEntropyLoss", 1), ("NegativeLogLikelihoodLoss", 1))
def _label(slot: Slot) -> Allowed:
    return Allowed(0, slot.size(1) - 1)


@rule(("OneHot", 0))
def _category(slot: Slot) -> Allowed:
    depth, made = slot.constant(1), slot.made()
    axis = slot.attribute("axis", -1)
    size = 2 if depth is None else int(np.ravel(depth)[0])
    if depth is None and made is not None and -len(made) <= axis < len(made):
        size = made[axis]
    return Allowed(-size, size - 1)


@rule(("RotaryEmbedding", 3))
def _position(slot: Slot) -> Allowed:
    return Allowed(0, slot.size(0, 1) - 1)


@rule(("TensorScatter", 2))
def _written_at(slot: Slot) -> Allowed:
    axis = slot.attribute("axis", -2)
    return Allowed(0, max(slot.size(axis) - slot.size(axis, 1), 0))


@rule(("MaxUnpool", 1))
def _unpooled_index(slot: Slot) -> Allowed:
    """Allow each place of the output once."""
    made = slot.made() or unpooled(slot).values
    total = slot.count if made is None else math.prod(int(size) for size in made)
    return Allowed(0, total - 1, slot.rng.permutation(total)[: slot.count])


@rule(("SequenceAt", 1), ("SequenceErase", 1), ("SequenceInsert", 2))
def _element(slot: Slot) -> Allowed:
    if slot.use.inputs[0] in slot.known.sequences:
        return Allowed(0, SEQUENCE_LENGTH - 1)
    # One that the graph makes has at least one element, if it is ever to be read.
    return Allowed(0, 0)


@rule(("Compress", 1))
def _kept(slot: Slot) -> Allowed:
    """Allow flags of which one is set, at least."""
    flags = slot.rng.random(slot.count) < 0.5
    flags[: slot.count and 1] = True
    return Allowed(0, 1, slot.rng.permutation(flags))


@rule(("Slice", 1))
def _from(slot: Slot) -> Allowed:
    shape = slot.data()
    return Allowed(0, 1 if shape and min(shape) > 1 else 0)


@rule(("Slice", 2))
def _until(slot: Slot) -> Allowed:
    return Allowed(2, max([2, *(slot.data() or ())]))


@rule(("ReverseSequence", 1))
def _length_of_reversed(slot: Slot) -> Allowed:
    return Allowed(1, slot.size(slot.attribute("time_axis", 0)))


@rule(("RNN", 4), ("GRU", 4), ("LSTM", 4))
def _length(slot: Slot) -> Allowed:
    return Allowed(1, slot.size(1 if slot.attribute("layout", 0) else 0))


@rule(("Attention", 6))
def _valid_keys(slot: Slot) -> Allowed:
    return Allowed(1, slot.size(2 if len(slot.data(1) or ()) == 4 else 1, 1))
