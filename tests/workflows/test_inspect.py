"""What is said of a model, its size, and each of its normalizations."""

import numpy as np
import onnx
import pytest
from onnx import helper
from support.build import Builder
from support.cli import invoke
from support.functions import Body

import normswap
from normswap.graph.reasons import Reason

C = 4


def layers_of(b):
    return {layer.node: layer for layer in normswap.inspect(b.model()).layers}


def test_every_normalization_is_in_the_table():
    b = Builder(23)
    x = b.bn(b.conv(b.input("N", 3, 6, 6), 3, C, pads=[1] * 4), C, name="folds", epsilon=1e-3)
    x = b.bn(b.node("Relu", x), C, name="stays", epsilon=0.1)
    ones, zeros = b.const(np.ones(C)), b.const(np.zeros(C))
    x = b.node("GroupNormalization", x, ones, zeros, name="groups", num_groups=2)
    x = b.node("InstanceNormalization", x, ones, zeros, name="instances", epsilon=1e-2)
    rows = b.node("Reshape", x, b.const(np.array([0, 2, -1])), name="rows")
    rows = b.node(
        "InstanceNormalization", rows, b.const(np.ones(2)), b.const(np.zeros(2)), name="g"
    )
    x = b.node("Reshape", rows, b.node("Shape", x))
    x = b.node("LRN", x, size=3, name="lrn")
    x = b.node("LayerNormalization", x, b.const(np.ones(6)), axis=-1, name="layer")
    b.output(
        b.node("RMSNormalization", x, b.const(np.ones(6)), axis=-1, name="rms", out="y"),
        ("N", C, 6, 6),
    )
    found = layers_of(b)
    assert [*found] == ["folds", "stays", "groups", "instances", "g", "lrn", "layer", "rms"]
    folds, stays = found["folds"], found["stays"]
    assert (folds.fold, folds.because.split()[0], folds.mode) == ("foldable", "Conv", "inference")
    assert (folds.channels, folds.fed_by.split()[0], folds.read_by[0].split()[0]) == (
        C,
        "Conv",
        "Relu",
    )
    assert (stays.fold, stays.reason) == ("kept", Reason.NONLINEAR)
    epsilons = [found[name].epsilon for name in ("folds", "stays", "groups", "instances", "lrn")]
    assert epsilons == [1e-3, 0.1, 1e-5, 1e-2, None]
    assert [found[name].groups for name in ("groups", "instances", "g")] == [2, None, 2]
    assert found["layer"].channels == 6
    assert found["rms"].read_by == ("output",)
    assert {found[name].fold for name in ("groups", "g", "lrn", "layer", "rms")} == {""}


def test_training_arithmetic_and_bodies():
    b = Builder(17)
    x = b.conv(b.input(2, 3, 6, 6), 3, C, kernel=(1, 1))
    scale, shift = b.const(b.rng.normal(size=(C, 1, 1))), b.const(b.rng.normal(size=(C, 1, 1)))
    x = b.node("Add", b.node("Mul", x, scale), shift, name="written", out="arithmetic")
    x = b.bn(b.node("Sigmoid", x), C, name="trains", training_mode=1)
    inner = Builder(17)
    inner.count = 100
    inner.output(inner.bn("outer", C, name="inside"), (2, C, 6, 6))
    body = helper.make_graph(inner.nodes, "body", [], inner.outputs, inner.initializers)
    b.node("Abs", x, out="outer")
    b.output(b.node("If", b.const(np.array(True)), then_branch=body, else_branch=body, name="if"))
    found = layers_of(b)
    assert found["written"].op == "Mul+Add"
    assert found["written"].fold == "foldable"
    assert (found["trains"].mode, found["trains"].reason) == ("training", Reason.TRAINING_MODE)
    assert found["inside"].graph == "if.then_branch"
    assert normswap.inspect(b.model()).operators["BatchNormalization"] == 3


