"""How the channels of a tensor vary together by the weights that make it, without data.

The mean over a sample of what a Conv makes is, but for borders, its kernels' sums times the means
of what it reads. If these are white (independent, of one variance), two channels vary together as
the rows of sums do: their correlation is the cosine of the angle between them. What a search by it
is worth beside one by data is in benchmarks/RESULTS-REGROUP.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.graph.evaluate import constant_of, is_constant
from normswap.graph.reasons import Blocked, Reason
from normswap.semantics.families import LINEAR

if TYPE_CHECKING:
    import numpy.typing as npt

    from normswap.graph.network import Node, Value

    Floats = npt.NDArray[np.float64]


def implied(value: Value) -> Floats:
    """Return the correlations of a tensor's channels, as weights imply them.

    Parameters
    ----------
    value : Value
        Made by linear operators, or sums of what they make.

    Returns
    -------
    (C, C) ndarray

    Raises
    ------
    Blocked
        If it is not.
    """
    products = _products(value)
    norms = np.sqrt(products.diagonal())
    norms[norms == 0] = 1.0
    found: Floats = products / norms / norms[:, np.newaxis]
    return found


def _products(value: Value) -> Floats:
    node = value.producer
    if node is not None and not node.domain:
        if node.op in LINEAR:
            return _block_products(node)
        if node.op == "Identity":
            return _products(node.operand(0))
        if node.op in {"Add", "Sum"}:
            terms = [_products(v) for v in node.inputs if v is not None and not is_constant(v)]
            if len({term.shape for term in terms}) == 1:
                return sum(terms[1:], terms[0])
    detail = f"no weights before {value.name} tell how its channels vary"
    raise Blocked(Reason.NO_ESTIMATE, value.name, detail)


def _block_products(node: Node) -> Floats:
    """Return the products of what a linear operator's channels read; of other groups, none."""
    group = int(node.attr("group", 1)) if node.op.startswith("Conv") else 1
    weight = constant_of(node.input(1)).load().astype(np.float64)
    rows = [_rows(node, part) for part in np.split(weight, group)]
    count = len(rows[0])
    products = np.zeros((count * group, count * group))
    for number, part in enumerate(rows):
        own = slice(number * count, (number + 1) * count)
        products[own, own] = part @ part.T
    return products


def _rows(node: Node, weight: Floats) -> Floats:
    """Return the weight of each channel that is made, summed over the kernel, as a row."""
    if node.op.startswith("Conv"):
        sums: Floats = weight.reshape(*weight.shape[:2], -1).sum(axis=2)
        return sums.T if node.op == "ConvTranspose" else sums
    if weight.ndim != 2:
        raise Blocked(
            Reason.NO_ESTIMATE,
            node.out.name,
            f"{node.op} {node.title} has a weight that is not a matrix",
        )
    return weight if node.op == "Gemm" and node.attr("transB", 0) else weight.T
