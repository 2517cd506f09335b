"""Each tip appears where it helps, is followed literally, and does help; and nowhere else."""

import inspect
import json
import re
import shlex
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support.build import Builder
from support.cli import invoke

import normswap
from normswap.report import next as tips_of_reports
from normswap.report.next import MOST, TIPS, tips

MODELS = Path(__file__).parents[2] / "models"
C = 4


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(*arguments):
    """Return the tips of a command, which every format has alike."""
    result = invoke(*arguments)
    assert result.code == 0, result.err
    found = [line[5:] for line in result.text.splitlines() if line.startswith("tip: ")]
    assert len(found) <= MOST
    if "--dry-run" in arguments or arguments[0] in {"inspect", "check"}:
        assert json.loads(invoke(*arguments, "--json").text)["tips"] == found
        marked = invoke(*arguments, "--format", "markdown").text
        assert marked.count("\nTip: ") == len(found)
        if find_spec("jinja2") and find_spec("pygal") and find_spec("grandalf"):
            page = invoke(*arguments, "--format", "html").text
            assert ("Next steps" in page) == bool(found)
    return found


def follow(tip, **put):
    """Run the command that a tip names, with a person's own words in place of those in capitals."""
    (command,) = re.findall(r"`normswap ([^`]*)`", tip)
    arguments = [put.get(word, word) for word in shlex.split(command)]
    result = invoke(*arguments)
    assert result.code == 0, result.err
    return result


def saved(b, name="m.onnx"):
    onnx.save(b.model(), name)
    return name


def conv_bn(count=1):
    b = Builder(13)
    x = b.input("N", C, 7, 7)
    for _ in range(count):
        x = b.node("Sigmoid", b.bn(b.conv(x, C, C, kernel=(1, 1)), C))
    b.output(x, None)
    return b


def every(kind):
    """Return the plan of what is written after a tip was followed."""
    return normswap.plan(kind).plan


def test_every_tip_is_of_some_report():
    listed = {tip for found in TIPS.values() for tip in found}
    functions = inspect.getmembers(tips_of_reports, inspect.isfunction)
    own = {f for name, f in functions if f.__module__ == tips.__module__ and name[0] != "_"}
    assert own - {tips} == listed


def training_network(x_rank=4, *, used=False):
    b = Builder(15)
    parameters = [b.const(value) for value in b.statistics(C, positive=True)]
    x = b.conv(b.input(2, C, 6, 6), C, C)
    outputs = b.node("BatchNormalization", x, *parameters, outputs=3, training_mode=1, name="bn")
    b.output(outputs[0], None)
    if used:
        b.output(outputs[1], None)
    return b


@pytest.mark.parametrize("command", [("fold", "--dry-run"), ("inspect",)])
def test_training(home, command):
    path = saved(training_network(), "my model.onnx")
    (tip,) = told(*command, path)
    assert tip.startswith("1 is in training mode")
    follow(tip)
    assert len(every("my model.recalibrated.onnx").folded) == 1
    assert not [tip for tip in told(*command, "my model.recalibrated.onnx") if "training" in tip]


def test_training_of_a_swap(home):
    shutil.copy(MODELS / "digits_resnet_training.onnx", "m.onnx")
    how = ("--groups", "4", "--dry-run")
    first, *_ = told("bn-to-gn", "m.onnx", *how)
    assert first.startswith("8 are in training mode")
    assert told("bn-to-gn", "m.onnx", "--no-normalize", *how) == []
    follow(first)
    options = normswap.bn_to_gn("m.recalibrated.onnx", groups=4, check=None).report
    assert all(swap.statistics.absorbers for swap in options.plan.swaps)
    assert told("bn-to-gn", "m.recalibrated.onnx", *how) == []


def test_training_without_statistics_to_go_on_with(home):
    """Not of a normalization that --freeze leaves: it standardizes a weight, or has bad numbers."""
    b = Builder(15)
    parameters = [b.const(value) for value in b.statistics(C, positive=True)]
    parameters[3] = b.const(np.full(C, np.nan, np.float32))
    x = b.conv(b.input(2, C, 6, 6), C, C)
    out = b.node("BatchNormalization", x, *parameters, outputs=3, training_mode=1)[0]
    b.output(out, None)
    assert told("fold", saved(b), "--dry-run") == []
    assert invoke("recalibrate", "--freeze", "m.onnx").code == 3


def listed(b, count=None):
    made = b.model()
    for tensor in list(made.graph.initializer)[:count]:
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        made.graph.input.append(info)
    onnx.save(made, "listed.onnx")
    return "listed.onnx"


