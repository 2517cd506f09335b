"""Whether models fit into memory, asked before anything tries to run them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from normswap.model.tensors import dtype_of, nbytes_of
from normswap.runtime.memory import free_memory

if TYPE_CHECKING:
    from normswap.check.options import CheckOptions
    from normswap.inputs.signature import Signature

_COPIES = 2  # of the weights: as the file has them, and as kernels want them
_GIB = 1 << 30


def shortage(original: Signature, rewritten: Signature, options: CheckOptions) -> str:
    """Say why the models can't be run for want of memory; nothing where they can.

    They run one after the other. Where the system doesn't tell how much memory is free, all fit.
    """
    needed = _COPIES * max(weights(model) for model in (original, rewritten))
    limits = (free_memory(), options.memory_limit or None)
    room = min((limit for limit in limits if limit is not None), default=None)
    if room is None or needed <= room:
        return ""
    return (
        f"neither model was run: that needs about {needed / _GIB:.1f} GiB of memory, and "
        f"only {room / _GIB:.1f} GiB are free"
    )


def weights(model: Signature) -> int:
    """Return the bytes of a model's constants."""
    graph = onnx.load_from_string(model.structure).graph
    fed = {port.name for port in model.inputs}
    total = 0
    for value in graph.input:
        kind = value.type.tensor_type
        dtype = None if value.name in fed else dtype_of(kind.elem_type)
        if dtype is not None and dtype.kind != "O":
            total += nbytes_of(dtype, [dim.dim_value for dim in kind.shape.dim])
    return total
