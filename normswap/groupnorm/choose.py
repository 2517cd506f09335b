"""Which form a layer gets.

The order for CPU is that of ``benchmarks/RESULTS-GN-CPU.md``. What decides there is how a form goes
through memory, and on how many cores. instancenorm reads a group from the cache and writes the
result, on one core. layernorm does the same on all threads, by rows (a row is a group of a sample),
and slower on each. centred runs plain operators, each over all of memory, on all threads, and
applies the affine on the way; that pays for layers that are large, of groups that are. Between
convolutions the affine costs next to nothing, see `Builder.affine`, so that centred has no more to
win there. Two threads are what was measured; more make layernorm and centred no slower.

That for CUDA rests on how often each form goes through memory, and is to be confirmed by
``python -m benchmarks.cuda``: contrib reads twice and writes once, beside two transposes, with the
activation for nothing and float16 as it is; instancenorm does the same without transposes, and then
needs passes for scale, bias and activation, and casts where it is float16. TensorRT compiles what
is plain, and fails on GroupNormalization.

``fastest`` asks no table: it takes what was measured on this machine, see
:mod:`normswap.groupnorm.race`.
"""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING

from onnx import TensorProto

from normswap.errors import UsageError
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.options import AUTO, FASTEST
from normswap.runtime.diagnosis import installed

if TYPE_CHECKING:
    from normswap.groupnorm.forms import Form
    from normswap.groupnorm.layer import Layer
    from normswap.groupnorm.options import Timings


