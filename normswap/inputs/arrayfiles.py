"""Arrays from files that people give, whatever may be wrong with them.

NumPy, zip and protobuf each have exceptions of their own for a file that is empty, cut off, of
another kind or damaged, and some of these mean something else higher up: an EOFError, for one, is
what a person's Ctrl-D raises. Here they all become one error that names the file.
"""

from __future__ import annotations

import stat
import struct
import tokenize
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from normswap.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ARRAY, _ARCHIVE = b"\x93NUMPY", b"PK"
_TROUBLE = (
    ArithmeticError,
    AttributeError,
    DecodeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    onnx.checker.ValidationError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    """Turn whatever reading a file raises into a DataError that names it."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            raise DataError(f"{path} is empty.")
        yield
    except _TROUBLE as error:
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(f"{path} can't be read as {what}: {why}.") from error


@contextmanager
def _opened(path: Path, head: bytes) -> Iterator[BinaryIO]:
    """Open a file of a certain kind; NumPy leaves one open that it opened and can't read."""
    with path.open("rb") as file:
        if file.read(len(head)) != head:
            raise ValueError("it has another format")
        file.seek(0)
        yield file


def require_arrays(path: Path) -> None:
    """Refuse, before anything is done for it, a file in which there can be no arrays.

    Raises
    ------
    DataError
        It is no file, empty, of another kind than its name says, damaged at its end, or holds
        Python objects.
    """
    with _told(path, "arrays"):
        if not path.is_file():
            raise ValueError("it is not a file")
        if path.suffix == ".npy" and not zipfile.is_zipfile(path):
            with _opened(path, _ARRAY) as file:
                _require_numbers("", file)
        elif path.suffix in (".npz", ".npy"):
            with _opened(path, _ARCHIVE) as file, zipfile.ZipFile(file) as archive:
                for member in archive.namelist():
                    if member.endswith(".npy"):
                        with archive.open(member) as stream:
                            _require_numbers(member.removesuffix(".npy"), stream)


def _require_numbers(name: str, stream: Any) -> None:
    """Refuse an array of Python objects, which NumPy's advice is to load unsafely."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    reader = readers.get(np.lib.format.read_magic(stream))
    if reader is not None and reader(stream)[2].hasobject:
        raise ValueError(f"its array {name!r} contains Python objects instead of numbers")


def read_npy(path: Path) -> np.ndarray:
    """Return the array of an ``.npy``.

    Raises
    ------
    DataError
        It can't be read; the message names the file.
    """
    require_arrays(path)
    with _told(path, "an array (.npy)"):
        with _opened(path, _ARRAY) as file:
            array: np.ndarray = np.load(file, allow_pickle=False)
        return array


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz``, by name.

    Raises
    ------
    DataError
        It can't be read; the message names the file.
    """
    require_arrays(path)
    with (
        _told(path, "arrays (.npz)"),
        _opened(path, _ARCHIVE) as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        return {name: _whole(name, archive[name]) for name in archive.files}


def read_array(path: Path) -> np.ndarray:
    """Return the one array of an ``.npy``, ``.npz`` or ``.pb``.

    Raises
    ------
    DataError
        It can't be read, or has several.
    """
    if path.suffix == ".pb":
        array: np.ndarray = read_proto(path)[1]
        return array
    if path.suffix != ".npz":
        return read_npy(path)
    arrays = read_npz(path)
    if len(arrays) != 1:
        raise DataError(
            f"{path} holds {len(arrays)} arrays, but exactly one is needed: "
            f"{', '.join(sorted(arrays))}."
        )
    return next(iter(arrays.values()))


def _whole(name: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):  # a member that is no .npy comes as bytes
        raise TypeError(f"its {name!r} is not an array")
    return value


def read_proto(path: Path, kind: type[Any] = onnx.TensorProto) -> tuple[str, Any]:
    """Return the name and the value of a serialised ONNX tensor, sequence or optional.

    Parameters
    ----------
    path : Path
    kind : type
        ``TensorProto``, ``SequenceProto`` or ``OptionalProto``.

    Raises
    ------
    DataError
        It can't be read; the message names the file.
    """
    converters = {
        onnx.SequenceProto: onnx.numpy_helper.to_list,
        onnx.OptionalProto: onnx.numpy_helper.to_optional,
    }
    require_arrays(path)
    with _told(path, f"a {kind.__name__}"):
        proto = kind()
        proto.ParseFromString(path.read_bytes())
        value = converters.get(kind, onnx.numpy_helper.to_array)(proto)
        return str(proto.name), value
