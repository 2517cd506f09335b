"""What may be taken out of a graph: the one gate for every node that a fold takes away.

A node goes, and whoever read its output reads one of its inputs. Nobody may notice:

- a further output of the node that is read would be gone;
- an operand may have made the output larger than that input (by broadcasting, to more elements
  along an axis or to more axes), so that without it the result would shrink;
- the name of an output of the graph must stay, so the input has to be able to take it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.reasons import Block, Reason
from normswap.semantics.families import ARITHMETIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.graph.network import Node, Use, Value
    from normswap.graph.sizes import Dim


def removal_block(chain: Sequence[Use]) -> Block | None:
    """Say why nodes in a row can't be taken out, or None if they can.

    Parameters
    ----------
    chain : sequence of Use
        The nodes in order, each with the input that is to take the place of its output. What is
        between two of them is read by nobody else.
    """
    for use in chain:
        block = further_output_block(use.node) or growth_block(use)
        if block is not None:
            return block
    return name_block(chain)


def name_block(chain: Sequence[Use]) -> Block | None:
    """Say that a name would be lost that the graph's caller knows, if so."""
    node, slot = chain[0]
    value, result = node.inputs[slot], chain[-1].node.outputs[0]
    if value is None or result is None or not result.is_output or takes_name(value, node):
        return None
    return Block(Reason.GRAPH_OUTPUT, result.name, f"{result.name} is a graph output")


def further_output_block(node: Node) -> Block | None:
    """Say that an output other than the first is read, if one is."""
    read = next((value for value in node.outputs[1:] if value is not None and value.is_used), None)
    if read is None:
        return None
    detail = f"{read.name}, a further output of {node.op} {node.title}, is read"
    return Block(Reason.OPERATOR, read.name, detail)


def growth_block(use: Use) -> Block | None:
    """Say that the other operands make a tensor larger (or may do so), if they do.

    Parameters
    ----------
    use : Use
        A node whose output has the shape to which its inputs are broadcast, and one of these; or
        a node whose first input has the shape of its output, and that one.
    """
    node, slot = use
    value = node.inputs[slot]
    if value is None or node.op not in BROADCASTING or node.domain:
        return None
    for other, operand in enumerate(node.inputs):
        if operand is None or other == slot or not may_grow(value, operand.shape):
            continue
        detail = (
            f"{node.op} {node.title} broadcasts (or may broadcast) {value.name} to a larger size"
        )
        return Block(Reason.AXIS, value.name, f"{detail}, that of {operand.name}")
    return None


BROADCASTING = ARITHMETIC | {"Sum"}
"""Operators that a fold takes out, of which each input is broadcast to the output."""


def may_grow(value: Value, shape: Sequence[Dim] | None) -> bool:
    """Whether a tensor that is broadcast with an operand may become larger than it is.

    It does not where each of the operand's axes is of length 1 or known to be as long as its own.
    """
    if shape is None:
        return True
    if not shape:
        return False
    if value.shape is None or len(shape) > len(value.shape):
        return True
    own = value.shape[len(value.shape) - len(shape) :]
    return any(size not in (1, dim) for size, dim in zip(shape, own, strict=True))


def takes_name(value: Value, node: Node) -> bool:
    """Whether ``value`` takes the name of the output of ``node`` if that is bypassed.

    See :attr:`normswap.folding.edits.Bypass.renames`.
    """
    return (
        value.producer is not None
        and value.graph is node.graph
        and all(use.node is node for use in value.readers.values())
        and not value.is_output
        and not value.captured
    )
