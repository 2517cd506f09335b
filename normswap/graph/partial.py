"""What is known of integers that hang on sizes of which some are known: shape arithmetic.

torch's newer exporter leaves the length of a bias to the runtime: Shape, Gather, Expand, of a
tensor whose batch is open and whose channels are not. Such a shape is a masked array: the elements
that are not known are masked, and the operators that pick, join and compute sizes keep the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from normswap.semantics import constants
from normswap.semantics.families import ARITHMETIC, MOVES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.graph.network import Node

Partial = npt.NDArray[Any]
"""An array, as :class:`numpy.ma.MaskedArray` where some of its elements are not known."""

LARGEST = 1 << 10
"""Elements of an array of which only some are known at most; shapes have few."""

MOVED = {**dict.fromkeys(MOVES | {"Identity"}, (0,)), "Concat": range(LARGEST)}
"""Operators that move elements, by the inputs whose elements these are; the others say where to."""

ELEMENTWISE = ARITHMETIC | {
    "Abs", "Cast", "Ceil", "Clip", "Equal", "Floor", "Greater", "Less", "Max", "Min", "Neg", "Not",
    "Where",
}  # fmt: skip
"""Operators whose every element hangs on the elements at its place alone."""


def sizes_of(node: Node) -> Partial | None:
    """Return what a Shape or Size makes, None where not even the rank of its tensor is known."""
    value = node.inputs[0]
    shape = None if value is None else value.shape
    if shape is None:
        return None
    sizes = np.array([size if isinstance(size, int) else 0 for size in shape], np.int64)
    open_ = np.array([not isinstance(size, int) for size in shape], bool)
    if node.op == "Size":
        sizes, open_ = np.array(sizes.prod()), np.array(open_.any())
    else:
        part = slice(node.attr("start", 0), node.attr("end", None))
        sizes, open_ = sizes[part], open_[part]
    return known(sizes, open_)


def evaluate(
    op: str,
    opset: int,
    inputs: Sequence[Partial | None],
    attributes: Mapping[str, Any],
    n_outputs: int,
) -> list[Partial] | None:
    """Return what is known of the outputs of one node of the default domain.

    Parameters
    ----------
    op, opset
        The operator, and the version of its domain.
    inputs : sequence of numpy.ndarray or None
        Masked where an element is not known.
    attributes, n_outputs
        See :func:`normswap.semantics.constants.evaluate`.

    Returns
    -------
    list of numpy.ndarray or None
        None where nothing is known.
    """

    def run(values: Sequence[npt.NDArray[Any] | None]) -> list[npt.NDArray[Any]] | None:
        return constants.evaluate(op, "", opset, values, attributes, n_outputs)

    open_ = [value is not None and np.ma.is_masked(value) for value in inputs]
    plain = [None if value is None else np.ma.filled(value, 1) for value in inputs]
    results = run(plain)
    if results is None or not any(open_):
        return results
    if sum(result.size for result in results) > LARGEST:
        return None
    masks = [np.zeros(()) if value is None else np.ma.getmaskarray(value) for value in inputs]
    if op in ELEMENTWISE:
        mask = np.broadcast_arrays(*masks, results[0])[:-1]
        return [known(results[0], np.logical_or.reduce(mask))]
    slots = MOVED.get(op, ())
    if any(hidden and slot not in slots for slot, hidden in enumerate(open_)):
        return None
    moved = run(
        [
            masks[slot].astype(np.int64) if slot in slots and value is not None else value
            for slot, value in enumerate(plain)
        ]
    )
    if moved is None:
        return None
    return [known(result, mask != 0) for result, mask in zip(results, moved, strict=True)]


def known(values: npt.NDArray[Any], mask: npt.NDArray[Any]) -> Partial:
    """Return an array with a mask, unless all of its elements are known."""
    return np.ma.MaskedArray(values, mask) if mask.any() else values
