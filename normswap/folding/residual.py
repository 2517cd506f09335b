"""The algebra residual of a fold: how far its constants, as stored, are off their formulas.

What is judged is what is on disk: every folded constant is read back from the written model, and
its formula is evaluated anew, in wide arithmetic, from the constants of the original. One rounding
leaves half a unit in the last place. A layer at a time is in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from normswap.dtypes import NUMPY_DTYPES, Wide, wide_dtype
from normswap.graph.build import all_graphs
from normswap.graph.expressions import Expression
from normswap.model import TensorSource, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from normswap.model import Model

AT_ONCE = 1 << 16
"""Elements that are compared at a time, few enough for a cache."""


@dataclass(frozen=True, slots=True)
class Residual:
    """How far one stored constant is off its formula.

    Attributes
    ----------
    tensor : str
        What the constant is called in the folded model.
    ulps : float
        The largest difference of any element, in units in the last place of the stored value;
        infinite where the constant is lost, or of another type or shape.
    allowed : float
        What one rounding explains; 0 for quantized weights, which a fold only mirrors.
    """

    tensor: str
    ulps: float
    allowed: float

    @property
    def is_rounding(self) -> bool:
        """Whether one rounding explains it."""
        return self.ulps <= self.allowed


def residuals(folded: Model, written: Model) -> tuple[Residual, ...]:
    """Compare the folded constants of a model with what was written of them.

    Parameters
    ----------
    folded : Model
        After :func:`normswap.folding.apply.apply_plan`.
    written : Model
        What was saved, loaded again.

    Returns
    -------
    tuple of Residual
        One for every constant that the fold has made and that is still read.
    """
    formulas = {
        name: source for name, source in _constants(folded) if isinstance(source, Expression)
    }
    stored = dict(_constants(written))
    return tuple(
        Residual(name, _ulps(stored.get(name), formula), _allowed(formula.data_type))
        for name, formula in formulas.items()
    )


def _constants(model: Model) -> Iterator[tuple[str, TensorSource]]:
    """Yield what nodes read: initializers, and the values of Constant nodes in functions."""
    for graph in all_graphs(model):
        for node in graph.nodes:
            if node.op == "Constant" and isinstance(node.attrs.get("value"), gs.Constant):
                yield node.outputs[0].name, source_of(node.attrs["value"])
            for tensor in node.inputs:
                if isinstance(tensor, gs.Constant):
                    yield tensor.name, source_of(tensor)


def _allowed(data_type: int) -> float:
    """Return the units that one rounding leaves, and a little for that of the wide arithmetic."""
    if data_type not in NUMPY_DTYPES:
        return 0.0
    # A long double has 11 bits more than a float64 at best, and on some platforms none.
    return 1.5 if data_type == TensorProto.DOUBLE else 0.51


def _ulps(stored: TensorSource | None, formula: Expression) -> float:
    if (
        stored is None
        or stored.data_type != formula.data_type
        or tuple(stored.shape) != tuple(formula.shape)
    ):
        return math.inf
    values, wide = stored.load().reshape(-1), formula.wide().reshape(-1)
    parts = [slice(start, start + AT_ONCE) for start in range(0, values.size, AT_ONCE)]
    found = [_largest(values[part], wide[part], formula.data_type) for part in parts]
    # NaN, of a value that is not finite on either side, must not get lost in a maximum.
    return math.inf if any(map(math.isnan, found)) else max(found, default=0.0)


def _largest(values: npt.NDArray[Any], wide: Wide, data_type: int) -> float:
    with np.errstate(invalid="ignore"):
        error = np.abs(values.astype(wide_dtype(data_type)) - wide)
    if data_type not in NUMPY_DTYPES:
        return float(error.max())
    return float((error / _ulp(values)).max())


def _ulp(values: npt.NDArray[Any]) -> Wide:
    """Return the distance of each value to the next one away from zero, of the same exponent.

    The exponent's bits alone are the power of two below a value; subnormals are as far apart as
    the smallest normal numbers.
    """
    kind = ml_dtypes.finfo(values.dtype)
    bits = values.view(np.dtype(f"u{values.dtype.itemsize}"))
    exponent = ((1 << kind.bits - 1 - kind.nmant) - 1) << kind.nmant
    power = (bits & bits.dtype.type(exponent)).view(values.dtype)
    ulp: Wide = np.maximum(power.astype(np.float64), float(kind.smallest_normal))
    return ulp * float(kind.eps)
