"""From graphsurgeon's graph back to a stripped model: its messages, with the edits patched in.

graphsurgeon's own exporter builds every message anew from the few fields it knows. This one starts
from the message that was read and changes only what differs from it, so that whatever nobody
edited survives, fields that normswap has never heard of included:

- a node keeps its message; inputs, outputs, operator, name and attributes are patched one by one;
- an initializer that was read by a node and now is read by none is dropped; one that never was
  read stays;
- a constant that is new becomes an initializer; in a function, or in a subgraph of a model of IR
  version 3, which can't have any, it becomes a ``Constant`` node;
- in IR version 3 every initializer is a graph input as well: both come and go together;
- ``value_info`` and quantization annotations go when their tensor goes.
"""

from __future__ import annotations

import functools
from collections import ChainMap
from itertools import chain
from typing import TYPE_CHECKING, Any

import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper

from normswap.model import wire
from normswap.model.attributes import AttributeWriter
from normswap.model.constants import ComputedTensor, source_of
from normswap.model.imported import ImportedFunction, ImportedGraph, ImportedNode
from normswap.model.importer import default_opset
from normswap.model.patching import (
    check_names,
    drop_stale,
    outputs_of,
    patch_sharding,
    replace,
    retain,
    value_info_of,
)
from normswap.model.stored import LazyTensor, Locate, SparseTensor, StoredTensor
from normswap.order import Mentions, in_topological_order

if TYPE_CHECKING:
    from collections.abc import Collection, MutableMapping, Sequence

    Scope = MutableMapping[str, Any]

# In this IR version and before, initializers are default values of graph inputs of the same name.
LAST_IR_WITH_INITIALIZERS_AS_INPUTS = 3


class Exporter:
    """Writes the graphs of one model back.

    Parameters
    ----------
    source : onnx.ModelProto
        What was loaded; never changed.
    locate : callable
        What its stored tensors were made with. Those of another model are read and written anew.
    first_payload : int
        The number of the first payload that isn't one of the source's.
    constant_inputs : collection of str
        Graph inputs that go with their initializers, see :attr:`Model.constant_inputs`.

    Attributes
    ----------
    computed : list of LazyTensor
        The values of the payloads from `first_payload` on.
    """

    def __init__(
        self,
        source: Any,
        locate: Locate,
        first_payload: int,
        constant_inputs: Collection[str] = (),
    ) -> None:
        self.constant_inputs = constant_inputs
        self.computed: list[LazyTensor] = []
        self._source = source
        self._locate = locate
        self._first_payload = first_payload
        self._opset: int | None = None
        self._domains: set[str] = set()

    def model(self, graph: gs.Graph) -> Any:
        """Return the ``ModelProto`` of the edited main graph and its functions.

        Raises
        ------
        ValueError
            Two tensors have the same name, or the nodes form a cycle: the edit was wrong.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self._source)
        self._enter(model.opset_import)
        main = _Body(self, graph, {}).graph_proto(is_main=True)
        if main is not self._source.graph:
            model.graph.CopyFrom(main)
        self._leave(model.opset_import, graph)
        functions = [self._function(function) for function in graph.functions]
        del model.functions[:]
        model.functions.extend(functions)
        return model

    @property
    def has_initializers_as_inputs(self) -> bool:
        """Whether every initializer of the main graph must be a graph input as well."""
        return bool(self._source.ir_version <= LAST_IR_WITH_INITIALIZERS_AS_INPUTS)

    @property
    def has_training_info(self) -> bool:
        """Whether initializers may be read by training algorithms, which aren't graphs of nodes."""
        return len(self._source.training_info) > 0

    def _enter(self, opset_import: Any) -> None:
        self._opset = default_opset(opset_import)
        self._domains = set()

    def _leave(self, opset_import: Any, graph: gs.Graph) -> None:
        """Import the operator sets that new nodes need, or that the editor asked for."""
        known = {_canonical(item.domain) for item in opset_import}
        for item in graph.import_domains or ():
            if _canonical(item.domain) not in known:
                opset_import.add().CopyFrom(item)
                known.add(_canonical(item.domain))
        for domain in sorted(self._domains - known):
            opset_import.add(domain=domain, version=1)

    def _function(self, function: gs.Function) -> Any:
        proto = onnx.FunctionProto()
        if isinstance(function, ImportedFunction):
            proto.CopyFrom(function.proto)
        if function.name != proto.name:
            proto.name = function.name
        if function.domain != proto.domain:
            proto.domain = function.domain
        self._enter(proto.opset_import or self._source.opset_import)
        body = _Body(self, function, {})
        body.write_function(proto)
        self._function_attributes(function, proto, body)
        self._leave(proto.opset_import, function)
        return proto

    @staticmethod
    def _function_attributes(function: gs.Function, proto: Any, body: _Body) -> None:
        imported = function.default_values if isinstance(function, ImportedFunction) else {}
        changed = {
            name
            for name in imported.keys() | function.attrs.keys()
            if name not in imported
            or name not in function.attrs
            or imported[name] is not function.attrs[name]
        }
        if not changed:
            return
        required = [name for name in proto.attribute if name not in changed]
        defaults = [item for item in proto.attribute_proto if item.name not in changed]
        for name, value in function.attrs.items():
            if name not in changed:
                continue
            if value is None:
                required.append(name)
            else:
                defaults.append(body.attributes.write(name, value))
        del proto.attribute[:]
        proto.attribute.extend(required)
        replace(proto.attribute_proto, defaults)

    def use_domain(self, domain: str | None) -> None:
        """Note that a new node is of this domain."""
        self._domains.add(_canonical(domain or ""))

    def attribute_kind(self, node: gs.Node, name: str) -> int | None:
        """Return the attribute type that the operator of a node asks for, None if unknown."""
        if self._opset is None:
            return None
        return _schema_attributes(node.op, node.domain or "", self._opset).get(name)

    def tensor(self, constant: gs.Constant) -> Any:
        """Return the ``TensorProto``, or ``SparseTensorProto``, of a constant."""
        values = constant._values  # noqa: SLF001 - reading the property loads and caches the array
        if isinstance(values, SparseTensor) and values.locate is self._locate:
            sparse = onnx.SparseTensorProto()
            sparse.CopyFrom(values.tensor)
            sparse.values.name = constant.name
            return sparse
        if isinstance(values, StoredTensor) and values.locate is self._locate:
            proto = onnx.TensorProto()
            proto.CopyFrom(values.tensor)
            if proto.name != constant.name:
                proto.name = constant.name
            return proto
        if not isinstance(values, LazyTensor):
            values = ComputedTensor(source_of(constant))
        if values.data_type == onnx.TensorProto.STRING:
            # The one type whose size is not known before its values are.
            return numpy_helper.from_array(values.load(), constant.name)
        proto = onnx.TensorProto(name=constant.name, data_type=values.data_type, dims=values.shape)
        proto.MergeFromString(wire.token(self._first_payload + len(self.computed)))
        self.computed.append(values)
        return proto


