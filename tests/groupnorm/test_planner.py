"""Which normalizations a swap takes, which it leaves, and which it refuses."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.swapping import distance, ops, run_ort, swap_model, swap_options

import normswap
from normswap.errors import ModelError, UsageError
from normswap.groupnorm.apply import apply_swaps
from normswap.groupnorm.choose import contenders
from normswap.groupnorm.forms import layernorm
from normswap.groupnorm.options import FittedAffine, Timings
from normswap.groupnorm.planner import by_itself, plan_swap, with_timings
from normswap.groupnorm.policy import GroupPolicy, OnIndivisible
from normswap.groupnorm.reference import group_normalization
from normswap.groupnorm.selection import fits
from normswap.model import load, write_to


@pytest.fixture
def runtime(monkeypatch):
    """Pretend that other versions of onnxruntime are installed."""

    def pretend(**packages):
        monkeypatch.setattr(layernorm, "installed", lambda: packages)
        layernorm.is_precise_on_cpu.cache_clear()

    yield pretend
    monkeypatch.undo()
    layernorm.is_precise_on_cpu.cache_clear()


@pytest.fixture(autouse=True)
def recent(runtime):
    runtime(onnxruntime="1.32.0")


def two_layers(first=8, second=24):
    """Conv, BN that folds, Relu, Conv, Relu, BN that doesn't."""
    b = Builder(17)
    x = b.conv(b.input("N", 3, 8, 8), 3, first)
    x = b.node("Relu", b.bn(x, first, name="stem/bn", out="stem"))
    x = b.node("Relu", b.conv(x, first, second))
    b.output(b.bn(x, second, name="head/bn", out="head"), None)
    return b.model()


def plan_of(model, groups=4, **fields):
    return plan_swap(load(model.SerializeToString()), swap_options(groups, **fields))


def swapped_names(plan):
    return [swap.site.node for swap in plan.swaps]


def test_every_normalization_is_in_the_plan_once():
    plan = plan_of(two_layers())
    assert swapped_names(plan) == ["stem/bn", "head/bn"]
    assert plan.total == 2
    assert [swap.num_groups for swap in plan.swaps] == [4, 4]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"include": ("stem/*",)}, ["stem/bn"]),
        ({"include": ("head",)}, ["head/bn"]),  # a tensor's name
        ({"include": ("*",), "exclude": ("stem*",)}, ["head/bn"]),
        ({"exclude": ("*/bn",)}, []),
        ({"only_kept": True}, ["head/bn"]),
    ],
)
def test_selection(fields, names):
    plan = plan_of(two_layers(), **fields)
    assert swapped_names(plan) == names
    assert plan.total == 2
    assert all(entry.reason and entry.detail for entry in plan.untouched)


@pytest.mark.parametrize(
    ("name", "pattern", "fit"),
    [
        ("x[0]", "x[0]", True),
        ("x[0]", "*[?]", True),
        ("a/x[0]/y", "*x[0]*", True),
        ("[bold]x[/]", "[bold]x[/]", True),
        ("x0", "x[0]", False),
        ("x[0]", "x[1]", False),
    ],
)
def test_brackets_in_a_pattern_are_brackets(name, pattern, fit):
    """As exporters write them into names; only ``*`` and ``?`` are more than themselves."""
    assert fits([name], [pattern]) is fit


def test_a_pattern_that_fits_nothing_is_a_mistake():
    with pytest.raises(UsageError, match=r"matches the pattern 'layer9\.\*'"):
        plan_of(two_layers(), exclude=("layer9.*",))


def test_all_layers_that_do_not_fit_are_named_at_once():
    with pytest.raises(UsageError, match=r"stem/bn has 10.*head/bn has 24") as caught:
        plan_of(two_layers(10, 24), 16)
    assert "--groups 2 divides the channels of every layer" in caught.value.tip


def test_more_groups_than_channels_is_refused():
    with pytest.raises(UsageError, match="stem/bn has 8"):
        plan_of(two_layers(8, 32), 32)


def test_layers_that_are_not_selected_need_not_fit():
    plan = plan_of(two_layers(10, 24), 12, exclude=("stem/*",))
    assert swapped_names(plan) == ["head/bn"]


