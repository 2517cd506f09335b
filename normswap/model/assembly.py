"""Lay a model out for writing: which bytes go into the model file, and which beside it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import onnx

from normswap.errors import ModelError
from normswap.model import wire
from normswap.model.exporter import Exporter
from normswap.model.external import is_external, set_location
from normswap.model.storage import Extent
from normswap.model.stored import RAW_LIKE_FIELDS, LazyTensor
from normswap.model.tensors import to_raw

if TYPE_CHECKING:
    from normswap.model.loading import Model

MAX_MODEL_NBYTES = 2**31 - 1
"""protobuf's limit: what is larger can't be parsed again."""

# Smaller tensors stay in the model file, as onnx.save_model has it too.
_EXTERNAL_THRESHOLD = 1024
_PAGE = 4096
_LINE = 64
# Tensors of this size start on a page of their own, so that they can be memory-mapped.
_PAGE_ALIGNED_FROM = 1 << 16


class Placement(enum.Enum):
    """Where the tensors of a model go."""

    KEEP = "keep tensors inline or external, as they were"
    INLINE = "all tensors inline"
    EXTERNAL = "all large tensors external"


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """Bytes that are copied as they are."""

    extent: Extent

    @property
    def nbytes(self) -> int:
        """How many bytes it is."""
        return self.extent.nbytes

    def write(self, stream: BinaryIO) -> None:
        """Append the bytes to a stream."""
        self.extent.copy(stream)


@dataclass(frozen=True, slots=True)
class ComputedPayload:
    """A tensor that is computed when it is written, and freed when that is done."""

    values: LazyTensor

    @property
    def nbytes(self) -> int:
        """How many bytes it is."""
        return self.values.nbytes

    def write(self, stream: BinaryIO) -> None:
        """Compute the tensor and append its bytes to a stream."""
        array = self.values.load()
        if array.shape != self.values.shape or array.dtype != self.values.dtype:
            raise ValueError(
                f"a constant was announced as {self.values.dtype} {self.values.shape} and "
                f"computed as {array.dtype} {array.shape}"
            )
        stream.write(to_raw(array))


Payload = StoredPayload | ComputedPayload


@dataclass(slots=True)
class Assembly:
    """A model ready to be written.

    Attributes
    ----------
    model : Pieces
        The model file.
    data : list of (int, Payload)
        What goes into the external data file, and from which byte on.
    """

    model: wire.Pieces[Payload]
    data: list[tuple[int, Payload]] = field(default_factory=list)

    def write_model(self, stream: BinaryIO) -> None:
        """Write the model file."""
        for part in self.model.parts:
            if isinstance(part, bytes):
                stream.write(part)
            else:
                part.write(stream)

    def write_data(self, stream: BinaryIO) -> None:
        """Write the external data file."""
        position = 0
        for offset, payload in self.data:
            stream.write(bytes(offset - position))
            payload.write(stream)
            position = offset + payload.nbytes


def assemble(model: Model, location: str | None, *, edited: bool = True) -> Assembly:
    """Lay out a model.

    Parameters
    ----------
    model : Model
    location : str or None
        Name of the external data file, if one may be written. A model that has external data keeps
        it there; one that would be too large for a single file gets one.
    edited : bool
        Whether it may have been edited since it was read. One that was not is written byte for
        byte as it was, unless its external data goes to another file.

    Raises
    ------
    ModelError
        The model is too large for a single file, and can only have one.
    """
    if not edited and not model.has_external_data:
        whole: wire.Pieces[Payload] = wire.Pieces()
        whole.add(StoredPayload(Extent(model.storage, 0, model.size)))
        return Assembly(whole)
    exporter = Exporter(model.proto, model.locate, len(model.payloads), model.constant_inputs)
    stripped = exporter.model(model.graph).SerializeToString()
    payloads: list[tuple[int, Payload]] = [
        *((number, StoredPayload(extent)) for number, extent in model.payloads),
        *((wire.RAW_DATA, ComputedPayload(values)) for values in exporter.computed),
    ]
    placements = [Placement.INLINE] if location is None else [Placement.KEEP, Placement.EXTERNAL]
    for placement in placements:
        assembler = _Assembler(model, payloads, placement, location or "")
        assembly = Assembly(wire.map_tensors(stripped, assembler.write), assembler.data)
        if assembly.model.nbytes <= MAX_MODEL_NBYTES:
            return assembly
    raise ModelError(
        f"{model.name} takes {assembly.model.nbytes / 2**30:.1f} GiB in a single file, "
        "but an ONNX file is limited to 2 GiB.",
        tip="Write the model to a path, so that large tensors can go into a data file beside it.",
    )


class _Assembler:
    """Writes each tensor with its values, or the place where they are."""

    def __init__(
        self,
        model: Model,
        payloads: list[tuple[int, Payload]],
        placement: Placement,
        location: str,
    ) -> None:
        self.data: list[tuple[int, Payload]] = []
        self._model = model
        self._payloads = payloads
        self._placement = placement
        self._location = location
        self._position = 0
        self._offsets: dict[Payload, int] = {}

    def write(self, serialized: bytes) -> wire.Pieces[Payload]:
        """Return what to write for a tensor that has a token or external data."""
        fields, number = wire.split_token(serialized)
        tensor = onnx.TensorProto.FromString(fields)
        if is_external(tensor):
            payload: Payload = StoredPayload(self._model.external.extent(tensor))
            if self._placement is Placement.INLINE:
                tensor.ClearField("data_location")
                tensor.ClearField("external_data")
                return _inline(tensor, wire.RAW_DATA, payload)
            self._put_outside(tensor, payload)
            fields = tensor.SerializeToString()
        if number is None:
            return _whole(fields)
        field_number, payload = self._payloads[number]
        if not self._goes_out(field_number, payload):
            return _inline(tensor, field_number, payload)
        self._put_outside(tensor, payload)
        return _whole(tensor.SerializeToString())

    def _goes_out(self, field_number: int, payload: Payload) -> bool:
        if payload.nbytes < _EXTERNAL_THRESHOLD or field_number not in RAW_LIKE_FIELDS:
            return False
        if self._placement is Placement.KEEP:
            return self._model.has_external_data and isinstance(payload, ComputedPayload)
        return self._placement is Placement.EXTERNAL

    def _put_outside(self, tensor: Any, payload: Payload) -> None:
        """Put the payload into the data file, once for all tensors that share it."""
        if payload not in self._offsets:
            alignment = _PAGE if payload.nbytes >= _PAGE_ALIGNED_FROM else _LINE
            offset = -(-self._position // alignment) * alignment
            self._offsets[payload] = offset
            self._position = offset + payload.nbytes
            self.data.append((offset, payload))
        set_location(tensor, self._location, self._offsets[payload], payload.nbytes)


def _whole(serialized: bytes) -> wire.Pieces[Payload]:
    pieces: wire.Pieces[Payload] = wire.Pieces()
    pieces.add(serialized)
    return pieces


def _inline(tensor: Any, number: int, payload: Payload) -> wire.Pieces[Payload]:
    pieces = _whole(tensor.SerializeToString() + wire.length_delimited(number, payload.nbytes))
    pieces.add(payload)
    return pieces
