"""How a model is laid flat (:mod:`normswap.proof.flat`)."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from normswap.proof.flat import CHOICE, ENTRY, NONE, OWN, Flat, FlatNode, NotFlatError
from normswap.proof.types import element_type, made_types
from normswap.runtime.randomness import is_random

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping, Sequence
    from pathlib import Path

_FUSED = frozenset({("com.microsoft", "FusedConv"), ("com.microsoft", "FusedGemm")})
_PARAMETERS = {
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
}
_DEEPEST = 200  # functions and bodies in one another
_LARGEST = 400_000  # nodes, all calls counted


def flattened(model: onnx.ModelProto, folder: Path | None = None) -> Flat:
    """Lay a model flat; its external data is not touched.

    Parameters
    ----------
    model : onnx.ModelProto
        In topological order, as the specification asks.
    folder : Path, optional

    Raises
    ------
    NotFlatError
        If it has a name that nothing makes, or bodies without end.
    """
    flat = Flat(folder)
    opsets = _opsets(model.opset_import)
    walk = _Walk(flat, {(f.domain, f.name, f.overload): f for f in model.functions})
    scope = _Scope({}, opsets, {}, ())
    graph = model.graph
    given = {t.name for t in graph.initializer}
    given.update(t.values.name for t in graph.sparse_initializer)
    overridable = model.ir_version >= 4
    for port in graph.input:
        if port.name in given and not overridable:
            continue
        number = flat.add(port.name, port.type.tensor_type.elem_type)
        flat.inputs[port.name] = scope.names[port.name] = number
        flat.ports[port.name] = port
    walk.graph(graph, scope)
    for port in graph.output:
        flat.outputs.append((port.name, scope.number(port.name)))
    flat.named = dict(scope.names)
    return flat


@dataclass(slots=True)
class _Scope:
    """What is seen at a place.

    Attributes
    ----------
    names : mapping of str to int
    opsets : mapping of str to int
    given : mapping of str to AttributeProto
        What attributes of a function's body refer to.
    path : tuple of str
    """

    names: MutableMapping[str, int]
    opsets: Mapping[str, int]
    given: Mapping[str, onnx.AttributeProto]
    path: tuple[str, ...]

    def number(self, name: str) -> int:
        """Return the number of a tensor."""
        if not name:
            return NONE
        found = self.names.get(name)
        if found is None:
            raise NotFlatError(f"no node makes the tensor {name!r}")
        return found

    def inside(self, node: onnx.NodeProto, graph: str) -> _Scope:
        """Return the scope of a body."""
        where = f"{graph} of {node.op_type} {node.name or node.output[0]}"
        return _Scope(ChainMap({}, self.names), self.opsets, self.given, (*self.path, where))


class _Walk:
    """Goes through graphs and adds what they do to a flat model."""

    def __init__(
        self, flat: Flat, functions: Mapping[tuple[str, str, str], onnx.FunctionProto]
    ) -> None:
        self._flat = flat
        self._functions = functions
        self._depth = 0

    def graph(self, graph: onnx.GraphProto, scope: _Scope) -> None:
        """Add a graph's constants and nodes; its inputs are in the scope already."""
        for tensor in graph.initializer:
            self._constant(tensor.name, tensor, tensor.data_type, scope)
        for tensor in graph.sparse_initializer:
            self._constant(tensor.values.name, tensor, tensor.values.data_type, scope)
        self._nodes(graph.node, scope)

    def _constant(self, name: str, tensor: Any, data_type: int, scope: _Scope) -> None:
        if not self._depth and name in self._flat.inputs:
            self._flat.tensors[self._flat.inputs[name]] = tensor  # what a caller may override
            return
        number = self._flat.add(name, data_type)
        self._flat.tensors[number] = tensor
        scope.names[name] = number

    def _nodes(self, nodes: Iterable[onnx.NodeProto], scope: _Scope) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise NotFlatError(
                f"subgraphs and functions are nested more than {_DEEPEST} levels deep"
            )
        for node in nodes:
            if len(self._flat.nodes) > _LARGEST:
                raise NotFlatError(
                    f"the model has more than {_LARGEST:,} nodes, its functions expanded"
                )
            self._node(node, scope)
        self._depth -= 1

    def _node(self, node: onnx.NodeProto, scope: _Scope) -> None:
        domain = "" if node.domain == "ai.onnx" else node.domain
        function = self._functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            self._call(node, function, scope)
            return
        inputs = [scope.number(name) for name in node.input]
        if not domain:
            if self._is_same(node, inputs, scope):
                scope.names[node.output[0]] = inputs[0]
                return
            if node.op_type == "Constant":
                tensor = _constant_of(_attributes(node, scope))
                if tensor is not None:
                    self._local(node.output[0], tensor, scope)
                    return
            if node.op_type == "If":
                self._if(node, inputs, scope)
                return
            if node.op_type in {"Loop", "Scan"}:
                self._loop(node, inputs, scope)
                return
        if (domain, node.op_type) in _FUSED:
            self._fused(node, inputs, scope)
            return
        if (domain, node.op_type) == ("com.microsoft", "GroupNorm"):
            self._group_norm(node, inputs, scope)
            return
        op, values = node.op_type, _values(_attributes(node, scope))
        if not domain and op == "CastLike" and self._flat.types[inputs[1]]:
            # What it is like says nothing but the type.
            op, inputs, values = "Cast", inputs[:1], {**values, "to": self._flat.types[inputs[1]]}
        opset = scope.opsets.get(domain, 1)
        made = FlatNode(op, domain, opset, values, inputs, [], node, scope.path)
        passes = not domain and node.op_type == "Dropout" and self._is_inference(made)
        outputs = list(node.output)
        if passes:
            scope.names[outputs[0]], outputs[0] = inputs[0], ""
        if any(outputs):
            self._add(made, outputs, scope)

    def _fused(self, node: onnx.NodeProto, inputs: list[int], scope: _Scope) -> None:
        """Take apart what onnxruntime's optimizer made one: an operator, a sum, an activation."""
        values = _values(_attributes(node, scope))
        activation = values.pop("activation", "")
        given = list(values.pop("activation_params", []))
        given += [values.pop(n) for n in ("activation_alpha", "activation_beta") if n in values]
        plain = [(node.op_type.removeprefix("Fused"), 13, values, inputs[:3])]
        if len(inputs) > 3 and inputs[3] != NONE:
            plain.append(("Add", 13, {}, inputs[3:]))
        if activation:
            named = dict(zip(_PARAMETERS.get(activation, ()), given, strict=False))
            opset = 6 if activation == "Clip" else 13  # which has its limits as attributes
            plain.append((activation, opset, named, []))
        made = NONE
        for op, opset, own, read in plain:
            before = [made] if made != NONE else []
            part = FlatNode(op, "", opset, own, [*before, *read], [], node, scope.path)
            last = part.op == plain[-1][0]
            self._add(part, [node.output[0] if last else f"{op} of {node.output[0]}"], scope)
            made = part.outputs[0]

    def _group_norm(self, node: onnx.NodeProto, inputs: list[int], scope: _Scope) -> None:
        """Take apart: views of channels last, a GroupNormalization, an activation."""
        given = _values(_attributes(node, scope))
        last = bool(given.get("channels_last", 1))
        own = {"num_groups": given.get("groups", 1), "epsilon": given.get("epsilon", 1e-5)}

        def make(op: str, opset: int, read: list[int], **values: Any) -> int:
            part = FlatNode(op, "", opset, values, read, [], node, scope.path)
            self._add(part, [f"{op} of {node.output[0]}"], scope)
            return part.outputs[0]

        y = make("Transpose", 13, inputs[:1], perm=[0, 3, 1, 2]) if last else inputs[0]
        y = make("GroupNormalization", 21, [y, *inputs[1:3]], **own)
        if given.get("activation", 0):
            y = make("Mul", 13, [y, make("Sigmoid", 13, [y])])
        if last:
            y = make("Transpose", 13, [y], perm=[0, 2, 3, 1])
        self._flat.names[y] = node.output[0]
        scope.names[node.output[0]] = y

    def _is_same(self, node: onnx.NodeProto, inputs: Sequence[int], scope: _Scope) -> bool:
        """Whether a node makes what it reads: Identity, or a cast to the type that it has."""
        if node.op_type == "Identity":
            return True
        types = self._flat.types
        if node.op_type == "CastLike":
            return bool(types[inputs[0]]) and types[inputs[0]] == types[inputs[1]]
        if node.op_type != "Cast":
            return False
        to = _values(_attributes(node, scope)).get("to")
        return bool(to) and to == types[inputs[0]]

    def _local(self, name: str, tensor: Any, scope: _Scope) -> None:
        kind = tensor.values if isinstance(tensor, onnx.SparseTensorProto) else tensor
        number = self._flat.add(name, kind.data_type)
        self._flat.tensors[number] = tensor
        scope.names[name] = number

    def _add(self, node: FlatNode, outputs: Sequence[str], scope: _Scope) -> None:
        if is_random(node.proto):
            self._flat.random.add(len(self._flat.nodes))
        types = made_types(node, self._flat.types)
        if node.op == "SequenceAt":
            types = [element_type(node, self._flat)]
        for slot, name in enumerate(outputs):
            if not name:
                node.outputs.append(NONE)
                continue
            kind = types[min(slot, len(types) - 1)] if types else 0
            number = self._flat.add(name, kind, node)
            node.outputs.append(number)
            scope.names[name] = number
        node.index = len(self._flat.nodes)
        self._flat.nodes.append(node)

    def _is_inference(self, node: FlatNode) -> bool:
        if node.opset < 7:
            return bool(node.attributes.get("is_test", 0))
        mode = node.inputs[2] if len(node.inputs) > 2 else NONE
        if mode == NONE:
            return True
        tensor = self._flat.tensors.get(mode)
        if tensor is None or mode in self._flat.inputs.values():
            return False
        return not onnx.numpy_helper.to_array(tensor).any()

    def _call(self, node: onnx.NodeProto, function: onnx.FunctionProto, scope: _Scope) -> None:
        names = dict(zip(function.input, (scope.number(n) for n in node.input), strict=False))
        for name in function.input:
            names.setdefault(name, NONE)
        given = {a.name: a for a in function.attribute_proto}
        given.update((a.name, a) for a in _attributes(node, scope))
        where = f"{function.name} {node.name}".rstrip()
        inner = _Scope(names, _opsets(function.opset_import), given, (*scope.path, where))
        self._nodes(function.node, inner)
        for name, made in zip(node.output, function.output, strict=False):
            if name:
                scope.names[name] = inner.number(made)

    def _if(self, node: onnx.NodeProto, inputs: list[int], scope: _Scope) -> None:
        bodies = {a.name: a.g for a in node.attribute}
        results = []
        for name in ("then_branch", "else_branch"):
            inner = scope.inside(node, name)
            self.graph(bodies[name], inner)
            results.append([inner.number(port.name) for port in bodies[name].output])
        for name, first, second in zip(node.output, *results, strict=False):
            if name:
                choice = FlatNode(
                    CHOICE, OWN, 1, {}, [inputs[0], first, second], [], node, scope.path
                )
                self._add(choice, [name], scope)
                same = self._flat.types[first] == self._flat.types[second]
                self._flat.types[choice.outputs[0]] = self._flat.types[first] if same else 0

    def _loop(self, node: onnx.NodeProto, inputs: list[int], scope: _Scope) -> None:
        attributes = _attributes(node, scope)
        body = next(a.g for a in attributes if a.name == "body")
        inner = scope.inside(node, "body")
        opset = scope.opsets.get("", 1)
        values = _values([a for a in attributes if a.name != "body"])
        what = {**values, "of": node.op_type, "depth": len(scope.path)}
        entry = FlatNode(ENTRY, OWN, opset, what, inputs, [], node, scope.path)
        self._add(entry, [port.name for port in body.input], inner)
        for port, number in zip(body.input, entry.outputs, strict=True):
            self._flat.types[number] = port.type.tensor_type.elem_type
        self.graph(body, inner)
        made = [inner.number(port.name) for port in body.output]
        loop = FlatNode(node.op_type, "", opset, values, [*inputs, *made], [], node, scope.path)
        self._add(loop, node.output, scope)
        lead = 1 if node.op_type == "Loop" else 0
        for slot, number in enumerate(loop.outputs):
            if number != NONE and slot + lead < len(made):
                self._flat.types[number] = self._flat.types[made[slot + lead]]