_ORDER: dict[str, tuple[tuple[str, str], ...]] = {
    "cpu": (("primitive", "float64, for which onnxruntime has no InstanceNormalization"),),
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


LARGE = {1: 1 << 19, 2: 1 << 17}
"""Elements of a tensor from which on centred pays, by threads; 2 stands for two and more."""

LONG_GROUP = 1 << 14
"""Elements of a group that this takes where the tensor is just large enough; one that is k times
as large may have groups that are k times as small."""

LARGE_BETWEEN_CONVOLUTIONS = 1 << 20
"""The same where the affine of the other forms costs nothing, and layernorm has too few rows."""

ENOUGH_ROWS = 4
"""Rows from which on threads can share a LayerNormalization well."""

CLOSE = 1.03
"""How much longer than the fastest a form may take and be the same for all that can be measured."""


CENTRED_LAYERNORM = (1, 27)
"""The onnxruntime from which on a LayerNormalization on a CPU subtracts the mean before it squares.
Those before lose all precision where the mean is large, and give NaN where a group is constant."""


@functools.cache
def layernorm_is_precise() -> bool:
    """Whether the onnxruntime here, if there is one, computes a LayerNormalization well."""
    versions = [re.findall(r"\d+", version)[:2] for version in installed().values()]
    return all(tuple(map(int, version)) >= CENTRED_LAYERNORM for version in versions)


def threads_here() -> int:
    """Return how many threads onnxruntime would have on this machine."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_form(
    layer: Layer, asked: str, provider: str, threads: int, timings: Timings | None = None
) -> tuple[Form, str]:
    """Return the form of a layer, and why it is that one.

    Parameters
    ----------
    layer : Layer
    asked : str
        The name of a form, ``"auto"`` or ``"fastest"``.
    provider : str
        Execution provider that the model is for, such as ``"cpu"``.
    threads : int
        How many threads it will have on a CPU.
    timings : Timings, optional
        What was measured for the layer; without it ``"fastest"`` is as ``"auto"``.

    Raises
    ------
    UsageError
        If the form that was asked for can't be used for this layer.
    """
    if asked not in (AUTO, FASTEST):
        form = FORMS[asked]
        obstacle = _obstacle(form, layer, provider)
        if obstacle is not None:
            raise UsageError(
                f"{layer.name} can't take the {asked} form: {obstacle}.",
                tip=f"Use --form {AUTO}, or one of {', '.join(possible_forms(layer, provider))}.",
            )
        return form, "asked for"
    if layer.group_elements == 1:
        return FORMS["primitive"], "exact where a group is one element, so that the result is B"
    if layer.has_sizes_in_doubt:
        return FORMS["primitive"], "onnxruntime and ONNX make different sizes of its input"
    form, why = _by_rule(layer, provider, threads)
    if asked == FASTEST and timings is not None and timings.seconds:
        return _by_timings(form, timings)
    return form, why


def possible_forms(layer: Layer, provider: str) -> list[str]:
    """Return the names of the forms that a layer can take."""
    return [name for name, form in FORMS.items() if _obstacle(form, layer, provider) is None]


ASK_FOR_NO_SIZE = frozenset({"primitive", "centred"})
"""The forms that do without sizes where these are in doubt."""


def _obstacle(form: Form, layer: Layer, provider: str) -> str | None:
    if layer.has_sizes_in_doubt and form.name not in ASK_FOR_NO_SIZE:
        return "ONNX infers other sizes of its input than onnxruntime makes"
    return form.obstacle(layer, provider)


def contenders(layer: Layer, provider: str) -> list[str]:
    """Return the names of the forms that a layer can take with no loss of precision."""
    possible = possible_forms(layer, provider)
    if provider == "cpu":
        imprecise = {"native"} if layernorm_is_precise() else {"native", "layernorm"}
        return [name for name in possible if name not in imprecise]
    return possible


def _by_timings(expected: Form, timings: Timings) -> tuple[Form, str]:
    """Take the fastest; of those that are as fast for all one can tell, the expected one."""
    name, least = min(timings.seconds.items(), key=lambda entry: entry[1])
    if timings.seconds.get(expected.name, float("inf")) <= least * CLOSE:
        name = expected.name
    size = "x".join(map(str, timings.shape))
    return FORMS[name], f"the fastest here of {len(timings.seconds)} measured for {size}"


def _by_rule(layer: Layer, provider: str, threads: int) -> tuple[Form, str]:
    if provider == "cpu" and layer.data_type != TensorProto.DOUBLE:
        can = contenders(layer, provider)
        for name in _on_cpu(layer, threads):
            if name in can:
                on = f"{threads} CPU threads" if threads > 1 else "one CPU thread"
                size = "this size" if layer.group_elements else "a size that is not static"
                return FORMS[name], f"the fastest in onnxruntime on {on} for {size}"
    for name, why in _ORDER.get(provider, _ELSEWHERE):
        if FORMS[name].obstacle(layer, provider) is None:
            return FORMS[name], why
    raise AssertionError("the primitive form takes every layer")


def _on_cpu(layer: Layer, threads: int) -> list[str]:
    """Return the forms that were fastest for layers like this one, the best first."""
    batch = layer.shape[0] if layer.shape else None
    rows = layer.num_groups * (batch if isinstance(batch, int) else 1)
    # Unknown sizes are taken for small ones on one thread, where there is little between the forms,
    # and for large ones on several, where there is.
    unknown = 0 if threads == 1 else LARGE_BETWEEN_CONVOLUTIONS
    size = layer.group_elements or unknown
    elements = layer.group_elements * rows if layer.group_elements else unknown
    shared = threads > 1 and rows >= ENOUGH_ROWS
    if layer.before_convolution:
        pays = {
            "layernorm": shared,
            "centred": threads > 1 and elements >= LARGE_BETWEEN_CONVOLUTIONS,
        }
    else:
        large = LARGE[min(threads, 2)]
        several = not layer.is_instance or layer.rank == 2  # else instancenorm is a single node
        pays = {
            "centred": elements >= large
            and elements * size >= large * LONG_GROUP
            and (several or threads > 1),
            "layernorm": shared
            and several
            and elements >= (large // 2 if layer.depthwise_affine else large),
        }
    return [*(name for name, does in pays.items() if does), "instancenorm"]
