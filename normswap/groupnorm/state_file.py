"""Files of arrays that torch users read: NumPy's ``.npz``, and ``.safetensors``."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from normswap.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".npz", ".safetensors")


def encoded(arrays: dict[str, npt.NDArray[Any]], path: Path) -> bytes:
    """Return the bytes of a file of arrays, of the kind that its ending says.

    bfloat16, which NumPy's files don't know, is widened to float32.

    Raises
    ------
    UsageError
        It has another ending, or the library for it is not installed.
    """
    require_kind(path)
    wide = {
        key: array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
        for key, array in arrays.items()
    }
    if path.suffix == ".npz":
        stream = io.BytesIO()
        np.savez(stream, **wide)  # type: ignore[arg-type] # names of arrays, none is an option
        return stream.getvalue()
    from safetensors.numpy import save

    content: bytes = save({key: np.ascontiguousarray(array) for key, array in wide.items()})
    return content


def require_kind(path: Path) -> None:
    """Refuse a file that arrays can't be written to.

    Raises
    ------
    UsageError
        See :func:`encoded`.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"{path} ends neither with {' nor with '.join(SUFFIXES)}.",
            tip="The extension says which kind of file to write.",
        )
    if path.suffix == ".safetensors":
        try:
            import safetensors.numpy  # noqa: F401 - whether it is there
        except ImportError as error:
            raise UsageError(
                "Writing .safetensors needs the package safetensors, which is not installed.",
                tip="Run pip install 'normswap[safetensors]', or give a file that ends with .npz.",
            ) from error
