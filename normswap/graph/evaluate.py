"""Where constants hide: initializers, Constant nodes, and what is computed from them alone.

PyTorch shares initializers through Identity, tf2onnx emits Constant nodes in every value form,
Keras and Paddle leave ``Sqrt(Add(var, eps))`` to the runtime, and torch's newer exporter the length
of a bias. All of these are constants.
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
from normswap.graph.partial import evaluate, sizes_of
from normswap.graph.reasons import Blocked, Reason, unless_blocked
from normswap.graph.sizes import TensorType
from normswap.model import source_of
from normswap.model.tensors import ArrayTensor, TensorSource
from normswap.semantics.families import ARITHMETIC, MOVES

if TYPE_CHECKING:
    from normswap.graph.network import Node, Value
    from normswap.graph.partial import Partial

EVALUABLE = ARITHMETIC | MOVES | {
    "Abs", "BatchNormalization", "Cast", "CastLike", "Ceil", "Clip", "ConstantOfShape", "Equal",
    "Exp", "Floor", "Greater", "Identity", "InstanceNormalization", "LayerNormalization", "Less",
    "Log", "MatMul", "Max", "Min", "Neg", "Not", "Pad", "Pow", "QuantizeLinear", "Range",
    "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "Shape", "Size", "Sqrt", "Where",
}  # fmt: skip
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
        raise Blocked(Reason.MALFORMED, "", "a required input is missing")
    source = constant_source(value)
    if isinstance(source, Expression):
        return source
    if not is_float(source.data_type):
        name = onnx.TensorProto.DataType.Name(source.data_type)
        detail = f"{value.name} has element type {name}, which is not folded"
        raise Blocked(Reason.ELEMENT_TYPE, value.name, detail)
    leaf = Leaf(source, value.name)
    value.source = leaf  # so that its range is looked at only once
    return leaf


def spread_of(value: Value | None) -> Expression:
    """Return a float tensor that is constant but for its size, as a constant that broadcasts to it.

    It is one where a constant is expanded, or filled in, to a size that only the runtime knows. Who
    asks for it may compute with it; the tensor itself still may let others grow.

    Raises
    ------
    Blocked
        If it is not one.
    """
    constant = unless_blocked(constant_of, value)
    maker = None if constant is not None or value is None else value.producer
    if maker is None or maker.domain or maker.refers_to_attributes:
        return constant_of(value) if constant is None else constant
    if maker.op == "Expand":
        return spread_of(maker.input(0))
    if maker.op == "ConstantOfShape" and value is not None:
        filling = maker.attrs.get("value")
        stored = np.zeros(1, np.float32) if filling is None else source_of(filling).load()
        source = ArrayTensor(stored.reshape(()))
        if is_float(source.data_type):
            return Leaf(source, value.name)
    return constant_of(value)


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


def known_type(value: Value) -> TensorType:
    """Return element type and shape of a tensor, where they can be known."""
    if value.data_type is None or value.shape is None:
        source = unless_blocked(constant_source, value)
        if source is not None:
            return TensorType(source.data_type, tuple(source.shape))
    return TensorType(value.data_type, value.shape)


def _computed(value: Value) -> TensorSource:
    """Evaluate the nodes that make a value, if they depend on constants alone.

    What is found is kept at every tensor on the way, so that asking again costs nothing.
    """
    pending = [value] if value.varies_with is None else []
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
            inputs = _read_by(node)
            causes = [operand if operand.overridable else operand.varies_with for operand in inputs]
            open_ = [operand.partial is None for operand in inputs]
            blocking = (cause for cause, hidden in zip(causes, open_, strict=True) if hidden)
            current.varies_with = next((cause for cause in blocking if cause is not None), None)
            missing = next((o for o in inputs if o.source is None and o.partial is None), None)
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
    how = "a graph input" if value.producer is None else "computed at run time"
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


def _read_by(node: Node) -> list[Value]:
    """Return the inputs of which a node reads the values, and not the size or type alone."""
    inputs = [operand for operand in node.inputs if operand is not None]
    if node.op in ("Shape", "Size") and inputs and inputs[0].shape is not None:
        return [operand for operand in inputs if operand.overridable]  # perhaps by a larger one
    if node.op == "CastLike" and inputs and inputs[-1].data_type is not None:
        return inputs[:1]
    return inputs


def _evaluate(node: Node) -> None:
    """Give the outputs of a node with constant inputs their values, if it can be evaluated."""
    first = node.input(0)
    if node.op == "Identity" and first is not None and first.source is not None:
        node.out.source = first.source
        return
    results = _run(node)
    if results is None:
        return
    present = [index for index, output in enumerate(node.outputs) if output is not None]
    for index, result in zip(present, results, strict=True):
        output = node.outputs[index]
        if np.ma.is_masked(result):
            if output is not None:
                output.partial, output.varies_with = result, output
            continue
        source: TensorSource = ArrayTensor(result)
        if result.size > LARGEST_KEPT:
            # Its inputs are in use elsewhere or were loaded for this; they can be again.
            frozen = replace(node, inputs=list(node.inputs), outputs=list(node.outputs))
            source = Computed(frozen, present.index(index), source.data_type, result.shape)
        if output is not None:
            output.source = source


def _run(node: Node) -> list[Partial] | None:
    """Evaluate one node; None where that is not known, and it stays a run-time value."""
    if node.op in ("Shape", "Size"):
        sizes = sizes_of(node)
        if sizes is not None:
            return [sizes]
    inputs = [None if operand is None else _values(operand) for operand in node.inputs]
    while inputs and inputs[-1] is None:
        inputs.pop()
    attributes = {
        name: source_of(attribute).load() if isinstance(attribute, gs.Constant) else attribute
        for name, attribute in node.attrs.items()
    }
    results = evaluate(node.op, node.opset, inputs, attributes, len(node.outputs))
    if results is None:
        return None
    used = [output is not None for output in node.outputs]
    return [result for result, use in zip(results, used, strict=False) if use]


def _values(value: Value) -> Partial | None:
    """Return what is known of the values of a tensor; of one that is not read, its type."""
    if value.source is not None:
        return value.source.load()
    if value.partial is not None or value.data_type is None:
        return value.partial
    return np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(value.data_type))
