"""The user's data: batches of inputs for a model, from files or from any Python iterable."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.errors import DataError
from normswap.finite import flaw_of
from normswap.inputs.arrayfiles import read_npy, read_npz, read_proto
from normswap.runtime.arrays import dtype_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from normswap.finite import Flaw
    from normswap.inputs.signature import Port, Signature

    Data = str | Path | Iterable[Mapping[str, Any]]

BATCH = 32

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Batches of inputs that can be gone through again and again.

    Attributes
    ----------
    name : str
        What to call it in messages.
    batches : iterable
        Of feeds: arrays by input name.
    """

    name: str
    batches: Iterable[Mapping[str, Any]]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Go through all batches, from the first."""
        return iter(self.batches)


def open_data(
    source: Data,
    signature: Signature,
    *,
    batch: int = BATCH,
    samples: int | None = None,
) -> Dataset:
    """Return the batches of a data set, each fitting the inputs of a model.

    Parameters
    ----------
    source : path or iterable
        An ``.npz`` with an array for each input (along its first axis the samples); an ``.npy`` for
        a model of one input; a folder of ``.npz`` or ``.npy`` files, or of ``test_data_set_*``
        folders with ``input_0.pb`` and so on, read one after another; or feeds. An iterable is gone
        through several times, so a generator is read into memory.
    signature : Signature
        Of the model.
    batch : int
        Samples in a batch; a model with a fixed batch size gets that.
    samples : int, optional
        Take only the first so many.

    Raises
    ------
    DataError
        If there is no data, it doesn't fit the model, or a value of it is not finite, or not in the
        type that the model takes. (Raised where the batches are gone through.)
    """
    if not isinstance(source, str | Path):
        feeds = list(source) if iter(source) is source else source
        checked = _Typed(_Limited(_Checked(feeds, signature), samples), signature)
        return Dataset("the data", _Filled(checked))
    path = Path(source)
    if not path.exists():
        raise DataError(f"There is no data at {path}.")
    pieces = _Files(path, signature)
    if not pieces.files:
        raise DataError(
            f"{path} has no .npz, .npy or test_data_set_*/input_*.pb in it.",
            tip="Save the inputs with numpy.savez, one array for each input of the model.",
        )
    typed = _Typed(_Limited(pieces, samples), signature)
    return Dataset(str(path), _Filled(_Batched(typed, signature, batch)))


Piece = tuple[str, Feeds]
"""Arrays that are read together, and where they are from."""


class _Files:
    """The arrays of one file after another."""

    def __init__(self, path: Path, signature: Signature) -> None:
        self.signature = signature
        self.files = [path]
        if path.is_dir():
            found = [*path.glob("*.npz"), *path.glob("*.npy")]
            sets = [folder for folder in path.glob("test_data_set_*") if folder.is_dir()]
            self.files = sorted([*found, *sets], key=_natural)
            if not self.files and (path / "input_0.pb").exists():
                self.files = [path]

    def __iter__(self) -> Iterator[Piece]:
        for path in self.files:
            yield str(path), _fitted(_read(path, self.signature), self.signature, str(path))


class _Batched:
    """The samples of every file, in batches."""

    def __init__(self, pieces: Iterable[Feeds], signature: Signature, batch: int) -> None:
        self.pieces = pieces
        first = signature.inputs[0].shape if signature.inputs else None
        fixed = first[0] if first else None
        self.size = fixed if isinstance(fixed, int) else batch
        self.whole = isinstance(fixed, int)

    def __iter__(self) -> Iterator[Feeds]:
        for feeds in self.pieces:
            count = min((len(array) for array in feeds.values() if array.ndim), default=1)
            for start in range(0, count, self.size):
                end = start + self.size
                if self.whole and end > count:
                    break  # the model takes whole batches only
                yield {
                    name: array[start:end] if array.ndim and len(array) == count else array
                    for name, array in feeds.items()
                }


class _Checked:
    def __init__(self, batches: Iterable[Mapping[str, Any]], signature: Signature) -> None:
        self.batches = batches
        self.signature = signature

    def __iter__(self) -> Iterator[Piece]:
        for number, feeds in enumerate(self.batches, start=1):
            arrays = {name: np.asarray(value) for name, value in feeds.items()}
            where = f"batch {number} of the data"
            yield where, _fitted(arrays, self.signature, where)


class _Limited:
    """The first samples of pieces."""

    def __init__(self, pieces: Iterable[Piece], samples: int | None) -> None:
        self.pieces = pieces
        self.samples = samples

    def __iter__(self) -> Iterator[Piece]:
        left = self.samples
        for where, feeds in self.pieces:
            if left is not None and left <= 0:
                return
            count = min((len(array) for array in feeds.values() if array.ndim), default=1)
            if left is not None and count > left:
                feeds = {  # noqa: PLW2901 - the last piece, cut short
                    name: array[:left] if array.ndim and len(array) == count else array
                    for name, array in feeds.items()
                }
            yield where, feeds
            if left is not None:
                left -= count


class _Typed:
    """Pieces in the types of the model's inputs, every value finite.

    What is not used (other arrays, samples beyond the first so many) may be anything.
    """

    def __init__(self, pieces: Iterable[Piece], signature: Signature) -> None:
        self.pieces = pieces
        self.dtypes = {port.name: _dtype(port) for port in signature.inputs}

    def __iter__(self) -> Iterator[Feeds]:
        for where, feeds in self.pieces:
            typed = {}
            for name, array in feeds.items():
                flaw = flaw_of(name, array, self.dtypes[name])
                if flaw is not None:
                    raise DataError(f"{where} can't be used: {flaw}.", tip=_mend(flaw))
                typed[name] = array.astype(self.dtypes[name], copy=False)
            yield typed


class _Filled:
    """Batches, of which there must be one."""

    def __init__(self, batches: Iterable[Feeds]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Feeds]:
        empty = True
        for feeds in self.batches:
            empty = False
            yield feeds
        if empty:
            raise DataError("There is not one batch of data.")


def _mend(flaw: Flaw) -> str:
    if flaw.limit:
        return f"Scale it to what {flaw.limit} can hold, as it was when the model was trained."
    return "One such value makes a network of NaN: leave that sample out, or mend it."


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", path.name)]


def _read(path: Path, signature: Signature) -> Feeds:
    names = [port.name for port in signature.inputs]
    if path.is_dir():
        arrays = {}
        for index, name in enumerate(names):
            file = path / f"input_{index}.pb"
            if not file.exists():
                raise DataError(f"{path} has no {file.name}, for the input {name}.")
            given, array = read_proto(file)
            arrays[given or name] = array
        return arrays
    if path.suffix == ".npz" or zipfile.is_zipfile(path):
        return read_npz(path)
    return {names[0] if len(names) == 1 else path.stem: read_npy(path)}


def _fitted(arrays: Feeds, signature: Signature, where: str) -> Feeds:
    """Return an array for each input; labels and the like are left out."""
    ports = signature.inputs
    feeds: Feeds = {}
    for port in ports:
        array = arrays.get(port.name)
        if array is None and len(ports) == 1:
            # One input under another name: whichever array can be it, if only one can.
            fits = [a for a in arrays.values() if _obstacle(a, port) is None]
            array = fits[0] if len(fits) == 1 else None
        if array is None:
            raise DataError(
                f"{where} has no array for the input {port.name} of the model; it has "
                f"{', '.join(sorted(arrays)) or 'none'}.",
                tip="Save it with numpy.savez, each array under the name of its input.",
            )
        obstacle = _obstacle(array, port)
        if obstacle is not None:
            raise DataError(f"{where} doesn't fit the input {port.name} of the model: {obstacle}.")
        feeds[port.name] = array
    return feeds


def _dtype(port: Port) -> np.dtype[Any]:
    return np.dtype(object) if port.dtype == "string" else dtype_of(port.dtype)


def _obstacle(array: np.ndarray, port: Port) -> str | None:
    """Say why an array can't be an input, or None if it can."""
    wanted = _dtype(port)
    if array.dtype != wanted and not np.can_cast(array.dtype, wanted, casting="same_kind"):
        return f"it is {array.dtype}, and {port.dtype} is needed"
    if port.shape is None:
        return None
    if array.ndim != len(port.shape):
        return f"it has {array.ndim} axes, and {len(port.shape)} are needed"
    for axis, (size, dim) in enumerate(zip(array.shape, port.shape, strict=True)):
        if axis and isinstance(dim, int) and dim != size:
            return f"its axis {axis} is {size}, and {dim} is needed"
    return None
