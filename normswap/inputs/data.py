"""Inputs and outputs from files: a user's own data, onnx test data, golden files.

What is understood:

- ``.npz``: one set of inputs, by input name; or of outputs, by output name.
- ``.npy``: the input of a model that has one.
- ``.pb``: a serialised tensor, sequence or optional, for a model that has one input.
- a folder of ``input_0.pb``, ``input_1.pb``, ... with or without ``output_0.pb``, ...: one set, in
  the model's order, and what is expected of it.
- a folder of ``.npy`` named as the inputs are: one set.
- a folder of any of these: several sets, in the order of their names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import onnx

from normswap.errors import DataError
from normswap.inputs.arrayfiles import read_npy, read_npz, read_proto
from normswap.inputs.random import Case, Distribution
from normswap.runtime.arrays import Feeds, Value, dtype_of, is_foreign

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from normswap.inputs.signature import Port, Signature

_ELEMENT = re.compile(r"(.*)\[(\d+)\]")


def load_cases(signature: Signature, path: Path) -> list[Case]:
    """Read sets of inputs for a model.

    Raises
    ------
    DataError
        There is nothing to read, or it does not fit the model's inputs.
    """
    if not path.exists():
        raise DataError(f"There is no data at {path}.")
    cases = [
        Case(
            f"data {name}",
            Distribution.USER,
            _fitted(signature.inputs, feeds, f"{path}: input"),
            _fitted(signature.outputs, expected, f"{path}: output", partial=True),
        )
        for name, feeds, expected in _sets(signature, path)
    ]
    if not cases:
        raise DataError(
            f"{path} holds no data that is understood.",
            tip="Give .npz, .npy or .pb files, or a folder of them.",
        )
    return cases


def load_outputs(signature: Signature, path: Path) -> list[Feeds]:
    """Read golden outputs of a model: an ``.npz``, or a folder of them, one a set of inputs.

    Raises
    ------
    DataError
        There is nothing to read, or it does not fit the model's outputs.
    """
    files = sorted(path.glob("*.npz")) if path.is_dir() else numbered(path)
    if not files:
        raise DataError(f"There are no golden outputs at {path}.")
    return [_fitted(signature.outputs, _npz(file), f"{file}: output") for file in files]


def numbered(path: Path) -> list[Path]:
    """Return `path` and its continuations ``name.1.npz``, ``name.2.npz``, ... that exist."""
    found = [path] if path.exists() else []
    while found and (following := continuation(path, len(found))).exists():
        found.append(following)
    return found


def continuation(path: Path, number: int) -> Path:
    """Return the name of the file for set `number`: `path` itself for the first."""
    return path if number == 0 else path.with_suffix(f".{number}{path.suffix}")


def _sets(signature: Signature, path: Path) -> Iterator[tuple[str, Feeds, Feeds]]:
    if path.is_file():
        files = numbered(path) if path.suffix == ".npz" else [path]
        for file in files:
            yield file.name, _one_file(signature.inputs, file), {}
        return
    inputs = _protos(path, "input", signature.inputs)
    if inputs:
        yield path.name, inputs, _protos(path, "output", signature.outputs)
        return
    arrays = {p.stem: p for p in sorted(path.glob("*.npy"))}
    if arrays.keys() & {port.name for port in signature.inputs}:
        yield path.name, {name: read_npy(file) for name, file in arrays.items()}, {}
        return
    for item in sorted(path.iterdir()):
        if item.is_dir() or item.suffix in {".npz", ".npy", ".pb"}:
            if item.is_dir():
                yield from _sets(signature, item)
            else:
                yield item.name, _one_file(signature.inputs, item), {}


def _one_file(ports: Sequence[Port], path: Path) -> Feeds:
    if path.suffix == ".npz":
        return _npz(path)
    if len(ports) != 1:
        raise DataError(
            f"{path} holds one array, and the model has {len(ports)} inputs.",
            tip="Save them by name in one .npz.",
        )
    if path.suffix == ".npy":
        return {ports[0].name: read_npy(path)}
    if path.suffix == ".pb":
        return {ports[0].name: _proto(path, ports[0])}
    raise DataError(f"{path} is of no kind that is understood: .npz, .npy or .pb.")


def _npz(path: Path) -> Feeds:
    """Return the arrays of an ``.npz``; ``name[0]``, ``name[1]``, ... are a sequence."""
    values: Feeds = {}
    for name, array in read_npz(path).items():
        element = _ELEMENT.fullmatch(name)
        if element is None:
            values[name] = array
        else:
            values.setdefault(element[1], []).append(array)
    return values


def _protos(folder: Path, prefix: str, ports: Sequence[Port]) -> Feeds:
    found = {}
    for index, port in enumerate(ports):
        file = folder / f"{prefix}_{index}.pb"
        if file.exists():
            found[port.name] = _proto(file, port)
    return found


def _proto(path: Path, port: Port) -> Value:
    kinds = {"sequence": onnx.SequenceProto, "optional": onnx.OptionalProto}
    return read_proto(path, kinds.get(port.kind.split(":", 1)[0], onnx.TensorProto))[1]


def _fitted(ports: Sequence[Port], values: Feeds, what: str, *, partial: bool = False) -> Feeds:
    """Return `values`, each of its port's type, or say what does not fit."""
    names = [port.name for port in ports]
    for name in values:
        if name not in names:
            raise DataError(
                f"{what} {name!r} is none of the model's.",
                tip=f"It has {', '.join(names) or 'none'}.",
            )
    missing = [name for name in names if name not in values]
    if missing and not partial:
        raise DataError(f"{what} {missing[0]!r} is missing.")
    return {
        port.name: _as_declared(port, values[port.name], what)
        for port in ports
        if port.name in values
    }


def _as_declared(port: Port, value: Value, what: str) -> Value:
    if isinstance(value, list):
        return [_as_declared(port, item, what) for item in value]
    if not isinstance(value, np.ndarray) or port.dtype == "unknown":
        return value
    if port.dtype == "string":
        return value.astype(object)
    dtype = dtype_of(port.dtype)
    if value.dtype != dtype:
        bits = value.dtype.kind == "u" and value.dtype.itemsize == dtype.itemsize
        if not bits or not is_foreign(dtype):
            raise DataError(
                f"{what} {port.name!r} is of type {value.dtype.name}; the model declares "
                f"{port.dtype}."
            )
        value = value.view(dtype)
    shape = port.shape
    if port.kind == "tensor" and shape is not None:
        fits = len(shape) == value.ndim and all(
            not isinstance(dim, int) or dim == size
            for dim, size in zip(shape, value.shape, strict=True)
        )
        if not fits:
            raise DataError(
                f"{what} {port.name!r} is of shape {list(value.shape)}; the model declares {port}."
            )
    return value
