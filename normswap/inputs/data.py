"""What people give as data: sets of inputs for a model, from files or from Python, by one rule.

What is understood:

- ``.npz``: one set of inputs, by input name; ``name.1.npz``, ... beside it are further sets.
- ``.npy``, ``.pb``: the input of a model that has one.
- a folder of ``input_0.pb``, ``input_1.pb``, ... with or without ``output_0.pb``, ...: one set, in
  the model's order, or by the names of the tensors; and what is expected of it.
- a folder of ``.npy`` named as the inputs are: one set.
- a folder of any of these: several sets, in the order of their names and numbers.
- from Python, feeds (arrays by input name), or any iterable of feeds.

How a set becomes inputs of the model:

- The array of an input has its name. Where the model has one input, an array of another name is it
  if no other array can be. All other arrays, such as labels, are left out, which a remark says.
- A value of another type is converted, where its kind allows that and none is beyond the range of
  the type. Bits saved as unsigned integers become the type that NumPy can't save.
- Along the first axis are the samples. Where the model fixes their number, they are divided into
  batches of it; a rest is left out, which a remark says, or filled up for what can weigh batches.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx

from normswap.errors import DataError
from normswap.finite import flaw_of
from normswap.inputs.archives import numbered, read_values
from normswap.inputs.arrayfiles import read_npy, read_proto, require_arrays
from normswap.inputs.random import Case, Distribution
from normswap.runtime.arrays import Feeds, Value, dtype_of, is_foreign
from normswap.spelling import no_such_file

if TYPE_CHECKING:
    import numpy.typing as npt

    from normswap.finite import Flaw
    from normswap.inputs.signature import Port, Signature

BATCH = 32

Data: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Iterable[Mapping[str, Any]]
"""A file or folder, feeds, or an iterable of feeds."""

_KINDS = {".npz", ".npy", ".pb"}
_BITS = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16)}


def load_cases(signature: Signature, source: Data) -> list[Case]:
    """Read sets of inputs for a model, each whole, and what is expected of them.

    Values need not be finite: what a model makes of those that are not is worth a check.

    Raises
    ------
    DataError
        There is nothing to read, or it does not fit the model's inputs.
    """
    return list(_cases(signature, _located(signature, source), finite=False))


@dataclass(slots=True)
class Dataset:
    """Batches of inputs that can be gone through again and again.

    Attributes
    ----------
    name : str
        What to call it in messages.
    notes : dict of str to None
        What of the data was not used, as far as it was gone through.
    """

    name: str
    notes: dict[str, None] = field(default_factory=dict, init=False)
    _signature: Signature = field(repr=False)
    _sets: Iterable[Path | Mapping[str, Any]] = field(repr=False)
    _batch: int | None
    _samples: int | None
    _units: str | None = None
    _labels: str | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[Feeds]:
        """Go through all batches, from the first."""
        for case in self.cases():
            yield case.feeds

    def cases(self, *, filled: bool = False) -> Iterator[Case]:
        """Go through all batches, from the first, with what is known of them.

        Parameters
        ----------
        filled : bool
            Whether samples that fill no batch of a size that the model fixes come too. The batch of
            the rest is filled up with its first sample, and comes again as a batch of this sample
            alone, of negative weight: a sum over elements, each by the weight of its batch, counts
            every sample once.
        """
        how: dict[str, Any] = {"batch": self._batch, "samples": self._samples, "filled": filled}
        how["units"] = self._units
        how["labels"] = self._labels
        for case in _cases(self._signature, self._sets, finite=True, **how):
            self.notes.update(dict.fromkeys(case.remarks))
            yield case

    def labels(self, labels: str | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the labels of the samples, batch after batch.

        Parameters
        ----------
        labels : str or (N, ...) ndarray
            The name of an array of the data, or such an array.

        Raises
        ------
        DataError
            There is no such array, or it has not one entry for each sample.
        """
        parts: list[npt.NDArray[Any]] = []
        read, left = 0, self._samples
        fixed = _batch_size(self._signature) or 1
        self._labels = labels if isinstance(labels, str) else None
        for number, entry in enumerate(self._sets, start=1):
            found = _found(self._signature, entry, number)
            count, _ = _samples(self._signature, _chosen(self._signature, found)[0])
            given: Value = found.arrays.get(labels) if isinstance(labels, str) else None
            if not isinstance(labels, str):
                given = labels[read : read + count]
            if not isinstance(given, np.ndarray) or _length(given) != count:
                raise DataError(_no_labels(labels, found, count))
            read += count
            used = count if left is None else min(count, left)
            left = None if left is None else left - used
            parts.append(given[: used - used % fixed])
        if not isinstance(labels, str) and read != len(labels):
            raise DataError(
                f"There are {len(labels)} labels for the {read} samples of {self.name}."
            )
        return np.concatenate(parts)


