"""A model as protobuf, its large weights left in its file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import onnx

from normswap.model import wire
from normswap.model.external import set_location
from normswap.model.storage import FileView
from normswap.model.stored import RAW_LIKE_FIELDS

if TYPE_CHECKING:
    from pathlib import Path


def outlined(path: Path) -> onnx.ModelProto:
    """Read a model, its external data not, and large weights in its own file as if they were that.

    Each is external data at its place in the file of the model. So a model is read in
    milliseconds, and a weight when somebody wants it. One of which a part of the weights can't be
    told so (packed integers, weights in nodes or subgraphs) is read as a whole.

    Parameters
    ----------
    path : Path
        No symbolic link: the location is the name of the file.

    Raises
    ------
    ValueError, google.protobuf.message.DecodeError
        It is no model.
    OSError
        It can't be read.
    """
    with path.open("rb", buffering=0) as stream:
        stripped, spans = wire.detach(FileView(stream, os.fstat(stream.fileno()).st_size))
    model = onnx.ModelProto.FromString(stripped)
    left = len(spans)
    for tensor in model.graph.initializer if spans else ():
        span = _span_of(tensor, spans)
        if span is not None and span.field in RAW_LIKE_FIELDS:
            tensor.DiscardUnknownFields()
            set_location(tensor, path.name, span.offset, span.nbytes)
            left -= 1
    return onnx.load(path, load_external_data=False) if left else model


def _span_of(tensor: Any, spans: list[wire.Span]) -> wire.Span | None:
    """Return where in its file a tensor's values lie, if not in itself."""
    if tensor.HasField("raw_data"):
        return None
    _, number = wire.split_token(tensor.SerializeToString())
    return None if number is None else spans[number]
