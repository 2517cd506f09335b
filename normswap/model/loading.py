"""Read a model: its structure at once, its weights when they are needed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf.message import DecodeError

from normswap.errors import ModelError, UsageError
from normswap.files.scratch import scratch_folder
from normswap.model import wire
from normswap.model.bounds import require_bounded, too_deep
from normswap.model.external import ExternalData, is_external, location_of
from normswap.model.importer import Importer, default_opset
from normswap.model.lookalikes import not_a_model
from normswap.model.scopes import require_made
from normswap.model.sources import is_device, name_of, read_bytes
from normswap.model.storage import Extent, FileStorage, FileView, MemoryStorage, Storage
from normswap.spelling import no_such_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_graphsurgeon as gs

    from normswap.model.sources import Source
    from normswap.model.stored import Locate

# Bytes of a file that is read as a whole, which is faster than to look for its weights in it.
_AT_ONCE = 1 << 23


@dataclass(frozen=True, eq=False, slots=True)
class Model:
    """An ONNX model to be rewritten, and saved with all that was not.

    Attributes
    ----------
    graph : onnx_graphsurgeon.Graph
        The main graph, to be edited in place; ``graph.functions`` are the model's functions. The
        values of every constant are a :class:`TensorSource`: use :func:`source_of` and
        :func:`make_constant`, and never ``Constant.values``.
    name : str
        What to call the model in messages: its file name, or ``<stdin>``.
    path : pathlib.Path or None
        None if it didn't come from a file.
    opset : int
        Version of the default domain; 0 for a model that uses only other domains.
    overridable : frozenset of str
        Graph inputs that have an initializer. From IR version 4 on, a caller may give other
        values; in IR version 3 and before, every initializer is listed as an input.
    size : int
        Size in bytes, external data included.
    digest : str
        See :meth:`fingerprint`.
    proto, payloads, locate, storage, external
        What was read; for the modules of this package.
    constant_inputs : set of str
        Those of :attr:`overridable` that go with their initializers where an edit has left them
        without a reader: whoever edits may take them for constants.
    found_made : list of bool
        Holds True once :meth:`require_made` has found nothing.
    """

    graph: gs.Graph
    name: str
    path: Path | None
    opset: int
    overridable: frozenset[str]
    size: int
    digest: str = field(repr=False)
    proto: Any = field(repr=False)
    payloads: list[tuple[int, Extent]] = field(repr=False)
    locate: Locate = field(repr=False)
    storage: Storage = field(repr=False)
    external: ExternalData = field(repr=False)
    constant_inputs: set[str] = field(default_factory=set, repr=False)
    found_made: list[bool] = field(default_factory=list, repr=False)

    @property
    def ir_version(self) -> int:
        """IR version, as in the file."""
        return int(self.proto.ir_version)

    @property
    def has_external_data(self) -> bool:
        """Whether tensors are kept in files beside the model."""
        return bool(self.external.files)

    def require_made(self) -> None:
        """Refuse a model that was read with tensors that are not made once; looked at only once.

        Raises
        ------
        ModelError
            See :func:`~normswap.model.scopes.require_made`.
        """
        if not self.found_made:
            require_made(self.proto, self.name)
            self.found_made.append(True)

    def fingerprint(self) -> str:
        """Return a digest of the model's structure as it was read (not of its large weights)."""
        return self.digest

    def require(self, fingerprint: str) -> None:
        """Refuse a plan that was made for another model.

        Parameters
        ----------
        fingerprint : str
            Of the model that was planned for.

        Raises
        ------
        ModelError
            If it is not this one.
        """
        if fingerprint != self.digest:
            raise ModelError(
                f"The plan does not belong to {self.name}: it was made for another model, "
                "or the model was edited since.",
                tip="Make a new plan for the model to rewrite.",
            )

    @contextlib.contextmanager
    def original(self) -> Iterator[Path]:
        """Give the path of the model as it was read, for programs that want a file.

        A model from a pipe is written to a temporary file for as long as the context lasts.
        """
        if self.path is not None:
            yield self.path
            return
        with scratch_folder() as folder:
            path = folder / "model.onnx"
            with path.open("wb") as stream:
                self.storage.copy(0, self.size, stream)
            yield path


