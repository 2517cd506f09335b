import json
import sys

import pytest

from normswap.errors import ModelError, RunError, RunTimeoutError
from normswap.runtime import runner
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


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Return a function that runs some code in place of the worker."""

    def run(code, *, timeout=30.0, task=None):
        script = tmp_path / "script.py"
        script.write_text(
            "import json, os, pathlib, signal, sys, time\n"
            "folder = pathlib.Path(sys.argv[1])\n"
            "(folder / 'stage').write_text('doing its work')\n" + code
        )
        real = runner.subprocess.Popen

        def popen(command, **options):
            return real([sys.executable, str(script), command[-1]], **options)

        monkeypatch.setattr(runner.subprocess, "Popen", popen)
        folder = tmp_path / "job"
        folder.mkdir(exist_ok=True)
        return runner.run_worker(
            task or {"provider": "cuda"},
            folder,
            label="the original model (a.onnx)",
            timeout=timeout,
            memory_limit=None,
        )

    return run


def respond(response):
    return f"(folder / 'response.json').write_text({json.dumps(json.dumps(response))})"


def test_a_response_comes_back_with_its_time(child):
    response = child(respond({"fine": 1, "peak_memory": 5}))
    assert response["fine"] == 1
    assert response["wall_seconds"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
@pytest.mark.parametrize(
    ("name", "word"), [("SIGSEGV", "SIGSEGV"), ("SIGKILL", "too much memory"), ("SIGABRT", "ABRT")]
)
def test_a_killed_child_is_told_with_its_stage(child, name, word):
    with pytest.raises(RunError, match=word) as info:
        child(f"os.kill(os.getpid(), signal.{name})")
    assert "the original model (a.onnx)" in str(info.value)
    assert "while doing its work" in str(info.value)


def test_a_hanging_child_is_ended(child):
    with pytest.raises(RunTimeoutError, match="while doing its work"):
        child("time.sleep(60)", timeout=1.0)


def test_a_child_that_ends_without_a_word(child):
    with pytest.raises(RunError, match="exit code 3"):
        child("os._exit(3)")
    with pytest.raises(RunError, match="ValueError: oh"):
        child("raise ValueError('oh')")
    with pytest.raises(RunError, match="ran out of memory"):
        child("raise MemoryError('1 TB')")


@pytest.mark.parametrize(
    ("kind", "message", "error", "word"),
    [
        ("provider", "there is no CUDA here", runner.ProviderError, "no CUDA here"),
        ("memory", "", RunError, "ran out of memory"),
        ("invalid", "no graph", ModelError, "invalid: no graph"),
        ("unsupported", "Relu(14)", runner.UnsupportedByRuntimeError, r"Relu\(14\)"),
        ("arbiter", "no such op", runner.ArbiterError, "no such op"),
        ("run", "bad shape", RunError, "bad shape"),
    ],
)
def test_what_went_wrong_in_the_child_is_told_in_the_parents_words(
    child, kind, message, error, word
):
    with pytest.raises(error, match=word) as info:
        child(respond({"error": {"kind": kind, "message": message, "tip": "do this"}}))
    if kind == "provider":
        assert info.value.tip == "do this"


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