def _opsets(imports: Iterable[Any]) -> dict[str, int]:
    return {("" if i.domain == "ai.onnx" else i.domain): i.version for i in imports}


def _attributes(node: onnx.NodeProto, scope: _Scope) -> list[onnx.AttributeProto]:
    """Return a node's attributes, with what is given for those that refer to a function's."""
    found = []
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            found.append(attribute)
            continue
        given = scope.given.get(attribute.ref_attr_name)
        if given is not None:
            copied = onnx.AttributeProto()
            copied.CopyFrom(given)
            copied.name = attribute.name
            found.append(copied)
    return found


def _values(attributes: Iterable[onnx.AttributeProto]) -> dict[str, Any]:
    return {a.name: _value(a) for a in attributes}


def _value(attribute: onnx.AttributeProto) -> Any:
    kinds = onnx.AttributeProto
    if attribute.type == kinds.TENSOR:
        return onnx.numpy_helper.to_array(attribute.t)
    if attribute.type == kinds.STRING:
        return attribute.s.decode(errors="surrogateescape")
    if attribute.type == kinds.STRINGS:
        return [text.decode(errors="surrogateescape") for text in attribute.strings]
    if attribute.type == kinds.FLOAT:
        return float(attribute.f)
    if attribute.type in {kinds.INTS, kinds.FLOATS}:
        return list(attribute.ints if attribute.type == kinds.INTS else attribute.floats)
    if attribute.type == kinds.INT:
        return int(attribute.i)
    return attribute.SerializeToString()  # graphs and types: nothing evaluates them


def _constant_of(attributes: Iterable[onnx.AttributeProto]) -> Any:
    """Return the tensor that a Constant makes."""
    for attribute in attributes:
        if attribute.name == "value":
            return attribute.t
        if attribute.name == "sparse_value":
            return attribute.sparse_tensor
        kind = {"float": np.float32, "int": np.int64}.get(
            attribute.name.removeprefix("value_").rstrip("s")
        )
        if kind is not None:
            value = _value(attribute)
            return onnx.numpy_helper.from_array(np.asarray(value, kind))
    return None