def load(source: Source, *, name: str | None = None) -> Model:
    """Read a model.

    Parameters
    ----------
    source : path, or what :func:`normswap.model.sources.read_bytes` takes
        From a path only the structure is read now, and tensors when they are asked for. All else is
        kept in memory as bytes; such a model can't have external data.
    name : str, optional
        What to call the model in messages.

    Raises
    ------
    ModelError
        It can't be read, is no ONNX model, or is newer than the installed onnx.
    UsageError
        It is nothing that a model can be given as.
    """
    if not isinstance(source, str | os.PathLike):
        data = read_bytes(source)
        return _parse(data, MemoryStorage(data), None, name or name_of(source))
    if not os.fspath(source):
        raise UsageError("The path of the model is empty.")
    path = Path(source)
    name = name or path.name or str(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ModelError(f"{path} doesn't exist.", tip=no_such_file(path)) from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if is_device(mode):
        raise ModelError(f"{path} is a device, not an ONNX model.")
    if stat.S_ISDIR(mode):
        raise ModelError(f"{path} is a folder.", tip="Give the path of an .onnx file in it.")
    try:
        if not stat.S_ISREG(mode):
            with path.open("rb") as pipe:
                return load(pipe, name=name)
        storage = FileStorage(path)
        with storage.view() as view:
            return _parse(view[:] if len(view) <= _AT_ONCE else view, storage, path, name)
    except OSError as error:
        raise _unreadable(path, error) from error


def _parse(view: Any, storage: Storage, path: Path | None, name: str) -> Model:
    nbytes = len(view)
    if not nbytes:
        raise not_a_model(b"", name, "it is empty")
    try:
        serialized, spans = wire.detach(view)
        proto = onnx.ModelProto.FromString(serialized)
    except (wire.Malformed, DecodeError) as error:
        if "MaxDepth" in str(error) or "nested too deeply" in str(error):
            raise too_deep(name) from error
        raise not_a_model(view[:512], name, str(error)) from error
    if not proto.HasField("graph"):
        raise not_a_model(view[:512], name, "it has no graph")
    _check_versions(proto, name)
    require_bounded(proto, name)
    external = ExternalData(path, name)
    extents = {external.extent(tensor) for tensor in _external_tensors(proto)}
    payloads = [(span.field, Extent(storage, span.offset, span.nbytes)) for span in spans]
    locate = functools.partial(_locate, payloads, external)
    try:
        graph = Importer(locate).model(proto)
    except ValueError as error:
        raise ModelError(f"{name} is damaged: {error}.") from error
    return Model(
        graph=graph,
        name=name,
        path=path,
        opset=default_opset(proto.opset_import) or 0,
        overridable=frozenset({item.name for item in proto.graph.input} & graph.stored.keys()),
        size=nbytes + sum(extent.nbytes for extent in extents),
        digest=hashlib.sha256(serialized).hexdigest(),
        proto=proto,
        payloads=payloads,
        locate=locate,
        storage=storage,
        external=external,
    )


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}.")


def _locate(
    payloads: list[tuple[int, Extent]], external: ExternalData, tensor: Any
) -> tuple[int, Extent] | None:
    """Return where the values of a tensor of the model lie; None if in the tensor itself."""
    if is_external(tensor):
        return wire.RAW_DATA, external.extent(tensor)
    if tensor.HasField("raw_data"):  # nothing was cut out
        return None
    _, payload = wire.split_token(tensor.SerializeToString())
    return None if payload is None else payloads[payload]


def _external_tensors(proto: Any) -> list[Any]:
    """Return all tensors, at any depth, whose values are in another file."""
    tensors = []

    def visit(serialized: bytes) -> wire.Pieces[Extent]:
        tensor = onnx.TensorProto.FromString(serialized)
        if is_external(tensor):
            tensors.append(tensor)
        return wire.Pieces()

    wire.map_tensors(proto.SerializeToString(), visit)
    return tensors


def data_files(path: Path) -> set[str]:
    """Return the locations of the external data of the model at `path`; none if there is none.

    Raises
    ------
    OSError
        There is a file, and it can't be read.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            view = FileView(stream, os.fstat(stream.fileno()).st_size)
            proto = onnx.ModelProto.FromString(wire.detach(view)[0])
        return {location_of(tensor) for tensor in _external_tensors(proto)}
    except (FileNotFoundError, wire.Malformed, DecodeError):
        return set()


def _check_versions(model: Any, name: str) -> None:
    """Refuse what the installed onnx can't understand."""
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{name} has IR version {model.ir_version}, and the installed onnx "
            f"{onnx.__version__} knows versions up to {onnx.IR_VERSION}.",
            tip="Install a newer onnx, or export the model with an older IR version.",
        )
    if model.ir_version < 1:
        raise ModelError(f"{name} is not an ONNX model: it has no IR version.")
    newest = onnx.defs.onnx_opset_version()
    for holder in (model, *model.functions):
        opset = default_opset(holder.opset_import)
        if opset is None:
            continue
        if opset > newest:
            raise ModelError(
                f"{name} uses opset {opset}, and the installed onnx {onnx.__version__} knows "
                f"opsets up to {newest}.",
                tip="Install a newer onnx, or export the model with an older opset.",
            )
        if opset < 1:
            raise ModelError(f"{name} uses opset {opset}, which doesn't exist.")
    if default_opset(model.opset_import) is None and any(
        node.domain in {"", "ai.onnx"} for node in model.graph.node
    ):
        raise ModelError(
            f"{name} uses standard operators, but doesn't say of which opset.",
            tip="Add an opset import for the default domain to the model.",
        )
