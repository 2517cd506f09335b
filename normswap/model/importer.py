"""From a stripped model to graphsurgeon's graph, with nothing left behind.

graphsurgeon's own importer drops, warns about or fails on much that is legal: attributes that hold
types, sparse tensors, or lists of tensors or graphs; strings that are not UTF-8; optional, opaque
and nested types; element types younger than itself; names that a subgraph shadows. This one makes
the same objects, and each keeps the message it came from (see :mod:`normswap.model.imported`).
"""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, Any

import onnx
import onnx_graphsurgeon as gs

from normswap.model import bare
from normswap.model.attributes import Scope, import_attribute
from normswap.model.imported import ImportedFunction, ImportedGraph, ImportedNode
from normswap.model.stored import Locate, SparseTensor, StoredTensor
from normswap.model.tensors import dtype_of

if TYPE_CHECKING:
    from normswap.model.stored import LazyTensor


class Importer:
    """Makes graphsurgeon objects of the messages of one model.

    Parameters
    ----------
    locate : callable
        Where the values of a ``TensorProto`` lie; see :data:`Locate`.
    """

    def __init__(self, locate: Locate) -> None:
        self._locate = locate
        self._opset: int | None = None
        self._opset_import: list[Any] = []

    def model(self, proto: Any) -> ImportedGraph:
        """Return the main graph of a ``ModelProto``; its functions are ``graph.functions``."""
        functions = [self._function(function, proto) for function in proto.functions]
        self._enter(proto.opset_import)
        return self._graph(
            proto.graph,
            {},
            functions=functions,
            producer_name=proto.producer_name,
            producer_version=proto.producer_version,
        )

    def _enter(self, opset_import: Any) -> None:
        """Take the operator sets that the graphs made from now on rely on."""
        self._opset_import = list(opset_import)
        self._opset = default_opset(opset_import)

    def _function(self, proto: Any, model: Any) -> ImportedFunction:
        _require_text(proto.name, proto.domain)
        self._enter(proto.opset_import or model.opset_import)
        scope: Scope = {}
        inputs = [self._variable(name, scope) for name in proto.input]
        node_protos = list(proto.node)
        types = {item.name: item.type for item in proto.value_info}
        nodes = self._nodes(node_protos, scope, scope, types)
        attrs: dict[str, Any] = dict.fromkeys(proto.attribute)
        attrs |= {a.name: import_attribute(a, self, scope) for a in proto.attribute_proto}
        return ImportedFunction(
            proto,
            node_protos,
            attrs,
            nodes=nodes,
            inputs=inputs,
            outputs=[self._variable(name, scope) for name in proto.output],
            opset=self._opset,
            import_domains=list(proto.opset_import),
        )

    def subgraph(self, proto: Any, scope: Scope) -> ImportedGraph:
        """Return the graph in an attribute of a node that sees the tensors of `scope`."""
        return self._graph(proto, scope)

    def constant(self, proto: Any) -> gs.Constant:
        """Return a ``TensorProto`` or ``SparseTensorProto`` as a constant."""
        name = proto.name if isinstance(proto, onnx.TensorProto) else proto.values.name
        _require_text(name)
        return bare.constant(name, self._stored(proto))

    def _stored(self, proto: Any) -> LazyTensor:
        if isinstance(proto, onnx.TensorProto):
            return StoredTensor(proto, self._locate)
        return SparseTensor(proto, self._locate)

    def _graph(self, proto: Any, outer: Scope, **fields: Any) -> ImportedGraph:
        local: Scope = {}
        scope: Scope = ChainMap(local, outer)
        stored: dict[str, LazyTensor] = {}
        for item in [*proto.initializer, *proto.sparse_initializer]:
            constant = self.constant(item)
            local[constant.name] = constant
            stored[constant.name] = constant._values  # noqa: SLF001 - the property loads them
        inputs = [
            self._variable(item.name, local, item.type)
            for item in proto.input
            if item.name not in stored
        ]
        types = {item.name: item.type for item in [*proto.value_info, *proto.output]}
        node_protos = list(proto.node)
        nodes = self._nodes(node_protos, scope, local, types)
        return ImportedGraph(
            proto,
            node_protos,
            stored,
            nodes=nodes,
            inputs=inputs,
            outputs=[self._tensor(item.name, scope, local, item.type) for item in proto.output],
            opset=self._opset,
            import_domains=list(self._opset_import),
            **fields,
        )

    def _nodes(self, protos: Any, scope: Scope, local: Scope, types: dict[str, Any]) -> list[Any]:
        # All names of this graph must be known before a node is read: a name that one of its nodes
        # produces later hides that of an outer graph.
        for proto in protos:
            for name in proto.output:
                self._variable(name, local, types.get(name))
        return [self._node(proto, scope, local) for proto in protos]

    def _node(self, proto: Any, scope: Scope, local: Scope) -> ImportedNode:
        _require_text(proto.op_type, proto.name, proto.domain, *(a.name for a in proto.attribute))
        return ImportedNode(
            proto,
            {item.name: import_attribute(item, self, scope) for item in proto.attribute},
            inputs=[self._tensor(name, scope, local) for name in proto.input],
            outputs=[self._variable(name, local) for name in proto.output],
        )

    def _tensor(self, name: str, scope: Scope, local: Scope, value_type: Any = None) -> gs.Tensor:
        """Return the tensor of that name in scope, a new local variable if there is none."""
        found = local.get(name)
        if found is None:
            found = scope.get(name)
        return self._variable(name, local, value_type) if found is None else found

    @staticmethod
    def _variable(name: str, local: Scope, value_type: Any = None) -> gs.Tensor:
        """Return the tensor of that name in the local scope, a new variable if there is none."""
        if not name:
            return gs.Variable.empty()
        found = local.get(name)
        if found is None:
            _require_text(name)
            found = local[name] = bare.variable(name)
            if value_type is not None:
                _describe(found, value_type)
        return found


def _require_text(*names: Any) -> None:
    # protobuf gives a string that is not UTF-8 as bytes
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"the name {name!r} is not valid text")  # noqa: TRY004 - about the file


def _describe(variable: gs.Variable, value_type: Any) -> None:
    """Take over the element type and shape of a ``TypeProto``, as far as graphsurgeon has them."""
    kind = value_type.WhichOneof("value")
    if kind is None:
        return
    variable.type = kind
    if kind not in {"tensor_type", "sparse_tensor_type"}:
        return
    tensor_type = getattr(value_type, kind)
    if tensor_type.elem_type:
        variable.dtype = dtype_of(tensor_type.elem_type) or tensor_type.elem_type
    if tensor_type.HasField("shape"):
        variable.shape = [
            getattr(dim, dim.WhichOneof("value")) if dim.WhichOneof("value") else None
            for dim in tensor_type.shape.dim
        ]


def default_opset(opset_import: Any) -> int | None:
    """Return the version of the default domain, the highest of several; None if absent."""
    versions = [item.version for item in opset_import if item.domain in {"", "ai.onnx"}]
    return max(versions, default=None)
