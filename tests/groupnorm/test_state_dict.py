"""The weights for torch are those of the swapped network, in the layout of the module."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.build import Builder
from support.cli import invoke
from support.swapping import run_ort

import normswap

ROOT = Path(__file__).parents[2]
GROUPS = 4
EPSILON = 0.25
"""Large, so that it matters where it is."""


class Exported(Builder):
    """A network by the names that torch's exporters give."""

    def bn(self, x, channels, *, module, **attrs):
        kinds = ("weight", "bias", "running_mean", "running_var")
        stats = zip(kinds, self.statistics(channels, positive=True), strict=True)
        names = [self.const(vector, f"{module}.{kind}") for kind, vector in stats]
        return self.node("BatchNormalization", x, *names, epsilon=EPSILON, **attrs)

    def conv(self, x, module, *shape, op="Conv", bias=None, **attrs):
        weight = self.normal(*shape, name=f"{module}.weight", scale=0.3)
        more = [] if bias is None else [bias]
        name = f"/{module.replace('.', '/')}/{op}"
        return self.node(op, x, weight, *more, name=name, **attrs)


def network(*, short=False):
    b = Exported(opset=21, seed=3)
    x = b.input("N", 8, 6, 6)
    y = b.conv(x, "layer1.0.conv1", 8, 8, 3, 3, pads=[1, 1, 1, 1])
    y = b.node("Relu", b.bn(y, 8, module="layer1.0.bn1"))
    if short:
        b.output(b.conv(y, "out", 2, 8, 6, 6))
        return b.model()
    # The newer exporter computes zeros for a bias that there is none of.
    zeros = b.node("ConstantOfShape", b.const(np.array([8])), out="val_5")
    y = b.conv(y, "layer1.0.conv2", 8, 8, 1, 1, bias=zeros)
    # The older one shares what is equal.
    shared = b.node("Identity", "layer1.0.bn1.bias", out="layer1.0.bn2.bias", name="Identity_7")
    norm = b.bn(y, 8, module="layer1.0.bn2")
    b.nodes[-1].input[2] = shared
    del b.initializers[-3]
    y = b.node("Relu", b.node("Add", norm, x))
    y = b.bn(y, 8, module="norm3", name="/norm3/BatchNormalization")  # behind an activation
    y = b.conv(y, "4", 8, 12, 2, 2, op="ConvTranspose", bias=b.normal(12, name="4.bias"))
    y = b.node("Relu", b.bn(y, 12, module="up_bn"))
    y = b.node("Reshape", y, b.const(np.array([0, 12, -1])))
    y = b.node("Transpose", y, perm=[0, 2, 1])
    weight = b.node("Transpose", b.normal(16, 12, name="mix.weight", scale=0.3), perm=[1, 0])
    y = b.node("MatMul", y, weight, name="/mix/MatMul")
    y = b.bn(b.node("Transpose", y, perm=[0, 2, 1]), 16, module="mix_bn")
    y = b.node("ReduceMean", b.node("Relu", y), b.const(np.array([2])), keepdims=0)
    weight = b.normal(16, 20, name="onnx::MatMul_99", scale=0.3)
    y = b.node("MatMul", y, weight, name="/head/head.0/MatMul")
    y = b.node("Add", b.normal(20, name="head.0.bias"), y, name="/head/head.0/Add")
    y = b.node("Relu", b.bn(y, 20, module="head.1"))
    fc = b.normal(3, 20, name="fc.weight"), b.normal(3, name="fc.bias")
    b.output(b.node("Gemm", y, *fc, transB=1, name="/fc/Gemm"))
    return b.model()


