"""Attribute values: from ``AttributeProto`` to Python and back.

graphsurgeon's conventions, extended to all attribute types: INT, FLOAT and their lists are Python
numbers and lists; STRING is ``str`` (``bytes`` where it isn't UTF-8); TENSOR and SPARSE_TENSOR are
``gs.Constant``; GRAPH is ``gs.Graph``; a reference to an attribute of the enclosing function is
``gs.Node.AttributeRef``; TYPE_PROTO is the ``onnx.TypeProto``. What isn't any of these (an
attribute without a value, a type from the future) is the ``AttributeProto`` itself.
"""

from __future__ import annotations

import numbers
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto
from onnx_graphsurgeon.util import misc

from normswap.model.constants import make_constant
from normswap.model.tensors import ArrayTensor, data_type_of

if TYPE_CHECKING:
    from collections.abc import Callable


_FIELDS = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
    AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors",
    AttributeProto.TYPE_PROTOS: "type_protos",
}
_LISTS = frozenset(
    {
        AttributeProto.FLOATS,
        AttributeProto.INTS,
        AttributeProto.STRINGS,
        AttributeProto.TENSORS,
        AttributeProto.GRAPHS,
        AttributeProto.SPARSE_TENSORS,
        AttributeProto.TYPE_PROTOS,
    }
)


Scope = MutableMapping[str, gs.Tensor]
"""The tensors that a graph sees, by name."""


class Maker(Protocol):
    """Makes graphsurgeon objects of messages."""

    def constant(self, proto: Any) -> gs.Constant:
        """Return a ``TensorProto`` or ``SparseTensorProto`` as a constant."""

    def subgraph(self, proto: Any, scope: Scope) -> gs.Graph:
        """Return the graph in an attribute of a node that sees the tensors of `scope`."""


def import_attribute(proto: Any, importer: Maker, scope: Scope) -> Any:
    """Return the value of an ``AttributeProto``.

    Parameters
    ----------
    proto : onnx.AttributeProto
    importer : Importer
        Makes the constants and graphs.
    scope : mapping of str to gs.Tensor
        The tensors that a graph in the attribute may capture.
    """
    if proto.ref_attr_name:
        return gs.Node.AttributeRef(
            proto.ref_attr_name, misc.convert_from_onnx_attr_type(proto.type)
        )
    kind = proto.type
    if not kind:  # IR versions 1 and 2 had no type; the one field that is set tells
        present = {field.name for field, _ in proto.ListFields()}
        kind = next((kind for kind, field in _FIELDS.items() if field in present), 0)
    if kind not in _FIELDS:
        return proto
    if kind in _LISTS:
        return [
            _import_value(kind, item, importer, scope) for item in getattr(proto, _FIELDS[kind])
        ]
    if not proto.HasField(_FIELDS[kind]):
        return proto
    return _import_value(kind, getattr(proto, _FIELDS[kind]), importer, scope)


def _import_value(kind: int, value: Any, importer: Maker, scope: Scope) -> Any:
    if kind in {AttributeProto.STRING, AttributeProto.STRINGS}:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, onnx.TensorProto | onnx.SparseTensorProto):
        return importer.constant(value)
    if isinstance(value, onnx.GraphProto):
        return importer.subgraph(value, scope)
    return value


class AttributeWriter:
    """Makes ``AttributeProto`` of Python values.

    Parameters
    ----------
    tensor : callable
        Makes the ``TensorProto`` of a constant.
    graph : callable
        Makes the ``GraphProto`` of a graph.
    """

    def __init__(
        self, tensor: Callable[[gs.Constant], Any], graph: Callable[[gs.Graph], Any]
    ) -> None:
        self._tensor = tensor
        self._graph = graph

    def write(self, name: str, value: Any, kind: int | None = None) -> Any:
        """Return the ``AttributeProto``.

        Parameters
        ----------
        name : str
        value : object
            As above; also ``numpy`` scalars, and arrays, which become tensors, and element types,
            which become the number of their ``TensorProto.DataType``.
        kind : int, optional
            The ``AttributeProto.AttributeType`` that the operator asks for. Without it, that is
            told from the value, where an empty list counts as a list of ints.

        Raises
        ------
        TypeError
            `value` is none of these, or not what the operator asks for.
        """
        if isinstance(value, AttributeProto):
            proto = AttributeProto()
            proto.CopyFrom(value)
            proto.name = name
            return proto
        if isinstance(value, gs.Node.AttributeRef):
            return AttributeProto(
                name=name,
                ref_attr_name=value.name,
                type=misc.convert_to_onnx_attr_type(value.type),
            )
        if isinstance(value, list | tuple):
            items = [self._item(item) for item in value]
            if kind is None and not items:
                kind = AttributeProto.INTS
            if kind == AttributeProto.FLOATS:
                items = [float(item) for item in items]
            return onnx.helper.make_attribute(name, items, attr_type=kind)
        item = self._item(value)
        if kind == AttributeProto.FLOAT and isinstance(item, numbers.Real):
            item = float(item)
        return onnx.helper.make_attribute(name, item, attr_type=kind)

    def _item(self, value: Any) -> Any:
        if isinstance(value, gs.Constant):
            return self._tensor(value)
        if isinstance(value, gs.Graph):
            return self._graph(value)
        if isinstance(value, np.ndarray):
            return self._tensor(make_constant("", ArrayTensor(value)))
        if isinstance(value, np.dtype | type):
            return data_type_of(np.dtype(value))
        return value.item() if isinstance(value, np.generic) else value
