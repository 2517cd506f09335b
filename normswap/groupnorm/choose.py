"""Which form a layer gets.

The order for CPU is that of ``benchmarks/RESULTS-GN-CPU.md``. That for CUDA rests on how often each
form goes through memory, and is to be confirmed by ``python -m benchmarks.cuda``: contrib reads
twice and writes once, beside two transposes, with the activation for nothing and float16 as it is;
instancenorm does the same without transposes, and then needs passes for scale, bias and activation,
and casts where it is float16. TensorRT compiles what is plain, and fails on GroupNormalization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def choose_form(layer: Layer, asked: str, provider: str) -> tuple[Form, str]:
    """Return the form of a layer, and why it is that one.

    Parameters
    ----------
    layer : Layer
    asked : str
        The name of a form, or ``"auto"``.
    provider : str
        Execution provider that the model is for, such as ``"cpu"``.

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
    for name, why in _ORDER.get(provider, _ELSEWHERE):
        if FORMS[name].obstacle(layer, provider) is None:
            return FORMS[name], why
    raise AssertionError("the primitive form takes every layer")
