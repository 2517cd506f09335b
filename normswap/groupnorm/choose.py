"""Which form a layer gets.

The order for CPU is that of ``benchmarks/RESULTS-GN-CPU.md``. On one thread instancenorm is the
fastest everywhere. onnxruntime runs its InstanceNormalization on one core though, and spreads a
LayerNormalization over the threads by rows (a row is a group of a sample): with two threads,
between convolutions, layernorm is ahead from about 2^17 elements on if there are a few rows, and
behind below that, where waking the threads costs more than they save. A size that is not static
counts as small. Two threads are what was measured; more make it no slower.

That for CUDA rests on how often each
form goes through memory, and is to be confirmed by ``python -m benchmarks.cuda``: contrib reads
twice and writes once, beside two transposes, with the activation for nothing and float16 as it is;
instancenorm does the same without transposes, and then needs passes for scale, bias and activation,
and casts where it is float16. TensorRT compiles what is plain, and fails on GroupNormalization.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from onnx import TensorProto

from normswap.errors import UsageError
from normswap.groupnorm.forms import FORMS

if TYPE_CHECKING:
    from normswap.groupnorm.forms import Form
    from normswap.groupnorm.layer import Layer

AUTO = "auto"

_ORDER: dict[str, tuple[tuple[str, str], ...]] = {
    "cpu": (
        ("instancenorm", "the fastest in onnxruntime on CPU"),
        ("primitive", "float64, for which onnxruntime has no InstanceNormalization"),
    ),
    "cuda": (
        ("contrib", "onnxruntime's fused CUDA kernel"),
        ("instancenorm", "cuDNN's kernel; com.microsoft.GroupNorm does not take this layer"),
        ("primitive", "the element type has no fused kernel"),
    ),
    "tensorrt": (
        ("instancenorm", "TensorRT's own layer; GroupNormalization fails there"),
        ("primitive", "the element type has no InstanceNormalization"),
    ),
}
_ELSEWHERE = (
    ("native", "one node that a compiler can recognise"),
    ("instancenorm", "before opset 21 there is no GroupNormalization"),
    ("primitive", "the element type has no InstanceNormalization"),
)


PARALLEL_ELEMENTS = 1 << 17
"""Elements of a tensor from which on a second thread pays for layernorm."""

PARALLEL_ROWS = 4
"""Rows below which the threads can't share a LayerNormalization well."""


def threads_here() -> int:
    """Return how many threads onnxruntime would have on this machine."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_form(layer: Layer, asked: str, provider: str, threads: int) -> tuple[Form, str]:
    """Return the form of a layer, and why it is that one.

    Parameters
    ----------
    layer : Layer
    asked : str
        The name of a form, or ``"auto"``.
    provider : str
        Execution provider that the model is for, such as ``"cpu"``.
    threads : int
        How many threads it will have on a CPU.

    Raises
    ------
    UsageError
        If the form that was asked for can't be used for this layer.
    """
    if asked != AUTO:
        form = FORMS[asked]
        obstacle = form.obstacle(layer, provider)
        if obstacle is not None:
            others = [
                name for name, other in FORMS.items() if other.obstacle(layer, provider) is None
            ]
            raise UsageError(
                f"{layer.name} can't take the {asked} form: {obstacle}.",
                tip=f"Use --form {AUTO}, or one of {', '.join(others)}.",
            )
        return form, "asked for"
    if layer.group_elements == 1:
        return FORMS["primitive"], "exact where a group is one element, so that the result is B"
    if provider == "cpu" and _pays_in_parallel(layer, threads):
        why = f"the fastest in onnxruntime on {threads} CPU threads for this size"
        return FORMS["layernorm"], why
    for name, why in _ORDER.get(provider, _ELSEWHERE):
        if FORMS[name].obstacle(layer, provider) is None:
            return FORMS[name], why
    raise AssertionError("the primitive form takes every layer")


def _pays_in_parallel(layer: Layer, threads: int) -> bool:
    """Whether layernorm on several threads is faster than instancenorm on one."""
    if threads < 2 or layer.is_instance or layer.data_type == TensorProto.DOUBLE:
        return False
    if layer.shape is None or layer.group_elements is None:
        return False
    if FORMS["layernorm"].obstacle(layer, "cpu") is not None:
        return False
    batch = layer.shape[0] if isinstance(layer.shape[0], int) else 1
    rows = batch * layer.num_groups
    return rows >= PARALLEL_ROWS and (rows * layer.group_elements >= PARALLEL_ELEMENTS)
