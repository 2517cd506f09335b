"""What stays, in the form that is asked for.

``affine``
    One Mul and one Add with the channel's shape: what a runtime fuses or vectorizes best.
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

from normswap.dtypes import is_float
from normswap.folding.edits import Bypass, Edit, Insert, Replace, SetAttribute
from normswap.folding.operators.layout import strip_leading
from normswap.folding.plan import Kept
from normswap.folding.soundness import unsound
from normswap.graph.batchnorm import epsilon_of, is_per_activation
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Filled, Stored
from normswap.graph.network import Use
from normswap.graph.reasons import unless_blocked

if TYPE_CHECKING:
    from normswap.folding.draft import Draft
    from normswap.graph.affine import Affine
    from normswap.graph.network import Graph
    from normswap.graph.normalization import Normalization

Form = Literal["keep", "affine", "normalize"]


def rewrite(draft: Draft, graph: Graph, *, form: Form) -> bool:
    """Give what stays in a graph the form that is asked for."""
    start = draft.mark()
    for record in draft.left(graph):
        normalization = record.whole.present() if record.whole.certain else None
        if normalization is None or not isinstance(record.fate, Kept):
            continue
        new = _rewritten(draft, normalization, form)
        if new is None:
            continue
        # From now on it is known by what it has become, and told as what it was.
        draft.enter(record, fate=None)
        entry = replace(record.fate, form=form)
        draft.enter(replace(record, whole=new, fate=entry, told=entry))
    return bool(draft.since(start))


def _rewritten(draft: Draft, normalization: Normalization, form: Form) -> Normalization | None:
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
    make = _as_affine if form == "affine" else _as_normalization
    edits = make(draft, normalization, affine)
    if not edits or unsound(edits, draft.nodes):
        return None
    first = draft.network.keys
    draft.commit(map(_stored, edits))
    made = [Use(draft.nodes[key], 0) for key in range(first, draft.network.keys)]
    return replace(normalization, chain=tuple(made)) if made else normalization


def _as_affine(draft: Draft, normalization: Normalization, affine: Affine) -> list[Edit]:
    """Return the edits that put a Mul and an Add in the place of a normalization."""
    node, slot = normalization.source
    value, last = node.inputs[slot], normalization.chain[-1].node
    if value is None or value.rank is None or value.data_type is None:
        return []
    if not is_float(value.data_type) or normalization.result.data_type != value.data_type:
        return []
    scale, shift = (strip_leading(array, 0) for array in affine.at(value.rank))
    if any(value.is_doubtful_along(array.shape) for array in (scale, shift)):
        return []  # a BatchNormalization is loaded whatever ONNX infers, a Mul is not
    parts = [
        ("Mul", Filled(scale, value.data_type), "scale", 1),
        ("Add", Filled(shift, value.data_type), "shift", 0),
    ]
    wanted = [
        (op, constant, part)
        for op, constant, part, neutral in parts
        if (Stored(constant).wide() != neutral).any()
    ] or [parts[0][:3]]
    if not wanted or [use.node.op for use in normalization.chain] == [op for op, *_ in wanted]:
        return []
    edits: list[Edit] = []
    before = last.key
    for key, (op, constant, part) in enumerate(wanted, draft.network.keys):
        edits.append(Insert(before, 0, op, constant, f"{last.title}_{part}"))
        before = key
    edits += [Bypass(use.node.key, use.slot) for use in reversed(normalization.chain)]
    return edits


def _as_normalization(draft: Draft, normalization: Normalization, affine: Affine) -> list[Edit]:
    """Return the edits that make the statistics of a BatchNormalization trivial."""
    del draft
    node = normalization.source.node
    if not normalization.is_batchnorm or is_per_activation(node):
        return []
    constants = [constant_of(value) for value in node.inputs[1:5]]
    mean, var = (constant.load() for constant in constants[2:])
    if not (mean != 0).any() and not (var != 1).any() and epsilon_of(node) == 0:
        return []
    (channels,) = constants[0].shape
    new = (*affine.vectors(1, channels), np.zeros(channels), np.ones(channels))
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
