"""graphsurgeon nodes, graphs and functions that remember the protobuf message they came from.

What graphsurgeon has no place for (doc strings, metadata, annotations, fields of a future ONNX)
stays in that message, and the exporter starts from it. The memory survives ``copy()``, so a
function that is copied to be specialised keeps what the original had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normswap.model.stored import LazyTensor


def freeze(value: Any) -> Any:
    """Return the parts of an attribute value that could be exchanged in place."""
    if isinstance(value, gs.Constant):
        return (value._values,)  # noqa: SLF001 - reading the property loads and caches the array
    return tuple(value) if isinstance(value, list) else ()


class ImportedNode(gs.Node):  # type: ignore[misc]
    """A node of the model that was loaded.

    Unlike graphsurgeon's own, which compares all attributes, inputs and outputs at any depth, it is
    equal to itself only: this makes removing a node from a tensor's readers exact and fast.

    Attributes
    ----------
    proto : onnx.NodeProto
        What it was; never changed.
    """

    def __init__(self, proto: Any, attrs: Mapping[str, Any], **fields: Any) -> None:
        super().__init__(
            op=proto.op_type,
            name=proto.name,
            attrs=dict(attrs),
            domain=proto.domain if proto.HasField("domain") else None,
            **fields,
        )
        self.proto = proto
        self._frozen = {name: (value, freeze(value)) for name, value in attrs.items()}

    def keeps(self, name: str) -> bool:
        """Return whether attribute `name` has the value that was loaded (or is the same graph)."""
        if name not in self._frozen or name not in self.attrs:
            return False
        value, parts = self._frozen[name]
        now = self.attrs[name]
        if now is not value:
            return False
        items = freeze(now)
        return len(items) == len(parts) and all(a is b for a, b in zip(items, parts, strict=True))

    def copy(self, inputs: Any = None, outputs: Any = None, tensor_map: Any = None) -> ImportedNode:
        """Return a copy as graphsurgeon makes it, with the same memory."""
        plain = super().copy(inputs, outputs, tensor_map)
        plain.__class__ = ImportedNode
        plain.proto = self.proto
        plain._frozen = self._frozen  # noqa: SLF001 - one of us
        copied: ImportedNode = plain
        return copied

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class ImportedGraph(gs.Graph):  # type: ignore[misc]
    """A graph of the model that was loaded.

    Attributes
    ----------
    proto : onnx.GraphProto
        What it was; never changed.
    node_protos : sequence of onnx.NodeProto
        Its nodes as the very objects that are the ``proto`` of the imported nodes.
    stored : mapping of str to LazyTensor
        Its initializers, those that no node reads included.
    replaced : list of Constant
        Initializers that get other values under their name, whether nodes of this graph read them
        or only those of graphs in it.
    """

    def __init__(
        self,
        proto: Any,
        node_protos: Sequence[Any],
        stored: Mapping[str, LazyTensor],
        **fields: Any,
    ) -> None:
        self.proto = proto
        self.node_protos = node_protos
        self.stored = stored
        self.replaced: list[gs.Constant] = []
        super().__init__(
            name=proto.name if proto.HasField("name") else None,
            doc_string=proto.doc_string,
            **fields,
        )

    def copy(self, tensor_map: Any = None) -> ImportedGraph:
        """Return a copy as graphsurgeon makes it, with the same memory."""
        plain = super().copy(tensor_map)
        plain.__class__ = ImportedGraph
        plain.proto, plain.node_protos, plain.stored = self.proto, self.node_protos, self.stored
        plain.replaced = list(self.replaced)
        copied: ImportedGraph = plain
        return copied


class ImportedFunction(gs.Function):  # type: ignore[misc]
    """A function of the model that was loaded.

    Attributes
    ----------
    proto : onnx.FunctionProto
        What it was; never changed.
    node_protos : sequence of onnx.NodeProto
        As in :class:`ImportedGraph`.
    default_values : mapping of str to object
        `attrs` as imported: default values of the attribute parameters, None where required.
    """

    def __init__(
        self, proto: Any, node_protos: Sequence[Any], attrs: Mapping[str, Any], **fields: Any
    ) -> None:
        self.proto = proto
        self.node_protos = node_protos
        self.default_values = dict(attrs)
        super().__init__(
            proto.name, proto.domain, attrs=dict(attrs), doc_string=proto.doc_string, **fields
        )

    def copy(self) -> ImportedFunction:
        """Return a copy as graphsurgeon makes it, with the same memory."""
        plain = super().copy()
        plain.__class__ = ImportedFunction
        plain.proto, plain.node_protos = self.proto, self.node_protos
        plain.default_values = self.default_values
        copied: ImportedFunction = plain
        return copied
