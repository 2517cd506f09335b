"""A node with values, of which an adjoint is asked for; and the rules that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.semantics.registry import meaning_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from normswap.graph.network import Node

    Array = npt.NDArray[Any]

Pull = Callable[[Sequence["Array | None"]], "dict[int, Array]"]
"""From what comes to each output (None: nothing) to what goes to each active input, by slot."""


@dataclass(frozen=True, slots=True)
class Step:
    """A node where it is linearized.

    Attributes
    ----------
    op, domain : str
    opset : int
    attributes : mapping
    inputs : tuple of (ndarray or None)
    outputs : tuple of (ndarray or None)
        What it has made of them.
    active : frozenset of int
        The inputs to which something is to be brought back.
    """

    op: str
    domain: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[Array | None, ...]
    outputs: tuple[Array | None, ...]
    active: frozenset[int]

    def given(self, slot: int) -> Array:
        """Return an input that is known to be there."""
        value = self.inputs[slot]
        if value is None:
            raise AssertionError(f"input {slot} of {self.op} is left out")
        return value

    @property
    def made(self) -> Array:
        """The first output."""
        value = self.outputs[0]
        if value is None:
            raise AssertionError(f"{self.op} makes nothing")
        return value

    def evaluate(self, inputs: Sequence[Any], outputs: int = 1, **changed: Any) -> tuple[Any, ...]:
        """Return what the node makes of other inputs, or with other attributes."""
        meaning = meaning_of(self.op, self.domain, self.opset)
        if meaning is None:
            raise AssertionError(f"{self.op} has a rule and no meaning")
        with np.errstate(all="ignore"):
            return meaning.evaluate(inputs, {**self.attributes, **changed}, self.opset, outputs)


Rule = Callable[[Step], Pull]

RULES: dict[tuple[str, str], tuple[Rule, frozenset[int] | None]] = {}


def rule(
    *names: str, domain: str = "", slots: Sequence[int] | None = None
) -> Callable[[Rule], Rule]:
    """Register a function as the rule of operators.

    Parameters
    ----------
    *names : str
    domain : str
    slots : sequence of int, optional
        The inputs for which it holds; all, if left out.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[domain, name] = function, None if slots is None else frozenset(slots)
        return function

    return register


def rule_of(node: Node, active: frozenset[int]) -> Rule | None:
    """Return the rule for a node and some of its inputs, None where there is none."""
    found = RULES.get((node.domain, node.op))
    meaning = meaning_of(node.op, node.domain, node.opset)
    if found is None or meaning is None or meaning.function is None or node.refers_to_attributes:
        return None
    return None if found[1] is not None and active - found[1] else found[0]


def innermost(values: Array) -> Array:
    """Return values as they are, with the samples next to each other in memory.

    So the rows of a convolution's columns are long, and in one piece for all samples. What is made
    of arrays in this order, element by element, is in this order too.
    """
    return upright(np.ascontiguousarray(lying(values)))


def lying(values: Array) -> Array:
    """Return a view in which the samples are the last axis, where there is more than rows."""
    return values if values.ndim < 3 else np.moveaxis(values, 0, -1)


def upright(values: Array) -> Array:
    """Return the view that is lying."""
    return values if values.ndim < 3 else np.moveaxis(values, -1, 0)


def summed_to(values: Array, shape: Sequence[int]) -> Array:
    """Return values, summed over the axes along which a shape was broadcast to theirs."""
    extra = values.ndim - len(shape)
    values = values.sum(axis=tuple(range(extra))) if extra else values
    along = tuple(a for a, n in enumerate(shape) if n == 1 and values.shape[a] != 1)
    return values.sum(axis=along, keepdims=True) if along else values