@pytest.mark.parametrize(
    ("rule", "groups"), [(OnIndivisible.GCD, [2, 8]), (OnIndivisible.NEAREST, [10, 12])]
)
def test_other_numbers_for_layers_that_do_not_fit(rule, groups):
    plan = plan_of(two_layers(10, 24), policy=GroupPolicy(groups=16, on_indivisible=rule))
    assert [swap.num_groups for swap in plan.swaps] == groups


def test_layers_that_do_not_fit_may_stay():
    policy = GroupPolicy(groups=12, on_indivisible=OnIndivisible.KEEP)
    model, plan = swap_model(two_layers(10, 24), policy=policy)
    assert swapped_names(plan) == ["head/bn"]
    assert ops(model).count("BatchNormalization") == 1


def test_the_plan_is_plain_data():
    plan = plan_of(two_layers(), threads=1)
    data = json.loads(json.dumps(plan.to_dict()))
    assert data["swaps"][0]["site"]["node"] == "stem/bn"
    assert data["swaps"][0]["num_groups"] == 4
    assert data["swaps"][0]["form"] == "instancenorm"


def test_planning_changes_nothing():
    model = load(two_layers().SerializeToString())
    before = io.BytesIO()
    write_to(model, before)
    plan_swap(model, swap_options(4))
    after = io.BytesIO()
    write_to(model, after)
    assert before.getvalue() == after.getvalue()


def test_a_plan_is_for_its_own_model():
    plan = plan_of(two_layers())
    with pytest.raises(ModelError, match="another model"):
        apply_swaps(plan, load(two_layers(16).SerializeToString()))


def test_a_model_without_normalizations_stays_as_it_is():
    b = Builder()
    b.output(b.node("Relu", b.input(2, 3)), None)
    model = b.model()
    swapped, plan = swap_model(model)
    assert plan.total == 0
    assert swapped == model


# --- epsilon and the affine -----------------------------------------------------------


def test_epsilon_and_affine_are_kept_set_or_dropped():
    b = Builder(17)
    stats = b.statistics(8)
    b.output(b.bn(b.input(2, 8, 6, 6), 8, stats=stats, epsilon=0.1, out="y"), None)
    model = b.model()
    x = b.rng.normal(size=(2, 8, 6, 6)).astype(np.float32)
    scale, bias = (np.asarray(v, np.float32) for v in stats[:2])
    for fields, truth in (
        ({}, (scale, bias, 0.1)),
        ({"epsilon": 0.5}, (scale, bias, 0.5)),
        ({"epsilon": 0.0}, (scale, bias, 0.0)),
        ({"keep_scale": False}, (None, bias, 0.1)),
        ({"keep_bias": False}, (scale, None, 0.1)),
        ({"keep_scale": False, "keep_bias": False}, (None, None, 0.1)),
    ):
        swapped, plan = swap_model(model, 2, **fields)
        expected = group_normalization(x, *truth[:2], num_groups=2, epsilon=truth[2])
        assert distance(run_ort(swapped, x=x)[0], expected) < 1e-5
        assert plan.swaps[0].epsilon == pytest.approx(truth[2])
        assert (plan.swaps[0].scale, plan.swaps[0].bias) == tuple(v is not None for v in truth[:2])


def test_a_plan_outlives_its_model():
    content = two_layers().SerializeToString()
    model = load(content)
    plan = plan_swap(model, swap_options(4))
    apply_swaps(plan, model)
    made = [model]
    for changed in (plan, by_itself(plan)):  # that absorbs nothing here in any case
        made.append(load(content))
        apply_swaps(changed, made[-1])
    texts = []
    for each in made:
        stream = io.BytesIO()
        write_to(each, stream)
        texts.append(stream.getvalue())
    assert texts[0] == texts[1] == texts[2]


def test_by_itself_takes_nothing_along():
    b = Builder(17)
    y = b.bn(b.input(2, 8, 5, 4), 8, epsilon=1e-3, name="first", out="y")
    b.output(b.node("Mul", y, b.const(np.array(2.0)), out="z"), None)
    plan = plan_of(b.model(), 2)
    (swap,) = plan.swaps
    assert (swap.layer.y, len(swap.fused)) == ("z", 1)
    (alone,) = by_itself(plan, "primitive").swaps
    assert (alone.layer.y, alone.fused, alone.absorbed, alone.form) == ("y", (), (), "primitive")
    assert np.array_equal(2 * alone.layer.scale, swap.layer.scale)


