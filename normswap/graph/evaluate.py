"""Where constants hide: initializers, Constant nodes, and what is computed from them alone.

PyTorch shares initializers through Identity, tf2onnx emits Constant nodes in every value form,
Keras and Paddle leave ``Sqrt(Add(var, eps))`` to the runtime. All of these are constants.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from normswap.dtypes import is_float
from normswap.graph.expressions import Expression, Leaf
from normswap.graph.opset6 import broadcasts_by_attribute
from normswap.graph.reasons import Blocked, Reason, unless_blocked
from normswap.model import source_of
from normswap.model.tensors import ArrayTensor, TensorSource
from normswap.semantics import constants

if TYPE_CHECKING:
    from normswap.graph.network import Node, Value

# fmt: off
EVALUABLE = frozenset({
    "Abs", "Add", "Cast", "CastLike", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal",
    "Exp", "Expand", "Flatten", "Floor", "Gather", "Greater", "Identity", "Less", "Log",
    "MatMul", "Max", "Min", "Mul", "Neg", "Not", "Pad", "Pow", "QuantizeLinear", "Range",
    "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "Reshape", "Shape", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile",
    "Transpose", "Unsqueeze", "Where",
})
# fmt: on
"""Deterministic operators that are evaluated where all their inputs are constant.

DequantizeLinear is not among them: a quantized weight stays quantized.
"""


def constant_of(value: Value | None) -> Expression:
    """Return a float constant as an expression.

    Raises
    ------
    Blocked
        If it is not one.
    """
    if value is None:
        raise Blocked(Reason.MALFORMED, "", "a required input is left out")
    source = constant_source(value)
    if isinstance(source, Expression):
        return source
    if not is_float(source.data_type):
        name = onnx.TensorProto.DataType.Name(source.data_type)
        raise Blocked(Reason.ELEMENT_TYPE, value.name, f"{value.name} is {name}")
    leaf = Leaf(source, value.name)
    value.source = leaf  # so that its range is looked at only once
    return leaf


def is_constant(value: Value | None) -> bool:
    """Whether a tensor is a float constant."""
    return unless_blocked(constant_of, value) is not None


def integers_of(value: Value | None) -> list[int] | None:
    """Return the values of a constant integer tensor, None where it is not one."""
    if value is None:
        return None
    source = unless_blocked(constant_source, value)
    if source is None:
        return None
    values = source.load()
    if values.dtype.kind not in "iu":
        return None
    return [int(v) for v in values.reshape(-1)]


def constant_source(value: Value) -> TensorSource:
    """Return the values of a constant tensor.

    Raises
    ------
    Blocked
        If it is not constant.
    """
    if value.source is None:
        value.source = _computed(value)
    if value.overridable:
        raise Blocked(
            Reason.OVERRIDABLE, value.name, f"{value.name} is a graph input with a default value"
        )
    return value.source


def _computed(value: Value) -> TensorSource:
    """Evaluate the nodes that make a value, if they depend on constants alone.

    What is found is kept at every tensor on the way, so that asking again costs nothing.
    """
    pending = [value]
    while pending:  # not recursive: chains may be long
        current = pending[-1]
        if current.source is not None or current.varies_with is not None:
            pending.pop()
            continue
        node = current.producer
        if (
            node is None
            or node.domain
            or node.refers_to_attributes
            or broadcasts_by_attribute(node)
        ):
            current.varies_with = current
        elif node.op == "Constant":
            current.source = _constant_node(node)
        elif node.op in EVALUABLE and not broadcasts_by_attribute(node):
            inputs = [operand for operand in node.inputs if operand is not None]
            causes = [operand if operand.overridable else operand.varies_with for operand in inputs]
            current.varies_with = next((cause for cause in causes if cause is not None), None)
            missing = next((operand for operand in inputs if operand.source is None), None)
            if current.varies_with is not None:
                continue
            if missing is not None:
                pending.append(missing)
                continue
            _evaluate(node)
        if current.source is None and current.varies_with is None:
            current.varies_with = current
    if value.source is not None:
        return value.source
    cause = value.varies_with
    if cause is not None and cause.overridable:
        detail = f"{value.name} is computed from {cause.name}, a graph input with a default value"
        raise Blocked(Reason.OVERRIDABLE, cause.name, detail)
    how = "an input" if value.producer is None else "computed at run time"
    raise Blocked(Reason.NOT_CONSTANT, value.name, f"{value.name} is {how}")


def _constant_node(node: Node) -> TensorSource | None:
    """Return the value of a Constant node, whichever attribute has it; None where it is text."""
    for name, attribute in node.attrs.items():
        if isinstance(attribute, gs.Constant):  # value, sparse_value
            return source_of(attribute)
        if name in ("value_float", "value_floats"):
            return ArrayTensor(np.asarray(attribute, dtype=np.float32))
        if name in ("value_int", "value_ints"):
            return ArrayTensor(np.asarray(attribute, dtype=np.int64))
    return None


LARGEST_KEPT = 1 << 16
"""Elements of a computed constant that are kept; larger ones are computed anew when written."""


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """A large constant that a node computes: a :class:`TensorSource` that keeps no values.

    Parameters
    ----------
    node : Node
        All its inputs are constant.
    index : int
        Which of its outputs.
    data_type, shape
        What the node was found to make.
    """

    node: Node
    index: int
    data_type: int
    shape: tuple[int, ...]

    def load(self) -> npt.NDArray[Any]:
        """Evaluate the node again."""
        results = _run(self.node)
        if results is None:
            raise AssertionError("a node that was evaluated once can be evaluated again")
        return results[self.index]


def _evaluate(node: Node) -> None:
    """Give the outputs of a node with constant inputs their values, if it can be evaluated."""
    first = node.input(0)
    if node.op == "Identity" and first is not None:
        node.out.source = first.source
        return
    results = _run(node)
    if results is None:
        return
    present = [index for index, output in enumerate(node.outputs) if output is not None]
    for index, result in zip(present, results, strict=True):
        source: TensorSource = ArrayTensor(result)
        if result.size > LARGEST_KEPT:
            # Its inputs are in use elsewhere or were loaded for this; they can be again.
            frozen = replace(node, inputs=list(node.inputs), outputs=list(node.outputs))
            source = Computed(frozen, present.index(index), source.data_type, result.shape)
        output = node.outputs[index]
        if output is not None:
            output.source = source


def _run(node: Node) -> list[npt.NDArray[Any]] | None:
    """Evaluate one node; None where that is not known, and it stays a run-time value."""
    inputs = [
        operand.source.load() if operand is not None and operand.source is not None else None
        for operand in node.inputs
    ]
    while inputs and inputs[-1] is None:
        inputs.pop()
    attributes = {
        name: source_of(attribute).load() if isinstance(attribute, gs.Constant) else attribute
        for name, attribute in node.attrs.items()
    }
    results = constants.evaluate(
        node.op, node.domain, node.opset, inputs, attributes, len(node.outputs)
    )
    if results is None:
        return None
    used = [output is not None for output in node.outputs]
    return [result for result, use in zip(results, used, strict=False) if use]
