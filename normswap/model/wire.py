"""Take the tensor payloads out of a serialized model, and put them back.

A model file is a few kilobytes of structure around megabytes of weights. :func:`detach` reads the
protobuf wire format directly and cuts every large payload out of it, so that what is left, the
*stripped* model, is parsed by protobuf in milliseconds. In place of a payload stands a *token*: a
field with a number that ONNX does not use, which protobuf carries along through every copy of the
tensor as it does any unknown field. :func:`map_tensors` finds the tokens in a stripped model and
hands each tensor to a function that says what to write in its place; the lengths of all messages
around it are computed anew.

Only messages that can hold a tensor are entered, and of those only the ones that are large
(detaching) or hold a token (attaching): a graph of 10,000 nodes is walked in milliseconds.

Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import bisect
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import onnx
from google.protobuf.descriptor import FieldDescriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAYLOAD_THRESHOLD = 8192
"""Payloads of fewer bytes stay where they are: there are many, and together they are little."""

RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER
"""Field number of ``TensorProto.raw_data``."""

# protobuf itself refuses to parse messages nested deeper than this.
_MAX_DEPTH = 100

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


class Buffer(Protocol):
    """What :func:`detach` reads: bytes, or a file that gives single bytes and slices."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __len__(self) -> int: ...


class Malformed(ValueError):  # noqa: N818 - a fact about bytes, turned into a ModelError by load()
    """The bytes are no protobuf message, or stop in the middle of one."""


class Payload(Protocol):
    """Bytes that are not held in memory, known by their number only."""

    @property
    def nbytes(self) -> int:
        """How many bytes it is."""
        ...


P = TypeVar("P", bound=Payload)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a detached payload lies in the serialized model.

    Attributes
    ----------
    field : int
        The ``TensorProto`` field that it was: ``raw_data``, ``float_data``, ...
    offset, nbytes : int
        Position in the serialized model, in bytes.
    """

    field: int
    offset: int
    nbytes: int


@dataclass(slots=True)
class Pieces(Generic[P]):
    """A long byte string in pieces, some in memory and some only known by their length."""

    parts: list[bytes | P] = field(default_factory=list)
    nbytes: int = 0

    def add(self, part: bytes | P) -> None:
        """Append bytes or a payload."""
        self.parts.append(part)
        self.nbytes += len(part) if isinstance(part, bytes) else part.nbytes

    def extend(self, pieces: Pieces[P]) -> None:
        """Append all pieces of another string."""
        self.parts += pieces.parts
        self.nbytes += pieces.nbytes


def encode_varint(value: int) -> bytes:
    """Return the base-128 varint of a non-negative integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number: int, nbytes: int) -> bytes:
    """Return what stands before the `nbytes` bytes of a string or message in field `number`."""
    return encode_varint(number << 3 | _LENGTH_DELIMITED) + encode_varint(nbytes)


# A token is one unknown field: its tag, its length, a magic word and the number of the payload.
# The field number is the largest that protobuf allows. The magic word makes a mistaken identity
# as unlikely as a collision of hashes.
_MAGIC = b"normswap-payload"
_TOKEN_FIELD = 2**29 - 1
_TOKEN_HEAD = length_delimited(_TOKEN_FIELD, len(_MAGIC) + 8) + _MAGIC
_TOKEN_NBYTES = len(_TOKEN_HEAD) + 8

# The one key that every ``external_data`` list must have, as a serialized StringStringEntryProto
# begins with it.
_EXTERNAL_HINT = b"\x0a\x08location"


def token(payload: int) -> bytes:
    """Return the serialized field that stands for payload number `payload` in a ``TensorProto``."""
    return _TOKEN_HEAD + payload.to_bytes(8, "little")


def split_token(tensor: bytes) -> tuple[bytes, int | None]:
    """Split a serialized ``TensorProto`` in its other fields and the number of its payload.

    Returns
    -------
    fields : bytes
    payload : int or None
        None where the tensor holds its values itself, or in external data.
    """
    start = tensor.find(_TOKEN_HEAD)
    if start < 0:
        return tensor, None
    end = start + _TOKEN_NBYTES
    number = int.from_bytes(tensor[start + len(_TOKEN_HEAD) : end], "little")
    return tensor[:start] + tensor[end:], number