@pytest.mark.parametrize("epsilon", [-1.0, np.nan, np.inf, 1e39])
def test_an_epsilon_that_is_none_is_refused(epsilon):
    with pytest.raises(UsageError, match="must not be negative, and must fit a float32"):
        plan_of(two_layers(), epsilon=epsilon)


def test_an_absent_epsilon_is_that_of_the_operator():
    b = Builder(17)
    x = b.input(2, 8, 6)
    y = b.node("BatchNormalization", x, *(b.const(v) for v in b.statistics(8)))
    b.output(y, None)
    assert plan_of(b.model()).swaps[0].epsilon == pytest.approx(1e-5)


def test_a_fitted_affine_takes_the_place_of_the_layers_own():
    b = Builder(17)
    b.output(b.bn(b.input(2, 8, 6, 6), 8, epsilon=1e-5, out="y"), None)
    x = b.rng.normal(size=(2, 8, 6, 6)).astype(np.float32)
    scale, bias = b.rng.normal(size=(2, 8))
    swapped, _ = swap_model(b.model(), 2, affines={("", "y"): FittedAffine(scale, bias, 4)})
    expected = group_normalization(x, scale, bias, num_groups=4, epsilon=1e-5)
    assert distance(run_ort(swapped, x=x)[0], expected) < 1e-5


def test_shared_parameters_do_not_leak():
    b = Builder(17)
    x = b.input(2, 8, 6)
    scale, bias, mean, var = (b.const(v) for v in b.statistics(8))
    y = b.node("BatchNormalization", x, scale, bias, mean, var, out="y", name="bn")
    b.output(y, None)
    b.output(b.node("Add", mean, scale, out="z"), None)
    model = b.model()
    swapped, _ = swap_model(model, 2)
    feed = b.rng.normal(size=(2, 8, 6)).astype(np.float32)
    assert (run_ort(swapped, x=feed)[1] == run_ort(model, x=feed)[1]).all()


def test_a_parameter_that_a_caller_may_override_can_still_be_overridden():
    b = Builder(17)
    stats = b.statistics(8)
    b.output(b.bn(b.input(2, 8, 6, 6), 8, stats=stats, epsilon=1e-5, out="y"), None)
    model = b.model()
    name = model.graph.node[0].input[1]
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]))
    swapped, _ = swap_model(model, 2)
    x = b.rng.normal(size=(2, 8, 6, 6)).astype(np.float32)
    bias = np.asarray(stats[1], np.float32)
    for scale, feeds in ((np.asarray(stats[0]), {}), (np.full(8, 7.0), {name: np.full(8, 7.0)})):
        given = {key: value.astype(np.float32) for key, value in feeds.items()}
        expected = group_normalization(x, scale, bias, num_groups=2, epsilon=1e-5)
        assert distance(run_ort(swapped, x=x, **given)[0], expected) < 1e-4


# --- training mode, old opsets, what is refused ---------------------------------------


def training(opset, *, used):
    b = Builder(opset)
    x = b.input(2, 8, 6, 6)
    parameters = [b.const(v) for v in b.statistics(8)]
    attrs = {"training_mode": 1} if opset >= 14 else {}
    outputs = 3 if opset >= 14 else 5
    y, mean, *_ = b.node(
        "BatchNormalization", x, *parameters, outputs=outputs, name="bn", epsilon=1e-5, **attrs
    )
    b.output(b.node("Identity", y, out="y"), None)
    if used:
        b.output(b.node("Identity", mean, out="m"), [8])
    return b.model(), b


@pytest.mark.parametrize("opset", [9, 13, 14, 15, 21])
def test_training_mode_is_swapped(opset):
    model, b = training(opset, used=False)
    swapped, _ = swap_model(model, 2)
    assert "BatchNormalization" not in ops(swapped)
    x = b.rng.normal(size=(2, 8, 6, 6)).astype(np.float32)
    scale, bias = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer[:2])
    expected = group_normalization(x, scale, bias, num_groups=2, epsilon=1e-5)
    assert distance(run_ort(swapped, x=x)[0], expected) < 1e-4


