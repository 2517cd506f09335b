"""What stays, in the form that is asked for.

``affine``
    One Mul and one Add with the channel's shape: what a runtime fuses or vectorizes best. Where the
    parameters are of a wider type than the data, as ONNX allows since opset 14, they are computed
    in that, between two Casts: as the BatchNormalization is.
``normalize``
    A BatchNormalization with mean 0, var 1 and epsilon 0, so that its scale and B are the affine.

Both compute the same ``s * x + t``, with s and t rounded once from what the statistics say. What
the fold goes on with are these rounded values, since a fold of the result reads no others: whether
a constant that takes them in has all its digits may hang on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from normswap.dtypes import NUMPY_DTYPES, is_float
from normswap.folding.edits import Bypass, Convert, Edit, Insert, Replace, SetAttribute
from normswap.folding.operators.layout import strip_leading
from normswap.folding.plan import Kept
from normswap.folding.soundness import unsound
from normswap.graph.batchnorm import epsilon_of, is_per_activation
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Filled, Stored
from normswap.graph.network import Use
from normswap.graph.reasons import unless_blocked
from normswap.graph.sizes import is_in_doubt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.folding.draft import Draft
    from normswap.folding.functions import Library
    from normswap.graph.affine import Affine
    from normswap.graph.network import Graph
    from normswap.graph.normalization import Normalization
    from normswap.graph.sizes import Dim

Form = Literal["keep", "affine", "normalize"]


def rewrite(draft: Draft, graph: Graph, *, form: Form, library: Library) -> bool:
    """Give what stays in a graph the form that is asked for."""
    start = draft.mark()
    for record in draft.left(graph):
        normalization = record.whole.present() if record.whole.certain else None
        if normalization is None or not isinstance(record.fate, Kept):
            continue
        new = _rewritten(draft, normalization, form, library)
        if new is None:
            continue
        # From now on it is known by what it has become, and told as what it was.
        draft.enter(record, fate=None)
        entry = replace(record.fate, form=form)
        draft.enter(replace(record, whole=new, fate=entry, told=entry))
    return bool(draft.since(start))


def _rewritten(
    draft: Draft, normalization: Normalization, form: Form, library: Library
) -> Normalization | None:
    """Give a normalization that stays another form, if it has one.

    Returns
    -------
    Normalization or None
        What it is then; None where it is left as it is: it has that form already, its parameters
        are not known, or the new ones would be beyond the range or the digits of their type.
    """
    if form == "affine":
        normalization = normalization.extended()
    affine = None if form == "keep" else unless_blocked(normalization.affine)
    if affine is None:
        return None
    if form == "affine":
        edits = _as_affine(draft, normalization, affine, library)
    else:
        edits = _as_normalization(normalization, affine)
    if not edits or unsound(edits, draft.nodes):
        return None
    first = draft.network.keys
    draft.commit(map(_stored, edits))
    nodes = [draft.nodes[key] for key in range(first, draft.network.keys)]
    made = [Use(node, 0) for node in nodes if node.op != "Cast"]
    return replace(normalization, chain=tuple(made)) if made else normalization


def _as_affine(
    draft: Draft, normalization: Normalization, affine: Affine, library: Library
) -> list[Edit]:
    """Return the edits that put a Mul and an Add in the place of a normalization."""
    node, slot = normalization.source
    value, last = node.inputs[slot], normalization.chain[-1].node
    if value is None:
        return []
    data_type, shape = library.agreed(value)
    if data_type is None or shape is None or not is_float(data_type):
        return []
    if normalization.result.data_type not in (None, data_type):
        return []
    scale, shift = (strip_leading(array, 0) for array in affine.at(len(shape)))
    if any(_is_doubtful_along(shape, array.shape) for array in (scale, shift)):
        return []  # a BatchNormalization is loaded whatever ONNX infers, a Mul is not
    wide = _compute_type(normalization, data_type)
    parts = [
        ("Mul", Filled(scale, wide), "scale", 1),
        ("Add", Filled(shift, wide), "shift", 0),
    ]
    wanted = [
        (op, constant, part)
        for op, constant, part, neutral in parts
        if (Stored(constant).wide() != neutral).any()
    ] or [parts[0][:3]]
    if not wanted or [use.node.op for use in normalization.chain] == [op for op, *_ in wanted]:
        return []
    edits: list[Edit] = []
    before, key = last.key, draft.network.keys
    if wide != data_type:
        edits.append(Convert(before, wide, f"{last.title}_wide"))
        before, key = key, key + 1
    for op, constant, part in wanted:
        edits.append(Insert(before, 0, op, constant, f"{last.title}_{part}"))
        before, key = key, key + 1
    if wide != data_type:
        edits.append(Convert(before, data_type, f"{last.title}_narrow"))
    edits += [Bypass(use.node.key, use.slot) for use in reversed(normalization.chain)]
    return edits


def _is_doubtful_along(shape: Sequence[Dim], constant: Sequence[int]) -> bool:
    """Whether a constant has elements along an axis whose size ONNX may infer otherwise."""
    axes = range(len(shape) - len(constant), len(shape))
    return any(n != 1 and is_in_doubt(shape[axis]) for axis, n in zip(axes, constant, strict=True))


def _compute_type(normalization: Normalization, data_type: int) -> int:
    """Return the type in which a normalization is computed: the widest of its parameters'."""
    node = normalization.chain[0].node
    if not normalization.is_batchnorm:
        return data_type
    types = [constant_of(value).data_type for value in node.inputs[1:5]]
    return max([data_type, *types], key=lambda kind: NUMPY_DTYPES[kind].itemsize)


def _as_normalization(normalization: Normalization, affine: Affine) -> list[Edit]:
    """Return the edits that make the statistics of a BatchNormalization trivial."""
    node = normalization.source.node
    if not normalization.is_batchnorm or is_per_activation(node):
        return []
    constants = [constant_of(value) for value in node.inputs[1:5]]
    mean, var = (constant.load() for constant in constants[2:])
    if not (mean != 0).any() and not (var != 1).any() and epsilon_of(node) == 0:
        return []
    (channels,) = constants[0].shape
    new = (*affine.vectors(channels), np.zeros(channels), np.ones(channels))
    edits: list[Edit] = [
        Replace(node.key, slot, Filled(values, constant.data_type), node.operand(slot).name)
        for slot, (values, constant) in enumerate(zip(new, constants, strict=True), 1)
    ]
    return [*edits, SetAttribute(node.key, "epsilon", 0.0)]


def _stored(edit: Edit) -> Edit:
    """Return an edit whose new values are as they will be read from the file."""
    if isinstance(edit, Insert | Replace):
        return replace(edit, constant=Stored(edit.constant))
    return edit