def test_sizes_are_those_of_the_formulas():
    b = Builder(17)
    x = b.conv(b.input("N", 4, 8, 8), 4, 6, group=2, strides=[2, 2], pads=[1] * 4)  # 4 x 4 out
    x = b.node("ConvTranspose", x, b.normal(6, 3, 2, 2), strides=[2, 2])
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    x = b.node("Gemm", x, b.normal(10, 3), transB=1)
    b.output(b.node("MatMul", x, b.normal(10, 5), out="y"))
    work = normswap.inspect(b.model()).work
    convs = 6 * 4 * 4 * (4 // 2 * 9) + 6 * 4 * 4 * (3 * 4)
    assert (work.macs, work.counted, work.unknown) == (convs + 3 * 10 + 10 * 5, 4, ())
    report = normswap.inspect(b.model())
    assert report.parameters == 6 * 2 * 9 + 6 + 6 * 3 * 4 + 30 + 50


def test_what_has_no_size_is_not_counted():
    b = Builder(17)
    x = b.conv(b.input("N", 3, "height", "width"), 3, C, name="open")
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    b.output(b.node("Gemm", x, b.normal(C, 5), out="y"))
    work = normswap.inspect(b.model()).work
    assert (work.macs, work.unknown) == (C * 5, ("Conv open",))


def test_the_numbers_of_a_layer():
    scale = np.array([1.0, 0.0, 1e-9, -2.0, 1.0])
    var = np.array([1.0, 1.0, 2.0, 0.0, -1e-7])
    b = Builder(17)
    x = b.conv(b.input(1, 3, 6, 6), 3, 5)
    x = b.bn(x, 5, name="odd", stats=(scale, np.ones(5), np.ones(5), var), epsilon=1e-5)
    x = b.bn(b.node("Relu", x), 5, name="nan", stats=(scale, [np.nan] * 5, var, var), epsilon=0.0)
    new = (np.ones(5), np.zeros(5), np.zeros(5), np.ones(5))
    b.output(b.bn(b.node("Relu", x), 5, name="new", stats=new))
    found = {name: layer.health for name, layer in layers_of(b).items()}
    assert (found["odd"].dead, found["odd"].vanishing, found["odd"].invalid) == ((1, 2), (3,), (4,))
    assert found["nan"].invalid == (3, 4)
    assert found["nan"].broken[0].startswith("its B ")
    assert found["new"].untrained
    assert found["new"].problems == ("all means are 0 and all variances 1, as before training",)
    half = Builder(17, "float16")
    tiny = np.array([1.0, 6e-5, 1e-9])
    x = half.conv(half.input(1, 3, 6, 6), 3, 3)
    half.output(half.bn(x, 3, name="half", stats=(tiny, tiny, tiny, tiny), epsilon=1e-5))
    assert layers_of(half)["half"].health.subnormal == (1, 2)


def test_a_model_that_was_folded_looks_it():
    b = Builder(17)
    b.output(b.node("Relu", b.bn(b.conv(b.input(1, 3, 6, 6), 3, C), C)))
    before = normswap.inspect(b.model())
    assert (before.foldable, before.looks_folded) == (1, False)
    after = normswap.inspect(normswap.fold(b.model(), check=None).model)
    assert (after.foldable, after.looks_folded) == (0, True)
    assert "as normswap names folded ones" in after.traces[0]
    torch = Builder(17)
    weight = torch.normal(C, 3, 3, 3, name="onnx::Conv_12")
    torch.output(torch.node("Conv", torch.input(1, 3, 6, 6), weight))
    assert "torch's TorchScript exporter" in normswap.inspect(torch.model()).traces[0]
    plain = Builder(17)
    plain.output(plain.conv(plain.input(1, 3, 6, 6), 3, C))
    assert normswap.inspect(plain.model()).traces == ()


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_the_command_tells_all_of_it(tmp_path, form):
    b = Builder(17)
    x = b.bn(b.conv(b.input("N", 3, 6, 6), 3, C, name="c"), C, name="norm", positive=True)
    b.output(b.node("Relu", x, out="y"))
    model = b.model(producer_name="someone", producer_version="1.2")
    onnx.save(model, tmp_path / "m.onnx")
    result = invoke("inspect", tmp_path / "m.onnx", "--format", form)
    assert result.code == 0
    for told in ("someone 1.2", "ai.onnx 17", "1 foldable", "1.73 kMACs", "foldable into Conv c"):
        assert told in result.text
    assert invoke("inspect", tmp_path / "m.onnx", "-q").out == b""


def test_a_function_is_told_call_by_call(tmp_path):
    """A fold puts it in the place of each call that it folds, and keeps it for the others."""
    b = Builder(17, seed=4)
    body = Body(b, "Norm", ["a", "scale", "B", "mean", "var"])
    body.returns(body.node("BatchNormalization", "a", "scale", "B", "mean", "var", name="bn"))
    x = b.input("N", 3, 6, 6)
    for name, c_in, c_out, op in (
        ("one", 3, 4, "Conv"),
        ("two", 4, 8, "Conv"),
        ("three", 8, 8, ""),
    ):
        x = b.node("Conv", x, b.normal(c_out, c_in, 1, 1), name=f"conv_{name}") if op else x
        parameters = [b.const(values) for values in b.statistics(c_out, positive=True)]
        x = b.node("Sigmoid", b.node("Norm", x, *parameters, domain="local", name=name))
    b.output(b.node("Softmax", x, axis=1), None)
    onnx.save(b.model(), tmp_path / "model.onnx")
    layers = normswap.inspect(tmp_path / "model.onnx").layers
    assert [(each.node, each.graph, each.channels, each.fold) for each in layers] == [
        ("one/bn", "", 4, "foldable"),
        ("two/bn", "", 8, "foldable"),
        ("bn", "local:Norm", None, "kept"),
    ]
    plan = normswap.plan(tmp_path / "model.onnx").plan
    assert {each.node for each in layers} == {e.site.node for e in (*plan.folded, *plan.kept)}
