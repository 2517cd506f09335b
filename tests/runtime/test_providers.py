"""Names of providers, and what each is asked for."""

import pytest

from normswap.runtime.providers import (
    CPU,
    CUDA,
    PACKAGES,
    TENSORRT,
    arithmetic,
    chain,
    environment,
    full_name,
)

AVAILABLE = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("cpu", "CPUExecutionProvider"),
        ("CUDA", "CUDAExecutionProvider"),
        ("TensorRT", "TensorrtExecutionProvider"),
        ("auto", "auto"),
        ("openvino", "OpenVINOExecutionProvider"),
        ("CoreMLExecutionProvider", "CoreMLExecutionProvider"),
        ("mine", "mine"),
    ],
)
def test_names_of_providers(name, full):
    assert full_name(name, AVAILABLE) == full


def test_a_check_asks_cuda_for_exact_arithmetic_unless_told_otherwise():
    (name, options), last = chain(CUDA, {}, AVAILABLE)
    assert (name, options["use_tf32"], options["cudnn_conv_algo_search"]) == (
        CUDA,
        "0",
        "HEURISTIC",
    )
    assert last == (CPU, {})
    assert chain(CUDA, {"use_tf32": 1}, AVAILABLE)[0][1]["use_tf32"] == "1"
    assert environment({})["NVIDIA_TF32_OVERRIDE"] == "0"
    assert "NVIDIA_TF32_OVERRIDE" not in environment({"use_tf32": "1"})


def test_what_tensorrt_leaves_goes_to_cuda_with_the_options_that_each_knows():
    given = {"device_id": 1, "gpu_mem_limit": 5, "trt_fp16_enable": 1}
    (_, tensorrt), (_, cuda), last = chain(TENSORRT, given, AVAILABLE)
    assert tensorrt == {"device_id": "1", "trt_fp16_enable": "1"}
    assert (cuda["device_id"], cuda["gpu_mem_limit"]) == ("1", "5")
    assert "trt_fp16_enable" not in cuda
    assert last == (CPU, {})
    assert [name for name, _ in chain(TENSORRT, {}, [CPU])] == [TENSORRT, CPU]


def test_the_cpu_takes_no_options_of_a_device():
    assert chain(CPU, {"device_id": 1}, AVAILABLE) == [(CPU, {})]
    assert CPU not in PACKAGES


@pytest.mark.parametrize(
    ("provider", "options", "variables", "told"),
    [
        (CUDA, {"use_tf32": "0"}, {}, "TF32 off"),
        (CUDA, {"use_tf32": "1"}, {}, "TF32 on"),
        (CUDA, {"use_tf32": "1"}, {"NVIDIA_TF32_OVERRIDE": "0"}, "TF32 off"),
        (CUDA, {}, {}, "TF32 on"),  # the runtime's default
        (TENSORRT, {}, {"NVIDIA_TF32_OVERRIDE": "0"}, "TF32 off"),
        (TENSORRT, {}, {}, "TF32 on"),
        (CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}, {}, "TF32 off, cuDNN algo"),
        (CPU, {}, {}, ""),
    ],
)
def test_what_is_said_of_the_arithmetic(provider, options, variables, told):
    assert arithmetic(provider, options, variables).startswith(told)
    assert bool(arithmetic(provider, options, variables)) == bool(told)