def test_overridable(home):
    (tip,) = told("fold", listed(conv_bn()), "--dry-run")
    assert tip.startswith("1 kept because weights are also graph inputs")
    follow(tip)
    assert "BatchNormalization" not in str(onnx.load("listed.folded.onnx").graph.node)


def test_overridable_where_something_else_stands_in_the_way_too(home):
    b = Builder(13)
    b.output(b.bn(b.node("Sigmoid", b.input("N", C, 7, 7)), C), None)
    assert told("fold", listed(b), "--dry-run") == []
    assert len(normswap.plan("listed.onnx", assume_constant=True).plan.folded) == 0


def test_overridable_of_a_recalibration(home):
    b = conv_bn(2)
    made = b.model()
    first = next(node for node in made.graph.node if node.op_type == "BatchNormalization")
    for tensor in made.graph.initializer:
        if tensor.name in first.input:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            made.graph.input.append(info)
    onnx.save(made, "m.onnx")
    np.save("data.npy", np.random.default_rng(0).normal(size=(8, C, 7, 7)).astype(np.float32))
    (tip,) = told("recalibrate", "m.onnx", "data.npy")
    assert "--assume-constant" in tip
    again = ("recalibrate", "m.onnx", "data.npy", "--force", "--assume-constant")
    assert told(*again) == []
    assert len(normswap.recalibrate("m.onnx", "data.npy", assume_constant=True).report.layers) == 2


def heads():
    """Three Convs of one weight, with a BatchNormalization behind each."""
    b = Builder(13)
    x, weight = b.input(1, C, 5, 5), b.normal(64, C, 3, 3)
    for _ in range(3):
        b.output(b.bn(b.node("Conv", x, weight), 64), None)
    return b


def test_growth(home):
    path = saved(heads())
    (tip,) = told("fold", path, "--dry-run", "--max-growth", "1")
    follow(tip)
    assert every("m.folded.onnx").kept == ()
    assert told("fold", path, "--dry-run") == []
    assert told("fold", path, "--dry-run", "--max-growth", "9") == []


@pytest.fixture
def folded(home):
    """A model that normswap has folded, and some inputs of it."""
    normswap.fold(MODELS / "digits_resnet.onnx", "folded.onnx", check=None)
    shutil.copy(MODELS / "digits_test.npz", home)
    return "folded.onnx"


def test_folded(folded):
    (tip,) = told("fold", folded, "--dry-run")
    assert tip.startswith(
        "the model looks folded already, so nothing is left to do: the constants of 8 of 9 "
        "operators"
    )
    first, second = told("bn-to-gn", folded, "--dry-run")
    assert "keeps it with optimize=False" in second
    done = follow(first, DATA="digits_test.npz")
    assert "8 swapped" in done.text


def test_neither_folded_nor_exported_without(home):
    """Nothing is said of a network that has no layer with a bias, or normalizes otherwise."""
    b = Builder(17)
    b.output(b.node("Relu", b.input(2, 3)), None)
    assert told("fold", saved(b), "--dry-run") == []
    b = Builder(17)
    y = b.conv(b.input(2, 3, 8, 8), 3, C, bias=True)
    b.output(b.node("InstanceNormalization", y, b.normal(C), b.normal(C)), None)
    assert told("bn-to-gn", saved(b), "--dry-run") == []


def test_export(home):
    b = Builder(17)
    b.output(b.node("Relu", b.conv(b.input(2, 3, 8, 8), 3, C, bias=True)), None)
    (tip,) = told("fold", saved(b), "--dry-run")
    assert "torch.onnx.export keeps it with" in tip  # followed in tests/test_exporting.py


def test_indivisible(home):
    b = Builder(17)
    x = b.conv(b.input(2, 3, 8, 8), 3, 6)
    x = b.conv(b.node("Relu", b.bn(x, 6)), 6, 8)
    b.output(b.node("Relu", b.bn(x, 8)), None)
    how = ("--groups", "4", "--check", "off")
    (tip,) = told("bn-to-gn", saved(b), "--dry-run", *how[:2], "--on-indivisible", "keep")
    follow(tip)
    assert "BatchNormalization" not in {n.op_type for n in onnx.load("m.gn.onnx").graph.node}
    assert told("bn-to-gn", "m.onnx", "--force", "--groups", "2", "--check", "off") == []


