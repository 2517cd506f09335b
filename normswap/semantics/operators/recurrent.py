"""RNN, GRU and LSTM, step by step, every sequence for as long as it is.

Beyond a sequence's length its outputs are 0 and its states stay; in reverse it is the sequence
itself that is reversed, not its padding. Activations are named with their alpha and beta in turn.

Source: ONNX operators RNN, GRU and LSTM of opsets 1 to 22.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from normswap.semantics.operators.activation import sigmoid, softplus, softsign
from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

    Activation = Callable[[np.ndarray], np.ndarray]
    States = list[np.ndarray]
    Cell = Callable[[int, Sequence[Activation], np.ndarray, States], States]

# By lower-case name: the function of (x, alpha, beta), and the defaults of both that it reads.
_ACTIVATIONS: Mapping[str, tuple[Callable[..., np.ndarray], tuple[float, ...]]] = {
    "affine": (lambda x, a, b: a * x + b, (1.0, 0.0)),
    "elu": (lambda x, a: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0.0))), (1.0,)),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0.0, 1.0), (0.2, 0.5)),
    "leakyrelu": (lambda x, a: np.where(x >= 0, x, a * x), (0.01,)),
    "relu": (lambda x: np.maximum(x, 0.0), ()),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), (1.0, 1.0)),
    "sigmoid": (sigmoid, ()),
    "softplus": (softplus, ()),
    "softsign": (softsign, ()),
    "tanh": (np.tanh, ()),
    "thresholdedrelu": (lambda x, a: np.where(x > a, x, 0.0), (1.0,)),
}


class RecurrentAttributes(TypedDict, total=False):
    """What RNN, GRU and LSTM have in common."""

    activations: Sequence[str] | None
    activation_alpha: Sequence[float] | None
    activation_beta: Sequence[float] | None
    clip: float | None
    direction: str
    layout: int


def _activations(
    default: Sequence[str], unclipped: int, attributes: RecurrentAttributes
) -> list[Activation]:
    """Return the activations, each behind the clip of its input.

    An activation takes the next alpha if it has one, and the next beta if it has one. Every
    `unclipped`-th sees its input whole.
    """
    alpha = iter(attributes.get("activation_alpha") or ())
    beta = iter(attributes.get("activation_beta") or ())
    names = attributes.get("activations") or default
    clip = attributes.get("clip")

    def bound(number: int, name: str) -> Activation:
        function, defaults = _ACTIVATIONS[name.lower()]
        given = [next(source, d) for source, d in zip((alpha, beta), defaults, strict=False)]
        if clip is None or (unclipped and number % unclipped == 0):
            return lambda x: function(x, *given)
        return lambda x: function(np.clip(x, -clip, clip), *given)

    return [bound(number, name) for number, name in enumerate(names, start=1)]


class _Sequences:
    """Sequences (steps, batch, size) and how each direction walks over them."""

    def __init__(self, x: np.ndarray, lengths: np.ndarray | None) -> None:
        self._x = x
        steps, batch = x.shape[:2]
        self.lengths = np.full(batch, steps) if lengths is None else np.asarray(lengths)

    def walk(self, *, backward: bool) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield for every step: the input, its place in every sequence, and who is still going."""
        batch = np.arange(self._x.shape[1])
        for step in range(self._x.shape[0]):
            going = step < self.lengths
            place = np.where(going & backward, self.lengths - 1 - step, step)
            yield self._x[place, batch], place, going


def _run(
    cell: Cell,
    functions: Sequence[str],
    x: np.ndarray,
    hidden: int,
    lengths: np.ndarray | None,
    states: Sequence[np.ndarray | None],
    attributes: RecurrentAttributes,
    *,
    unclipped: int = 0,
) -> tuple[np.ndarray, ...]:
    """Walk a cell over sequences in every direction.

    Parameters
    ----------
    cell : function of (direction, activations, input, states) to the states after a step
    functions : names of the activations of a cell
    x : (steps, batch, size), or with `layout` (batch, steps, size)
    hidden : size of a state
    lengths : (batch,), optional
    states : initial ones, (directions, batch, hidden) or with `layout` (batch, directions, hidden)
    attributes : of the node
    unclipped : the number of the activation that sees its input whole

    Returns
    -------
    The first state at every step, and each state at the end.
    """
    direction, layout = attributes.get("direction", "forward"), attributes.get("layout", 0)
    if layout:
        x = x.swapaxes(0, 1)
        states = [None if s is None else s.swapaxes(0, 1) for s in states]
    directions = 2 if direction == "bidirectional" else 1
    bound = _activations([*functions] * directions, unclipped, attributes)
    steps, batch = x.shape[:2]
    y = np.zeros((steps, directions, batch, hidden))
    ends = [np.zeros((directions, batch, hidden)) for _ in states]
    sequences = _Sequences(x, lengths)
    for d in range(directions):
        own = bound[d * len(functions) : (d + 1) * len(functions)]
        now = [np.zeros((batch, hidden)) if s is None else s[d] for s in states]
        for here, place, going in sequences.walk(backward=direction == "reverse" or d == 1):
            kept = going[:, None]
            after = cell(d, own, here, now)
            now = [np.where(kept, new, old) for new, old in zip(after, now, strict=True)]
            y[place, d, np.arange(batch)] = np.where(kept, now[0], 0.0)
        for end, state in zip(ends, now, strict=True):
            end[d] = np.where((sequences.lengths > 0)[:, None], state, 0.0)
    if layout:
        return y.transpose(2, 0, 1, 3), *(end.swapaxes(0, 1) for end in ends)
    return y, *ends


