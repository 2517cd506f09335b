"""Execution providers: their names, what a check asks of them, and the packages that bring them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AUTO = "auto"
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
_SUFFIX = "ExecutionProvider"

ON_NVIDIA = frozenset({CUDA, TENSORRT})
"""Providers that need a device and a driver of NVIDIA's."""

PREFERENCE = (
    CUDA,
    "MIGraphXExecutionProvider",
    "ROCMExecutionProvider",
    "DmlExecutionProvider",
    "OpenVINOExecutionProvider",
    "CoreMLExecutionProvider",
    CPU,
)
"""What ``auto`` tries, best first.

TensorRT is not among them, since it takes minutes to compile a model and should be asked for; nor
is Azure, which onnxruntime itself lists first and which runs nothing here.
"""

PACKAGES: Mapping[str, str] = {
    CUDA: "onnxruntime-gpu",
    TENSORRT: "onnxruntime-gpu",
    "ROCMExecutionProvider": "onnxruntime-rocm",
    "DmlExecutionProvider": "onnxruntime-directml",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
}
"""The package that has a provider in place of ``onnxruntime``'s own."""

# A check wants the arithmetic it asked for: no TF32, and an algorithm that does not depend on a
# race between candidates. EXHAUSTIVE, the runtime's default, varies from run to run; HEURISTIC is
# a function of shape, type and device. An arena that doubles takes memory that others could use,
# and makes gpu_mem_limit bite early.
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    CUDA: {
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    },
}

# What a provider takes besides options of its own kind (prefix trt_, for example).
_KNOWN_HERE: Mapping[str, frozenset[str]] = {TENSORRT: frozenset({"device_id"})}
_YES = frozenset({"1", "true", "True"})


def full_name(name: str, available: Sequence[str] = ()) -> str:
    """Return onnxruntime's name of the provider `name`.

    Parameters
    ----------
    name : str
        A short name in any case, or the full name. ``auto`` stays ``auto``.
    available : sequence of str
        Names of the providers that this onnxruntime was built with.
    """
    known = (*available, *PACKAGES, *PREFERENCE)
    short = name.lower().removesuffix(_SUFFIX.lower())
    return next((full for full in known if short_name(full) == short), name)


def short_name(name: str) -> str:
    """Return what people call a provider: ``cuda`` for ``CUDAExecutionProvider``."""
    return name.removesuffix(_SUFFIX).lower()


def chain(
    provider: str, options: Mapping[str, Any], available: Sequence[str]
) -> list[tuple[str, dict[str, str]]]:
    """Return the providers of a session, best first, each with its options.

    What `provider` has no kernel for goes to the next: of TensorRT to CUDA, of all to the CPU.

    Parameters
    ----------
    provider : str
        Full name.
    options : Mapping of str to object
        A person's, which take the place of a check's own. The CPU gets none of them, so that they
        may stay where one model is compared between the CPU and a device.
    available : sequence of str
    """
    names = [provider]
    if provider == TENSORRT and CUDA in available:
        names.append(CUDA)
    if provider != CPU:
        names.append(CPU)
    return [(name, _options_of(name, options)) for name in names]


def _options_of(name: str, options: Mapping[str, Any]) -> dict[str, str]:
    if name == CPU:
        return {}
    given = {key: str(value) for key, value in options.items()}
    known = _KNOWN_HERE.get(name)
    if known is not None:
        given = {k: v for k, v in given.items() if k in known or k.startswith("trt_")}
    elif name == CUDA:
        given = {key: value for key, value in given.items() if not key.startswith("trt_")}
    return {**_SETTINGS.get(name, {}), **given}


def environment(options: Mapping[str, Any]) -> dict[str, str]:
    """Return what the environment of a child must say, beside the options of its provider.

    ``use_tf32=0`` alone is not enough: where cuDNN has no other plan, onnxruntime's Conv rebuilds
    its plan with TF32, and TensorRT has no such option. cuBLAS is deterministic across streams
    only with a workspace of fixed size.
    """
    fixed = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if str(options.get("use_tf32", "0")) in _YES:
        return fixed
    return {**fixed, "NVIDIA_TF32_OVERRIDE": "0"}


def arithmetic(provider: str, options: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Say how a device computes, as far as it is a matter of options; empty for the CPU.

    Parameters
    ----------
    provider : str
        Full name.
    options : Mapping of str to str
        Those in effect.
    variables : Mapping of str to str
        The environment, whose ``NVIDIA_TF32_OVERRIDE`` has the last word.
    """
    if provider not in ON_NVIDIA:
        return ""
    asked = provider == TENSORRT or options.get("use_tf32", "1") in _YES
    on = asked and variables.get("NVIDIA_TF32_OVERRIDE") != "0"
    told = f"TF32 {'on' if on else 'off'}"
    search = options.get("cudnn_conv_algo_search")
    return f"{told}, cuDNN algorithms by {search}" if search else told
