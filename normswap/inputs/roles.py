"""Which values an input may have, by the operators that read it.

An axis must exist, an index must lie within its axis, sizes must fit the data, a divisor must not
be zero. Each operator that asks something of an input has a rule here, written from the operator's
page in ONNX's specification; where a rule would need what isn't known (the rank of a tensor whose
shape is computed), it falls back to what is safe for every model: an index of 0, a size of 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from normswap.inputs.signature import inferred

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from normswap.inputs.semantics import Semantics, Use
    from normswap.inputs.signature import Signature

Shape = tuple[int, ...]

SEQUENCE_LENGTH = 3  # elements of a sequence that is an input
_SMALL_SIZE = 3  # of a tensor whose size is an input
_TRIPS = 4  # of a loop


@dataclass(frozen=True, slots=True)
class Allowed:
    """What values an input may have.

    Attributes
    ----------
    low, high : float or None
        Bounds, both included.
    values : numpy.ndarray or None
        The values themselves, where they depend on each other.
    zero : bool
        Whether an integer may be 0.
    choices : tuple or None
        The only values there are; strings are so for an input of strings only.
    guess : bool
        The bounds are those of a part of what an operator reads, and may be others.
    """

    low: float | None = None
    high: float | None = None
    values: np.ndarray | None = None
    zero: bool = True
    choices: tuple[Any, ...] | None = None
    guess: bool = False

    def and_also(self, other: Allowed) -> Allowed:
        """Return what both allow; where that is nothing, what this one allows."""
        bounds = [b for b in (self.low, other.low) if b is not None]
        low = max(bounds) if bounds else None
        bounds = [b for b in (self.high, other.high) if b is not None]
        high = min(bounds) if bounds else None
        if low is not None and high is not None and low > high:
            return self
        return Allowed(
            low,
            high,
            self.values if self.values is not None else other.values,
            self.zero and other.zero,
            self.choices or other.choices,
            guess=all(one.guess or one.low is None for one in (self, other)),
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a model's values once its inputs have shapes.

    Attributes
    ----------
    shapes : Mapping of str to tuple of int
        0 for a size that isn't known.
    declared : Mapping of str to tuple of int
        The same of outputs, as the model declares them.
    constants : Mapping of str to numpy.ndarray
        Small ones.
    sequences : frozenset of str
        The inputs that are sequences.
    """

    shapes: Mapping[str, Shape]
    declared: Mapping[str, Shape]
    constants: Mapping[str, np.ndarray]
    sequences: frozenset[str] = frozenset()

    @classmethod
    def of(cls, signature: Signature, shapes: Mapping[str, Shape]) -> Known:
        """Return what is known of a model on inputs of certain shapes."""
        asked = (use for meaning in signature.semantics.values() for use in meaning.uses)
        if not any(map(_rule_of, asked)):
            return cls(dict(shapes), {}, {})
        found = inferred(signature.structure, shapes)
        if found is None:
            return cls(dict(shapes), {}, {})
        graph, known = found
        constants = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        for node in graph.node:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        constants[node.output[0]] = onnx.numpy_helper.to_array(attribute.t)
        declared = {
            port.name: tuple(d if isinstance(d, int) else 0 for d in port.shape)
            for port in signature.outputs
            if port.shape is not None and port.kind == "tensor"
        }
        sequences = {port.name for port in signature.inputs if port.kind.startswith("sequence")}
        return cls({**known, **shapes}, declared, constants, frozenset(sequences))


