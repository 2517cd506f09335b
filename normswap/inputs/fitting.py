"""Whether a value is one that a port of a model takes, and the value in the port's type.

A value of another type is converted, where its kind allows that and none is beyond the range of the
type. Bits saved as unsigned integers become the type that NumPy can't save.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.errors import DataError
from normswap.finite import flaw_of
from normswap.runtime.arrays import Value, dtype_of, is_foreign

if TYPE_CHECKING:
    from normswap.finite import Flaw
    from normswap.inputs.signature import Port

_BITS = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16)}


def require_fit(
    value: Value, port: Port, what: str, batch: int | None, *, exact: bool = False
) -> None:
    """Refuse a value that can't be one of the model's, see :func:`obstacle`."""
    why = obstacle(value, port, batch, exact=exact)
    if why is not None:
        raise DataError(f"{what} {port.name} of the model: {why}.")


def obstacle(value: Value, port: Port, batch: int | None, *, exact: bool = False) -> str | None:
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
        return next((why for item in items if (why := obstacle(item, port, batch))), None)
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


def typed(port: Port, value: Value, where: str, *, finite: bool) -> Value:
    """Return a value in the declared type.

    Raises
    ------
    DataError
        An element is beyond the range of it; or, with `finite`, is not finite.
    """
    if isinstance(value, list):
        return [typed(port, item, where, finite=finite) for item in value]
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
