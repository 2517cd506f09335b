"""A flat model once in float64, node after node, the bodies of Loop and Scan as often as they run.

Source: ONNX operators Loop-1 to -25, Scan-9 to -25.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.proof.budget import NODE
from normswap.proof.evaluate import (
    UnjudgedError,
    constant_of,
    evaluate_node,
    moved,
    not_weights,
    numbers_of,
)
from normswap.proof.flat import CHOICE, ENTRY, NONE, OWN
from normswap.semantics.families import LINEAR

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from normswap.proof.budget import Budget
    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side

_TURNS = 64  # of one body; what runs oftener stays unknown


class NodeEvaluation:
    """Evaluates the nodes of a model.

    Parameters
    ----------
    side : Side
    known : dict of int to numpy.ndarray
        The inputs; what is made is added, and let go when nothing reads it any more.
    made : callable
        Told of each tensor and its value; in a body, of its first turn.
    budget : Budget
        When that is over, what is left stays unknown.
    sample : int
        As of :func:`normswap.proof.evaluate.evaluate`.
    instead : mapping of int to callable
        What takes the place of tensors, of all that is known then; of None nothing is known.
    kept : collection of int
        What is not let go.
    """

    def __init__(
        self,
        side: Side,
        known: dict[int, Any],
        made: Callable[[int, Any], None],
        budget: Budget,
        *,
        sample: int = 0,
        instead: Mapping[int, Callable[[Mapping[int, Any]], Any]] = MappingProxyType({}),
        kept: Collection[int] = (),
    ) -> None:
        self._side, self._known, self._made, self._budget = side, known, made, budget
        self._sample, self._instead = sample, instead
        nodes = side.flat.nodes
        self._last = {number: node.index for node in nodes for number in node.inputs}
        self._kept = {number for _, number in side.flat.outputs}.union(kept)
        self._exempt, self._numbers = not_weights(nodes), numbers_of(nodes)
        self._ends = _ends(nodes)
        self._turn = 0

    def run(self) -> None:
        """Evaluate all nodes."""
        self._run(0, len(self._side.flat.nodes), freeing=True)

    def _run(self, first: int, end: int, *, freeing: bool) -> None:
        nodes, index = self._side.flat.nodes, first
        while index < end and not self._budget.is_over:
            node = nodes[index]
            last = self._ends.get(index, index)
            if last > index:
                self._put(nodes[last], self._repeated(node, nodes[last]))
            else:
                self._put(node, self._once(node))
            if freeing:
                for number in {n for e in nodes[index : last + 1] for n in (*e.inputs, *e.outputs)}:
                    if self._last.get(number, -1) <= last and number not in self._kept:
                        self._known.pop(number, None)
            index = last + 1

    def _put(self, node: FlatNode, values: Sequence[Any]) -> None:
        for number, given in zip(node.outputs, values, strict=False):
            value = self._instead[number](self._known) if number in self._instead else given
            if number == NONE:
                continue
            self._known.pop(number, None)  # that of another turn
            if value is not None:
                self._known[number] = value
                if not self._turn:
                    self._made(number, value)

    def _value(self, number: int) -> Any:
        """Return a tensor; None where it is not known."""
        value = self._known.get(number)
        if number == NONE or value is not None:
            return value
        side = self._side
        if number in side.flat.tensors or number in side.sizes[0].constant:
            return constant_of(side, number, 0 if number in self._exempt else self._sample)
        return None

    def _once(self, node: FlatNode) -> Sequence[Any]:
        """Return what a node makes; nothing where that is not known."""
        nothing = [None] * len(node.outputs)
        if node.index in self._side.flat.random:
            return nothing
        inputs = [self._value(number) for number in node.inputs]
        lacking = [n for n, v in zip(node.inputs, inputs, strict=True) if v is None and n != NONE]
        choice = node.op == CHOICE and node.domain == OWN
        if lacking and (not choice or inputs[0] is None):
            return nothing
        try:
            made = evaluate_node(moved(node, self._sample, self._numbers), inputs)
        except UnjudgedError:
            made = nothing
        self._budget.spend(NODE + _work(node, inputs, made))
        return made

    # ---------------------------------------------------------------------------- bodies

    def _repeated(self, entry: FlatNode, node: FlatNode) -> Sequence[Any]:
        """Return what a Loop or Scan makes."""
        given = [self._value(number) for number in entry.inputs]
        lacking = [v is None and n != NONE for n, v in zip(entry.inputs, given, strict=True)]
        nothing = [None] * len(node.outputs)
        if any(lacking):
            return nothing
        turn = self._turn
        try:
            return (self._looped if node.op == "Loop" else self._scanned)(entry, node, given)
        except UnjudgedError:
            return nothing
        finally:
            self._turn = turn

    def _looped(self, entry: FlatNode, node: FlatNode, given: Sequence[Any]) -> list[Any]:
        limit, condition, *states = given
        count = None if limit is None else int(np.asarray(limit).reshape(-1)[0])
        goes_on = condition is None or bool(np.asarray(condition).reshape(-1)[0])
        scanned: list[list[Any]] = [[] for _ in node.outputs[len(states) :]]
        step = 0
        while goes_on and (count is None or step < count):
            made = self._body(entry, node, [np.array(step), np.array(goes_on), *states], step)
            goes_on = bool(np.asarray(made[0]).reshape(-1)[0])
            states = made[1 : 1 + len(states)]
            for part, value in zip(scanned, made[1 + len(states) :], strict=False):
                part.append(value)
            step += 1
        return [*states, *(_stacked(part, 0) for part in scanned)]

    def _scanned(self, entry: FlatNode, node: FlatNode, given: Sequence[Any]) -> list[Any]:
        own = node.attributes
        count = len(given) - own["num_scan_inputs"]
        states, whole = list(given[:count]), given[count:]
        if node.opset < 9:
            raise UnjudgedError("it scans batches")
        axes = own.get("scan_input_axes") or [0] * len(whole)
        ways = own.get("scan_input_directions") or [0] * len(whole)
        parts = [
            np.moveaxis(value, axis, 0)[:: -1 if backward else 1]
            for value, axis, backward in zip(whole, axes, ways, strict=True)
        ]
        scanned: list[list[Any]] = [[] for _ in node.outputs[count:]]
        for step in range(len(parts[0])):
            made = self._body(entry, node, [*states, *(part[step] for part in parts)], step)
            states = made[:count]
            for part, value in zip(scanned, made[count:], strict=False):
                part.append(value)
        out_axes = own.get("scan_output_axes") or [0] * len(scanned)
        backwards = own.get("scan_output_directions") or [0] * len(scanned)
        stacked = [
            _stacked(part[::-1] if backward else part, axis)
            for part, axis, backward in zip(scanned, out_axes, backwards, strict=False)
        ]
        return [*states, *stacked]

    def _body(self, entry: FlatNode, node: FlatNode, given: Sequence[Any], step: int) -> list[Any]:
        """Run a body once; return what it makes."""
        if step >= _TURNS:
            raise UnjudgedError("it runs too often")
        self._turn += bool(step)
        self._put(entry, given)
        self._run(entry.index + 1, node.index, freeing=False)
        made = [self._value(number) for number in node.inputs[len(entry.inputs) :]]
        if any(value is None for value in made):
            raise UnjudgedError("what it makes is not known")
        return made


def _work(node: FlatNode, inputs: Sequence[Any], made: Sequence[Any]) -> int:
    """Return the multiply-adds of a node: those of a product, or as many as there are elements."""
    sizes = [int(np.size(v)) for v in (*inputs, *made) if isinstance(v, np.ndarray)]
    if node.op in LINEAR and len(inputs) > 1 and isinstance(inputs[1], np.ndarray) and made:
        weight = inputs[1]
        across = weight.shape[-1 if node.op == "MatMul" else 0] if weight.ndim else 1
        return int(np.size(made[0]) if made[0] is not None else 0) * weight.size // max(across, 1)
    return sum(sizes)


def _ends(nodes: Sequence[FlatNode]) -> dict[int, int]:
    """Return, for each entry of a body, where the Loop or Scan is that it is of."""
    open_: dict[tuple[int, tuple[str, ...]], int] = {}
    ends = {}
    for node in nodes:
        if node.domain == OWN and node.op == ENTRY:
            open_[id(node.proto), node.path] = node.index
        elif node.op in {"Loop", "Scan"} and not node.domain:
            ends[open_[id(node.proto), node.path]] = node.index
    return ends


def _stacked(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    if not parts:
        raise UnjudgedError("it does not run once")
    try:
        return np.stack(parts, axis=axis)
    except ValueError as error:
        raise UnjudgedError(str(error)) from error
