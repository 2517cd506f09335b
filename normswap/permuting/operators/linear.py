"""Linear operators: an order of what they make is one of the weight's outputs, and so on.

Weights that are computed are followed like any other tensor. Inputs and outputs of a grouped
convolution stay in their groups; those of a depthwise one move with each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normswap.permuting.operators.at import Port, X, Y

if TYPE_CHECKING:
    from normswap.permuting.operators.at import At

W: Port = (False, 1)
B: Port = (False, 2)


def _convolution(at: At) -> None:
    """``W (M, C/group, *kernel)`` of Conv, ``(C, M/group, *kernel)`` of ConvTranspose."""
    group = int(at.attr("group", 1))
    is_transposed = at.node.op == "ConvTranspose"
    read, made = at.size(W, 1) * group, at.size(W, 0)
    for port, axis, size in ((X, 1, read), (B, 0, made), (Y, 1, made)):
        at.learn(port, axis, made + read - size if is_transposed else size)
    if group == 1:
        space = [""] * (len(at.shape(X)) - 2)
        weight = ["c", "o"] if is_transposed else ["o", "c"]
        at.roles({X: ["", "c", *space], W: [*weight, *space], B: ["o"], Y: ["", "o", *space]})
        return
    if at.axis not in {X: (1,), W: (0, 1), B: (0,), Y: (1,)}.get(at.port, ()):
        raise at.blocked(f"depends on the order of axis {at.axis}")
    inputs, outputs = at.get(X, 1), at.get(Y, 1)
    if len(inputs) % group or len(outputs) % group:
        raise at.blocked(f"has a number of channels that is not a multiple of its {group} groups")
    if len(inputs) == group:  # depthwise
        at.axes.labels.tie(outputs, np.repeat(inputs, len(outputs) // group))
    else:
        for labels in (inputs, outputs):
            at.fence(labels, np.arange(len(labels)) // (len(labels) // group))
        at.tie(W, 1, (outputs if is_transposed else inputs).reshape(group, -1))
    at.tie(W, 0, inputs if is_transposed else outputs)
    at.tie(B, 0, outputs)


def _gemm(at: At) -> None:
    first = ["k", "m"] if at.attr("transA", 0) else ["m", "k"]
    second = ["n", "k"] if at.attr("transB", 0) else ["k", "n"]
    roles = {X: first, W: second, Y: ["m", "n"]}
    if at.node.input(2) is not None:
        shape = at.shape(B)
        added = ["m", "n"][2 - len(shape) :]
        roles[B] = ["" if size == 1 else role for size, role in zip(shape, added, strict=True)]
    at.roles(roles)


def _matmul(at: At) -> None:
    ranks = [len(at.shape(port)) for port in (X, W)]
    if min(ranks) < 2:
        raise at.blocked("multiplies by a vector")
    roles: dict[Port, list[str]] = {}
    for port, last in ((X, ["m", "k"]), (W, ["k", "n"]), (Y, ["m", "n"])):
        shape = at.shape(port)
        batch = [f"batch {len(shape) - axis}" for axis in range(len(shape) - 2)]
        ones = ["" if size == 1 else role for size, role in zip(shape, batch, strict=False)]
        roles[port] = [*ones, *last]
    at.roles(roles)


def _einsum(at: At) -> None:
    equation = str(at.attr("equation", "")).replace(" ", "")
    given, arrow, made = equation.partition("->")
    if not arrow or "." in equation:
        raise at.blocked(f"has the equation {equation}, which is not supported here")
    terms = {(False, slot): list(term) for slot, term in enumerate(given.split(","))}
    at.roles({**terms, Y: list(made)})


FOLLOW = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
