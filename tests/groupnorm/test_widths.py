"""Functions with normalizations of other widths in other calls, as torch's exporter writes them."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.functions import Body
from support.swapping import distance, run_ort

import normswap
from normswap.errors import UsageError
from normswap.groupnorm.widths import must_be_inlined, tell_widths_apart
from normswap.model import load

STATISTICS = ["scale", "B", "mean", "var"]


def norm(b, name="Norm", **attrs):
    """A function that is one BatchNormalization, whose parameters are arguments."""
    body = Body(b, name, ["a", *STATISTICS])
    body.returns(body.node("BatchNormalization", "a", *STATISTICS, **attrs))


def block(b):
    """A function that calls it, in a branch too, and has a layer of its own width besides."""
    body = Body(b, "Block", ["a", "w", *STATISTICS, "choice"])
    x = body.node("Conv", "a", "w")
    branches = {}
    for branch, inputs in (("then", [x, *STATISTICS]), ("else", [x])):
        op, domain = ("Norm", "local") if branch == "then" else ("Relu", "")
        node = helper.make_node(op, inputs, [f"{branch}_y"], domain=domain, name=f"{branch}_{op}")
        result = helper.make_tensor_value_info(f"{branch}_y", TensorProto.FLOAT, None)
        branches[f"{branch}_branch"] = helper.make_graph([node], branch, [], [result])
    y = body.node("If", "choice", **branches)
    body.returns(body.node("Norm", y, *STATISTICS, domain="local"))


def parameters(b, channels):
    return [b.const(v) for v in b.statistics(channels, positive=True)]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Layers of 4, 8, 8 and 4 channels: two calls of a function, and two of one that calls it."""
    b = Builder(17, seed=5)
    norm(b)
    block(b)
    x = b.input("N", 3, 6, 5)
    x = b.node("Conv", x, b.normal(4, 3, 3, 3))
    x = b.node("Norm", x, *parameters(b, 4), domain="local", name="first")
    choice = b.node("Greater", b.node("ReduceMax", x, keepdims=0), b.const(0.0))
    for name, c_in, c_out in (("wide", 4, 8), ("narrow", 8, 4)):
        given = [b.normal(c_out, c_in, 1, 1), *parameters(b, c_out), choice]
        x = b.node("Block", x, *given, domain="local", name=name)
    b.output(b.node("Relu", x, out="y"), ("N", 4, 4, 3))
    path = tmp_path_factory.mktemp("widths") / "model.onnx"
    onnx.save(b.model(), path)
    return path


def functions(model):
    """Names of functions by what they are called from."""
    called = {function.name for function in model.functions}
    holders = {"": model.graph} | {function.name: function for function in model.functions}

    def calls(holder):
        for node in holder.node:
            yield from [node.op_type] if node.op_type in called else []
            for attribute in node.attribute:
                yield from calls(attribute.g) if attribute.HasField("g") else ()

    return {name: list(calls(holder)) for name, holder in holders.items()}


def test_each_width_has_a_function(network):
    with_widths = normswap.bn_to_gn(network, group_size=2, normalize=False, check=None)
    report = with_widths.report
    groups = [(swap.site.graph, swap.alone.channels, swap.num_groups) for swap in report.plan.swaps]
    assert groups == [("local:Norm", 4, 2), ("local:Norm_8", 8, 4)]
    assert functions(with_widths.model) == {
        "": ["Norm", "Block", "Block_4"],
        "Norm": [],
        "Block": ["Norm_8", "Norm_8"],
        "Norm_8": [],
        "Block_4": ["Norm", "Norm"],
    }
    onnx.checker.check_model(with_widths.model, full_check=True)


@pytest.mark.parametrize("normalize", [True, False])
def test_it_is_the_swap_of_the_network_without_functions(network, normalize):
    rng = np.random.default_rng(4)
    options = {"groups": 2, "normalize": normalize, "check": None}
    plain = onnx.inliner.inline_local_functions(onnx.load(network))
    x = rng.normal(0.3, 2, size=(3, 3, 6, 5)).astype(np.float32)
    swapped, wanted = (
        run_ort(normswap.bn_to_gn(model, **options).model, x=x)[0] for model in (network, plain)
    )
    assert distance(swapped, wanted) < 1e-5 < distance(wanted, run_ort(plain, x=x)[0])