def _halves(b: np.ndarray | None, directions: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the input's and the recurrence's biases, (directions, width) each."""
    if b is None:
        return np.zeros((directions, width)), np.zeros((directions, width))
    return b[:, :width], b[:, width:]


@operator("RNN", since=(1, 7, 14, 22), shared=RecurrentAttributes)
def rnn(
    x: np.ndarray,
    w: np.ndarray,
    r: np.ndarray,
    b: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    initial: np.ndarray | None = None,
    **attributes: Unpack[RecurrentAttributes],
) -> tuple[np.ndarray, ...]:
    """Return ``f(x W' + h R' + b)`` for every step, and the last."""
    directions, _, hidden = r.shape
    wb, rb = _halves(b, directions, hidden)

    def cell(d: int, own: Sequence[Activation], here: np.ndarray, states: States) -> States:
        return [own[0](here @ w[d].T + states[0] @ r[d].T + wb[d] + rb[d])]

    return _run(cell, ["Tanh"], x, hidden, lengths, [initial], attributes)


@operator("GRU", since=(1, 3, 7, 14, 22), shared=RecurrentAttributes)
def gru(
    x: np.ndarray,
    w: np.ndarray,
    r: np.ndarray,
    b: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    initial: np.ndarray | None = None,
    *,
    linear_before_reset: int = 0,
    **attributes: Unpack[RecurrentAttributes],
) -> tuple[np.ndarray, ...]:
    """Return the hidden state of every step, and the last; gates are in the order z, r, h."""
    directions, _, hidden = r.shape
    wb, rb = _halves(b, directions, 3 * hidden)

    def cell(d: int, own: Sequence[Activation], here: np.ndarray, states: States) -> States:
        (h,) = states
        gate, candidate = own
        zr, last = slice(0, 2 * hidden), slice(2 * hidden, None)
        gates = gate(here @ w[d, zr].T + h @ r[d, zr].T + wb[d, zr] + rb[d, zr])
        update, reset = gates[:, :hidden], gates[:, hidden:]
        if linear_before_reset:
            recurrent = reset * (h @ r[d, last].T + rb[d, last])
        else:
            recurrent = (reset * h) @ r[d, last].T + rb[d, last]
        new = candidate(here @ w[d, last].T + recurrent + wb[d, last])
        return [(1 - update) * new + update * h]

    return _run(cell, ["Sigmoid", "Tanh"], x, hidden, lengths, [initial], attributes)


@operator("LSTM", since=(1, 7, 14, 22), shared=RecurrentAttributes)
def lstm(
    x: np.ndarray,
    w: np.ndarray,
    r: np.ndarray,
    b: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    initial_h: np.ndarray | None = None,
    initial_c: np.ndarray | None = None,
    p: np.ndarray | None = None,
    *,
    input_forget: int = 0,
    **attributes: Unpack[RecurrentAttributes],
) -> tuple[np.ndarray, ...]:
    """Return the hidden state of every step, the last, and the last cell state.

    Gates are in the order i, o, f, c; peepholes i, o, f.
    """
    directions, _, hidden = r.shape
    wb, rb = _halves(b, directions, 4 * hidden)
    peepholes = np.zeros((directions, 3 * hidden)) if p is None else p

    def cell(d: int, own: Sequence[Activation], here: np.ndarray, states: States) -> States:
        h, c = states
        gate, candidate, output = own
        gates: Any = np.split(here @ w[d].T + h @ r[d].T + wb[d] + rb[d], 4, axis=1)
        pi, po, pf = np.split(peepholes[d], 3)
        i = gate(gates[0] + pi * c)
        f = 1 - i if input_forget else gate(gates[2] + pf * c)
        new = f * c + i * candidate(gates[3])
        o = gate(gates[1] + po * new)
        return [o * output(new), new]

    functions = ["Sigmoid", "Tanh", "Tanh"]
    states = [initial_h, initial_c]
    return _run(cell, functions, x, hidden, lengths, states, attributes, unclipped=3)
