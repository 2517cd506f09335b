"""What a rule is told of an input, and what it answers; the rules by operator and slot."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from normswap.inputs.signature import inferred

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from normswap.inputs.semantics import InputUse
    from normswap.inputs.signature import Signature

Shape = tuple[int, ...]


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
        if not any(map(rule_of, asked)):
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
class Slot:
    """One use of an input, with what a rule may want to know of it."""

    use: InputUse
    known: Known
    shape: Shape
    rng: np.random.Generator

    @property
    def count(self) -> int:
        """Elements of the input."""
        return math.prod(self.shape)

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute of the operator."""
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

    def length_made(self, axis: int) -> Allowed | None:
        """Allow the length that an axis of the operator's first output has, where it is known."""
        made = self.made()
        if made is None or not -len(made) <= axis < len(made):
            return None
        return Allowed(made[axis], made[axis])

    def constant(self, slot: int) -> np.ndarray | None:
        """Return another input of the operator, None where it is not known."""
        if slot >= len(self.use.inputs):
            return None
        return self.known.constants.get(self.use.inputs[slot])

    def size(self, axis: int, slot: int = 0) -> int:
        """Return the size of an axis of an input of the operator; 1 where it isn't known."""
        shape = self.data(slot)
        if shape is None or not -len(shape) <= axis < len(shape):
            return 1
        return max(shape[axis], 1)


Rule = Callable[[Slot], Allowed]

RULES: dict[tuple[str, int], Rule] = {}


REDUCE = "Reduce"
"""Stands for all operators whose names begin so."""


def rule_of(use: InputUse) -> Rule | None:
    """Return the rule for a use, None where nothing is asked of the input there."""
    op = REDUCE if use.op_type.startswith(REDUCE) else use.op_type
    return RULES.get((op, use.slot))


def rule(*slots: tuple[str, int]) -> Callable[[Rule], Rule]:
    """Register a rule for slots of operators."""

    def register(rule: Rule) -> Rule:
        for slot in slots:
            RULES[slot] = rule
        return rule

    return register


def always(allowed: Mapping[tuple[str, int], Allowed]) -> None:
    """Register what slots of operators allow, whatever else is known."""
    for slot, values in allowed.items():
        RULES[slot] = lambda _, values=values: values  # type: ignore[misc]


def vector(values: npt.ArrayLike, low: float, high: float) -> Allowed:
    """Allow certain elements in a certain order; of a part of them, what lies within bounds."""
    return Allowed(low, high, np.asarray(values))