@dataclass(frozen=True, slots=True)
class _Place:
    """One use of an input, with what a rule may want to know of it."""

    use: Use
    known: Known
    shape: Shape
    rng: np.random.Generator

    @property
    def count(self) -> int:
        """Elements of the input."""
        return math.prod(self.shape)

    def attribute(self, name: str, default: Any) -> Any:
        return self.use.attributes.get(name, default)

    def data(self, slot: int = 0) -> Shape | None:
        """Return the shape of another input of the operator, None where its rank isn't known."""
        if slot >= len(self.use.inputs):
            return None
        return self.known.shapes.get(self.use.inputs[slot])

    def made(self, rank: int | None = None) -> Shape | None:
        """Return the shape of the operator's first output, None unless all of it is known.

        Parameters
        ----------
        rank : int, optional
            What it must be of.
        """
        name = self.use.outputs[0]
        for shapes in (self.known.shapes, self.known.declared):
            shape = shapes.get(name)
            if shape is not None and 0 not in shape and (rank is None or len(shape) == rank):
                return shape
        return None

    def constant(self, slot: int) -> np.ndarray | None:
        if slot >= len(self.use.inputs):
            return None
        return self.known.constants.get(self.use.inputs[slot])

    def size(self, axis: int, slot: int = 0) -> int:
        """Return the size of an axis of an input of the operator; 1 where it isn't known."""
        shape = self.data(slot)
        if shape is None or not -len(shape) <= axis < len(shape):
            return 1
        return max(shape[axis], 1)


Rule = Callable[[_Place], Allowed]


def allowed(
    meaning: Semantics, shape: Shape, known: Known, rng: np.random.Generator
) -> Allowed | None:
    """Return what values an input may have, None where nobody asks anything of them.

    Parameters
    ----------
    meaning : Semantics
    shape : tuple of int
        Of the input.
    known : Known
    rng : numpy.random.Generator
        Chooses where only some combinations of values are allowed.
    """
    found: Allowed | None = None
    for use in meaning.uses:
        rule = _rule_of(use)
        if rule is None or (rule is _no_number and len(meaning.uses) > 1):
            continue  # what isn't finite is for those alone that ask for it
        given = rule(_Place(use, known, shape, rng))
        unfit = given.values is not None and given.values.size != math.prod(shape)
        if unfit or not use.whole:
            given = replace(given, values=None, guess=True)
        found = given if found is None else found.and_also(given)
    return found


def _rule_of(use: Use) -> Rule | None:
    if use.op_type.startswith("Reduce") and use.slot == 1:
        return _axes
    return _RULES.get((use.op_type, use.slot))


_RULES: dict[tuple[str, int], Rule] = {}


def _rule(*slots: tuple[str, int]) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for slot in slots:
            _RULES[slot] = rule
        return rule

    return register


def _vector(values: npt.ArrayLike, low: float, high: float) -> Allowed:
    """Allow certain elements in a certain order; of a part of them, what lies within bounds."""
    return Allowed(low, high, np.asarray(values))


# ------------------------------------------------------------------------------------------ axes


@_rule(("CumSum", 1), ("CumProd", 1))
def _axis(place: _Place) -> Allowed:
    shape = place.data()
    return Allowed(-len(shape), len(shape) - 1) if shape else Allowed(0, 0)


@_rule(("Slice", 3), ("Pad", 3))
def _axes(place: _Place) -> Allowed:
    """Allow distinct axes, some counted from the end."""
    rank = len(place.data() or (0,))
    return _some_axes(place, list(range(rank)), rank)


@_rule(("Squeeze", 1))
def _axes_of_one(place: _Place) -> Allowed:
    shape = place.data() or (1,)
    return _some_axes(place, [axis for axis, size in enumerate(shape) if size <= 1], len(shape))


@_rule(("Unsqueeze", 1))
def _axes_to_come(place: _Place) -> Allowed:
    rank = len(place.data() or ()) + place.count
    made = place.made(rank)
    free = list(range(rank))
    if made is not None:
        free = [axis for axis in free if made[axis] == 1]
    return _some_axes(place, free, rank)


def _some_axes(place: _Place, candidates: list[int], rank: int) -> Allowed:
    chosen = place.rng.permutation(candidates)[: place.count]
    back = place.rng.random() < 0.5
    return _vector([axis - rank if back else axis for axis in chosen], 0, 0)


