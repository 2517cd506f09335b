"""Whether models fit into memory, asked before anything tries to run them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from normswap.model.tensors import dtype_of, nbytes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.check.options import CheckOptions
    from normswap.inputs.signature import Signature

_COPIES = 2  # of the weights: as the file has them, and as kernels want them
_GIB = 1 << 30
_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def shortage(original: Signature, rewritten: Signature, options: CheckOptions) -> str:
    """Say why the models can't be run for want of memory; nothing where they can.

    They run one after the other. Where the system doesn't tell how much memory is free, all fit.
    """
    needed = _COPIES * max(weights(model) for model in (original, rewritten))
    room = min((*_free(), *([options.memory_limit] if options.memory_limit else [])), default=None)
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


def _free() -> Iterator[int]:
    """Yield how much memory the system has left, and how much this process's group of Linux."""
    with contextlib.suppress(OSError):
        for line in _MEMORY.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):  # "max" is no limit
        most = int((_GROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
        yield max(most - used, 0)