def _no_labels(labels: str | npt.NDArray[Any], found: _Set, count: int) -> str:
    """Say why there are no labels of a set."""
    if not isinstance(labels, str):
        return f"There are only {len(labels)} labels, and more samples than that."
    if labels in found.arrays:
        return (
            f"{found.where}: array {labels} does not have one label for each of the {count} "
            "samples."
        )
    known = ", ".join(sorted(found.arrays)) or "none"
    return f"{found.where} has no array {labels!r} to take the labels from; it has {known}."


def open_data(
    source: Data,
    signature: Signature,
    *,
    batch: int = BATCH,
    samples: int | None = None,
    units: str | None = None,
) -> Dataset:
    """Return the batches of a data set, each fitting the inputs of a model, every value finite.

    What is not used (other arrays, samples beyond the first so many) may be anything.

    Parameters
    ----------
    source : path, feeds or iterable of feeds
        An iterable is gone through several times, so a generator is read into memory; its feeds are
        batches as they are.
    signature : Signature
        Of the model.
    batch : int
        Samples in a batch; a model with a fixed batch size gets that.
    samples : int, optional
        Take only the first so many.
    units : str, optional
        Name of an array of the data that says what each sample belongs to.

    Raises
    ------
    DataError
        If there is no data, it doesn't fit the model, or a value of it is not finite, or not in the
        type that the model takes. (Raised where the batches are gone through.)
    """
    sets = _located(signature, source)
    is_batched = not isinstance(source, str | os.PathLike | Mapping)
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else "the data"
    return Dataset(name, signature, sets, None if is_batched else batch, samples, units)


def load_outputs(signature: Signature, source: str | os.PathLike[str]) -> list[Feeds]:
    """Read golden outputs of a model: an ``.npz``, or a folder of them, one a set of inputs.

    Raises
    ------
    DataError
        There is nothing to read, or it does not fit the model's outputs.
    """
    path = Path(source)
    files = sorted(path.glob("*.npz"), key=_natural) if path.is_dir() else numbered(path)
    if not files:
        raise DataError(f"There are no saved outputs at {path}.")
    return [_outputs(signature, read_values(file), str(file), partial=False) for file in files]


def _located(signature: Signature, source: Data) -> Iterable[Path | Mapping[str, Any]]:
    """Return the sets that a source has, those in files not yet read."""
    if isinstance(source, Mapping):
        return [source]
    if not isinstance(source, str | os.PathLike):
        return list(source) if iter(source) is source else source
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
    for item in sorted(path.iterdir(), key=_natural):
        if item.is_dir():
            found += _files(item, names)
        elif item.suffix in _KINDS:
            found.append(item)
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", path.name)]


def _protos(folder: Path, prefix: str) -> dict[int, Path]:
    """Return the tensors of onnx test data, by their number."""
    files = {file.stem.rpartition("_")[2]: file for file in folder.glob(f"{prefix}_*.pb")}
    return {int(number): file for number, file in files.items() if number.isdecimal()}


def _named(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in folder.glob("*.npy")}