@_rule(("DFT", 2))
def _signal_axis(place: _Place) -> Allowed:
    return Allowed(0, max(len(place.data() or ()) - 2, 0))


# ----------------------------------------------------------------------------------------- sizes


@_rule(("ConstantOfShape", 0))
def _new_shape(place: _Place) -> Allowed:
    made = place.made(place.count)
    sizes = made if made is not None else place.rng.integers(1, 4, size=place.count)
    return _vector(sizes, 1, _SMALL_SIZE)


@_rule(("Reshape", 1))
def _other_shape(place: _Place) -> Allowed:
    made = place.made(place.count)
    if made is not None:
        return _vector(made, 1, 1)
    shape = place.data()
    if shape is None or 0 in shape or place.count == 0:
        return _vector([-1, *[1] * (place.count - 1)], 1, 1)
    sizes = [*shape[1:], *shape[:1]]  # another order of the axes is another shape
    while len(sizes) > place.count:
        last = sizes.pop()
        sizes[-1] *= last
    return _vector([*sizes, *[1] * (place.count - len(sizes))], 1, 1)


@_rule(("Expand", 1))
def _larger_shape(place: _Place) -> Allowed:
    shape = place.data()
    if shape is None:
        return _vector([1] * place.count, 1, 1)
    padded = (1,) * (place.count - len(shape)) + tuple(shape)
    padded = padded[len(padded) - place.count :]
    made = place.made(place.count)
    grown = place.rng.integers(2, 4, size=place.count)
    sizes = [grown[i] if size == 1 else max(size, 1) for i, size in enumerate(padded)]
    if made is not None:
        sizes = list(made)
    return _vector(sizes, 1, 1)


