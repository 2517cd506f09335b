"""What can be wrong with a provider: every way to it ends in its own words, and in exit code 4."""

import json

import pytest
from support.check_models import conv_bn, save
from support.cli import invoke
from support.runtimes import CPU, CUDA, TENSORRT, Runtime

from normswap.check.options import CheckOptions
from normswap.errors import UsageError
from normswap.runtime.diagnosis import _DRIVER
from normswap.runtime.failures import ProviderError
from normswap.runtime.survey import resolve, survey
from normswap.workflows.check import check


@pytest.fixture
def model(tmp_path):
    return save(tmp_path / "a.onnx", conv_bn(side=8))


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    def make(**behaviour):
        return Runtime(tmp_path / "site", monkeypatch, **behaviour)

    return make


def run(model, provider="cuda", **options):
    return check(model, model, CheckOptions(provider=provider, arbiter=False, **options))


TROUBLE = {
    "no onnxruntime": (
        {"missing": True, "installed": {}},
        "onnxruntime is not installed",
        "pip",
    ),
    "what an uninstalled package leaves": (
        {"broken": True, "installed": {"onnxruntime-gpu": "1.31.1"}},
        "onnxruntime is broken",
        "pip install 'onnxruntime-gpu[cuda,cudnn]'",
    ),
    "the package of the CPU": (
        {"providers": [CPU], "package": "onnxruntime"},
        "'cuda' is not available here: onnxruntime 1.31.1 has cpu",
        "pip install 'onnxruntime-gpu[cuda,cudnn]' (1.27 and later for CUDA 13; 1.19",
    ),
    "two packages in one folder": (
        {
            "providers": [CPU],
            "package": "onnxruntime",
            "installed": {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"},
        },
        "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are both installed, and overwrite",
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'",
    ),
    "libraries of CUDA": (
        {"dropped": [CUDA], "missing_library": "libcublasLt.so.13"},
        "but its libraries can't be loaded: libcublasLt.so.13 is missing.",
        "Install CUDA 13.0 and cuDNN 9: pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    ),
    "libraries and driver": (
        {"dropped": [CUDA], "missing_library": "libcublasLt.so.13", "devices": None},
        "libcublasLt.so.13 is missing, and there is no NVIDIA driver",
        "Install CUDA 13.0",
    ),
    "the driver": (
        {"dropped": [CUDA], "missing_library": _DRIVER, "devices": None},
        "this machine has no NVIDIA driver",
        "--gpus all",
    ),
    "a driver that fails": (
        {"raises": "CUDA failure 35: driver version is insufficient", "driver_error": 3},
        "fails with CUDA error 3",
        "nvidia-smi",
    ),
    "no device": (
        {"raises": "cuda_call.cc:154 CUDA failure 100: no device ; GPU=-1", "devices": []},
        "the NVIDIA driver lists no device",
        "CUDA_VISIBLE_DEVICES",
    ),
    "a refusal in words": (
        {"raises": "a.cc:1 CUDA failure 209: no kernel image is available"},
        "CUDAExecutionProvider can't be used: CUDA failure 209: no kernel image",
        None,
    ),
    "a refusal without a word": (
        {"dropped": [CUDA]},
        "CUDAExecutionProvider can't be used: onnxruntime gives no reason",
        None,
    ),
    "cuDNN, which is not needed before a convolution": (
        {"run_raises": "conv.cc:7 cuDNN is not available. Install cuDNN"},
        "cuDNN can't be loaded",
        "pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    ),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_is_told_apart(name, model, runtime):
    behaviour, words, tip = TROUBLE[name]
    runtime(**behaviour)
    with pytest.raises(ProviderError) as info:
        run(model)
    assert words in str(info.value)
    assert info.value.exit_code == 4
    assert (info.value.tip is None) == (tip is None)
    assert tip is None or tip in info.value.tip


def test_a_device_that_is_not_there(model, runtime):
    runtime(raises="Invalid device ID: 2, must be between 0 and 2")
    with pytest.raises(ProviderError, match="There is no device 2") as info:
        run(model, provider_options={"device_id": "2"})
    assert info.value.tip == "The devices are 0: Fast GPU, 1: Slow GPU."


def test_tensorrt_without_its_libraries(model, runtime):
    runtime(raises="Please install TensorRT libraries", missing_library="libnvinfer.so.10")
    with pytest.raises(ProviderError, match=r"libnvinfer\.so\.10 is missing") as info:
        run(model, "tensorrt")
    assert info.value.tip == "Install TensorRT 10, and add its folder to LD_LIBRARY_PATH."


def test_a_run_that_fails_does_not_go_on_with_the_cpu(model, runtime):
    # onnxruntime's own Python would print this, and run the model on the CPU.
    seen = runtime(run_raises="the device fell off the bus")
    with pytest.raises(Exception, match="fell off the bus"):
        run(model)
    assert all(s["arguments"] == {"enable_fallback": 0} for s in seen.seen["sessions"])


def test_a_missing_provider_is_not_searched_for_at_every_size(tmp_path, runtime):
    model = save(tmp_path / "open.onnx", conv_bn())
    seen = runtime(dropped=[CUDA], missing_library="libcudart.so.13")
    with pytest.raises(ProviderError):
        run(model)
    assert len(seen.seen["sessions"]) == 1


# --- what works, and is said -----------------------------------------------------------------


def test_a_run_on_a_device_says_how_it_computed(model, runtime):
    seen = runtime(nodes={CUDA: ["Conv"], CPU: ["Shape", "Gather"]})
    report = run(model, provider_options={"device_id": "1", "gpu_mem_limit": "1000000"})
    assert report.verdict.value == "equivalent"
    first = report.runs[0]
    assert (first.provider, first.device) == (CUDA, "1: Slow GPU")
    assert first.options["gpu_mem_limit"] == "1000000"
    assert first.options["use_tf32"] == "0"
    assert first.fallback == ("Shape shape", "Gather gather")
    notes = "\n".join(report.notes)
    assert "original model ran in CUDAExecutionProvider on device 1: Slow GPU" in notes
    assert "TF32 off, cuDNN algorithms by HEURISTIC" in notes
    assert (
        "2 nodes of the original model did not run in CUDAExecutionProvider: Shape shape, "
        "Gather gather" in notes
    )
    environment = seen.seen["environment"][0]
    assert environment["NVIDIA_TF32_OVERRIDE"] == "0"
    json.dumps(report.to_dict(), allow_nan=False)


def test_tf32_is_there_for_who_asks(model, runtime, monkeypatch):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    seen = runtime()
    report = run(model, provider_options={"use_tf32": "1"})
    assert "TF32 on" in report.notes[0]
    assert all("NVIDIA_TF32_OVERRIDE" not in e for e in seen.seen["environment"])


def test_a_runtime_that_does_not_tell_where_nodes_ran_is_named(model, runtime):
    runtime(silent_about_nodes=True)
    report = run(model)
    assert report.runs[0].fallback is None
    assert any("does not report which nodes" in note for note in report.notes)


def test_inputs_are_copied_to_the_device_once(model, runtime):
    seen = runtime()
    report = run(model)
    executions, children = 3, 2  # two levels and a repetition; the rewritten model has no third
    assert seen.seen["runs"].count("bound") == len(report.inputs) * (2 * executions - 1)
    assert len(seen.seen["copies"]) == len(report.inputs) * children
    assert {tuple(copy[:2]) for copy in seen.seen["copies"]} == {("cuda", 0)}


def test_between_providers_both_noise_floors_count(model, runtime):
    seen = runtime()
    report = check(
        model, model, CheckOptions(provider="cpu", against_provider="cuda", arbiter=False)
    )
    assert report.verdict.value == "equivalent"
    assert [run.provider for run in report.runs] == [CPU, CUDA]
    chosen = [next(iter(session["providers"])) for session in seen.seen["sessions"]]
    assert chosen == [CPU] * 2 + [CUDA] * 3
    # A device's options are none of the CPU's.
    assert all(session["providers"][CPU] == {} for session in seen.seen["sessions"])


def test_two_packages_are_told_of_even_where_the_cpu_is_enough(model, runtime):
    runtime(installed={"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"})
    report = run(model, "cpu")
    assert report.verdict.value == "equivalent"
    assert "are both installed" in report.notes[0]
    assert "pip uninstall" in report.notes[0]


def test_the_cpu_is_nothing_to_speak_of(model, runtime):
    runtime()
    assert run(model, "cpu").notes == ()


# --- auto ------------------------------------------------------------------------------------


def test_auto_takes_what_runs(model, runtime):
    runtime()
    report = run(model, "auto")
    assert report.runs[0].provider == CUDA
    assert resolve("auto") == "cuda"


def test_auto_says_what_it_could_not_take(model, runtime):
    runtime(raises="CUDA failure 100", devices=[])
    report = run(model, "auto")
    assert report.runs[0].provider == CPU
    assert report.notes[:2] == (
        "CUDAExecutionProvider can't be used: the NVIDIA driver lists no device.",
        "so auto selects CPUExecutionProvider",
    )
    assert resolve("auto") == "cpu"
    assert resolve("CUDAExecutionProvider") == "cuda"


# --- normswap providers ----------------------------------------------------------------------


def test_a_survey(runtime):
    runtime(missing_library="libnvinfer.so.10", dropped=[TENSORRT])
    found = survey()
    assert (found.runs, found.version, found.cuda) == ("onnxruntime-gpu", "1.31.1", "13.0")
    assert [status.usable for status in found.providers] == [False, True, True]
    assert found.status("tensorrt").obstacle == "libraries"
    assert found.status("cuda").device == "0: Fast GPU"
    assert found.best.name == CUDA


def test_the_command(runtime):
    runtime(raises="CUDA failure 100", devices=[])
    shown = invoke("providers")
    assert shown.code == 0
    assert "the NVIDIA driver lists no device" in shown.text
    assert "auto selects cpu" in shown.text
    assert invoke("providers", "--require", "cpu").code == 0
    assert invoke("providers", "--require", "cuda").code == 4
    data = json.loads(invoke("providers", "--json").text)
    assert data["auto"] == CPU
    assert data["providers"][1]["obstacle"] == "device"


# --- the command line ------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["fold", "bn-to-gn", "check"])
def test_every_command_ends_with_4_and_writes_nothing(command, model, runtime):
    runtime(dropped=[CUDA], missing_library="libcudart.so.13")
    more = {"fold": [], "bn-to-gn": ["--groups", 5], "check": [model]}[command]
    result = invoke(command, "--provider", "cuda", model, *more)
    assert result.code == 4
    assert "libcudart.so.13 is missing" in result.err
    assert "onnxruntime-gpu[cuda,cudnn]" in result.err
    assert [path.name for path in model.parent.glob("*.onnx")] == ["a.onnx"]


def test_a_fold_checked_on_a_device_says_so(model, runtime):
    seen = runtime(nodes={CPU: ["Shape"]})
    result = invoke(
        "fold", model, "--provider", "cuda", "--device-id", 1, "--gpu-mem-limit", 512,
        "--provider-option", "cudnn_conv_algo_search=DEFAULT",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "on device 1: Slow GPU" in result.text
    assert "cuDNN algorithms by DEFAULT" in result.text
    assert "did not run in CUDAExecutionProvider: Shape shape" in result.text
    given = seen.seen["sessions"][0]["providers"][CUDA]
    assert (given["device_id"], given["gpu_mem_limit"]) == ("1", str(512 << 20))


def test_a_swap_checked_on_a_device_says_so(model, runtime):
    seen = runtime(nodes={CPU: ["Shape"]})
    result = invoke(
        "bn-to-gn", model, "--groups", 1, "--form", "instancenorm", "--provider", "cuda",
        "--device-id", 1,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "1 nodes of the swapped model did not run in CUDAExecutionProvider" in result.text
    assert all(s["providers"][CUDA]["device_id"] == "1" for s in seen.seen["sessions"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--device-id", 0],
        ["--gpu-mem-limit", 100],
        ["--provider-option", "nothing"],
        ["--provider-option", "=1"],
    ],
)
def test_options_of_a_device_need_one(arguments, model):
    assert invoke("check", model, model, *arguments).code == 2


def test_address_space_can_not_be_limited_on_a_device(model):
    with pytest.raises(UsageError, match="address space"):
        run(model, "cuda", memory_limit=1 << 30)