@dataclass(frozen=True, slots=True)
class _Set:
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


def _found(signature: Signature, entry: Path | Mapping[str, Any], number: int) -> _Set:
    return _read(signature, entry) if isinstance(entry, Path) else _fed(entry, number)


def _read(signature: Signature, path: Path) -> _Set:
    if not path.is_dir():
        return _Set(path.name, str(path), _of_file(signature.inputs, path))
    if _protos(path, "input") or _protos(path, "output"):
        arrays = _of_protos(path, "input", signature.inputs)
        return _Set(path.name, str(path), arrays, _of_protos(path, "output", signature.outputs))
    arrays = {name: read_npy(file) for name, file in sorted(_named(path).items())}
    return _Set(path.name, str(path), arrays)


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


def _fed(feeds: object, number: int) -> _Set:
    """Return feeds from Python."""
    name = f"batch {number}"
    where = f"{name} of the data"
    if not isinstance(feeds, Mapping):
        raise DataError(
            f"{where} is of type {type(feeds).__name__}, but it must map the names of the "
            "inputs to arrays."
        )
    return _Set(name, where, {str(key): _array(value) for key, value in feeds.items()})


def _array(value: Any) -> Value:
    """Return an array, or the value itself where it is none."""
    if value is None or isinstance(value, Mapping):
        return value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # arrays of several shapes: a sequence
        return [_array(item) for item in value] if isinstance(value, list) else value


def _cases(
    signature: Signature,
    sets: Iterable[Path | Mapping[str, Any]],
    *,
    finite: bool,
    batch: int | None = None,
    samples: int | None = None,
    filled: bool = False,
    units: str | None = None,
    labels: str | None = None,
) -> Iterator[Case]:
    """Yield inputs of the model, set by set and batch by batch."""
    remarks: dict[str, None] = {}
    left, empty = samples, True
    for number, entry in enumerate(sets, start=1):
        if left is not None and left <= 0:
            break
        found = _found(signature, entry, number)
        feeds, others = _chosen(signature, found)
        others = [name for name in others if name not in (units, labels)]
        if others:
            remarks[_ignored(others)] = None
        count, sampled = _samples(signature, feeds)
        belongs = () if units is None else _units(found, units, count)
        if left is not None:
            feeds = _cut(feeds, sampled, slice(left))
            count, left = min(count, left), left - count
        typed = {
            port.name: _typed(port, feeds[port.name], found.where, finite=finite)
            for port in signature.inputs
        }
        expected = _outputs(signature, found.expected, found.where, partial=True)
        following = [name for name, value in expected.items() if _length(value) == count]
        fixed = _batch_size(signature)
        size = fixed or batch or max(count, 1)
        name = f"data {found.name}"
        if fixed and count % fixed and not filled:
            remarks[
                f"{count % fixed} of {count} samples were left out: the model has a fixed "
                f"batch size of {fixed}, which they don't fill"
            ] = None
        # An empty batch is one for a check, and none for what learns from it.
        for start in range(0, count if batch or fixed else max(count, 1), size):
            if fixed and start + size > count:
                for places, weight in _filling(start, count, fixed) if filled else ():
                    feeds = _cut(typed, sampled, places)
                    yield Case(
                        name,
                        Distribution.USER,
                        feeds,
                        remarks=tuple(remarks),
                        weight=weight,
                        sampled=tuple(sampled),
                        units=tuple(belongs[place] for place in places) if belongs else (),
                    )
                    empty = False
                    remarks.clear()
                break
            span = slice(start, start + size)
            is_whole = size >= count
            yield Case(
                name if is_whole else f"{name} from sample {start}",
                Distribution.USER,
                typed if is_whole else _cut(typed, sampled, span),
                expected if is_whole else _cut(expected, following, span),
                tuple(remarks),
                sampled=tuple(sampled),
                units=belongs[span],
            )
            empty = False
            remarks.clear()
    if empty:
        why = f": {next(iter(remarks))}" if remarks else ""
        raise DataError(f"The data does not fill one batch{why}.")