@_rule(("Tile", 1))
def _repeats(place: _Place) -> Allowed:
    shape, made = place.data(), place.made(place.count)
    if shape and made and len(shape) == place.count and 0 not in shape:
        return _vector([b // a for a, b in zip(shape, made, strict=True)], 1, 2)
    return Allowed(1, 2)


@_rule(("Resize", 3))
def _resized(place: _Place) -> Allowed:
    shape, made = place.data(), place.made()
    axes = place.attribute("axes", range(len(shape or ())))
    sizes: list[Any]
    if made is not None and len(made) == len(shape or ()):
        return _vector([made[axis] for axis in axes], 1, 4)
    if not shape or len(axes) != place.count:
        return Allowed(1, 4)
    keep = max(len(shape) - 2, 0)  # interpolation is in the last axes, of images as of signals
    sizes = [
        shape[axis] if axis % len(shape) < keep else shape[axis] + place.rng.integers(-1, 3)
        for axis in axes
    ]
    if place.attribute("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        sizes = [shape[axis] * 2 for axis in axes]
    return _vector([max(size, 1) for size in sizes], 1, 4)


@_rule(("Resize", 2), ("Upsample", 1))
def _scales(place: _Place) -> Allowed:
    shape = place.data()
    made = place.made()
    axes = place.attribute("axes", range(len(shape or ())))
    if not shape or len(axes) != place.count or 0 in shape:
        return _vector([1.0] * place.count, 1, 1)
    if made is not None and len(made) == len(shape):
        return _vector([made[axis] / shape[axis] for axis in axes], 1, 2)
    keep = max(len(shape) - 2, 0)
    larger = (1.5, 2.0) if place.use.op_type == "Upsample" else (0.6, 1.5, 2.0)
    scales = [
        1.0 if axis % len(shape) < keep else larger[place.rng.integers(len(larger))]
        for axis in axes
    ]
    return _vector(scales, 1, 2)


@_rule(("Resize", 1))
def _scales_or_region(place: _Place) -> Allowed:
    if len(place.use.inputs) == 2:  # before opset 11
        return _scales(place)
    half = place.count // 2
    return _vector([0.1] * half + [0.9] * (place.count - half), 0, 1)


@_rule(("Range", 0))
def _start(place: _Place) -> Allowed:
    return Allowed(0, 2) if place.made(1) is None else Allowed(1, 1)


@_rule(("Range", 1))
def _limit(place: _Place) -> Allowed:
    made = place.made(1)
    return Allowed(4, 8) if made is None else Allowed(1 + made[0], 1 + made[0])


@_rule(("Range", 2))
def _delta(place: _Place) -> Allowed:
    return Allowed(1, 2) if place.made(1) is None else Allowed(1, 1)


@_rule(("TopK", 1))
def _of_the_largest(place: _Place) -> Allowed:
    axis = place.attribute("axis", -1)
    made = place.made()
    if made is not None and -len(made) <= axis < len(made):
        return Allowed(made[axis], made[axis])
    return Allowed(1, place.size(axis))


@_rule(("OneHot", 1))
def _depth(place: _Place) -> Allowed:
    made = place.made()
    axis = place.attribute("axis", -1)
    if made is not None and -len(made) <= axis < len(made):
        return Allowed(made[axis], made[axis])
    return Allowed(2, 6)


@_rule(("Pad", 1))
def _pads(place: _Place) -> Allowed:
    """Allow pads of less than the data's size, which every mode takes."""
    shape, made = place.data(), place.made()
    if not shape:
        return Allowed(0, 0)
    axes = place.constant(3)
    chosen = range(len(shape)) if axes is None else [int(axis) for axis in axes]
    sizes = [shape[axis] for axis in chosen] * 2
    if len(sizes) != place.count:
        return Allowed(0, 1)
    if made is not None and axes is None and len(made) == len(shape):
        more = [max(b - a, 0) for a, b in zip(shape, made, strict=True)]
        return _vector([n // 2 for n in more] + [n - n // 2 for n in more], 0, 1)
    return _vector([place.rng.integers(0, min(max(size, 1), 3)) for size in sizes], 0, 1)


@_rule(("CenterCropPad", 1))
def _cropped(place: _Place) -> Allowed:
    made = place.made()
    axes = place.attribute("axes", range(len(made or ())))
    if made is not None and len(axes) == place.count:
        return _vector([made[axis] for axis in axes], 1, 4)
    return Allowed(2, 8)


@_rule(("AffineGrid", 1))
def _grid(place: _Place) -> Allowed:
    sizes = place.rng.integers(2, 5, size=place.count)
    made = place.made(place.count)
    if made is not None:
        sizes[2:] = made[1:-1]
    sizes[:1] = place.size(0)
    return _vector(sizes, 1, 4)


@_rule(("Split", 1), ("SplitToSequence", 1))
def _parts(place: _Place) -> Allowed:
    size = place.size(place.attribute("axis", 0))
    if not place.shape:
        return Allowed(1, size)
    made = [
        place.known.declared.get(name) or place.known.shapes.get(name, ())
        for name in place.use.outputs
    ]
    axis = place.attribute("axis", 0)
    parts = [shape[axis] if -len(shape) <= axis < len(shape) else 0 for shape in made]
    if sum(parts) != size or len(parts) != place.count:
        parts = [size // max(place.count, 1)] * place.count
        parts[-1:] = [size - sum(parts[:-1])]
    return _vector(parts, 0, 1)


@_rule(("Trilu", 1))
def _diagonal(place: _Place) -> Allowed:
    return Allowed(-place.size(-2) + 1, place.size(-1) - 1)


@_rule(("DFT", 1))
def _transformed(place: _Place) -> Allowed:
    made, axis = place.made(), place.attribute("axis", -2)
    if made is not None and -len(made) <= axis < len(made):
        return Allowed(made[axis], made[axis])
    return Allowed(2, max(place.size(axis), 2))


@_rule(("HannWindow", 0), ("HammingWindow", 0), ("BlackmanWindow", 0))
def _window(place: _Place) -> Allowed:
    made = place.made(1)
    return Allowed(4, 10) if made is None else Allowed(made[0], made[0])


@_rule(("STFT", 1))
def _step(place: _Place) -> Allowed:
    frames = place.made(4)
    width, length = place.constant(3), place.size(1)
    if frames is not None and width is not None and frames[1] > 1:
        step = (length - int(width)) // (frames[1] - 1)
        return Allowed(step, step)
    return Allowed(1, max(length // 4, 1))


@_rule(("STFT", 3))
def _frame(place: _Place) -> Allowed:
    window = place.size(0, 2) if place.data(2) else max(place.size(1) // 4, 1)
    return Allowed(window, window)


_MEL = {0: 8, 1: 16, 2: 8192, 3: 0, 4: 4096}
"""Bins, length of the transform, sample rate, and the band of a MelWeightMatrix."""


@_rule(*(("MelWeightMatrix", slot) for slot in _MEL))
def _mel(place: _Place) -> Allowed:
    value, made = _MEL[place.use.slot], place.made(2)
    if made is not None and place.use.slot < 2:
        value = made[1] if place.use.slot == 0 else 2 * (made[0] - 1)
    return Allowed(value, value)


@_rule(("Col2Im", 1), ("Col2Im", 2))
def _blocks(place: _Place) -> Allowed:
    """Allow sizes of an image and of its blocks that make the columns there are."""
    rank = place.count
    shape, made = place.data(), place.made(rank + 2)
    strides = place.attribute("strides", [1] * rank)
    dilations = place.attribute("dilations", [1] * rank)
    pads = place.attribute("pads", [0] * 2 * rank)
    sides = range(1, 9)
    for block in itertools.product(sides, repeat=rank):
        if not shape or shape[1] % math.prod(block):
            continue
        if made is not None and math.prod(block) * made[1] != shape[1]:
            continue
        for image in [made[2:]] if made else itertools.product(sides, repeat=rank):
            columns = [
                (image[i] + pads[i] + pads[i + rank] - dilations[i] * (block[i] - 1) - 1)
                // strides[i]
                + 1
                for i in range(rank)
            ]
            if min(columns) > 0 and math.prod(columns) == shape[2]:
                return _vector(image if place.use.slot == 1 else block, 1, 1)
    return Allowed(1, 1)


@_rule(("MaxUnpool", 2))
def _unpooled(place: _Place) -> Allowed:
    made = place.made(place.count)
    if made is not None:
        return _vector(made, 1, 1)
    shape = place.data() or ()
    strides = place.attribute("strides", [1] * max(len(shape) - 2, 0))
    kernel = place.attribute("kernel_shape", strides)
    least = [(n - 1) * s + k for n, s, k in zip(shape[2:], strides, kernel, strict=False)]
    return _vector([*shape[:2], *least], 1, 1)


# --------------------------------------------------------------------------- indices and positions


@_rule(("Gather", 1), ("ArrayFeatureExtractor", 1))
def _index(place: _Place) -> Allowed:
    last = place.use.op_type == "ArrayFeatureExtractor"
    size = place.size(-1 if last else place.attribute("axis", 0))
    return Allowed(0, size - 1)


@_rule(("GatherElements", 1))
def _index_of_element(place: _Place) -> Allowed:
    size = place.size(place.attribute("axis", 0))
    return Allowed(-size if size > 1 else 0, size - 1)


@_rule(("ScatterElements", 1), ("Scatter", 1))
def _index_once(place: _Place) -> Allowed:
    """Allow each place along the axis once: which of two updates wins is nobody's to say."""
    axis = place.attribute("axis", 0)
    size = place.size(axis)
    if not -len(place.shape) <= axis < len(place.shape) or place.shape[axis] > size:
        return Allowed(0, size - 1)
    line = [n for i, n in enumerate(place.shape) if i != axis % len(place.shape)]
    permuted = place.rng.random((*line, size)).argsort(axis=-1)[..., : place.shape[axis]]
    return Allowed(0, size - 1, np.moveaxis(permuted, -1, axis))


@_rule(("GatherND", 1), ("ScatterND", 1))
def _tuple_of_indices(place: _Place) -> Allowed:
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


@_rule(("SoftmaxCrossEntropyLoss", 1), ("NegativeLogLikelihoodLoss", 1))
def _label(place: _Place) -> Allowed:
    return Allowed(0, place.size(1) - 1)


@_rule(("OneHot", 0))
def _category(place: _Place) -> Allowed:
    depth, made = place.constant(1), place.made()
    axis = place.attribute("axis", -1)
    size = 2 if depth is None else int(np.ravel(depth)[0])
    if depth is None and made is not None and -len(made) <= axis < len(made):
        size = made[axis]
    return Allowed(-size, size - 1)


@_rule(("RotaryEmbedding", 3))
def _position(place: _Place) -> Allowed:
    return Allowed(0, place.size(0, 1) - 1)


@_rule(("TensorScatter", 2))
def _written_at(place: _Place) -> Allowed:
    axis = place.attribute("axis", -2)
    return Allowed(0, max(place.size(axis) - place.size(axis, 1), 0))


@_rule(("MaxUnpool", 1))
def _unpooled_index(place: _Place) -> Allowed:
    """Allow each place of the output once."""
    made = place.made() or _unpooled(place).values
    total = place.count if made is None else math.prod(int(size) for size in made)
    return Allowed(0, total - 1, place.rng.permutation(total)[: place.count])


@_rule(("SequenceAt", 1), ("SequenceErase", 1), ("SequenceInsert", 2))
def _element(place: _Place) -> Allowed:
    if place.use.inputs[0] in place.known.sequences:
        return Allowed(0, SEQUENCE_LENGTH - 1)
    # One that the graph makes has at least one element, if it is ever to be read.
    return Allowed(0, 0)


@_rule(("Compress", 1))
def _kept(place: _Place) -> Allowed:
    """Allow flags of which one is set, at least."""
    flags = place.rng.random(place.count) < 0.5
    flags[: place.count and 1] = True
    return Allowed(0, 1, place.rng.permutation(flags))


@_rule(("Slice", 1))
def _from(place: _Place) -> Allowed:
    shape = place.data()
    return Allowed(0, 1 if shape and min(shape) > 1 else 0)


@_rule(("Slice", 2))
def _until(place: _Place) -> Allowed:
    return Allowed(2, max([2, *(place.data() or ())]))


@_rule(("Slice", 4))
def _by(_: _Place) -> Allowed:
    return Allowed(1, 2)


@_rule(("ReverseSequence", 1))
def _length_of_reversed(place: _Place) -> Allowed:
    return Allowed(1, place.size(place.attribute("time_axis", 0)))


@_rule(("RNN", 4), ("GRU", 4), ("LSTM", 4))
def _length(place: _Place) -> Allowed:
    return Allowed(1, place.size(1 if place.attribute("layout", 0) else 0))


@_rule(("Attention", 6))
def _valid_keys(place: _Place) -> Allowed:
    return Allowed(1, place.size(2 if len(place.data(1) or ()) == 4 else 1, 1))


@_rule(("Cast", 0))
def _number(_: _Place) -> Allowed:
    return Allowed(choices=("0", "1", "-2", "34"))  # where it is a string


@_rule(("TfIdfVectorizer", 0))
def _token(place: _Place) -> Allowed:
    pool = place.attribute("pool_strings", ()) or place.attribute("pool_int64s", ())
    return Allowed(choices=_plain(pool))


@_rule(("LabelEncoder", 0))
def _key(place: _Place) -> Allowed:
    for kind in ("keys_tensor", "keys_strings", "keys_int64s", "keys_floats", "classes_strings"):
        if kind in place.use.attributes:
            return Allowed(choices=_plain(np.ravel(place.use.attributes[kind]).tolist()))
    return Allowed()


@_rule(("OneHotEncoder", 0), ("CategoryMapper", 0))
def _class(place: _Place) -> Allowed:
    found = place.attribute("cats_strings", ()) or place.attribute("cats_int64s", ())
    return Allowed(choices=_plain(found))


def _plain(values: Sequence[Any]) -> tuple[Any, ...] | None:
    found = tuple(v.decode() if isinstance(v, bytes) else v for v in values)
    return found or None


# -------------------------------------------------------------------------------- boxes and regions


@_rule(("RoiAlign", 2))
def _image_of_region(place: _Place) -> Allowed:
    return Allowed(0, place.size(0) - 1)


@_rule(("RoiAlign", 1), ("MaxRoiPool", 1))
def _regions(place: _Place) -> Allowed:
    """Allow boxes within the image: left, top, right, bottom."""
    scale = place.attribute("spatial_scale", 1.0)
    regions = place.shape[0] if place.shape else 0
    room = [place.size(-1) / scale, place.size(-2) / scale]
    first = place.rng.random((regions, 2)) * 0.5 * room
    last = first + (0.2 + 0.8 * place.rng.random((regions, 2))) * (np.array(room) - first)
    boxes = np.concatenate([first, last], axis=1)
    if place.use.op_type == "MaxRoiPool":
        images = place.rng.integers(place.size(0), size=(regions, 1))
        boxes = np.concatenate([images, boxes.round()], axis=1)
    return Allowed(0, min(room), boxes)


@_rule(("NonMaxSuppression", 2))
def _boxes_kept(_: _Place) -> Allowed:
    return Allowed(1, 5)


@_rule(("NonMaxSuppression", 0), ("NonMaxSuppression", 1), ("NonMaxSuppression", 3))
def _of_unit(_: _Place) -> Allowed:
    return Allowed(0, 1)


@_rule(("NonMaxSuppression", 4))
def _score(_: _Place) -> Allowed:
    return Allowed(0, 0.5)


# --------------------------------------------------------------------------------- plain arithmetic


@_rule(("Div", 1), ("Mod", 1))
def _divisor(_: _Place) -> Allowed:
    return Allowed(zero=False)


@_rule(("Pow", 1))
def _exponent(_: _Place) -> Allowed:
    return Allowed(0, 3)


@_rule(("BitShift", 1))
def _shift(_: _Place) -> Allowed:
    return Allowed(0, 7)  # of the narrowest type


@_rule(("IsNaN", 0), ("IsInf", 0))
def _no_number(place: _Place) -> Allowed:
    values = place.rng.standard_normal(place.count)
    which = np.arange(place.count) % 4 - 1  # a number, NaN, infinity, its negative, ...
    values[which == 0] = np.nan
    values[which == 1] = np.inf
    values[which == 2] = -np.inf
    return Allowed(values=place.rng.permutation(values))


@_rule(("Loop", 0))
def _trips(_: _Place) -> Allowed:
    return Allowed(1, _TRIPS)


@_rule(("Loop", 1))
def _goes_on(_: _Place) -> Allowed:
    return Allowed(1, 1)


@_rule(("Dropout", 1))
def _ratio(_: _Place) -> Allowed:
    return Allowed(0, 0.9)


@_rule(("Dropout", 2))
def _trains(_: _Place) -> Allowed:
    return Allowed(0, 0)


@_rule(("BatchNormalization", 4))
def _variance(_: _Place) -> Allowed:
    return Allowed(0.1, 2)


@_rule(
    ("QuantizeLinear", 1),
    ("DequantizeLinear", 1),
    *(("QLinearConv", slot) for slot in (1, 4, 6)),
    *(("QLinearMatMul", slot) for slot in (1, 4, 6)),
)
def _quantum(_: _Place) -> Allowed:
    return Allowed(0.01, 0.1)


@_rule(("Bernoulli", 0))
def _probability(_: _Place) -> Allowed:
    return Allowed(0, 1)