@pytest.mark.parametrize("opset", [9, 15])
def test_training_mode_whose_statistics_are_used_is_refused(opset):
    model, _ = training(opset, used=True)
    with pytest.raises(ModelError, match=r"bn: its output batchnormalization_.* is used") as caught:
        swap_model(model, 2)
    assert "--exclude" in caught.value.tip


def test_per_activation_statistics_are_refused():
    b = Builder(7)
    parameters = [b.const(np.ones((8, 3))) for _ in range(4)]
    y = b.node("BatchNormalization", b.input(2, 8, 3), *parameters, name="bn", spatial=0)
    b.output(y, None)
    with pytest.raises(ModelError, match="spatial=0"):
        swap_model(b.model(), 2)


def test_one_value_a_channel_is_none_per_activation():
    b = Builder(7)
    b.output(b.bn(b.input(2, 8), 8, name="bn", spatial=0), None)
    _, plan = swap_model(b.model(), 2)
    assert [swap.num_groups for swap in plan.swaps] == [2]


def test_an_unknown_number_of_channels_is_refused():
    b = Builder(17)
    x = b.input("N", "C", 6)
    parameters = [b.input("C", name=name) for name in ("scale", "B", "mean", "var")]
    b.output(b.node("BatchNormalization", x, *parameters, name="bn"), None)
    with pytest.raises(ModelError, match="the number of its channels is not known"):
        swap_model(b.model(), 2)


def test_refusals_come_all_at_once():
    b = Builder(15)
    x = b.input(2, 8, 6)
    for number in range(3):
        parameters = [b.const(v) for v in b.statistics(8)]
        x, mean, _ = b.node(
            "BatchNormalization", x, *parameters, outputs=3, name=f"bn{number}", training_mode=1
        )
        b.output(mean, [8])
    b.output(x, None)
    with pytest.raises(ModelError, match=r"3 of 3 .*bn0.*bn1.*bn2"):
        swap_model(b.model(), 2)


# --- subgraphs and functions ----------------------------------------------------------


def test_normalizations_in_subgraphs_are_swapped():
    b = Builder(17)
    x = b.input(2, 8, 6, 6)
    condition = b.input(name="condition", elem_type=TensorProto.BOOL)
    parameters = [b.const(v) for v in b.statistics(8)]
    branches = {}
    for name, epsilon in (("then_branch", 1e-5), ("else_branch", 0.5)):
        node = helper.make_node(
            "BatchNormalization", [x, *parameters], [f"{name}_y"], f"{name}_bn", epsilon=epsilon
        )
        info = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [2, 8, 6, 6])
        branches[name] = helper.make_graph([node], name, [], [info])
    b.output(b.node("If", condition, out="y", name="choice", **branches), [2, 8, 6, 6])
    swapped, plan = swap_model(b.model(), 2)
    graphs = {swap.site.graph for swap in plan.swaps}
    assert graphs == {"choice.then_branch", "choice.else_branch"}
    feed = b.rng.normal(size=(2, 8, 6, 6)).astype(np.float32)
    scale, bias = (onnx.numpy_helper.to_array(t) for t in b.initializers[:2])
    for chosen, epsilon in ((True, 1e-5), (False, 0.5)):
        (y,) = run_ort(swapped, x=feed, condition=np.array(chosen))
        expected = group_normalization(feed, scale, bias, num_groups=2, epsilon=epsilon)
        assert distance(y, expected) < 1e-5


@pytest.mark.parametrize("form", ["layernorm", "instancenorm", "centred", "primitive"])
def test_normalizations_in_functions_are_swapped(form):
    b = Builder(17)
    constants = [
        helper.make_node(
            "Constant", [], [name], value=onnx.numpy_helper.from_array(v.astype(np.float32))
        )
        for name, v in zip("sbmv", b.statistics(8), strict=True)
    ]
    node = helper.make_node("BatchNormalization", list("xsbmv"), ["y"], "bn", epsilon=1e-3)
    opsets = [helper.make_opsetid("", 17)]
    b.functions.append(
        helper.make_function("local", "Block", ["x"], ["y"], [*constants, node], opsets)
    )
    b.extra_opsets.append(helper.make_opsetid("local", 1))
    x = b.input(2, 8, 6, 6)
    b.output(b.node("Block", x, out="y", domain="local"), [2, 8, 6, 6])
    swapped, plan = swap_model(b.model(), 2, form=form)
    assert plan.swaps[0].site.graph == "local:Block"
    assert "BatchNormalization" not in [n.op_type for n in swapped.functions[0].node]
    feed = b.rng.normal(size=(2, 8, 6, 6)).astype(np.float32)
    scale, bias = (onnx.numpy_helper.to_array(c.attribute[0].t) for c in constants[:2])
    expected = group_normalization(feed, scale, bias, num_groups=2, epsilon=1e-3)
    assert distance(run_ort(swapped, x=feed)[0], expected) < 1e-5


