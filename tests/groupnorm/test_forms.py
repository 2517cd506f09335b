"""Every form, against the float64 reference, over opsets, types, ranks and shapes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.nodecases import node_cases
from support.swapping import distance, ops, run_ort, skip_if_imprecise, swap_model

from normswap.errors import UsageError
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.reference import group_normalization

ROUNDING = {"float32": 3e-5, "float16": 2e-2, "float64": 1e-12}
ON_CPU = ["native", "layernorm", "instancenorm", "centred", "primitive", "auto"]


def one_batchnorm(shape, *, opset=17, dtype="float32", dims=None, stats=None, **attrs):
    b = Builder(opset, dtype)
    dims = shape if dims is None else dims
    stats = stats if stats is not None else b.statistics(shape[1])
    y = b.bn(b.input(*dims), shape[1], stats=stats, out="y", name="bn", **attrs)
    b.output(y, dims)
    return b.model(), [np.asarray(v).astype(b.np_dtype) for v in stats]


def data(shape, dtype, seed=1):
    return (np.random.default_rng(seed).normal(size=shape) * 2 + 3).astype(dtype)


def symbolic(shape, *, spatial):
    tail = [f"d{i}" for i in range(len(shape) - 2)] if spatial else shape[2:]
    return ["N", shape[1], *tail]


def expected(x, stats, groups, epsilon):
    return group_normalization(
        x, stats[0], stats[1], num_groups=groups, epsilon=np.float32(epsilon)
    )


def possible(form, opset, dtype, rank):
    if form == "native":
        return opset >= 21 and rank > 2
    if form == "layernorm":
        return opset >= 17
    return form != "instancenorm" or dtype != "float64"


SHAPES = [(3, 8), (2, 8, 5), (2, 8, 5, 4), (2, 8, 3, 2, 2)]


@pytest.mark.parametrize("form", ON_CPU)
@pytest.mark.parametrize("opset", [7, 9, 13, 17, 18, 21, 23])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"rank{len(s)}")
def test_is_group_normalization(shape, opset, form):
    if not possible(form, opset, "float32", len(shape)):
        model, _ = one_batchnorm(shape, opset=opset)
        with pytest.raises(UsageError, match="can't be written in the"):
            swap_model(model, 2, form=form)
        return
    x = data(shape, np.float32)
    for dims in (shape, symbolic(shape, spatial=False), symbolic(shape, spatial=True)):
        for groups in (1, 2, 8):
            model, stats = one_batchnorm(shape, opset=opset, dims=dims, epsilon=1e-3)
            swapped, plan = swap_model(model, groups, form=form)
            assert "BatchNormalization" not in ops(swapped)
            assert [o.name for o in swapped.graph.output] == ["y"]
            (y,) = run_ort(swapped, x=x)
            error = distance(y, expected(x, stats, groups, 1e-3))
            assert error < ROUNDING["float32"], (dims, groups, plan.swaps[0].form)


CASES = [case for op in ("GroupNormalization", "InstanceNormalization") for case in node_cases(op)]


@pytest.mark.parametrize("form", ON_CPU)
@pytest.mark.parametrize("opset", [7, 13, 17, 21, 24])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_agrees_with_the_onnx_node_cases(case, opset, form):
    _, attributes, (x, scale, bias), (y,) = case
    if not possible(form, opset, "float32", x.ndim):
        pytest.skip("the form needs a later opset")
    channels = x.shape[1]
    stats = (scale, bias, np.zeros(channels), np.ones(channels))
    epsilon = attributes.get("epsilon", 1e-5)
    model, _ = one_batchnorm(x.shape, opset=opset, stats=stats, epsilon=epsilon)
    swapped, _ = swap_model(model, attributes.get("num_groups", channels), form=form)
    np.testing.assert_allclose(run_ort(swapped, x=x)[0], y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ON_CPU)
@pytest.mark.parametrize("opset", [7, 13, 17, 21])
@pytest.mark.parametrize("case", node_cases("LayerNormalization"), ids=lambda case: case[0])
def test_agrees_with_the_onnx_layer_normalization_cases(case, opset, form):
    _, attributes, (x, scale, bias), (y, *_) = case
    axis = attributes.get("axis", -1) % x.ndim
    # One group of the axes that are normalized, the first of them for channels.
    rows = x.reshape(-1, *x.shape[axis:])
    if not possible(form, opset, "float32", rows.ndim):
        pytest.skip("the form needs a later opset")
    ones, zeros = np.ones(rows.shape[1]), np.zeros(rows.shape[1])
    epsilon = attributes.get("epsilon", 1e-5)
    stats = (ones, zeros, zeros, ones)
    model, _ = one_batchnorm(rows.shape, opset=opset, stats=stats, epsilon=epsilon)
    swapped, _ = swap_model(model, 1, form=form)
    normalized = run_ort(swapped, x=rows)[0].reshape(x.shape)
    np.testing.assert_allclose(normalized * scale + bias, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ON_CPU)
@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("opset", [13, 21])
def test_other_types(dtype, opset, form):
    shape = (2, 8, 5, 4)
    if not possible(form, opset, dtype, 4):
        model, _ = one_batchnorm(shape, opset=opset, dtype=dtype)
        with pytest.raises(UsageError):
            swap_model(model, 2, form=form)
        return
    model, stats = one_batchnorm(shape, opset=opset, dtype=dtype, epsilon=1e-3)
    swapped, _ = swap_model(model, 2, form=form)
    x = data(shape, stats[0].dtype)
    (y,) = run_ort(swapped, x=x)
    assert y.dtype == x.dtype
    assert distance(y, expected(x, stats, 2, 1e-3)) < ROUNDING[dtype]


@pytest.mark.parametrize("form", ["layernorm", "instancenorm", "centred", "primitive"])
def test_statistics_of_float16_do_not_overflow(form):
    # The sum of squares is 6e8, and the largest float16 is 65504.
    shape = (1, 4, 32, 32)
    model, stats = one_batchnorm(shape, opset=17, dtype="float16", epsilon=1e-5)
    x = (np.random.default_rng(0).normal(size=shape) * 400).astype(np.float16)
    swapped, _ = swap_model(model, 2, form=form)
    (y,) = run_ort(swapped, x=x)
    assert distance(y, expected(x, stats, 2, 1e-5)) < 5e-3


def test_bfloat16_is_cast_around_float32():
    model, _ = one_batchnorm((2, 8, 4, 4), dtype="bfloat16")
    swapped, _ = swap_model(model, 2, form="instancenorm")
    assert ops(swapped)[0] == ops(swapped)[-1] == "Cast"
    casts = [node for node in swapped.graph.node if node.op_type == "Cast"]
    targets = [helper.get_attribute_value(node.attribute[0]) for node in casts]
    assert targets == [TensorProto.FLOAT, TensorProto.BFLOAT16]


# --- as small as it can be ------------------------------------------------------------

UNIT = (np.ones(8), np.zeros(8), np.zeros(8), np.ones(8))
SCALED = (np.arange(1.0, 9), np.zeros(8), np.zeros(8), np.ones(8))
SHIFTED = (np.ones(8), np.arange(8.0), np.zeros(8), np.ones(8))
FULL = (np.arange(1.0, 9), np.arange(8.0), np.zeros(8), np.ones(8))
BY_GROUP = (np.repeat([2.0, 3.0], 4), np.repeat([1.0, 5.0], 4), np.zeros(8), np.ones(8))
VIEW = ["Reshape", "InstanceNormalization", "Reshape"]


@pytest.mark.parametrize(
    ("stats", "groups", "form", "wanted"),
    [
        (FULL, 8, "instancenorm", ["InstanceNormalization"]),
        (UNIT, 2, "instancenorm", VIEW),
        (BY_GROUP, 2, "instancenorm", VIEW),
        (SCALED, 2, "instancenorm", [*VIEW, "Mul"]),
        (SHIFTED, 2, "instancenorm", [*VIEW, "Add"]),
        (FULL, 2, "instancenorm", [*VIEW, "Mul", "Add"]),
        (FULL, 2, "native", ["GroupNormalization"]),
        (UNIT, 1, "layernorm", ["ConstantOfShape", "LayerNormalization"]),
        (FULL, 1, "layernorm", ["ConstantOfShape", "LayerNormalization", "Mul", "Add"]),
        (
            FULL,
            2,
            "layernorm",
            ["Reshape", "ConstantOfShape", "LayerNormalization", "Reshape", "Mul", "Add"],
        ),
    ],
)
def test_no_node_too_many(stats, groups, form, wanted):
    skip_if_imprecise(form)
    shape = (2, 8, 9, 9)
    model, typed = one_batchnorm(shape, opset=21, stats=stats, epsilon=1e-5)
    swapped, _ = swap_model(model, groups, form=form)
    assert ops(swapped) == wanted
    x = data(shape, np.float32)
    assert distance(run_ort(swapped, x=x)[0], expected(x, typed, groups, 1e-5)) < 3e-5


def test_layer_normalization_of_vectors_is_one_node():
    model, _ = one_batchnorm((2, 8), stats=FULL)
    assert ops(swap_model(model, 1, form="layernorm")[0]) == ["LayerNormalization"]


@pytest.mark.parametrize("form", ON_CPU)
@pytest.mark.parametrize("stats", [UNIT, SCALED, SHIFTED, BY_GROUP])
def test_a_part_that_vanishes_changes_nothing(stats, form):
    skip_if_imprecise(form)
    shape = (2, 8, 9, 9)
    for groups in (1, 2, 8):
        model, typed = one_batchnorm(shape, opset=21, stats=stats, epsilon=1e-3)
        swapped, _ = swap_model(model, groups, form=form)
        x = data(shape, np.float32)
        assert distance(run_ort(swapped, x=x)[0], expected(x, typed, groups, 1e-3)) < 3e-5


def test_layers_share_their_constants():
    b = Builder(17)
    x = b.input("N", 8, 9, 9)
    for _ in range(5):
        x = b.node("Relu", b.bn(x, 8, stats=FULL))
    b.output(x, ["N", 8, 9, 9])
    swapped, _ = swap_model(b.model(), 2, form="instancenorm")
    shared = [t.name for t in swapped.graph.initializer if t.name.startswith("groupnorm/")]
    assert len(shared) == 2  # the two shapes
    assert len(swapped.graph.initializer) <= 2 + 5 * 4


def test_names_tell_what_things_are():
    model, _ = one_batchnorm((2, 8, 9, 9), stats=FULL)
    swapped, _ = swap_model(model, 2, form="instancenorm")
    assert [node.name for node in swapped.graph.node] == [
        "bn/grouped/Reshape",
        "bn/normalized/InstanceNormalization",
        "bn/ungrouped/Reshape",
        "bn/scaled/Mul",
        "bn/shifted/Add",
    ]


def test_between_convolutions_the_affine_is_a_depthwise_convolution():
    b = Builder(17)
    x = b.conv(b.input(2, 3, 12, 12), 3, 16, pads=[1, 1, 1, 1])
    stats = b.statistics(16)
    y = b.node("Relu", b.bn(x, 16, stats=stats, epsilon=1e-5, out="y"))
    b.output(b.conv(y, 16, 4, out="z"), None)
    model = b.model()
    swapped, _ = swap_model(model, 4, threads=1)
    assert ops(swapped) == ["Conv", *VIEW, "Conv", "Relu", "Conv"]
    x = data((2, 3, 12, 12), np.float32)
    other, _ = swap_model(model, 4, form="primitive")
    assert distance(run_ort(swapped, x=x)[0], run_ort(other, x=x)[0]) < 1e-4
    # Not for another provider, which has no such layout.
    assert "Mul" in ops(swap_model(model, 4, provider="tensorrt", form="instancenorm")[0])


# --- activations that hurt ------------------------------------------------------------

SHAPE = (2, 64, 16, 16)
RNG = np.random.default_rng(5)
ADVERSARIAL = {
    "constant": np.full(SHAPE, 1e4),
    "huge": RNG.normal(size=SHAPE) * 1e15,
    "tiny": RNG.normal(size=SHAPE) * 1e-15,
    "subnormal": RNG.normal(size=SHAPE) * 1e-40,
    "large mean": RNG.normal(size=SHAPE) * 3 + 100,
}


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("form", ["layernorm", "instancenorm", "centred", "primitive"])
def test_adversarial_activations(form, name):
    skip_if_imprecise(form)
    x = ADVERSARIAL[name].astype(np.float32)
    model, stats = one_batchnorm(SHAPE, opset=21, epsilon=1e-5)
    swapped, _ = swap_model(model, 8, form=form)
    for optimized in (True, False):
        (y,) = run_ort(swapped, x=x, optimized=optimized)
        assert distance(y, expected(x, stats, 8, 1e-5)) < 1e-4


def test_the_primitive_form_is_exact_at_any_mean():
    skip_if_imprecise("layernorm")
    x = (np.random.default_rng(2).normal(size=SHAPE) * 1e-2 + 1e4).astype(np.float32)
    model, stats = one_batchnorm(SHAPE, opset=21, epsilon=1e-5)
    truth = expected(x, stats, 8, 1e-5)
    error = {
        form: distance(run_ort(swap_model(model, 8, form=form)[0], x=x)[0], truth)
        for form in ("primitive", "centred", "layernorm", "instancenorm")
    }
    assert error["primitive"] < 1e-5
    assert 1e-3 < error["centred"] < 0.2
    assert 1e-3 < error["layernorm"] < 1
    assert 1e-3 < error["instancenorm"] < 0.5


def test_the_centred_form_goes_once_less_through_memory():
    model, _ = one_batchnorm((2, 8, 9, 9), stats=FULL)
    assert ops(swap_model(model, 2, form="centred")[0]) == [
        *("Reshape", "Reshape", "ReduceMean", "ReduceMean", "Sub"),  # of channels, then of groups
        *("Reshape", "Transpose", "MatMul", "Reshape", "Add", "Sqrt", "Div"),
        *("Reshape", "Reshape", "Mul", "Reshape", "Add"),
    ]


@pytest.mark.parametrize("dims", [(2, 8), (2, 8, 1, 1)])
def test_one_element_a_group_gives_exactly_the_bias(dims):
    """A command refuses that; a plan is carried out as it is."""
    model, stats = one_batchnorm(dims, stats=FULL, epsilon=1e-5)
    swapped, _ = swap_model(model, 8)
    (y,) = run_ort(swapped, x=data(dims, np.float32))
    assert (y == np.broadcast_to(stats[1].reshape(-1, *[1] * (len(dims) - 2)), dims)).all()


# --- what is not known ----------------------------------------------------------------


@pytest.mark.parametrize("form", ["layernorm", "instancenorm", "centred", "primitive"])
def test_unknown_rank(form):
    b = Builder(17)
    x = b.input("size")
    shape = b.input("rank", name="shape", elem_type=TensorProto.INT64)
    stats = b.statistics(8)
    y = b.bn(b.node("Reshape", x, shape), 8, stats=stats, epsilon=1e-5)
    flat = b.const(np.array([-1]))
    b.output(b.node("Reshape", y, flat, out="y"), ["size"])
    swapped, _ = swap_model(b.model(), 2, form=form)
    for shape in ((2, 8, 5), (2, 8, 3, 4)):
        x = data(shape, np.float32)
        (y,) = run_ort(swapped, x=x.ravel(), shape=np.array(shape))
        typed = [np.asarray(v, np.float32) for v in stats]
        assert distance(y.reshape(shape), expected(x, typed, 2, 1e-5)) < 3e-5


@pytest.mark.parametrize("form", ON_CPU)
@pytest.mark.parametrize("dims", [(2, 8, 5, 4), ("N", 8, "H", "W"), (2, 8)])
def test_scale_and_bias_computed_at_run_time(dims, form):
    shape = tuple(d if isinstance(d, int) else 4 for d in dims)
    if form == "native" and len(shape) == 2:
        pytest.skip("GroupNormalization needs a spatial axis")
    b = Builder(21)
    x = b.input(*dims)
    scale = b.node("Neg", b.input(8, name="scale"))
    bias = b.node("Neg", b.input(8, name="bias"))
    constants = [b.const(np.zeros(8)), b.const(np.ones(8))]
    y = b.node("BatchNormalization", x, scale, bias, *constants, out="y", epsilon=1e-3)
    b.output(y, dims)
    for groups in (1, 2, 8):
        swapped, _ = swap_model(b.model(), groups, form=form)
        feeds = {
            "x": data(shape, np.float32),
            "scale": data((8,), np.float32, 2),
            "bias": data((8,), np.float32, 3),
        }
        (y,) = run_ort(swapped, **feeds)
        truth = expected(feeds["x"], [-feeds["scale"], -feeds["bias"]], groups, 1e-3)
        assert distance(y, truth) < 3e-5


def test_contrib_is_for_cuda():
    model, _ = one_batchnorm((2, 8, 5, 4))
    with pytest.raises(UsageError, match="CUDA only"):
        swap_model(model, 2, form="contrib")
    swapped, plan = swap_model(model, 2, form="contrib", provider="cuda")
    assert plan.swaps[0].form == "contrib"
    assert ops(swapped) == ["Transpose", "GroupNorm", "Transpose"]
    assert {o.domain: o.version for o in swapped.opset_import}["com.microsoft"] == 1
    attrs = {a.name: helper.get_attribute_value(a) for a in swapped.graph.node[1].attribute}
    assert attrs["groups"] == 2
    assert attrs["channels_last"] == 1


@pytest.mark.parametrize("dims", [(2, 8), (2, 8, 5)])
def test_contrib_takes_images_only(dims):
    model, _ = one_batchnorm(dims)
    with pytest.raises(UsageError, match=r"\(N, C, H, W\)"):
        swap_model(model, 2, provider="cuda", form="contrib")
    assert swap_model(model, 2, provider="cuda")[1].swaps[0].form == "layernorm"


def test_every_form_has_its_own_name():
    assert set(FORMS) == {"native", "layernorm", "instancenorm", "centred", "primitive", "contrib"}
    assert all(name == form.name for name, form in FORMS.items())
