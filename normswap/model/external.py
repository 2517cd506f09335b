"""External data: tensor bytes in files beside the model.

Source: https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from normswap.errors import ModelError
from normswap.model.storage import Extent, FileStorage
from normswap.model.tensors import dtype_of, nbytes_of


def is_external(tensor: Any) -> bool:
    """Return whether the values of a ``TensorProto`` are in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def location_of(tensor: Any) -> str:
    """Return the path, relative to the model, of the file with the values of a tensor."""
    return next((item.value for item in tensor.external_data if item.key == "location"), "")


def set_location(tensor: Any, location: str, offset: int, nbytes: int) -> None:
    """Make a tensor's values `nbytes` bytes from `offset` on in the file `location`.

    A checksum, which is of the whole file and not of the tensor, is dropped.
    """
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", nbytes)):
        tensor.external_data.add(key=key, value=str(value))


class ExternalData:
    """The data files of one model.

    Parameters
    ----------
    model : pathlib.Path or None
        Where the model lies; None for one that didn't come from a file.
    name : str
        What to call the model in messages.
    """

    def __init__(self, model: Path | None, name: str) -> None:
        self._name = name
        self._files: dict[str, FileStorage] = {}
        self._folder = None if model is None else model.parent
        # A model in a content-addressed cache is a symbolic link, and so is its data.
        self._roots = () if model is None else (model.parent.resolve(), model.resolve().parent)

    @property
    def files(self) -> dict[str, FileStorage]:
        """The files that were asked for until now, by location."""
        return self._files

    def extent(self, tensor: Any) -> Extent:
        """Return where the values of an external tensor lie.

        Raises
        ------
        ModelError
            Outside of the model's folder, missing, or too short.
        """
        entries = {item.key: item.value for item in tensor.external_data}
        storage = self._file(str(entries.get("location", "")), tensor.name)
        try:
            offset = int(entries.get("offset") or 0)
            nbytes = int(entries["length"]) if entries.get("length") else None
        except ValueError:
            offset = nbytes = -1
        if nbytes is None:
            dtype = dtype_of(tensor.data_type)
            nbytes = (
                storage.nbytes - offset
                if dtype is None or dtype.kind == "O"
                else nbytes_of(dtype, tensor.dims)
            )
        if offset < 0 or nbytes < 0:
            raise ModelError(
                f"{self._name}: the external data of tensor {tensor.name!r} has an "
                "invalid offset or length."
            )
        if offset + nbytes > storage.nbytes:
            raise ModelError(
                f"{self._name}: the external data of tensor {tensor.name!r} ends at byte "
                f"{offset + nbytes}, but {storage.path} has only {storage.nbytes} bytes.",
                tip="The data file is truncated, or belongs to another model.",
            )
        return Extent(storage, offset, nbytes)

    def _file(self, location: str, tensor: str) -> FileStorage:
        if location in self._files:
            return self._files[location]
        if self._folder is None:
            raise ModelError(
                f"{self._name} stores tensor {tensor!r} in the external file "
                f"{location!r}, but the model was not read from a file, so its folder is "
                "unknown.",
                tip="Give the path of the model file.",
            )
        if not location:
            raise ModelError(
                f"{self._name}: the external data of tensor {tensor!r} has no file name."
            )
        path = self._folder / location
        try:
            real = path.resolve()
            inside = any(real.is_relative_to(root) for root in self._roots)
            if not inside or Path(location).is_absolute() or ".." in Path(location).parts:
                raise ModelError(
                    f"{self._name} stores tensor {tensor!r} in {location!r}, which is "
                    "outside the folder of the model.",
                    tip="Move the external data into the folder of the model, or below it.",
                )
            if not path.is_file():
                raise ModelError(
                    f"{self._name} stores tensor {tensor!r} in {path}, which doesn't exist.",
                    tip="Copy the external data file of the model to that path.",
                )
            storage = FileStorage(real)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"{self._name}: the external data file {location!r} can't be read: {error}."
            ) from error
        self._files[location] = storage
        return storage