def test_channels_of_each_call_have_an_order_of_their_own(network):
    """A function has one order for all its calls, so it is inlined where they hand parameters."""
    plain = onnx.inliner.inline_local_functions(onnx.load(network))
    options = {"groups": 2, "regroup": True, "check": None}
    found, wanted = (normswap.bn_to_gn(model, **options) for model in (network, plain))
    layers, others = (result.report.regrouping.layers for result in (found, wanted))
    moved = [(layer.moved, layer.after) for layer in layers]
    assert moved == [(layer.moved, layer.after) for layer in others]
    assert sum(count > 0 for count, _ in moved) == 2
    x = np.random.default_rng(4).normal(0.3, 2, size=(3, 3, 6, 5)).astype(np.float32)
    assert distance(*(run_ort(result.model, x=x)[0] for result in (found, wanted))) < 1e-5


def test_a_function_with_parameters_of_its_own_stays():
    b = Builder(17)
    body = Body(b, "Own", ["a"])
    body.returns(body.bn("a", 4))
    b.output(b.node("Own", b.input("N", 4, 3, 3), domain="local"), ("N", 4, 3, 3))
    own, handed = (load(m.SerializeToString()) for m in (b.model(), called([4])))
    assert not must_be_inlined(own, for_orders=True)
    assert must_be_inlined(handed, for_orders=True)
    assert not must_be_inlined(handed, for_orders=False)


def test_attributes_that_calls_set(tmp_path):
    """Each call has its own epsilon, so the function is inlined, and there is no certificate."""
    b = Builder(17, seed=5)
    body = Body(b, "Norm", ["a", *STATISTICS], attributes=["eps"])
    refers = {"epsilon": ("eps", onnx.AttributeProto.FLOAT)}
    body.returns(body.node("BatchNormalization", "a", *STATISTICS, refers=refers))
    x = b.input("N", 4, 3, 3)
    for eps in (1e-3, 0.5):
        x = b.node("Relu", b.node("Norm", x, *parameters(b, 4), domain="local", eps=eps))
    b.output(x, ("N", 4, 3, 3))
    model = b.model()
    onnx.save(model, tmp_path / "m.onnx")
    report = normswap.bn_to_gn(tmp_path / "m.onnx", groups=2).report
    assert [swap.epsilon for swap in report.plan.swaps] == pytest.approx([1e-3, 0.5])
    assert report.inlined
    assert report.separation.proved
    assert report.check.is_proved
    certificate = {"certificate": tmp_path / "c.json"}
    with pytest.raises(UsageError, match="calls of a function set attributes"):
        normswap.bn_to_gn(tmp_path / "m.onnx", tmp_path / "gn.onnx", groups=2, **certificate)


def test_a_function_that_nothing_calls_stays():
    """Also one of which it is not known how many channels it would have."""
    b = Builder(17, seed=5)
    norm(b)
    block(b)
    b.output(b.bn(b.input("N", 4, 3, 3), 4, positive=True), ("N", 4, 3, 3))
    result = normswap.bn_to_gn(b.model(), groups=2)
    (kept,) = result.report.plan.untouched
    assert (kept.site.graph, kept.reason.value) == ("local:Norm", "no-reader")
    assert len(result.report.plan.swaps) == 1
    assert [function.name for function in result.model.functions] == ["Norm", "Block"]


def test_what_calls_hand_a_function_is_fitted_for_each(tmp_path):
    b = Builder(17, seed=5)
    norm(b)
    x, before = b.input("N", 3, 6, 6), 3
    for channels in (4, 8, 8):
        x = b.node("Conv", x, b.normal(channels, before, 3, 3), b.normal(channels))
        x = b.node("Relu", b.node("Norm", x, *parameters(b, channels), domain="local"))
        x, before = b.node("Pad", x, b.const(np.array([0, 0, 1, 1, 0, 0, 1, 1]))), channels
    b.output(b.node("GlobalAveragePool", x, out="y"), ("N", 8, 1, 1))
    model = b.model()
    x = b.rng.normal(size=(32, 3, 6, 6)).astype(np.float32)
    wanted = run_ort(model, x=x)[0]

    def snr(result):
        error = wanted - run_ort(result.model, x=x)[0]
        return 10 * np.log10(np.square(wanted).mean() / np.square(error).mean())

    options = {"groups": 2, "normalize": False, "check": None}
    fitted = normswap.bn_to_gn(model, calibrate={"x": x}, refit=True, **options)
    assert [f.name for f in fitted.model.functions] == ["Norm", "Norm_8"]
    assert fitted.report.fit.unfitted == ()
    assert snr(fitted) > snr(normswap.bn_to_gn(model, **options)) + 4