def _units(found: _Set, name: str, count: int) -> tuple[Any, ...]:
    """Return what each sample belongs to.

    Raises
    ------
    DataError
        There is no such array, or it is not of one value for each sample.
    """
    values = found.arrays.get(name)
    if values is None:
        raise DataError(
            f"{found.where} has no array {name!r} to group the samples by; it has "
            f"{', '.join(sorted(found.arrays)) or 'none'}."
        )
    if not isinstance(values, np.ndarray) or values.shape != (count,):
        shape = list(values.shape) if isinstance(values, np.ndarray) else type(values).__name__
        raise DataError(
            f"{found.where}: array {name!r} is {shape}, but one value for each of the "
            f"{count} samples is needed."
        )
    return tuple(values.tolist())


def _ignored(others: Sequence[str]) -> str:
    return f"arrays that are not inputs of the model were ignored: {', '.join(others)}"


def _filling(start: int, count: int, size: int) -> Iterator[tuple[list[int], float]]:
    """Yield batches of the samples from one on, with weights; see :meth:`Dataset.cases`."""
    missing = start + size - count
    if missing == size - 1:
        yield [start] * size, 1 / size
        return
    yield [*range(start, count), *[start] * missing], 1.0
    yield [start] * size, -missing / size


def _cut(values: Feeds, names: Sequence[str], span: slice | list[int]) -> Feeds:
    return {name: value[span] if name in names else value for name, value in values.items()}


def _length(value: Value) -> int | None:
    return len(value) if isinstance(value, np.ndarray) and value.ndim else None


def _batch_size(signature: Signature) -> int | None:
    """Return the number of samples that the model fixes, or None."""
    shape = signature.inputs[0].shape if signature.inputs else None
    first = shape[0] if shape else None
    return first if isinstance(first, int) and first > 0 else None


def _samples(signature: Signature, feeds: Feeds) -> tuple[int, list[str]]:
    """Return how many samples there are, and the inputs that have them along their first axis."""
    lengths = {name: n for name, value in feeds.items() if (n := _length(value)) is not None}
    fixed = _batch_size(signature)
    fed = [
        port.name
        for port in signature.inputs
        if port.name in lengths
        and (not port.shape or not isinstance(port.shape[0], int) or port.shape[0] == fixed)
    ]
    count = lengths[fed[0]] if fed else 1
    return count, [name for name in fed if lengths[name] == count]


def _chosen(signature: Signature, found: _Set) -> tuple[Feeds, list[str]]:
    """Return a value for each input, and the names of the arrays that are left out."""
    ports = signature.inputs
    batch = _batch_size(signature)
    names: dict[str, str] = {}  # of arrays, by input
    for port in ports:
        name: str | None = port.name
        if port.name not in found.arrays:
            arrays = found.arrays.items()
            fits = [n for n, value in arrays if _obstacle(value, port, batch) is None]
            name = fits[0] if len(ports) == 1 and len(fits) == 1 else None
        if name is None:
            raise DataError(
                f"{found.where} has no array for the model's input {port.name}; it has "
                f"{', '.join(sorted(found.arrays)) or 'none'}.",
                tip="Save it with numpy.savez, each array under the name of its input.",
            )
        _require_fit(found.arrays[name], port, f"{found.where} doesn't fit the input", batch)
        names[port.name] = name
    feeds = {port: found.arrays[name] for port, name in names.items()}
    return feeds, sorted(found.arrays.keys() - set(names.values()))


