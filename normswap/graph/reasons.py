"""Why a normalization stays: the closed list that users, lint rules and CI jobs can rely on."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class Reason(enum.Enum):
    """What blocks a fold or a swap. The value is the stable identifier in JSON."""

    TRAINING_MODE = "training-mode"
    USED_STATISTICS = "used-statistics"
    PER_ACTIVATION = "per-activation"
    CONSTANT = "constant"
    NOT_CONSTANT = "not-constant"
    OVERRIDABLE = "overridable"
    INVALID_STATISTICS = "invalid-statistics"
    OVERFLOW = "overflow"
    UNDERFLOW = "underflow"
    NON_FINITE = "non-finite"
    ELEMENT_TYPE = "element-type"
    GRAPH_INPUT = "graph-input"
    GRAPH_OUTPUT = "graph-output"
    SEVERAL_READERS = "several-readers"
    NO_READER = "no-reader"
    CAPTURED = "captured"
    OUTER_SCOPE = "outer-scope"
    QUANTIZED_WEIGHT = "quantized-weight"
    QUANTIZED_BIAS = "quantized-bias"
    NO_BRANCH = "no-branch"
    COST = "cost"
    GROWTH = "growth"
    OPERATOR = "operator"
    NONLINEAR = "nonlinear"
    NEGATIVE_SCALE = "negative-scale"
    SHIFT = "shift"
    SCALE = "scale"
    ZERO_PADDING = "zero-padding"
    AXIS = "axis"
    ORDER = "order"
    SHAPE_UNKNOWN = "shape-unknown"
    MALFORMED = "malformed"
    OPSET = "opset"
    EXCLUDED = "excluded"
    FOLDABLE = "foldable"
    INDIVISIBLE = "indivisible"
    NO_SAMPLES = "no-samples"
    NO_ESTIMATE = "no-estimate"

    @property
    def explanation(self) -> str:
        """One sentence for a person."""
        return EXPLANATIONS[self]


EXPLANATIONS: dict[Reason, str] = {
    Reason.TRAINING_MODE: "the node is in training mode: it uses the statistics of the batch",
    Reason.USED_STATISTICS: "the node's statistics outputs are used, so it is in training mode",
    Reason.PER_ACTIVATION: "the node has statistics per activation (spatial=0), not per channel",
    Reason.CONSTANT: "the node normalizes a constant, such as a weight, so its output is constant",
    Reason.NOT_CONSTANT: "a parameter or weight is computed at run time",
    Reason.OVERRIDABLE: "a parameter or weight is also a graph input, so a caller may override it",
    Reason.INVALID_STATISTICS: "var + epsilon is zero or negative in some channel",
    Reason.OVERFLOW: "a folded constant would exceed the range of its type",
    Reason.UNDERFLOW: "a folded constant would be too small for the precision of its type",
    Reason.NON_FINITE: "a constant has NaN or infinite values",
    Reason.ELEMENT_TYPE: "the element type is not a float type that can be folded",
    Reason.GRAPH_INPUT: "the tensor is a graph input, so no node before it can absorb anything",
    Reason.GRAPH_OUTPUT: "the tensor is a graph output and must keep its values",
    Reason.SEVERAL_READERS: "another node reads the tensor and needs its present values",
    Reason.NO_READER: "nothing reads the tensor",
    Reason.CAPTURED: "a subgraph reads the tensor",
    Reason.OUTER_SCOPE: "the tensor is computed outside this subgraph",
    Reason.QUANTIZED_WEIGHT: "a quantized weight can't absorb the factor exactly",
    Reason.QUANTIZED_BIAS: "the integers of a quantized bias would have to be rounded",
    Reason.COST: "folding would add as many nodes as it removes",
    Reason.GROWTH: "the file would exceed --max-growth: other nodes still need the old constant",
    Reason.NO_BRANCH: "no Conv of the same tensor is added to it, so it can't be merged into one",
    Reason.OPERATOR: "the operator neither absorbs a scale and shift nor passes them on",
    Reason.NONLINEAR: "the operator is not linear, so a shift can't pass it",
    Reason.NEGATIVE_SCALE: "the operator takes only scales >= 0, and some are negative",
    Reason.SHIFT: "a scale can pass the operator here, but a shift can't",
    Reason.SCALE: "a shift can pass the operator here, but a scale can't",
    Reason.ZERO_PADDING: "the operator pads with zeros, so a shift would be wrong at the border",
    Reason.AXIS: "the scale or shift varies along an axis that the operator mixes or can't scale",
    Reason.ORDER: "an operator depends on the order of the channels, so they can't be permuted",
    Reason.SHAPE_UNKNOWN: "this depends on a shape that is not known",
    Reason.MALFORMED: "the node violates the specification of its operator",
    Reason.OPSET: "the node is of an opset before 7, which only fold can rewrite",
    Reason.EXCLUDED: "the options leave the node as it is",
    Reason.FOLDABLE: "fold can remove the node, and the options ask to swap only the others",
    Reason.INDIVISIBLE: "the channels can't be divided into groups of the requested number or size",
    Reason.NO_SAMPLES: "the channel axis of what it normalizes holds samples",
    Reason.NO_ESTIMATE: "neither data nor the weights before it give an estimate of its statistics",
}


OF_NUMBERS = frozenset({Reason.NON_FINITE, Reason.OVERFLOW, Reason.UNDERFLOW})
"""Reasons that lie in the values of constants, and not in the graph."""


@dataclass(frozen=True, slots=True)
class Block:
    """Why an affine can't go on.

    Parameters
    ----------
    tensor : str
        The tensor (or the node, by the tensor it makes) that it is about.
    detail : str
        What a person needs to know beyond the reason: the operator, the channel, the other reader.
    """

    reason: Reason
    tensor: str
    detail: str = ""


class Blocked(Exception):  # noqa: N818 (it ends a route, which is no error)
    """An affine can't go on, or something is not what it would have to be for that.

    Whoever finds out raises it, however deep; the search for a route catches it.

    Parameters
    ----------
    reason, tensor, detail
        See :class:`Block`.

    Attributes
    ----------
    block : Block
        What outlives the exception, which holds on to the frames that it came through.
    """

    def __init__(self, reason: Reason, tensor: str, detail: str = "") -> None:
        super().__init__(detail)
        self.block = Block(reason, tensor, detail)

    @classmethod
    def by(cls, block: Block) -> Blocked:
        """Make one of a block that is known."""
        return cls(block.reason, block.tensor, block.detail)


def unless_blocked(ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return what a function returns; None where that is blocked, whatever by."""
    try:
        return ask(*args, **kwargs)
    except Blocked:
        return None


def blocked_by(ask: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Block | None:
    """Return what blocks a function; None where nothing does, whatever it returns."""
    try:
        ask(*args, **kwargs)
    except Blocked as refusal:
        return refusal.block
    return None
