"""Constants that are not finite, and that a network carries into its results.

A NaN goes through everything that computes with it. An infinity may be meant: a mask is added to
what a Softmax takes, a limit goes into a Max. It counts where it is a weight, or where it gets into
a sum or product that a normalization or the caller sees.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normswap.errors import ModelError
from normswap.finite import flaw_of
from normswap.graph.batchnorm import is_batchnorm
from normswap.graph.build import build_network
from normswap.graph.evaluate import constant_source
from normswap.graph.reasons import unless_blocked
from normswap.semantics.families import ARITHMETIC, LINEAR, PICKS, RANDOM_LIKE, RESHAPES

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from normswap.finite import Flaw
    from normswap.graph.network import Network, Node, Value
    from normswap.model import Model

LISTED = 8
"""Constants that an error message names."""

SELECTIVE = RANDOM_LIKE | {
    "ArgMax", "ArgMin", "Compress", "ConstantOfShape", "Equal", "EyeLike", "Gather",
    "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less",
    "LessOrEqual", "NonMaxSuppression", "NonZero", "OneHot", "ScatterElements", "ScatterND",
    "Shape", "Size", "TopK", "Trilu", "Unique", "Where",
}  # fmt: skip
"""Operators that may leave a NaN out, or make something else of it."""

WEIGHTED = LINEAR | {
    "BatchNormalization", "DequantizeLinear", "Einsum", "GRU", "GroupNormalization",
    "InstanceNormalization", "LSTM", "LayerNormalization", "RNN", "RMSNormalization",
}  # fmt: skip
"""Operators for which no constant operand may be infinite."""

TERMS = ARITHMETIC | {"PRelu", "Sum"}
"""Operators that an infinite operand makes infinite or NaN."""

UNCHANGED = TERMS | WEIGHTED | RESHAPES | (PICKS - SELECTIVE) | {
    "Abs", "AveragePool", "Cast", "Concat", "Dropout", "GlobalAveragePool", "Identity",
    "LeakyRelu", "Neg", "Pad", "ReduceMean", "ReduceSum", "Relu",
}  # fmt: skip
"""Operators behind which what was infinite still is, or is NaN."""


def require_finite(
    name: str, network: Network, targets: Container[int], verb: str, *, but: Iterable[int] = ()
) -> None:
    """Raise an error that names the constants that are not finite.

    Parameters
    ----------
    name : str
        What the model is called.
    network : Network
    targets : container of int
        Keys of the normalizations that are rewritten.
    verb : str
        What can't be done then: ``"swapped"``.
    but : iterable of int
        Inputs of the targets that don't count.

    Raises
    ------
    ModelError
        If there are any that reach one of the targets, or an output of the model.
    """
    found = list(_carried(network, targets, frozenset(but)))
    if not found:
        return
    raise ModelError(
        f"{name} can't be {verb}: {_listed(found)}.",
        tip="It makes results NaN or infinite. Repair that constant, or export the model again.",
    )


def constants_not_finite(model: Model) -> list[str]:
    """Return a sentence on the constants that make the outputs of a model NaN or infinite."""
    found = list(_carried(build_network(model), (), frozenset()))
    return [f"in {model.name}, {_listed(found)}"] if found else []


def _listed(found: Sequence[tuple[Flaw, Node]]) -> str:
    listed = "; ".join(f"{flaw}, in {node.op} {node.title}" for flaw, node in found[:LISTED])
    return listed + (f"; and {len(found) - LISTED} more constants" if len(found) > LISTED else "")


def _carried(
    network: Network, targets: Container[int], but: frozenset[int]
) -> Iterator[tuple[Flaw, Node]]:
    """Yield every constant that counts, once, with the first node that reads it."""
    seen: set[int] = set()
    for graph in network.graphs:
        for node in graph.topological():
            for slot, value in enumerate(node.inputs):
                if value is None or id(value) in seen or (node.key in targets and slot in but):
                    continue
                flaw = _flaw(value, computed=node.key in targets and slot > 0)
                if flaw is None:
                    continue
                infinite = not math.isnan(flaw.value)
                if _counts(node, infinite=infinite) and _reaches(node, targets, infinite=infinite):
                    seen.add(id(value))
                    yield flaw, node


def _flaw(value: Value, *, computed: bool) -> Flaw | None:
    """Return what is not finite of a constant: of one that nodes compute, if that is asked for."""
    maker = value.producer
    if value.source is None and not computed and (maker is None or maker.op != "Constant"):
        return None
    stored = unless_blocked(constant_source, value) or value.source
    return None if stored is None else flaw_of(value.name, stored.load())


def _counts(node: Node, *, infinite: bool) -> bool:
    if node.domain:
        return not infinite
    return node.op in WEIGHTED | TERMS if infinite else node.op not in SELECTIVE


def _reaches(start: Node, targets: Container[int], *, infinite: bool) -> bool:
    """Whether what a node makes of a constant gets to a target, or to an output."""
    weight = start.op in WEIGHTED and not start.domain
    pending, seen = [start], {start.key}
    while pending:
        node = pending.pop()
        if node.key in targets and is_batchnorm(node):
            return True
        for value in node.outputs:
            if value is None:
                continue
            if value.is_output:
                return True
            for use in value.readers.values():
                reader = use.node
                # A weight that is infinite makes NaN as well: of 0, and where signs differ.
                stops = (
                    reader.op not in UNCHANGED
                    if infinite and not weight
                    else reader.op in SELECTIVE
                )
                if reader.key not in seen and not (stops and not reader.domain):
                    seen.add(reader.key)
                    pending.append(reader)
    return False
