"""What a model may be given as: a file, or an object of this process that can be made into one."""

from __future__ import annotations

import os
import stat
from typing import Any, BinaryIO, Protocol, TypeAlias

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import EncodeError

from normswap.errors import ModelError, UsageError


class IRModel(Protocol):
    """A ``Model`` of onnx-ir, which need not be installed."""

    def graphs(self) -> Any:
        """Return all graphs and subgraphs."""

    def clone(self) -> Any:
        """Return a copy."""


class ExportedProgram(Protocol):
    """An ``ONNXProgram``, which ``torch.onnx.export(..., dynamo=True)`` gives."""

    @property
    def model_proto(self) -> Any:
        """The model as a ``ModelProto``."""


# A Graph of onnx-graphsurgeon is a source too; untyped as it is, it goes for any of these.
Source: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | onnx.ModelProto
    | IRModel
    | ExportedProgram
)


def read_bytes(source: Source) -> bytes:
    """Return a model that is not in a file as the bytes of one.

    Parameters
    ----------
    source : bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        Of onnx-graphsurgeon, onnx-ir and torch. A stream is read to its end; nothing else changes.

    Raises
    ------
    UsageError
        It is none of these.
    ModelError
        It is larger than the 2 GiB that a single file can be.
    """
    name = name_of(source)
    thing: Any = source
    match name:
        case "<bytes>":
            return bytes(thing)
        case "<ModelProto>":
            return _serialized(thing, name)
        case "<Graph>":
            return _serialized(gs.export_onnx(thing), name)
        case "<onnx_ir.Model>":
            return _serialized(_proto_of_ir(thing), name)
        case "<ONNXProgram>":
            return _serialized(thing.model_proto, name)
    data = _whole(thing) if hasattr(thing, "read") else None
    if not isinstance(data, bytes):
        what = "a text stream" if isinstance(data, str) else f"of type {type(thing).__name__}"
        raise UsageError(
            f"A model can't be read from an object {what}.",
            tip="Give a path, bytes, a stream opened with 'rb', a ModelProto, an "
            "onnx-graphsurgeon Graph, an onnx_ir.Model or torch's ONNXProgram.",
        )
    return data


def is_device(mode: int) -> bool:
    """Whether a file is a device, by its mode: what is read from one need not end."""
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _whole(stream: Any) -> Any:
    """Return all that a stream has; of a device, such as ``/dev/zero``, whether there is anything.

    Raises
    ------
    ModelError
        It is a device that has something.
    """
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        mode = 0
    if is_device(mode) and stream.read(1):
        raise ModelError(f"{name_of(stream)} is a device, not an ONNX model.")
    return stream.read()


def name_of(source: Source) -> str:
    """Return what to call a model: its path, or what it is."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    if isinstance(source, onnx.ModelProto):
        return "<ModelProto>"
    if isinstance(source, gs.Graph):
        return "<Graph>"
    if _is_a(source, "onnx_ir", "Model"):
        return "<onnx_ir.Model>"
    return "<ONNXProgram>" if _is_a(source, "torch", "ONNXProgram") else "<stdin>"


def _is_a(source: object, package: str, name: str) -> bool:
    """Return whether an object is of a class of a package, which need not be installed."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == package
        for kind in type(source).__mro__
    )


def _serialized(model: Any, name: str) -> bytes:
    try:
        data: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"{name} can't be serialized: {error}.",
            tip="A model larger than 2 GiB needs external data: save it to a file, and give "
            "the path of the file.",
        ) from error
    return data


def _proto_of_ir(model: Any) -> Any:
    """Return the ModelProto of an onnx-ir model, tensors that lie in files read into it."""
    import onnx_ir

    held = [value for graph in model.graphs() for value in graph.initializers.values()]
    stored = [value for value in held if isinstance(value.const_value, onnx_ir.ExternalTensor)]
    tensors = [value.const_value for value in stored]
    loaded = onnx_ir.external_data.convert_tensors_from_external(tensors)
    try:
        for value, tensor in zip(stored, loaded, strict=True):
            value.const_value = tensor
        return onnx_ir.to_proto(model)
    finally:
        for value, tensor in zip(stored, tensors, strict=True):
            value.const_value = tensor
