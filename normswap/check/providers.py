"""Execution providers: their short names, what a check asks of them, and where to get them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SUFFIX = "ExecutionProvider"

# A check wants the arithmetic it asked for: no TF32, and an algorithm that does not depend on a
# race between candidates. EXHAUSTIVE, the runtime's default, varies from run to run.
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "CUDAExecutionProvider": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
}

# use_tf32=0 alone is not enough: onnxruntime's Conv may rebuild its plan with TF32.
ENVIRONMENT: Mapping[str, str] = {"NVIDIA_TF32_OVERRIDE": "0"}

_PACKAGE: Mapping[str, str] = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "DmlExecutionProvider": "onnxruntime-directml",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
}


def full_name(name: str, available: Sequence[str]) -> str:
    """Return onnxruntime's name of the provider `name`.

    Parameters
    ----------
    name : str
        ``auto`` (the best that is available), a short name in any case, or the full name.
    available : sequence of str
        Names of the providers that this onnxruntime was built with, best first.
    """
    if name.lower() == "auto":
        return available[0]
    known = {*available, *_PACKAGE, "CPUExecutionProvider", "CoreMLExecutionProvider"}
    short = name.lower().removesuffix(_SUFFIX.lower())
    for candidate in known:
        if candidate.removesuffix(_SUFFIX).lower() == short:
            return candidate
    return name


def settings(provider: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `provider`: a check's own, overridden by `options`."""
    return {**_SETTINGS.get(provider, {}), **options}


def how_to_get(provider: str) -> str | None:
    """Return the package that brings `provider`, where one is known."""
    return _PACKAGE.get(provider)
