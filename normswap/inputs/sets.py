"""Where the sets of inputs are that people give as data, and which arrays each has.

What is understood:

- ``.npz``: one set of inputs, by input name; ``name.1.npz``, ... beside it are further sets.
- ``.npy``, ``.pb``: the input of a model that has one.
- a folder of ``input_0.pb``, ``input_1.pb``, ... with or without ``output_0.pb``, ...: one set, in
  the model's order, or by the names of the tensors; and what is expected of it.
- a folder of ``.npy`` named as the inputs are: one set.
- a folder of any of these: several sets, in the order of their names and numbers.
- from Python, feeds (arrays by input name), or any iterable of feeds.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx

from normswap.errors import DataError, UsageError
from normswap.inputs.archives import numbered, read_values
from normswap.inputs.arrayfiles import read_npy, read_proto, require_arrays
from normswap.spelling import no_such_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.inputs.signature import Port, Signature
    from normswap.runtime.arrays import Feeds, Value

Data: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Iterable[Mapping[str, Any]]
"""A file or folder, feeds, or an iterable of feeds."""

_KINDS = {".npz", ".npy", ".pb"}


def located(signature: Signature, source: Data) -> Iterable[Path | Mapping[str, Any]]:
    """Return the sets that a source has, those in files not yet read."""
    if isinstance(source, Mapping):
        return [source]
    if not isinstance(source, str | os.PathLike):
        return list(source) if iter(source) is source else source
    if not os.fspath(source):
        raise UsageError("The path of the data is empty.")
    path = Path(source)
    if not path.exists():
        raise DataError(f"There is no data at {path}.", tip=no_such_file(path))
    found = _files(path, {port.name for port in signature.inputs})
    if not found:
        raise DataError(
            f"{path} contains no .npz, .npy or .pb file, so it has no data that normswap can read.",
            tip="Save the inputs with numpy.savez, one array for each input of the model.",
        )
    for file in found:
        if not file.is_dir():
            require_arrays(file)
    return found


def _files(path: Path, names: set[str]) -> list[Path]:
    """Return the files and folders that are a set each."""
    if not path.is_dir():
        return numbered(path) if path.suffix == ".npz" else [path]
    if _protos(path, "input") or _protos(path, "output") or _named(path).keys() & names:
        return [path]
    found: list[Path] = []
    for item in sorted(path.iterdir(), key=in_order):
        if item.is_dir():
            found += _files(item, names)
        elif item.suffix in _KINDS:
            found.append(item)
    return found


def in_order(path: Path) -> list[tuple[int, str]]:
    """Return a key by which files are in the order of their names and numbers."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", path.name)]


def _protos(folder: Path, prefix: str) -> dict[int, Path]:
    """Return the tensors of onnx test data, by their number."""
    files = {file.stem.rpartition("_")[2]: file for file in folder.glob(f"{prefix}_*.pb")}
    return {int(number): file for number, file in files.items() if number.isdecimal()}


def _named(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in folder.glob("*.npy")}


@dataclass(frozen=True, slots=True)
class FoundSet:
    """Arrays that belong together, as they were found.

    Attributes
    ----------
    name, where : str
        What to call them in the report, and in errors.
    arrays, expected : dict of str to Value
    """

    name: str
    where: str
    arrays: Feeds
    expected: Feeds = field(default_factory=dict)


def found_in(signature: Signature, entry: Path | Mapping[str, Any], number: int) -> FoundSet:
    """Read the arrays of a set, the `number`-th."""
    return _read(signature, entry) if isinstance(entry, Path) else _fed(entry, number)


def _read(signature: Signature, path: Path) -> FoundSet:
    if not path.is_dir():
        return FoundSet(path.name, str(path), _of_file(signature.inputs, path))
    if _protos(path, "input") or _protos(path, "output"):
        arrays = _of_protos(path, "input", signature.inputs)
        return FoundSet(path.name, str(path), arrays, _of_protos(path, "output", signature.outputs))
    arrays = {name: read_npy(file) for name, file in sorted(_named(path).items())}
    return FoundSet(path.name, str(path), arrays)


def _of_file(ports: Sequence[Port], path: Path) -> Feeds:
    if path.suffix == ".npz" or zipfile.is_zipfile(path):
        return read_values(path)
    if len(ports) != 1:
        raise DataError(
            f"{path} holds one array, but the model has {len(ports)} inputs.",
            tip="Save all inputs in one .npz, each under its name.",
        )
    value = _of_proto(path, ports[0])[1] if path.suffix == ".pb" else read_npy(path)
    return {ports[0].name: value}


def _of_protos(folder: Path, prefix: str, ports: Sequence[Port]) -> Feeds:
    """Return the tensors of onnx test data by the names that they have, or else by their order."""
    values: Feeds = {}
    given: Feeds = {}
    for index, file in sorted(_protos(folder, prefix).items()):
        port = ports[index] if index < len(ports) else None
        name, value = _of_proto(file, port)
        values[port.name if port else file.stem] = given[name] = value
    return given if given.keys() == {port.name for port in ports} else values


def _of_proto(path: Path, port: Port | None) -> tuple[str, Value]:
    kinds = {"sequence": onnx.SequenceProto, "optional": onnx.OptionalProto}
    kind = port.kind.split(":", 1)[0] if port else "tensor"
    return read_proto(path, kinds.get(kind, onnx.TensorProto))


def _fed(feeds: object, number: int) -> FoundSet:
    """Return feeds from Python."""
    name = f"batch {number}"
    where = f"{name} of the data"
    if not isinstance(feeds, Mapping):
        raise DataError(
            f"{where} is of type {type(feeds).__name__}, but it must map the names of the "
            "inputs to arrays."
        )
    return FoundSet(name, where, {str(key): _array(value) for key, value in feeds.items()})


def _array(value: Any) -> Value:
    """Return an array, or the value itself where it is none."""
    if value is None or isinstance(value, Mapping):
        return value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # arrays of several shapes: a sequence
        return [_array(item) for item in value] if isinstance(value, list) else value