@pytest.mark.parametrize("form", ["layernorm", "instancenorm", "centred", "primitive"])
def test_a_function_whose_weights_are_arguments(form):
    b = Builder(17)
    node = helper.make_node("BatchNormalization", list("xsbmv"), ["y"], "bn", epsilon=1e-3)
    opsets = [helper.make_opsetid("", 17)]
    b.functions.append(helper.make_function("local", "Block", list("xsbmv"), ["y"], [node], opsets))
    b.extra_opsets.append(helper.make_opsetid("local", 1))
    x = b.input(2, 8, 6, 6)
    parameters = [[b.const(v) for v in b.statistics(8)] for _ in range(2)]
    for own in parameters:
        x = b.node("Block", x, *own, domain="local")
    b.output(b.node("Identity", x, out="y"), [2, 8, 6, 6])
    swapped, plan = swap_model(b.model(), 2, form=form)
    assert plan.swaps[0].site.graph == "local:Block"
    feed = b.rng.normal(size=(2, 8, 6, 6)).astype(np.float32)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in b.initializers}
    expected = feed
    for own in parameters:
        scale, bias = values[own[0]], values[own[1]]
        expected = group_normalization(expected, scale, bias, num_groups=2, epsilon=1e-3)
    assert distance(run_ort(swapped, x=feed)[0], expected) < 1e-4


def test_what_is_not_swapped_survives():
    model = two_layers()
    model.doc_string = "kept"
    model.metadata_props.add(key="author", value="someone")
    model.graph.node[0].doc_string = "a convolution"
    swapped, _ = swap_model(model, 4)
    assert swapped.doc_string == "kept"
    assert swapped.metadata_props == model.metadata_props
    assert swapped.graph.input == model.graph.input
    assert swapped.graph.output == model.graph.output
    assert swapped.graph.node[0] == model.graph.node[0]


# --- the form that auto takes -----------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "groups", "opset", "threads", "form"),
    [
        # One thread: little between the forms but where the layer is large, of large groups.
        ((1, 64, 64, 64), 32, 17, 1, "instancenorm"),
        ((1, 64, 128, 128), 32, 17, 1, "centred"),
        ((1, 64, 128, 128), 64, 17, 1, "instancenorm"),  # a single node
        ((16, 256, 14, 14), 32, 17, 1, "instancenorm"),  # small groups
        ((1, 64, "H", "W"), 32, 17, 1, "instancenorm"),
        # Several: instancenorm has one of them.
        ((1, 64, 128, 128), 32, 17, 2, "centred"),
        ((1, 64, 64, 64), 1, 17, 2, "centred"),
        ((1, 64, 128, 128), 64, 16, 2, "centred"),
        (("N", 64, 128, 128), 32, 17, 2, "centred"),
        ((16, 128, 28, 28), 32, 17, 2, "centred"),  # groups that are small for a smaller layer
        ((1, 128, 28, 56), 32, 17, 2, "layernorm"),
        (("N", 64, "H", "W"), 32, 17, 2, "centred"),
        (None, 32, 17, 2, "centred"),
        ((8, 256, 14, 14), 32, 17, 2, "layernorm"),  # groups too small for centred
        ((8, 256, 14, 14), 32, 16, 2, "instancenorm"),  # LayerNormalization is of opset 17
        ((1, 2048, 7, 7), 32, 17, 2, "layernorm"),  # an affine that costs nothing
        ((1, 512, 7, 7), 32, 17, 2, "instancenorm"),
        ((8, 512, 7, 7), 512, 17, 2, "instancenorm"),
        ((1, 64, 32, 32), 32, 17, 2, "instancenorm"),  # small
        ((2, 64), 32, 17, 2, "instancenorm"),
    ],
)
def test_auto_goes_by_size_and_threads(dims, groups, opset, threads, form):
    channels = dims[1] if dims else 64
    b = Builder(opset)
    x = b.input(*(dims or ("size",)))
    if dims is None:
        x = b.node("Reshape", x, b.input("rank", name="shape", elem_type=TensorProto.INT64))
    y = b.bn(x, channels, epsilon=1e-5)
    b.output(b.node("Reshape", y, b.const(np.array([-1]))), ["size"])
    (swap,) = plan_of(b.model(), groups, threads=threads).swaps
    assert swap.form == form
    on = "one CPU thread" if threads == 1 else "2 CPU threads"
    static = dims is not None and all(isinstance(dim, int) for dim in dims[2:])
    size = "this size" if static else "an unknown size"
    assert swap.why == f"the fastest in onnxruntime on {on} for {size}"
    if form != "instancenorm":
        cuda = plan_of(b.model(), groups, threads=threads, provider="cuda").swaps[0].form
        assert cuda in ("layernorm", "instancenorm")