@dataclass(frozen=True, slots=True)
class _Route:
    """A field through which tensors are reached."""

    message: str
    repeated: bool


@functools.cache
def _routes() -> dict[str, dict[int, _Route]]:
    """Return, for each message that can hold a tensor at any depth, the fields that lead there.

    Computed from protobuf's own descriptors, so that a field that a new version of ONNX adds is
    walked too.
    """
    edges: dict[str, dict[int, _Route]] = {}
    todo = [onnx.ModelProto.DESCRIPTOR]
    while todo:
        message = todo.pop()
        if message.full_name in edges:
            continue
        edges[message.full_name] = {
            item.number: _Route(item.message_type.full_name, is_repeated(item))
            for item in message.fields
            if item.message_type is not None
        }
        todo += [item.message_type for item in message.fields if item.message_type is not None]
    reaching = {_TENSOR}
    while True:
        more = {
            name
            for name, fields in edges.items()
            if name not in reaching and any(route.message in reaching for route in fields.values())
        }
        if not more:
            break
        reaching |= more
    return {
        name: {number: route for number, route in edges[name].items() if route.message in reaching}
        for name in reaching
    }


def is_repeated(item: Any) -> bool:
    """Return whether a protobuf field descriptor is of a repeated field."""
    try:
        return bool(item.is_repeated)
    except AttributeError:  # protobuf before version 6.31
        return bool(item.label == item.LABEL_REPEATED)


_MODEL: str = onnx.ModelProto.DESCRIPTOR.full_name
_TENSOR: str = onnx.TensorProto.DESCRIPTOR.full_name
_STRING = FieldDescriptor.CPPTYPE_STRING
_MESSAGE = FieldDescriptor.CPPTYPE_MESSAGE


@functools.cache
def _payload_fields() -> frozenset[int]:
    """Return the numbers of the ``TensorProto`` fields that are raw data or numbers, packed."""
    return frozenset(
        item.number
        for item in onnx.TensorProto.DESCRIPTOR.fields
        if item.name == "raw_data"
        or (item.name.endswith("_data") and item.cpp_type not in {_STRING, _MESSAGE})
    )


def detach(model: Buffer) -> tuple[bytes, list[Span]]:
    """Cut the large tensor payloads out of a serialized ``ModelProto``.

    Parameters
    ----------
    model : bytes-like
        Read by index and slice only, so that a file needn't be in memory.

    Returns
    -------
    stripped : bytes
        A serialized ``ModelProto``, equal to `model` but for a token in place of each payload of
        at least :data:`PAYLOAD_THRESHOLD` bytes.
    spans : list of Span
        Payload number i of the tokens is ``spans[i]``.

    Raises
    ------
    Malformed
        The bytes stop in the middle of a message, or were never one.
    """
    detacher = _Detacher(model)
    try:
        stripped = detacher.message(0, len(model), _MODEL, 0)
    except _UnusualError:
        # Legal, but not as any known writer lays out a model: leave the merging to protobuf.
        detacher.spans.clear()
        stripped = None
    if stripped is None:
        stripped = bytes(model[:])
    if stripped.count(_TOKEN_HEAD) != len(detacher.spans):
        raise Malformed("it already contains normswap's private marker")
    return stripped, detacher.spans


class _UnusualError(Exception):
    """A layout in which cutting out a payload could change what the message means."""


