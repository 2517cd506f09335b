"""What people give as data: sets of inputs for a model, from files or from Python, by one rule.

What is understood as a set stands in :mod:`normswap.inputs.sets`.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.errors import DataError
from normswap.inputs.archives import numbered, read_values
from normswap.inputs.fitting import obstacle, require_fit, typed
from normswap.inputs.random import Case, Distribution
from normswap.inputs.sets import Data, FoundSet, found_in, in_order, located

if TYPE_CHECKING:
    import numpy.typing as npt

    from normswap.inputs.signature import Signature
    from normswap.runtime.arrays import Feeds, Value

BATCH = 32


def load_cases(signature: Signature, source: Data) -> list[Case]:
    """Read sets of inputs for a model, each whole, and what is expected of them.

    Values need not be finite: what a model makes of those that are not is worth a check.

    Raises
    ------
    DataError
        There is nothing to read, or it does not fit the model's inputs.
    """
    return list(_cases(signature, located(signature, source), finite=False))


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
            There is no such array, it has not one entry for each sample, or these are no numbers of
            classes.
        """
        parts: list[npt.NDArray[Any]] = []
        read, left = 0, self._samples
        fixed = _batch_size(self._signature) or 1
        self._labels = labels if isinstance(labels, str) else None
        for number, entry in enumerate(self._sets, start=1):
            found = found_in(self._signature, entry, number)
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
        whole = np.concatenate(parts)
        is_class = np.full(whole.shape, whole.dtype.kind in "biu")
        if whole.dtype.kind == "f":
            is_class = np.isfinite(whole) & (whole == np.floor(whole))
        if not is_class.all():
            example = whole[~is_class][0]
            raise DataError(
                f"The labels are of {whole.dtype}, such as {example}, and no class numbers.",
                tip="Number the classes from 0 on, as the model's outputs do.",
            )
        return whole


def _no_labels(labels: str | npt.NDArray[Any], found: FoundSet, count: int) -> str:
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
    sets = located(signature, source)
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
    files = sorted(path.glob("*.npz"), key=in_order) if path.is_dir() else numbered(path)
    if not files:
        raise DataError(f"There are no saved outputs at {path}.")
    return [_outputs(signature, read_values(file), str(file), partial=False) for file in files]


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
        found = found_in(signature, entry, number)
        feeds, others = _chosen(signature, found)
        others = [name for name in others if name not in (units, labels)]
        if others:
            named = ", ".join(others)
            remarks[f"arrays that are not inputs of the model were ignored: {named}"] = None
        count, sampled = _samples(signature, feeds)
        belongs = () if units is None else _units(found, units, count)
        if left is not None:
            feeds = _cut(feeds, sampled, slice(left))
            count, left = min(count, left), left - count
        inputs = {
            port.name: typed(port, feeds[port.name], found.where, finite=finite)
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
        end = count if batch or fixed else max(count, 1)
        for places, weight in _batches(count, size, end, filled=filled, is_fixed=bool(fixed)):
            yield Case(
                f"{name} from sample {places.start}"
                if isinstance(places, slice) and size < count
                else name,
                Distribution.USER,
                _cut(inputs, sampled, places),
                _cut(expected, following, places) if isinstance(places, slice) else {},
                tuple(remarks),
                weight=weight,
                sampled=tuple(sampled),
                units=_at(belongs, places),
            )
            empty = False
            remarks.clear()
    if empty:
        why = f": {next(iter(remarks))}" if remarks else ""
        raise DataError(f"The data does not fill one batch{why}.")


def _units(found: FoundSet, name: str, count: int) -> tuple[Any, ...]:
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


def _batches(
    count: int, size: int, end: int, *, filled: bool, is_fixed: bool
) -> Iterator[tuple[slice | list[int], float]]:
    """Yield which samples are a batch, and its weight; see :meth:`Dataset.cases`."""
    for start in range(0, end, size):
        if is_fixed and start + size > count:
            yield from _filled_up(start, count, size) if filled else ()
            return
        yield slice(start, start + size), 1.0


def _filled_up(start: int, count: int, size: int) -> Iterator[tuple[list[int], float]]:
    """Yield full batches of the samples from one on, which are too few for one."""
    missing = start + size - count
    if missing == size - 1:
        yield [start] * size, 1 / size
        return
    yield [*range(start, count), *[start] * missing], 1.0
    yield [start] * size, -missing / size


def _at(units: tuple[Any, ...], places: slice | list[int]) -> tuple[Any, ...]:
    if isinstance(places, slice):
        return units[places]
    return tuple(units[place] for place in places) if units else ()


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


def _chosen(signature: Signature, found: FoundSet) -> tuple[Feeds, list[str]]:
    """Return a value for each input, and the names of the arrays that are left out."""
    ports = signature.inputs
    batch = _batch_size(signature)
    names: dict[str, str] = {}  # of arrays, by input
    for port in ports:
        name: str | None = port.name
        if port.name not in found.arrays:
            arrays = found.arrays.items()
            fits = [n for n, value in arrays if obstacle(value, port, batch) is None]
            name = fits[0] if len(ports) == 1 and len(fits) == 1 else None
        if name is None:
            raise DataError(
                f"{found.where} has no array for the model's input {port.name}; it has "
                f"{', '.join(sorted(found.arrays)) or 'none'}.",
                tip="Save it with numpy.savez, each array under the name of its input.",
            )
        require_fit(found.arrays[name], port, f"{found.where} doesn't fit the input", batch)
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
            require_fit(value, port, f"{where} doesn't fit the output", None, exact=True)
            found[port.name] = typed(port, value, where, finite=False)
    return found