def test_only_kept(home):
    b = Builder(17)
    x = b.bn(b.conv(b.input(2, 3, 8, 8), 3, 8), 8)
    b.output(b.bn(b.node("Sigmoid", x), 8), None)
    how = ("--groups", "4", "--check", "off", "--only-kept")
    (tip,) = told("bn-to-gn", saved(b), *how)
    follow(tip)
    assert "BatchNormalization" not in {n.op_type for n in onnx.load("m.gn.folded.onnx").graph.node}
    assert told("bn-to-gn", "m.onnx", "--dry-run", *how) == []


@pytest.fixture(scope="module")
def swapped():
    """Reports of a swap: on noise, on data that is only looked at, and fitted to it."""
    b = Builder(17)
    x, channels = b.input("N", 3, 6, 6), 3
    for _ in range(2):
        x, channels = b.node("Relu", b.bn(b.conv(x, channels, 8), 8, positive=True)), 8
    b.output(b.node("Flatten", b.node("GlobalAveragePool", x), out="y"), None)
    rng = np.random.default_rng(1)
    pictures = rng.normal(size=(48, 2)) @ rng.normal(size=(2, 3 * 6 * 6))  # like each other
    data = {"x": pictures.reshape(48, 3, 6, 6).astype(np.float32)}
    model = normswap.recalibrate(b.model(), data).model
    return {
        "noise": normswap.bn_to_gn(model, groups=4).report,
        "evaluated": normswap.bn_to_gn(model, groups=4, evaluate=data).report,
        "fitted": normswap.bn_to_gn(model, groups=4, calibrate=data, refit=True).report,
    }


def test_calibrate(swapped):
    for name in ("noise", "evaluated"):
        (tip,) = tips(swapped[name])
        assert "--calibrate DATA" in tip
        assert "--refit" in tip
    assert tips(swapped["fitted"]) == ()
    fitted = swapped["fitted"]
    before, after = fitted.uncalibrated.outputs["y"], fitted.check.drift.outputs["y"]
    assert after.snr > before.snr + 0.5
    near = swapped["evaluated"].check.drift.outputs["y"]
    near = replace(near, snr=30.0)
    check = swapped["evaluated"].check
    check = replace(check, drift=replace(check.drift, outputs={"y": near}))
    assert tips(replace(swapped["evaluated"], check=check)) == ()


def test_foldable(home):
    shutil.copy(MODELS / "mlp.onnx", home)
    (tip,) = told("inspect", "mlp.onnx")
    follow(tip)
    assert every("mlp.folded.onnx").folded == ()
    assert told("inspect", "mlp.folded.onnx") == []


@pytest.mark.parametrize("form", ["instancenorm", "primitive"])
@pytest.mark.parametrize("depth", ["quick", "proof"])
def test_a_swap_is_checked_by_its_own_command(home, form, depth):
    onnx.save(one_layer := conv_bn(2).model(), "m.onnx")
    normswap.bn_to_gn("m.onnx", "gn.onnx", groups=2, form=form, check=None)
    report = normswap.check("m.onnx", "gn.onnx", depth)
    (tip,) = tips(report)
    assert tip.startswith("a BatchNormalization became another normalization in both places")
    follow(tip, GROUPS="2")
    assert invoke("verify", "swap.json", "m.onnx", "m.gn.onnx").code == 0
    # A fault beside the swap is what matters, and a fault alone is no swap.
    swapped = onnx.load("gn.onnx")
    for model, name in ((swapped, "both.onnx"), (one_layer, "fault.onnx")):
        sigmoid = [node for node in model.graph.node if node.op_type == "Sigmoid"][-1]
        sigmoid.op_type = "Tanh"
        onnx.save(model, name)
        assert tips(normswap.check("m.onnx", name, depth)) == ()


def test_slow_check(monkeypatch, swapped):
    a = conv_bn().model()
    b = normswap.fold(a, check=None).model
    full = normswap.check(a, b, "full")
    assert tips(full) == ()  # it is fast
    monkeypatch.setattr(tips_of_reports, "SLOW", 0.0)
    (tip,) = tips(full)
    assert re.match(r"the check took [\d.]+ s: [\d.]+ s to (run|evaluate|prove)", tip)
    assert "--check quick reaches the same verdict" in tip
    quick = normswap.check(a, b, "quick")
    assert quick.is_proved
    assert quick.seconds < full.seconds
    (tip,) = tips(quick)
    assert "--check proof reaches the same verdict" in tip
    alone = normswap.check(a, b, "proof")
    assert alone.is_proved
    assert alone.seconds < quick.seconds
    (tip,) = tips(alone)
    assert "--check" not in tip
    assert all("--check proof" not in tip for tip in tips(swapped["fitted"]))  # a swap has none