class _Detacher:
    """Walks a serialized model, and notes the spans it cuts out."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.spans: list[Span] = []

    def message(self, start: int, end: int, name: str, depth: int) -> bytes | None:
        """Return the message without its large payloads, or None if there are none in it."""
        if name == _TENSOR:
            return self.tensor(start, end)
        if depth > _MAX_DEPTH:
            raise Malformed("its messages are nested too deeply")
        routes = _routes()[name]
        seen: set[int] = set()
        kept: list[bytes] = []
        done = start
        for number, wire_type, tag, value, stop in _fields(self.buffer, start, end):
            route = routes.get(number)
            if route is None or wire_type != _LENGTH_DELIMITED:
                continue
            if not route.repeated:
                if number in seen:
                    raise _UnusualError  # protobuf merges the two messages
                seen.add(number)
            if stop - value < PAYLOAD_THRESHOLD:
                continue
            inner = self.message(value, stop, route.message, depth + 1)
            if inner is not None:
                kept += (self.buffer[done:tag], length_delimited(number, len(inner)), inner)
                done = stop
        if not kept:
            return None
        kept.append(self.buffer[done:end])
        return b"".join(kept)

    def tensor(self, start: int, end: int) -> bytes | None:
        """Return the tensor with a token for its payload, or None if that is small."""
        payload = None
        for number, wire_type, tag, value, stop in _fields(self.buffer, start, end):
            if number not in _payload_fields():
                continue
            if payload is not None or wire_type != _LENGTH_DELIMITED:
                return None  # in several parts, or not packed: protobuf will join them
            payload = number, tag, value, stop
        if payload is None or payload[3] - payload[2] < PAYLOAD_THRESHOLD:
            return None
        number, tag, value, stop = payload
        self.spans.append(Span(number, value, stop - value))
        head: bytes = self.buffer[start:tag]
        tail: bytes = self.buffer[stop:end]
        return head + token(len(self.spans) - 1) + tail


def map_tensors(stripped: bytes, write: Callable[[bytes], Pieces[P]]) -> Pieces[P]:
    """Replace the tensors of a stripped model whose values are elsewhere.

    Parameters
    ----------
    stripped : bytes
        A serialized ``ModelProto``.
    write : callable
        Called in order with each serialized ``TensorProto`` that has a token or external data, at
        any depth; returns what to write instead.

    Returns
    -------
    Pieces
        The serialized ``ModelProto``.
    """
    return _Mapper(stripped, write).message(0, len(stripped), _MODEL)


class _Mapper(Generic[P]):
    """Walks a stripped model to the tensors whose values are elsewhere."""

    def __init__(self, stripped: bytes, write: Callable[[bytes], Pieces[P]]) -> None:
        self.stripped = stripped
        self.write = write
        self.hints = sorted(
            [*_find_all(stripped, _TOKEN_HEAD), *_find_all(stripped, _EXTERNAL_HINT)]
        )

    def message(self, start: int, end: int, name: str) -> Pieces[P]:
        if name == _TENSOR:
            return self.write(self.stripped[start:end])
        pieces: Pieces[P] = Pieces()
        done = start
        routes = _routes()[name]
        for number, wire_type, tag, value, stop in _fields(self.stripped, start, end):
            route = routes.get(number)
            if route is None or wire_type != _LENGTH_DELIMITED or not self.has_hint(value, stop):
                continue
            inner = self.message(value, stop, route.message)
            pieces.add(self.stripped[done:tag] + length_delimited(number, inner.nbytes))
            pieces.extend(inner)
            done = stop
        pieces.add(self.stripped[done:end])
        return pieces

    def has_hint(self, start: int, end: int) -> bool:
        first = bisect.bisect_left(self.hints, start)
        return first < len(self.hints) and self.hints[first] < end


def _find_all(data: bytes, pattern: bytes) -> Iterator[int]:
    position = data.find(pattern)
    while position >= 0:
        yield position
        position = data.find(pattern, position + 1)


def _fields(buffer: Buffer, position: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield ``(number, wire type, start of tag, start of value, end of value)`` of each field."""
    while position < end:
        tag = position
        key, position = _decode_varint(buffer, position, end)
        wire_type = key & 7
        value = position
        if wire_type == _LENGTH_DELIMITED:
            size, value = _decode_varint(buffer, position, end)
            position = value + size
        elif wire_type == _VARINT:
            _, position = _decode_varint(buffer, position, end)
        elif wire_type == _FIXED32:
            position += 4
        elif wire_type == _FIXED64:
            position += 8
        else:
            raise _UnusualError  # a group, or no protobuf at all: protobuf will tell
        if position > end:
            raise Malformed("it stops in the middle of a field")
        yield key >> 3, wire_type, tag, value, position


def _decode_varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    if position < end and (byte := buffer[position]) < 0x80:  # as most are
        return byte, position + 1
    result = shift = 0
    while position < end and shift < 70:
        byte = buffer[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
    raise Malformed(
        "it stops in the middle of a field" if shift < 70 else "it contains a number without an end"
    )