def as_a_module(model, state):
    """Return the network that torch makes of a state dict: GroupNorms for BatchNorms, biases."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    used = set()

    def add(key, array=None):
        used.add(key)
        values = state[key] if array is None else array
        graph.initializer.append(numpy_helper.from_array(values, key))
        return key

    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    kept = [t for t in graph.initializer if t.name not in state and not t.name.startswith("onnx::")]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = [node for node in graph.node if node.op_type != "Identity"]
    del graph.node[:]
    for node in nodes:
        op, inputs, (out, *_) = node.op_type, list(node.input), node.output
        keys = [name for name in inputs if name in state]
        for key in keys:
            assert state[key].shape == shapes.get(key, state[key].shape)
        if op == "BatchNormalization":
            module = inputs[1].rpartition(".")[0]
            x = inputs[0]
            if f"{module}.running_mean" in state:
                ones, zeros = np.ones_like(state[f"{module}.weight"]), 0 * state[f"{module}.weight"]
                statistics = [add(f"{module}.running_{name}") for name in ("mean", "var")]
                neutral = [add(f"{module}.ones", ones), add(f"{module}.zeros", zeros)]
                graph.node.append(
                    helper.make_node(op, [x, *neutral, *statistics], [f"{out}^"], epsilon=EPSILON)
                )
                x = f"{out}^"
            names = [x, add(f"{module}.weight"), add(f"{module}.bias")]
            attrs = {"epsilon": EPSILON, "num_groups": GROUPS}
            graph.node.append(helper.make_node("GroupNormalization", names, [out], **attrs))
            continue
        if "onnx::MatMul_99" in inputs:
            node.input[1] = add("head.0.weight^T", state["head.0.weight"].T.copy())
            used.add("head.0.weight")
        for key in keys:
            add(key)
        bias = keys[0].replace("weight", "bias") if keys and keys[0].endswith("weight") else ""
        if op in ("Conv", "ConvTranspose") and bias in state and bias not in inputs:
            node.input[:] = [*inputs[:2], add(bias)]
        if node.name == "/mix/MatMul":
            node.output[0] = f"{out}^"
        graph.node.append(node)
        if node.output[0] != out:
            graph.node.append(helper.make_node("Add", [f"{out}^", add("mix.bias")], [out]))
    assert used - {"head.0.weight^T", "norm3.ones", "norm3.zeros"} == state.keys()
    return made


X = np.random.default_rng(0).normal(size=(16, 8, 6, 6)).astype(np.float32)


def check_module(model, path, **how):
    """Swap a network, and run a module with the weights beside it; return these and the report."""
    result = normswap.bn_to_gn(model, groups=GROUPS, state_dict=path, check=None, **how)
    state, told = dict(np.load(path)), result.report.state_dict
    assert told.unmapped == ()
    assert told.tensors == len(state)
    assert not set(told.absent) & state.keys()
    (swapped,) = run_ort(result.model, optimized=False, x=X)
    (ours,) = run_ort(as_a_module(model, state), optimized=False, x=X)
    assert np.abs(ours - swapped).max() < 1e-4 * np.abs(swapped).max()
    return state, told


def test_a_module_with_these_weights_is_the_swapped_network(tmp_path):
    model = network()
    state, told = check_module(model, tmp_path / "weights.npz")
    assert told.fixed == ("norm3",)
    assert set(told.added) == {"layer1.0.conv1.bias", "layer1.0.conv2.bias", "mix.bias"}
    modules = ("layer1.0.bn1", "layer1.0.bn2", "norm3", "up_bn", "mix_bn", "head.1")
    assert told.groups == dict.fromkeys(modules, GROUPS)
    assert "head.1.running_var" in told.absent
    original = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    moved = state["layer1.0.conv1.weight"] / original["layer1.0.conv1.weight"]
    assert not np.allclose(moved, 1)  # it is divided by deviations


def test_refitted_weights_and_moved_channels(tmp_path):
    model = network(short=True)
    before, _ = check_module(model, tmp_path / "before.npz")
    fitting = {"calibrate": {"x": X}, "refit": True, "regroup": True}
    after, _ = check_module(model, tmp_path / "after.npz", **fitting)
    assert not np.allclose(after["out.weight"], before["out.weight"])


def test_what_has_no_place_is_named(tmp_path):
    """A weight of two layers that differ now, one without a name, a scale that is computed."""
    b = Exported(opset=17)
    x = b.input("N", 8, 4, 4)
    shared = b.normal(8, 8, 1, 1, name="shared.weight")
    y = b.bn(b.node("Conv", x, shared, name="first"), 8, module="one")
    y = b.bn(b.node("Conv", b.node("Relu", y), shared, name="second"), 8, module="two")
    y = b.node("Conv", y, b.normal(8, 8, 1, 1, name="onnx::Conv_12"), name="Conv_12")
    scale = b.node("Mul", b.input(8, name="s"), b.const(np.full(8, 2.0)))
    b.output(b.bn(y, 8, module="three"))
    b.nodes[-1].input[1] = scale
    path = tmp_path / "weights.npz"
    report = normswap.bn_to_gn(b.model(), groups=2, state_dict=path, check=None).report
    told = {entry.name: entry.why for entry in report.state_dict.unmapped}
    assert "several layers share it, and their values differ now" in told["shared.weight"]
    assert "its name is not a parameter's" in told["onnx::Conv_12"]
    assert "computed at run time" in told["three.weight"]
    assert not {"shared.weight", "three.weight"} & set(np.load(path).files)


def test_the_command(tmp_path, monkeypatch):
    model = tmp_path / "net.onnx"
    onnx.save(network(), model)
    swap = ("bn-to-gn", "--groups", GROUPS, "--no-check", model)
    done = invoke(*swap, "--map", "torch")
    assert done.code == 0, done.err
    assert re.search(r"for torch, \S+net\.gn\.npz: \d+ tensors, 6 GroupNorms", done.text)
    assert "3 biases were added to layers without one: layer1.0.conv1.bias" in done.text
    refused = invoke(*swap, "--map", "torch", "-o", tmp_path / "other.onnx")
    assert refused.code == 0, refused.err
    tensors = tmp_path / "net.safetensors"
    done = invoke(*swap, "--force", "--map", f"torch={tensors}", "--json")
    assert json.loads(done.out)["state_dict"]["groups"]["up_bn"] == GROUPS
    from safetensors.numpy import load_file

    named, arrays = load_file(tensors), np.load(tmp_path / "net.gn.npz")
    assert named.keys() == set(arrays.files)
    assert all((named[key] == arrays[key]).all() for key in named)

    kept = tensors.read_bytes()
    for more, words in (
        ((f"torch={tensors}", "-o", tmp_path / "new.onnx"), "net.safetensors already exists"),
        (("torch=net.pt", "--force"), "net.pt ends neither with .npz nor with .safetensors"),
        (("tf", "--force"), "neither torch nor torch=FILE"),
        (("torch", "--dry-run"), "--map can't be used with --dry-run"),
        (("torch", "-o", "-"), "--map torch=weights.npz"),
        (("torch", "--unfold", "--calibrate", "no.npz", "--force"), "docs/export.md"),
    ):
        done = invoke(*swap, "--map", *more)
        assert (done.code, words in done.err) == (2, True), (more, done.err)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    done = invoke(*swap, "--force", "--map", f"torch={tensors}")
    assert done.code == 2
    assert "normswap[safetensors]" in done.err
    assert tensors.read_bytes() == kept


def recipe():
    """Return the recipe of the docs."""
    text = (ROOT / "docs" / "bn-to-gn.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return next(code for code in blocks if "nn." in code)


def test_the_recipe_is_what_the_figures_are_made_with():
    benchmark = (ROOT / "benchmarks" / "gn_finetune.py").read_text(encoding="utf-8")
    told = recipe().replace("  # noqa: SLF001", "")
    for part in re.split(r"\n\n\n", told[told.index("class ") :].strip()):
        assert part in benchmark.replace("  # noqa: SLF001", "")


@pytest.mark.parametrize("newer", [False, True], ids=["script", "dynamo"])
def test_the_recipe_loads_it(tmp_path, newer):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 12, 3),
        nn.BatchNorm2d(12),
    )
    x = torch.randn(16, 3, 8, 8)
    network(x)
    network.eval()
    path, weights = tmp_path / "net.onnx", tmp_path / "net.npz"
    training = torch.onnx.TrainingMode.PRESERVE
    older = {"dynamo": False, "training": training, "do_constant_folding": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how = {"dynamo": True, "optimize": False} if newer else older
        torch.onnx.export(network, (x,), str(path), input_names=["x"], **how)
    result = normswap.bn_to_gn(path, groups=4, state_dict=weights, check=None)
    scope = {}
    exec(recipe(), scope)  # noqa: S102 - the docs' own
    scope["load_swapped"](network, weights, groups=4)
    (swapped,) = run_ort(result.model, optimized=False, x=x.numpy())
    assert np.abs(network(x).detach().numpy() - swapped).max() < 1e-5 * np.abs(swapped).max()