@pytest.mark.parametrize(
    ("dims", "groups", "opset", "form"),
    [
        ((1, 64, 112, 112), 32, 21, "instancenorm"),  # few groups, and large
        ((1, 64, 112, 112), 32, 16, "instancenorm"),  # before LayerNormalization
        ((32, 64, 56, 56), 32, 21, "layernorm"),
        ((32, 64, 56, 56), 32, 16, "instancenorm"),
        ((1, 512, 7, 7), 32, 21, "layernorm"),  # few, and small
        (("N", 64, 112, 112), 32, 21, "layernorm"),  # who knows how many
        ((1, 64, "H", "W"), 32, 21, "layernorm"),
    ],
)
def test_auto_on_cuda_goes_by_the_number_and_size_of_groups(dims, groups, opset, form):
    b = Builder(opset)
    b.output(b.bn(b.input(*dims), dims[1], epsilon=1e-5), dims)
    assert plan_of(b.model(), groups, provider="cuda").swaps[0].form == form


def test_float64_on_cuda_gets_what_computes_in_it():
    b = Builder(21, "float64")
    b.output(b.bn(b.input(2, 8, 4, 4), 8, epsilon=1e-5), None)
    assert plan_of(b.model(), 4, provider="cuda").swaps[0].form == "primitive"
    with pytest.raises(UsageError, match="computes float64 in float32"):
        plan_of(b.model(), 4, provider="cuda", form="layernorm")


@pytest.mark.parametrize(
    ("dims", "groups", "opset", "threads", "form"),
    [
        ((1, 64, 128, 128), 32, 17, 1, "instancenorm"),
        ((1, 64, 128, 128), 32, 17, 2, "layernorm"),
        ((1, 64, 8, 8), 32, 17, 2, "layernorm"),
        (("N", 64, "H", "W"), 32, 17, 2, "layernorm"),
        ((1, 64, 64, 64), 1, 17, 2, "instancenorm"),  # one row can't be shared
        ((1, 64, 128, 128), 1, 17, 2, "centred"),
        ((1, 64, 128, 128), 32, 16, 2, "centred"),
        ((1, 64, 32, 32), 32, 16, 2, "instancenorm"),
    ],
)
def test_auto_before_a_convolution(dims, groups, opset, threads, form):
    b = Builder(opset)
    y = b.node("Relu", b.bn(b.input(*dims), 64, epsilon=1e-5))
    b.output(b.conv(y, 64, 8), None)
    assert plan_of(b.model(), groups, threads=threads).swaps[0].form == form


