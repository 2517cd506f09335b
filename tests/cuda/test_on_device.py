"""Check, fold and swap on a device: right, and right about where and how they ran."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.check_models import conv_bn, save
from support.cli import invoke

from normswap.check.options import CheckOptions
from normswap.check.verdict import Verdict
from normswap.errors import RunError
from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.policy import GroupPolicy
from normswap.runtime.session import Session
from normswap.workflows.check import check
from normswap.workflows.swap import swap

pytestmark = pytest.mark.cuda

# What runs on the device is to be judged by what comes of it there, and not by a proof.
RUN = {"proof": False}
HALF = pytest.param(np.float16, id="float16")
SINGLE = pytest.param(np.float32, id="float32")


def pair(folder, **spoiled):
    """Return the paths of a model and of its fold, as it should be or spoiled."""
    dtype = spoiled.pop("dtype", np.float32)
    a = save(folder / "a.onnx", conv_bn(side=32, dtype=dtype))
    b = save(folder / "b.onnx", conv_bn(side=32, dtype=dtype, folded=True, **spoiled))
    return a, b


def images(dtype="float32", shape=(2, 64, 16, 16), behind=()):
    """Return a model of Conv, BN, what stands behind it, and Conv."""
    b = Builder(21, dtype)
    channels = shape[1]
    x = b.conv(b.input(shape[0], 3, *shape[2:]), 3, channels, pads=[1] * 4)
    y = b.bn(x, channels, stats=b.statistics(channels), epsilon=1e-3, name="bn")
    if behind == "silu":
        y = b.node("Mul", y, b.node("Sigmoid", y))
    b.output(b.conv(y, channels, 4, kernel=(1, 1), out="z"), None)
    return b.model()


# --- where and how ------------------------------------------------------------------


def test_the_device_is_named(on_cuda, state):
    status = state.status(on_cuda)
    number, _, name = status.device.partition(": ")
    assert number == "0"
    assert name
    assert state.best.name == "CUDAExecutionProvider"


def test_convolutions_run_on_the_device_without_tf32(on_cuda, tmp_path):
    report = check(*pair(tmp_path), CheckOptions(provider=on_cuda, **RUN))
    for run in report.runs:
        if run.engine == "onnxruntime":
            assert run.providers[0] == "CUDAExecutionProvider"
            assert run.options["use_tf32"] == "0"
            assert not [node for node in run.fallback or () if node.startswith("Conv")]
    assert any("TF32 off" in note for note in report.notes)


def test_a_device_that_is_not_there(on_cuda, tmp_path):
    a, b = pair(tmp_path)
    result = invoke("check", a, b, "--provider", on_cuda, "--device-id", 99)
    assert result.code == 4
    assert "There is no device 99" in result.err


def test_a_limit_that_is_too_small(on_cuda, tmp_path):
    b = Builder(17)
    x = b.node("Expand", b.input(1), b.const(np.array([64 << 20])))
    b.output(b.node("Exp", x), None)
    model = save(tmp_path / "large.onnx", b.model())
    result = invoke("check", model, model, "--provider", on_cuda, "--gpu-mem-limit", 16)
    assert result.code == 4
    assert "out of memory" in result.err


# --- verdicts ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
def test_a_fold_is_equivalent(provider, tmp_path, dtype):
    report = check(*pair(tmp_path, dtype=dtype), CheckOptions(provider=provider, **RUN))
    assert report.verdict is Verdict.EQUIVALENT, report.reasons


def test_one_run_is_enough_for_what_is_proved(provider, tmp_path):
    report = check(*pair(tmp_path), CheckOptions(provider=provider))
    assert report.is_proved
    assert [run.engine for run in report.runs] == ["onnxruntime", "onnxruntime"]
    assert len(report.cases) == 1


def test_a_fault_is_found(provider, tmp_path):
    report = check(*pair(tmp_path, scale=1.001), CheckOptions(provider=provider, **RUN))
    assert report.verdict is Verdict.DIFFERENT


def test_the_noise_floor_alone_finds_a_fault_too(provider, tmp_path):
    options = CheckOptions(provider=provider, arbiter=False, **RUN)
    assert check(*pair(tmp_path), options).verdict is Verdict.EQUIVALENT
    assert check(*pair(tmp_path, scale=1.1), options).verdict is Verdict.DIFFERENT


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
def test_one_model_on_two_providers(provider, tmp_path, dtype):
    a, _ = pair(tmp_path, dtype=dtype)
    report = check(a, a, CheckOptions(provider="cpu", against_provider=provider, **RUN))
    assert report.verdict is Verdict.EQUIVALENT, report.reasons


def test_the_arithmetic_is_that_of_float32(provider, tmp_path):
    # With TF32, whose roundoff is 5e-4, a sum of 27 products would be off by more.
    report = check(*pair(tmp_path), CheckOptions(provider=provider, **RUN))
    worst = [o.evidence for o in report.outputs if o.evidence.error_rewritten is not None]
    assert worst
    assert all(e.error_rewritten.max < 1e-5 * e.scale.max for e in worst)


def test_the_command_that_folds(provider, tmp_path):
    a, _ = pair(tmp_path)
    result = invoke("fold", a, "--provider", provider)
    assert result.code == 0, result.err
    assert "1 folded" in result.text


# --- forms of group normalization ---------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 32, 64])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "form", ["auto", "native", "layernorm", "instancenorm", "centred", "primitive"]
)
def test_every_form_is_right(provider, tmp_path, form, dtype, groups):
    model = save(tmp_path / "model.onnx", images(dtype))
    report = swap(
        model,
        tmp_path / "swapped.onnx",
        SwapOptions(GroupPolicy(groups=groups), form=form, provider=provider),
        check=CheckOptions(provider=provider, **RUN),
    ).report
    assert report.check.verdict is Verdict.EQUIVALENT, report.check


@pytest.mark.parametrize("form", ["auto", "centred", "primitive"])
def test_forms_in_float64(provider, tmp_path, form):
    model = save(tmp_path / "model.onnx", images("float64"))
    report = swap(
        model,
        tmp_path / "swapped.onnx",
        SwapOptions(GroupPolicy(groups=32), form=form, provider=provider),
        check=CheckOptions(provider=provider, **RUN),
    ).report
    assert report.check.verdict is Verdict.EQUIVALENT, report.check


@pytest.mark.parametrize("behind", ["", "silu"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (64, 1), (66, 11), (512, 1)])
def test_the_fused_kernel_is_right(on_cuda, tmp_path, channels, groups, dtype, behind):
    made = images(dtype, shape=(2, channels, 7, 5), behind=behind)
    model = save(tmp_path / "model.onnx", made)
    report = swap(
        model,
        tmp_path / "swapped.onnx",
        SwapOptions(GroupPolicy(groups=groups), form="contrib", provider=on_cuda),
        check=CheckOptions(provider=on_cuda, **RUN),
    ).report
    assert report.check.verdict is Verdict.EQUIVALENT, report.check
    assert report.plan.swaps[0].activation == behind
    nodes = [node.op_type for node in onnx.load(tmp_path / "swapped.onnx").graph.node]
    assert "GroupNorm" in nodes
    assert "Sigmoid" not in nodes


@pytest.mark.parametrize(("channels", "groups"), [(8, 8), (6, 2), (1024, 1)])
def test_the_fused_kernel_refuses_what_we_think_it_does(on_cuda, tmp_path, channels, groups):
    node = onnx.helper.make_node(
        "GroupNorm", ["x", "g", "b"], ["y"], domain="com.microsoft",
        groups=groups, activation=0, channels_last=1,
    )  # fmt: skip
    info = onnx.helper.make_tensor_value_info
    ports = [info(name, 1, [1, 2, 2, channels]) for name in "xy"]
    ones = [onnx.numpy_helper.from_array(np.ones(channels, np.float32), name) for name in "gb"]
    graph = onnx.helper.make_graph([node], "one", ports[:1], ports[1:], ones)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    made = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = save(tmp_path / "one.onnx", made)
    x = np.ones((1, 2, 2, channels), np.float32)
    with (
        Session(path, label="the node", provider=on_cuda) as session,
        pytest.raises(RunError, match="GroupNorm in CUDA does not support"),
    ):
        session.run({"x": x})