def test_a_certificate_is_of_the_model_that_was_read(network, tmp_path):
    target, certificate = tmp_path / "gn.onnx", tmp_path / "c.json"
    report = normswap.bn_to_gn(network, target, group_size=2, certificate=certificate).report
    assert report.separation.proved
    assert report.check.is_proved
    assert normswap.verify(certificate, network, target).holds
    intents = json.loads(certificate.read_text())["swapping"]
    assert [(intent["channels"], intent["num_groups"]) for intent in intents] == [(4, 2), (8, 4)]


def test_widths_are_selected_by_the_names_of_their_functions(network):
    def swapped(**options):
        options |= {"groups": 2, "normalize": False, "check": None}
        plan = normswap.bn_to_gn(network, **options).report.plan
        return [swap.alone.channels for swap in plan.swaps]

    assert swapped(exclude=["*:Norm_8/*"]) == [4]
    assert swapped(include=["local:Norm_8/*"]) == [8]
    with pytest.raises(UsageError, match=r"all its calls together, as 'local:Norm/.*:Norm_8/"):
        swapped(include=["*/narrow/*"])
    with pytest.raises(UsageError, match="24 groups"):
        normswap.bn_to_gn(network, groups=24)


def test_a_model_of_which_nothing_is_swapped_is_given_back(network, tmp_path):
    target = tmp_path / "same.onnx"
    report = normswap.bn_to_gn(network, target, groups=2, exclude=["*"]).report
    assert len(report.plan.untouched) == 2
    assert target.read_bytes() == network.read_bytes()


def called(calls, *, opset=17, other_opset=17, data_types=("float32",), **attrs):
    """One function, called for so many channels in each call."""
    b = Builder(opset, seed=2)
    norm(b, **attrs)
    b.functions[0].opset_import[0].version = other_opset
    for number, channels in enumerate(calls):
        data_type = data_types[number % len(data_types)]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(data_type))
        x = b.input("N", channels, 4, 4, name=f"x{number}", elem_type=kind)
        given = [b.const(v.astype(data_type), dtype=data_type) for v in b.statistics(channels)]
        b.output(b.node("Norm", x, *given, domain="local"), ("N", channels, 4, 4), elem_type=kind)
    return b.model()


@pytest.mark.parametrize(
    "model", [called([4, 4]), called([4]), called([4], training_mode=1), called([])]
)
def test_a_function_of_one_width_stays(model):
    loaded = load(model.SerializeToString())
    assert not tell_widths_apart(loaded)
    assert [function.name for function in loaded.graph.functions] == ["Norm"]


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (called([4, 8, 4, 16]), ["Norm", "Norm_8", "Norm_16"]),
        (called([4, 8], other_opset=15), ["Norm", "Norm_8"]),
        (called([4, 4], data_types=("float32", "float64")), ["Norm", "Norm_4"]),
    ],
)
def test_functions_are_told_apart(model, names):
    result = normswap.bn_to_gn(model, groups=2, check=None)
    assert [function.name for function in result.model.functions] == names


def test_weights_for_torch_have_the_names_of_the_module(tmp_path):
    b = Builder(17, seed=3)
    norm(b)
    x, wanted = b.input("N", 3, 4, 4), {}
    for number, (c_in, c_out) in enumerate([(3, 4), (4, 8), (8, 8)]):
        values = b.statistics(c_out, positive=True)
        parts = ("weight", "bias", "running_mean", "running_var")
        given = [b.const(v, f"l.{number}.{p}") for p, v in zip(parts, values, strict=True)]
        wanted[f"l.{number}.weight"] = values[0].astype(np.float32)
        x = b.node("Conv", x, b.normal(c_out, c_in, 1, 1, name=f"c.{number}.weight"))
        x = b.node("Norm", x, *given, domain="local", name=f"/l.{number}/Norm")
    b.output(b.node("Relu", x, out="y"), ("N", 8, 4, 4))
    path, weights = tmp_path / "m.onnx", tmp_path / "w.npz"
    onnx.save(b.model(), path)
    result = normswap.bn_to_gn(path, groups=2, state_dict=weights, check=None)
    assert result.report.state_dict.groups == {"l.0": 2, "l.1": 2, "l.2": 2}
    assert not result.report.state_dict.unmapped
    with np.load(weights) as found:
        for name, scale in wanted.items():
            np.testing.assert_array_equal(found[name], scale)
    other = {"state_dict": tmp_path / "v.npz", "certificate": tmp_path / "c.json"}
    with pytest.raises(UsageError, match="inlines functions"):
        normswap.bn_to_gn(path, tmp_path / "gn.onnx", groups=2, **other)
