"""Whether a model is another one converted to a narrower type, float32 to float16 for example.

Then the two are compared to within that type's rounding: a constant is the same if it is the
original's rounded, and a cast between the two types is nothing. That may only be said of a model
that is converted as a whole. A single cast to a narrower type in a model that computes in float32
is a fault, and stays one: every operator that makes floats must make narrow ones, but for those
that converters leave as they are, since their results are indices or their kernels know float32
only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.dtypes import NUMPY_DTYPES
from normswap.proof.flat import NONE, OWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.proof.flat import Flat

WIDE = int(TensorProto.FLOAT)
_NARROW = frozenset({int(TensorProto.FLOAT16), int(TensorProto.BFLOAT16)})
_FLOATS = frozenset(
    number for name, number in TensorProto.DataType.items() if "FLOAT" in name or name == "DOUBLE"
)

# Source: `DEFAULT_OP_BLOCK_LIST` of onnxconverter-common, as far as these are of ONNX itself, and
# Resize, which an older one of it has too.
_KEPT = frozenset({
    "CumSum", "Max", "Min", "NonMaxSuppression", "RandomUniformLike", "Range", "Resize",
    "RoiAlign", "TopK", "Upsample",
})  # fmt: skip

# What converters make of numbers that the narrow type has none for: the least, and the largest.
_CLAMPS = ((5.96e-8, 65504.0), (1e-7, 1e4))


def narrowed_to(a: Flat, b: Flat) -> int:
    """Return the type that a rewritten model is the original converted to; 0 where it isn't."""
    before, after = (_FLOATS.intersection(flat.types) for flat in (a, b))
    narrow = after - before
    if WIDE not in before or len(narrow) != 1 or not narrow <= _NARROW:
        return 0
    found = int(next(iter(narrow)))
    converted = False
    for node in b.nodes:
        if node.op in {"Cast", "CastLike"} or node.domain == OWN:
            continue
        made = {b.types[n] for n in node.outputs if n != NONE}
        if WIDE in made and not (node.is_standard and node.op in _KEPT):
            return 0
        converted |= found in made
    return found if converted else 0


def roundings(values: np.ndarray, narrow: int) -> Iterator[np.ndarray]:
    """Yield what converters make of a constant."""
    dtype = NUMPY_DTYPES[narrow]
    with np.errstate(over="ignore", under="ignore"):
        yield values.astype(dtype)
        size = np.abs(values)
        for least, largest in _CLAMPS:
            beyond = ((size > 0) & (size < least)) | (np.isfinite(size) & (size > largest))
            if beyond.any():
                clamped = np.where(
                    beyond, np.copysign(np.clip(size, least, largest), values), values
                )
                yield clamped.astype(dtype)
