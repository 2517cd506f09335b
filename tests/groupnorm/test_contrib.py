"""The form for CUDA: right in an emulation of its kernel, and never given what that refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from support.build import Builder
from support.contrib import run_emulated, silu
from support.swapping import distance, ops, run_ort, swap_model, tensor_of

from normswap.errors import UsageError
from normswap.groupnorm.fusion import SILU
from normswap.groupnorm.reference import group_normalization

SHAPE = (2, 8, 5, 4)


def data(shape=SHAPE, dtype=np.float32, seed=1):
    return (np.random.default_rng(seed).normal(size=shape) * 2 + 3).astype(dtype)


def network(
    behind="", *, shape=SHAPE, dims=None, opset=17, dtype="float32", epsilon=1e-3, reads=()
):
    """Return BN, what stands behind it, and Identity; something else reads the tensors `reads`."""
    b = Builder(opset, dtype)
    dims = shape if dims is None else dims
    stats = b.statistics(shape[1])
    y = b.bn(b.input(*dims), shape[1], stats=stats, out="y", name="bn", epsilon=epsilon)
    if behind == "silu":
        b.node("Sigmoid", y, out="gate")
        y = b.node("Mul", y, "gate", out="s")
    elif behind == "gate first":
        b.node("Sigmoid", y, out="gate")
        y = b.node("Mul", "gate", y, out="s")
    elif behind == "swish":
        y = b.node("Swish", y, out="s")
    elif behind:
        y = b.node(behind, y, out="s")
    b.output(b.node("Identity", y, out="z"), dims)
    for name in reads:
        b.output(b.node("Abs", name), dims)
    return b.model(), [np.asarray(v).astype(b.np_dtype) for v in stats]


def truth(x, stats, groups, *, activation=False, epsilon=1e-3):
    y = group_normalization(x, stats[0], stats[1], num_groups=groups, epsilon=np.float32(epsilon))
    return silu(y) if activation else y


def on_cuda(model, groups, form="contrib", **fields):
    return swap_model(model, groups, form=form, provider="cuda", **fields)


def attributes(model):
    (node,) = [node for node in model.graph.node if node.op_type == "GroupNorm"]
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("dims", [SHAPE, ("N", 8, "H", "W")])
@pytest.mark.parametrize("opset", [9, 17, 21])
def test_is_group_normalization(opset, dims, dtype, groups):
    model, stats = network(dims=dims, opset=opset, dtype=dtype)
    swapped, plan = on_cuda(model, groups)
    assert ops(swapped) == ["Transpose", "GroupNorm", "Transpose", "Identity"]
    assert attributes(swapped)["channels_last"] == 1
    assert attributes(swapped)["activation"] == 0
    assert plan.swaps[0].form == "contrib"
    x = data(dtype=stats[0].dtype)
    (z,) = run_emulated(swapped, x=x)
    assert z.dtype == x.dtype
    assert distance(z, truth(x, stats, groups)) < {"float32": 3e-5, "float16": 2e-2}[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("behind", "opset"), [("silu", 17), ("gate first", 13), ("swish", 24)])
def test_takes_the_silu_along(behind, opset, dtype):
    model, stats = network(behind, opset=opset, dtype=dtype)
    swapped, plan = on_cuda(model, 2)
    assert ops(swapped) == ["Transpose", "GroupNorm", "Transpose", "Identity"]
    assert attributes(swapped)["activation"] == 1
    assert plan.swaps[0].activation == SILU
    assert plan.to_dict()["swaps"][0]["activation"] == SILU
    x = data(dtype=stats[0].dtype)
    (z,) = run_emulated(swapped, x=x)
    wanted = truth(x, stats, 2, activation=True)
    assert distance(z, wanted) < {"float32": 3e-5, "float16": 2e-2}[dtype]


def test_only_the_form_whose_kernel_has_it_takes_the_silu():
    model, stats = network("silu")
    for form in ("instancenorm", "primitive", "layernorm"):
        swapped, plan = on_cuda(model, 2, form=form)
        assert ops(swapped)[-3:] == ["Sigmoid", "Mul", "Identity"]
        assert plan.swaps[0].activation == ""
        x = data()
        wanted = truth(x, stats, 2, activation=True)
        assert distance(run_ort(swapped, x=x)[0], wanted) < 3e-5


@pytest.mark.parametrize(
    ("behind", "reads"),
    [
        ("Sigmoid", ()),  # no product
        ("Relu", ()),
        ("", ()),
        ("silu", ("y",)),  # the tensors in between are wanted
        ("silu", ("gate",)),
    ],
)
def test_what_is_no_silu_stays(behind, reads):
    model, _ = network(behind, reads=reads)
    swapped, plan = on_cuda(model, 2)
    assert attributes(swapped)["activation"] == 0
    assert plan.swaps[0].fused == ()
    before = [node.op_type for node in model.graph.node]
    assert ops(swapped)[3:] == before[1:]


def test_a_product_with_something_else_is_no_silu():
    b = Builder(17)
    y = b.bn(b.input(*SHAPE), 8, out="y", epsilon=1e-3)
    gate = b.node("Sigmoid", y)
    other = b.node("Mul", y, y)
    b.output(b.node("Add", gate, other, out="z"), SHAPE)
    swapped, _ = on_cuda(b.model(), 2)
    assert attributes(swapped)["activation"] == 0
    b = Builder(17)
    y = b.bn(b.input(*SHAPE), 8, out="y", epsilon=1e-3)
    gate = b.node("Sigmoid", y)
    b.output(b.node("Mul", gate, gate, out="z"), SHAPE)
    swapped, _ = on_cuda(b.model(), 2)
    assert attributes(swapped)["activation"] == 0


def test_an_output_stays_an_output():
    b = Builder(17)
    y = b.bn(b.input(*SHAPE), 8, out="y", epsilon=1e-3)
    b.output(b.node("Mul", y, b.node("Sigmoid", y), out="z"), SHAPE).output(y, SHAPE)
    swapped, _ = on_cuda(b.model(), 2)
    assert [o.name for o in swapped.graph.output] == ["z", "y"]
    assert attributes(swapped)["activation"] == 0


def test_swish_of_another_slope_is_no_silu():
    b = Builder(24)
    y = b.bn(b.input(*SHAPE), 8, out="y", epsilon=1e-3)
    b.output(b.node("Swish", y, out="z", alpha=1.5), SHAPE)
    swapped, _ = on_cuda(b.model(), 2)
    assert ops(swapped)[-1] == "Swish"


def test_several_layers_each_with_its_silu():
    b = Builder(17)
    x, stats = b.input(*SHAPE), []
    for number in range(3):
        stats.append(b.statistics(8))
        y = b.bn(x, 8, stats=stats[-1], epsilon=1e-3, name=f"bn{number}")
        x = b.node("Mul", y, b.node("Sigmoid", y))
    b.output(b.node("Identity", x, out="z"), SHAPE)
    model = b.model()
    swapped, plan = on_cuda(model, 4)
    assert len(plan.swaps) == ops(swapped).count("GroupNorm") == 3
    assert "Sigmoid" not in ops(swapped)
    wanted = x = data()
    for scale, bias, *_ in stats:
        y = group_normalization(wanted, scale, bias, num_groups=4, epsilon=np.float32(1e-3))
        wanted = silu(y)
    assert distance(run_emulated(swapped, x=x)[0], wanted) < 1e-4
    # What the checks and the drift look at is there in both networks.
    for layer in (swap.layer for swap in plan.swaps):
        assert tensor_of(model, layer.y, x=x).shape == SHAPE
        assert any(layer.y in node.output for node in swapped.graph.node)


def test_scale_and_bias_computed_at_run_time_are_brought_to_float32():
    b = Builder(17, "float16")
    x = b.input(*SHAPE)
    scale, bias = (b.node("Neg", b.input(8, name=name)) for name in ("scale", "bias"))
    rest = [b.const(np.zeros(8)), b.const(np.ones(8))]
    y = b.node("BatchNormalization", x, scale, bias, *rest, out="y", epsilon=1e-3)
    b.output(y, SHAPE)
    swapped, _ = on_cuda(b.model(), 2)
    feeds = {"x": data(dtype=np.float16), "scale": data((8,), np.float16, 2)}
    feeds["bias"] = data((8,), np.float16, 3)
    (y,) = run_emulated(swapped, **feeds)
    wanted = group_normalization(
        feeds["x"], -feeds["scale"], -feeds["bias"], num_groups=2, epsilon=np.float32(1e-3)
    )
    assert distance(y, wanted) < 2e-2


# --- what the kernel refuses -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "groups", "why"),
    [
        (8, 8, "pairs of channels"),
        (6, 2, "pairs of channels"),
        (1024, 1, "512 channels per group, not 1024"),
    ],
)
def test_groups_that_the_kernel_refuses_get_another_form(channels, groups, why):
    model, _ = network(shape=(1, channels, 2, 2))
    with pytest.raises(UsageError, match=why):
        on_cuda(model, groups)
    swapped, plan = on_cuda(model, groups, form="auto")
    assert plan.swaps[0].form == "layernorm"
    assert "GroupNorm" not in ops(swapped)


def test_what_cancels_is_taken_only_where_it_is_asked_for():
    model, _ = network()
    assert on_cuda(model, 2)[1].swaps[0].form == "contrib"
    for form in ("auto", "fastest"):
        assert on_cuda(model, 2, form=form)[1].swaps[0].form == "layernorm"


@pytest.mark.parametrize(("channels", "groups"), [(1024, 2), (512, 1), (4, 2), (66, 11)])
def test_groups_at_the_limits(channels, groups):
    model, stats = network(shape=(1, channels, 2, 2))
    swapped, plan = on_cuda(model, groups)
    assert plan.swaps[0].form == "contrib"
    x = data((1, channels, 2, 2))
    assert distance(run_emulated(swapped, x=x)[0], truth(x, stats, groups)) < 1e-4


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_types_that_the_kernel_refuses(dtype):
    model, _ = network(dtype=dtype)
    with pytest.raises(UsageError, match="float32 and float16"):
        on_cuda(model, 2)
    assert on_cuda(model, 2, form="auto")[1].swaps[0].form != "contrib"


@pytest.mark.parametrize("provider", ["cpu", "tensorrt", "dml"])
def test_no_other_provider_has_the_kernel(provider):
    model, _ = network()
    with pytest.raises(UsageError, match="CUDA only"):
        swap_model(model, 2, form="contrib", provider=provider)
    assert swap_model(model, 2, provider=provider)[1].swaps[0].form != "contrib"


def test_tensorrt_gets_what_it_can_compile():
    model, _ = network(opset=21)
    assert swap_model(model, 2, provider="tensorrt")[1].swaps[0].form == "instancenorm"


def test_onnxruntime_takes_the_model_for_valid():
    # The CPU has no kernel for it, and says so only after it has checked types and shapes.
    swapped, _ = on_cuda(network("silu")[0], 2)
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED.*GroupNorm\(1\)"):
        run_ort(swapped, x=data())
    inferred = onnx.shape_inference.infer_shapes(swapped, strict_mode=True)
    assert [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim] == list(SHAPE)


def test_silu_of_anything():
    values = np.array([0.0, 1.0, -1.0, 1e4, -1e4, 1e300, -1e300, np.inf, np.nan])
    found = silu(values)
    assert found[0] == 0
    np.testing.assert_allclose(found[1:3], [1 / (1 + np.exp(-1)), -1 / (1 + np.exp(1))], rtol=1e-15)
    assert found[3:8].tolist() == [1e4, 0.0, 1e300, 0.0, np.inf]
    assert np.isnan(found[8])