def _outputs(signature: Signature, values: Feeds, where: str, *, partial: bool) -> Feeds:
    """Return outputs that a model is held to: all that are given are its, and of its types."""
    ports = signature.outputs
    names = [port.name for port in ports]
    for name in values:
        if name not in names:
            raise DataError(
                f"{where}: the model has no output {name!r}.",
                tip=f"Its outputs are {', '.join(names) or 'none'}.",
            )
    missing = [name for name in names if name not in values]
    if missing and not partial:
        raise DataError(f"{where}: output {missing[0]!r} is missing.")
    found: Feeds = {}
    for port in ports:
        if port.name in values:
            value = values[port.name]
            _require_fit(value, port, f"{where} doesn't fit the output", None, exact=True)
            found[port.name] = _typed(port, value, where, finite=False)
    return found


def _require_fit(
    value: Value, port: Port, what: str, batch: int | None, *, exact: bool = False
) -> None:
    obstacle = _obstacle(value, port, batch, exact=exact)
    if obstacle is not None:
        raise DataError(f"{what} {port.name} of the model: {obstacle}.")


def _obstacle(value: Value, port: Port, batch: int | None, *, exact: bool = False) -> str | None:
    """Say why a value can't be one of the model's, or None if it can.

    Parameters
    ----------
    value : Value
    port : Port
    batch : int or None
        The number of samples that the model fixes: there may be any number of these.
    exact : bool
        Whether it must be of the declared type already.
    """
    if port.kind != "tensor" and not isinstance(value, np.ndarray):
        items = value if isinstance(value, list) else ()
        return next((why for item in items if (why := _obstacle(item, port, batch))), None)
    if not isinstance(value, np.ndarray):
        return f"it is of type {type(value).__name__}, but an array is needed"
    if not _is_convertible(value.dtype, port, exact=exact):
        return f"its type is {value.dtype}, but {port.dtype} is needed"
    if port.shape is None or port.kind != "tensor":
        return None
    shape = f"its shape is {list(value.shape)}"
    if value.ndim != len(port.shape):
        return f"{shape}, with {value.ndim} axes, but {len(port.shape)} are needed"
    for axis, (size, dim) in enumerate(zip(value.shape, port.shape, strict=True)):
        if isinstance(dim, int) and dim != size and (axis or dim != batch):
            return f"{shape}, but axis {axis} must be {dim}"
    return None


def _is_convertible(given: np.dtype[Any], port: Port, *, exact: bool) -> bool:
    if port.dtype == "unknown":
        return True
    if port.dtype == "string":
        return given.kind in "OUS"
    wanted = dtype_of(port.dtype)
    if given == wanted or _is_bits(given, wanted):
        return True
    return not exact and given.kind in "biufV" and np.can_cast(given, wanted, casting="same_kind")


def _is_bits(given: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Whether unsigned integers stand for the bits of a type that NumPy can't save."""
    return is_foreign(wanted) and given == _BITS.get(wanted.itemsize)


def _typed(port: Port, value: Value, where: str, *, finite: bool) -> Value:
    """Return a value in the declared type.

    Raises
    ------
    DataError
        An element is beyond the range of it; or, with `finite`, is not finite.
    """
    if isinstance(value, list):
        return [_typed(port, item, where, finite=finite) for item in value]
    if not isinstance(value, np.ndarray) or port.dtype == "unknown":
        return value
    if port.dtype == "string":
        return (value.astype(str) if value.dtype.kind == "S" else value).astype(object)
    dtype = dtype_of(port.dtype)
    if _is_bits(value.dtype, dtype):
        value = value.view(dtype)
    flaw = flaw_of(port.name, value, dtype)
    if flaw is not None and not finite and not flaw.limit:  # then only the conversion counts
        flaw = flaw_of(port.name, np.where(np.isfinite(value), value, value.dtype.type(0)), dtype)
    if flaw is not None:
        raise DataError(f"{where} can't be used: {flaw}.", tip=_mend(flaw))
    return value.astype(dtype, copy=False)


def _mend(flaw: Flaw) -> str:
    if flaw.limit:
        return (
            f"Scale the values to the range of {flaw.limit}, as they were when the model was "
            "trained."
        )
    return "A single such value can turn all outputs into NaN: leave that sample out, or repair it."