@pytest.mark.parametrize(
    ("packages", "form"),
    [
        ({"onnxruntime": "1.26.0"}, "instancenorm"),
        ({"onnxruntime": "1.27.0"}, "layernorm"),
        ({"onnxruntime_gpu": "1.31.1rc1"}, "layernorm"),
        ({"onnxruntime": "1.32.0", "onnxruntime_gpu": "1.20.1"}, "instancenorm"),
        ({"onnxruntime": "2.0"}, "layernorm"),
        ({}, "layernorm"),
    ],
)
def test_no_layernorm_where_the_runtime_computes_it_badly(runtime, packages, form):
    runtime(**packages)
    b = Builder(17)
    b.output(b.conv(b.bn(b.input(1, 64, 8, 8), 64, epsilon=1e-5), 64, 8), None)
    model = b.model()
    (swap,) = plan_of(model, 32, threads=2).swaps
    assert swap.form == form
    layer = plan_of(model, 32, form="layernorm").swaps[0].layer  # who asks for it gets it
    assert (layernorm.FORM in contenders(layer, "cpu")) is (form == "layernorm")
    assert layernorm.FORM in contenders(layer, "tensorrt")


@pytest.mark.parametrize(
    ("seconds", "form"),
    [
        ({"native": 1.0, "layernorm": 3.0, "instancenorm": 2.0}, "native"),
        ({"native": 1.0, "layernorm": 3.0, "instancenorm": 1.02}, "instancenorm"),  # as fast
        ({"layernorm": 0.5, "instancenorm": 1.0}, "layernorm"),
        ({"layernorm": 0.5}, "layernorm"),
        ({}, "instancenorm"),
    ],
)
def test_fastest_goes_by_what_was_measured(seconds, form):
    b = Builder(21)
    b.output(b.bn(b.input(1, 64, 8, 8), 64, epsilon=1e-5), None)
    timings = {0: Timings((1, 64, 8, 8), seconds)}
    (swap,) = with_timings(plan_of(b.model(), 32, form="fastest", threads=1), timings).swaps
    assert swap.form == form
    if seconds:
        assert swap.why == f"the fastest here of {len(seconds)} forms measured at 1x64x8x8"
    else:
        assert swap.why == "the fastest in onnxruntime on one CPU thread for this size"
    assert swap.timings is timings[0]
    # A form that is asked for, or the only exact one, is not raced against.
    (swap,) = with_timings(plan_of(b.model(), 32, form="centred"), timings).swaps
    assert (swap.form, swap.why) == ("centred", "asked for")


@pytest.mark.parametrize(
    ("shape", "channels", "groups", "working"),
    [
        (("N", 6), 6, 6, "1, 2, 3 groups work"),
        (("N", 7, 1, 1), 7, 7, "1 group works"),
        (("N", 1, 1), 1, 1, "no number of groups works"),
    ],
)
def test_groups_of_one_element_are_refused(shape, channels, groups, working):
    b = Builder(17)
    b.output(b.bn(b.input(*shape), channels, name="head/bn"))
    with pytest.raises(UsageError, match=f"head/bn.*{working}"):
        normswap.bn_to_gn(b.model(), groups=groups)


def test_groups_of_more_than_one_element_are_not():
    b = Builder(17)
    b.output(b.bn(b.input("N", 6), 6)).output(b.bn(b.input("N", 6, 1, "W", name="z"), 6))
    for options in ({"groups": 3}, {"groups": 6, "exclude": ["x"]}):
        report = normswap.bn_to_gn(b.model(), check=None, **options).report
        assert {swap.num_groups for swap in report.plan.swaps} == {options["groups"]}


def test_a_search_leaves_no_groups_of_one_element():
    b = Builder(17)
    b.output(b.bn(b.input("N", 4), 4, out="y"))
    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    options = {"calibrate": {"x": x}, "search_groups": True, "groups": 1, "check": None}
    (swap,) = normswap.bn_to_gn(b.model(), **options).report.plan.swaps
    assert swap.num_groups in (1, 2)


def test_what_standardizes_a_weight_is_no_layer():
    b = Builder(17)
    flat = b.node("Reshape", b.normal(6, 3, 3, 3), b.const([1, 6, 27]))
    ones, zeros = b.const(np.ones(6)), b.const(np.zeros(6))
    made = b.node("BatchNormalization", flat, ones, zeros, zeros, ones, outputs=3, training_mode=1)
    weight = b.node("Reshape", made[0], b.const([6, 3, 3, 3]))
    b.output(b.bn(b.node("Conv", b.input("N", 3, 8, 8), weight), 6, name="bn"))
    plan = normswap.bn_to_gn(b.model(), groups=2, check=None).report.plan
    assert swapped_names(plan) == ["bn"]
    assert [entry.reason.value for entry in plan.untouched] == ["constant"]