class _Body:
    """The nodes of a graph or function, written in the scope of the graphs around it."""

    def __init__(self, exporter: Exporter, graph: gs.Graph, outer: Scope) -> None:
        self.exporter = exporter
        self.graph = graph
        self.stored: dict[str, LazyTensor] = (
            dict(graph.stored) if isinstance(graph, ImportedGraph) else {}
        )
        self.outer = outer
        self.scope: Scope = ChainMap(dict(self.stored), outer)
        self.attributes = AttributeWriter(exporter.tensor, self._subgraph)
        self._source_nodes = (
            graph.node_protos if isinstance(graph, ImportedGraph | ImportedFunction) else ()
        )

    def graph_proto(self, *, is_main: bool = False) -> Any:
        """Return the ``GraphProto``: the one that was imported, if it still says the same."""
        is_imported = isinstance(self.graph, ImportedGraph)
        source = self.graph.proto if is_imported else onnx.GraphProto(name=self.graph.name)
        constants = self._new_constants()
        nodes = [self._node(node) for node in self.graph.nodes]
        as_inputs = self.exporter.has_initializers_as_inputs
        if as_inputs and not is_main:
            nodes = [*map(self._constant_node, constants), *nodes]
            constants = []
        inputs = {item.name for item in source.input} - self.stored.keys()
        outputs = [item.name for item in source.output]
        if (
            is_imported
            and not constants
            and self._are_source_nodes(nodes)
            and inputs == {tensor.name for tensor in self.graph.inputs}
            and outputs == [tensor.name for tensor in self.graph.outputs]
        ):
            return source
        check_names(
            before=[*outputs_of(source.node), *self.stored, *inputs],
            now=[
                *outputs_of(nodes),
                *(self.stored.keys() | {constant.name for constant in constants}),
                *{tensor.name for tensor in self.graph.inputs},
            ],
        )
        target = onnx.GraphProto()
        target.CopyFrom(source)
        self._write_nodes(target, nodes)
        self._write_outputs(target)
        before, now = Mentions(source), Mentions(target)
        if not (is_main and self.exporter.has_training_info):
            self._drop_unread(before, now)
        self._write_initializers(target, constants, as_inputs=as_inputs)
        self._write_inputs(target, inputs)
        drop_stale(before, now)
        self._describe_new(before, target)
        return target

    def write_function(self, target: Any) -> None:
        """Patch `target`, a copy of the ``FunctionProto`` that was imported or an empty one."""
        is_imported = isinstance(self.graph, ImportedFunction)
        source = self.graph.proto if is_imported else onnx.FunctionProto()
        constants = [self._constant_node(constant) for constant in self._new_constants()]
        nodes = [*constants, *(self._node(node) for node in self.graph.nodes)]
        check_names(
            before=[*outputs_of(source.node), *source.input],
            now=[*outputs_of(nodes), *(tensor.name for tensor in self.graph.inputs)],
        )
        if not self._are_source_nodes(nodes):
            self._write_nodes(target, nodes)
            drop_stale(Mentions(source), Mentions(target))
        for field, tensors in (("input", self.graph.inputs), ("output", self.graph.outputs)):
            names = [tensor.name for tensor in tensors]
            if names != list(getattr(source, field)):
                del getattr(target, field)[:]
                getattr(target, field).extend(names)

    # Nodes

    def _are_source_nodes(self, nodes: list[Any]) -> bool:
        source = self._source_nodes
        return len(nodes) == len(source) and all(a is b for a, b in zip(nodes, source, strict=True))

    def _write_nodes(self, target: Any, nodes: list[Any]) -> None:
        if not self._are_source_nodes(nodes):
            replace(target.node, in_topological_order(nodes))

    def _node(self, node: gs.Node) -> Any:
        """Return the message of a node: the one it came from, if it still says the same."""
        source = node.proto if isinstance(node, ImportedNode) else onnx.NodeProto()
        attributes, same_attributes = self._attributes(node, source)
        patch = {
            "op_type": node.op,
            "name": node.name,
            "domain": node.domain or "",
        }
        patch = {field: value for field, value in patch.items() if value != getattr(source, field)}
        names = {
            "input": [tensor.name for tensor in node.inputs],
            "output": [tensor.name for tensor in node.outputs],
        }
        names = {field: value for field, value in names.items() if value != getattr(source, field)}
        if not isinstance(node, ImportedNode) or patch.keys() & {"domain", "op_type"}:
            self.exporter.use_domain(node.domain)
        if not patch and not names and same_attributes:
            return source
        target = onnx.NodeProto()
        target.CopyFrom(source)
        for field, value in patch.items():
            setattr(target, field, value)
        for field, value in names.items():
            del getattr(target, field)[:]
            getattr(target, field).extend(value)
        if not same_attributes:
            replace(target.attribute, attributes)
        if names:
            patch_sharding(target, source)
        return target

    def _attributes(self, node: gs.Node, source: Any) -> tuple[list[Any], bool]:
        """Return the attributes of a node, and whether they are those of its source."""
        attributes = []
        same = True
        written = set()
        last = {item.name: i for i, item in enumerate(source.attribute)}  # of the same name
        for i, item in enumerate(source.attribute):
            name = item.name
            if node.keeps(name):
                proto = item if i < last[name] else self._with_subgraphs(item, node.attrs[name])
            elif name in node.attrs and name not in written:
                proto = self.attributes.write(name, node.attrs[name], item.type or None)
                if item.HasField("doc_string"):
                    proto.doc_string = item.doc_string
            else:
                proto = None
            if proto is not None:
                attributes.append(proto)
            same &= proto is item
            written.add(name)
        for name, value in node.attrs.items():
            if name not in written:
                kind = self.exporter.attribute_kind(node, name)
                attributes.append(self.attributes.write(name, value, kind))
                same = False
        return attributes, same

    def _with_subgraphs(self, item: Any, value: Any) -> Any:
        """Return an attribute with the graphs in it written as they are now."""
        values = value if isinstance(value, list) else [value]
        graphs = [each for each in values if isinstance(each, gs.Graph)]
        protos = [self._subgraph(graph) for graph in graphs]
        if all(a is graph.proto for a, graph in zip(protos, graphs, strict=True)):
            return item
        target = onnx.AttributeProto()
        target.CopyFrom(item)
        if isinstance(value, list):
            replace(target.graphs, protos)
        else:
            target.g.CopyFrom(protos[0])
        return target

    def _subgraph(self, graph: gs.Graph) -> Any:
        return _Body(self.exporter, graph, self.scope).graph_proto()

    # Constants

    def _new_constants(self) -> list[gs.Constant]:
        """Return the constants that this body must define, and bring them into scope."""
        read: dict[str, Any] = {}
        new = []
        replaced = self.graph.replaced if isinstance(self.graph, ImportedGraph) else ()
        inputs = (node.inputs for node in self.graph.nodes)
        for tensor in chain(replaced, *inputs, self.graph.outputs):
            if not isinstance(tensor, gs.Constant) or not tensor.name:
                continue
            values = tensor._values  # noqa: SLF001 - the property loads them
            if tensor.name in read:
                if read[tensor.name] is not values:
                    raise ValueError(f"two constants are named {tensor.name!r}")
                continue
            read[tensor.name] = values
            if self.scope.get(tensor.name) is values:
                continue
            if tensor.name in self.outer and tensor.name not in self.stored:
                raise ValueError(f"two constants are named {tensor.name!r}")
            new.append(tensor)
        self.scope.update(read)
        return new

    def _constant_node(self, constant: gs.Constant) -> Any:
        tensor = self.exporter.tensor(constant)
        name = "value" if isinstance(tensor, onnx.TensorProto) else "sparse_value"
        self.exporter.use_domain("")
        return onnx.NodeProto(
            op_type="Constant",
            output=[constant.name],
            attribute=[onnx.helper.make_attribute(name, tensor)],
        )

    def _write_initializers(
        self, target: Any, constants: Sequence[gs.Constant], *, as_inputs: bool
    ) -> None:
        """Add new constants as initializers; those with the name of an old one replace it."""
        positions = {item.name: i for i, item in enumerate(target.initializer)}
        for constant in constants:
            proto = self.exporter.tensor(constant)
            if isinstance(proto, onnx.SparseTensorProto):
                target.sparse_initializer.append(proto)
            elif constant.name in positions:
                old = target.initializer[positions[constant.name]]
                if old.HasField("doc_string"):
                    proto.doc_string = old.doc_string
                proto.metadata_props.extend(old.metadata_props)
                old.CopyFrom(proto)
            else:
                target.initializer.append(proto)
            if as_inputs and constant.name not in self.stored:
                target.input.append(value_info_of(constant))

    def _drop_unread(self, before: Mentions, now: Mentions) -> None:
        """Drop the initializers that an edit has left without a reader."""
        target = now.graph
        dropped = (before.read - now.read) & self.stored.keys()
        if not self.exporter.has_initializers_as_inputs:  # then they are inputs with a default
            dropped -= {i.name for i in before.graph.input} - set(self.exporter.constant_inputs)
        names = now.names() if target.quantization_annotation else ()
        for annotation in target.quantization_annotation:
            if annotation.tensor_name in names:
                dropped -= {item.value for item in annotation.quant_parameter_tensor_names}
        if not dropped:
            return
        retain(target.initializer, lambda item: item.name not in dropped)
        retain(target.sparse_initializer, lambda item: item.values.name not in dropped)
        retain(target.input, lambda item: item.name not in dropped)

    # Inputs, outputs, and what is said about the tensors between them

    def _write_inputs(self, target: Any, before: set[str]) -> None:
        gone = before - {tensor.name for tensor in self.graph.inputs}
        retain(target.input, lambda item: item.name not in gone)
        target.input.extend(
            value_info_of(tensor) for tensor in self.graph.inputs if tensor.name not in before
        )

    def _write_outputs(self, target: Any) -> None:
        names = [tensor.name for tensor in self.graph.outputs]
        if names == [item.name for item in target.output]:
            return
        known = {item.name: item for item in target.output}
        outputs = [known.get(t.name) or value_info_of(t) for t in self.graph.outputs]
        replace(target.output, outputs)

    def _describe_new(self, before: Mentions, target: Any) -> None:
        """Add the type and shape of new tensors, where the editor gave them."""
        known = before.names() | {item.name for item in (*target.output, *target.value_info)}
        for tensor in chain(*(node.outputs for node in self.graph.nodes)):
            if tensor.name not in known and tensor.dtype is not None and tensor.shape is not None:
                target.value_info.append(value_info_of(tensor))


def _canonical(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


@functools.cache
def _schema_attributes(op: str, domain: str, opset: int) -> dict[str, int]:
    try:
        schema = onnx.defs.get_schema(op, opset, _canonical(domain))
    except onnx.defs.SchemaError:
        return {}
    return {name: int(item.type.value) for name, item in schema.attributes.items()}
