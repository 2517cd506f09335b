"""Normalize first: the same function, whose normalizations only scale and shift any more."""

import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import assert_same_function, count, feeds_for
from support.functions import Body
from support.swapping import distance, tensor_of

import normswap
from normswap.graph.batchnorm import is_batchnorm
from normswap.graph.build import build_network
from normswap.graph.reasons import Reason
from normswap.groupnorm.normalize import normalize
from normswap.groupnorm.reference import group_normalization
from normswap.model import load, write_to

ARGUMENTS = ["x", "w", "scale", "B", "mean", "var"]


def normalized(model, wanted="*"):
    """Normalize a model; return it, and where statistics went by the name of what they made."""
    loaded = load(model.SerializeToString())
    nodes = [node for node in build_network(loaded).nodes() if is_batchnorm(node)]
    keys = {node.key for node in nodes if wanted in ("*", node.out.name)}
    told = normalize(loaded, keys)
    assert set(told.numbers.values()) == {node.key for node in nodes}
    stream = io.BytesIO()
    write_to(loaded, stream)
    result = onnx.ModelProto.FromString(stream.getvalue())
    assert_same_function(model, result)
    return result, {place[1]: went for place, went in told.statistics.items()}


def trivial(model):
    """Return the outputs of the BatchNormalizations of the main graph that have no statistics."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            mean, var = (values[name].astype(np.float64) for name in node.input[3:5])
            epsilon = {a.name: a.f for a in node.attribute}.get("epsilon", 1e-5)
            if not mean.any() and (var == 1).all() and not epsilon:
                found.append(node.output[0])
    return found


def went_into(went):
    assert went.normalized
    assert went.reason is None
    return [step.op for step in went.absorbers]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bfloat16"])
def test_statistics_go_into_the_operator_before(dtype):
    b = Builder(17, dtype)
    x = b.conv(b.input(2, 3, 8, 8), 3, 6, bias=dtype != "float64")
    b.output(b.bn(x, 6, out="y", epsilon=1e-3))
    result, told = normalized(b.model())
    assert went_into(told["y"]) == ["Conv"]
    assert trivial(result) == ["y"]
    assert [node.op_type for node in result.graph.node] == ["Conv", "BatchNormalization"]


def through_carriers(b):
    two = [b.conv(b.input(2, 3, 8, 8, name=name), 3, 3) for name in ("a", "b")]
    x = b.node("Concat", *two, axis=1)
    return b.node("AveragePool", b.node("Transpose", x, perm=[0, 1, 3, 2]), kernel_shape=[2, 2])


def behind_another(b):
    return b.node("AveragePool", b.bn(b.input(2, 6, 8, 8), 6, out="first"), kernel_shape=[2, 2])


def sum_of_a_conv_and_its_input(b):
    x = b.node("Relu", b.input(2, 6, 8, 8))
    return b.node("Add", b.conv(x, 6, 6, pads=[1] * 4), x)


@pytest.mark.parametrize(
    ("before", "ops"),
    [
        (through_carriers, ["Conv", "Conv"]),
        (behind_another, ["BatchNormalization"]),
        (sum_of_a_conv_and_its_input, ["Conv"]),
    ],
)
def test_statistics_go_wherever_a_fold_brings_them(before, ops):
    b = Builder()
    b.output(b.bn(before(b), 6, out="y"))
    result, told = normalized(b.model(), "y")
    assert went_into(told["y"]) == ops
    assert trivial(result) == ["y"]
    assert not {"Mul", "Sub"} & {node.op_type for node in result.graph.node}


def test_the_group_normalization_before_takes_them_in_too():
    b = Builder()
    b.output(b.bn(behind_another(b), 6, out="y"))
    result, told = normalized(b.model())
    assert went_into(told["y"]) == ["BatchNormalization"]
    assert told["first"].added_nodes == 2
    assert trivial(result) == ["first", "y"]


def test_a_scale_that_is_dropped_takes_nothing_along():
    b = Builder()
    b.output(b.bn(behind_another(b), 6, out="y"))
    _, _, swaps = swapped(b, 2, check=None)
    assert went_into(swaps[1].statistics) == ["BatchNormalization"]
    for options in (
        {"keep_scale": False},
        {"calibrate": [feeds_for(b.model(), seed=n) for n in (1, 2)]},
    ):
        _, _, swaps = swapped(b, 2, check=None, **options)
        assert swaps[1].statistics.reason is Reason.OPERATOR
        assert swaps[1].statistics.added_nodes == 2


def of_an_input(b):
    return b.input(2, 6, 5, 5)


def of_an_activation(b):
    return b.node("Relu", b.conv(b.input(2, 3, 8, 8), 3, 6))


def of_a_shared_tensor(b):
    x = b.conv(b.input(2, 3, 8, 8), 3, 6)
    b.output(b.node("Relu", x))
    return x


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (of_an_input, Reason.GRAPH_INPUT),
        (of_an_activation, Reason.NONLINEAR),
        (of_a_shared_tensor, Reason.SEVERAL_READERS),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_where_they_cannot_go_they_are_a_mul_and_an_add(before, reason, dtype):
    b = Builder(13, dtype)
    b.output(b.bn(before(b), 6, out="y"))
    result, told = normalized(b.model())
    assert told["y"].normalized
    assert (told["y"].added_nodes, told["y"].reason) == (2, reason)
    assert [node.op_type for node in result.graph.node][-3:] == ["Mul", "Add", "BatchNormalization"]
    assert trivial(result) == ["y"]


def test_of_two_that_are_alike_one_does_it_for_both():
    b = Builder()
    x = b.conv(b.input(2, 3, 8, 8), 3, 6)
    *_, mean, var = b.statistics(6)
    for out in ("one", "other"):
        b.output(b.bn(x, 6, out=out, epsilon=1e-3, stats=(*b.statistics(6)[:2], mean, var)))
    result, told = normalized(b.model())
    assert sorted(map(went_into, told.values())) == [["BatchNormalization"], ["Conv"]]
    assert trivial(result) == ["one", "other"]


def test_only_those_that_are_wanted():
    b = Builder()
    x = b.bn(b.conv(b.input(2, 3, 8, 8), 3, 6), 6, out="stays")
    b.output(b.bn(b.node("Relu", b.conv(x, 6, 4)), 4, out="goes"))
    result, told = normalized(b.model(), "goes")
    assert list(told) == ["goes"]
    stays = next(node for node in result.graph.node if "stays" in node.output)
    assert stays == next(node for node in b.model().graph.node if "stays" in node.output)


def runtime_statistics(b):
    names = [b.input(6, name=name) for name in ("mean", "var")]
    parameters = [b.const(v) for v in b.statistics(6)[:2]]
    return b.node("BatchNormalization", b.input(2, 6, 5, 5), *parameters, *names, out="y")


def of_unknown_rank(b):
    sizes = b.input("axes", name="sizes", elem_type=TensorProto.INT64)
    y = b.bn(b.node("Reshape", b.input(2, 6, 4), sizes), 6)
    return b.node("Reshape", y, b.const([2, -1]))


def impossible_variance(b):
    scale, bias, mean, var = b.statistics(6)
    var[0] = -1.0
    return b.bn(b.input(2, 6, 5, 5), 6, out="y", stats=(scale, bias, mean, var), epsilon=1e-3)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (runtime_statistics, Reason.NOT_CONSTANT),
        (of_unknown_rank, Reason.SHAPE_UNKNOWN),
        (impossible_variance, Reason.INVALID_STATISTICS),
    ],
)
def test_what_has_no_statistics_to_move_stays_as_it_is(layer, reason):
    b = Builder()
    b.output(layer(b))
    loaded = load(b.model().SerializeToString())
    (key,) = [node.key for node in build_network(loaded).nodes() if is_batchnorm(node)]
    told = normalize(loaded, {key})
    assert not told.edited
    (went,) = told.statistics.values()
    assert not went.normalized
    assert went.reason is reason
    assert went.detail


def test_scale_and_bias_may_be_computed_at_run_time():
    b = Builder()
    scale = b.input(6, name="scale")
    *_, mean, var = (b.const(v) for v in b.statistics(6))
    x = b.conv(b.input(2, 3, 8, 8), 3, 6)
    b.output(b.node("BatchNormalization", x, scale, scale, mean, var, out="y"))
    _, told = normalized(b.model())
    assert went_into(told["y"]) == ["Conv"]


def test_in_a_body():
    b = Builder()
    x = b.node("Relu", b.input(2, 3, 8, 8))
    inner = Builder(seed=1)
    y = inner.bn(inner.conv(x, 3, 4), 4, out="inside")
    other = inner.node("Conv", x, inner.normal(4, 3, 3, 3))
    names = [(y, inner.nodes[:2]), (other, inner.nodes[2:])]
    then, els = (
        helper.make_graph(
            nodes,
            "branch",
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 4, 6, 6))],
            inner.initializers,
        )
        for name, nodes in names
    )
    condition = b.input(name="condition", elem_type=TensorProto.BOOL)
    b.output(b.node("If", condition, then_branch=then, else_branch=els))
    _, told = normalized(b.model())
    assert went_into(told["inside"]) == ["Conv"]
    _, _, (swap,) = swapped(b, 2, check=None)
    assert swap.site.graph.endswith(".then_branch")
    assert went_into(swap.statistics) == ["Conv"]


def function_of_arguments(b):
    f = Body(b, "ConvBN", ARGUMENTS)
    return f.returns(f.node("BatchNormalization", f.node("Conv", "x", "w"), *ARGUMENTS[2:]))


def call(b, x, channels_in, channels, **options):
    weights = [b.normal(channels, channels_in, 3, 3), *map(b.const, b.statistics(channels))]
    return b.node("ConvBN", x, *weights, domain="local", **options)


def test_in_a_function_that_gets_its_weights():
    b = Builder()
    function_of_arguments(b)
    x = b.node("Relu", call(b, b.input(2, 3, 8, 8), 3, 4))
    b.output(call(b, x, 4, 6))
    result, told = normalized(b.model())
    assert [function.name for function in result.functions] == [
        "ConvBN_specialised",
        "ConvBN_specialised_1",
    ]
    assert all(went_into(went) == ["Conv"] for went in told.values())


def test_in_a_function_behind_the_operator_that_takes_them():
    b = Builder()
    f = Body(b, "Norm", ["x", *ARGUMENTS[2:]])
    f.returns(f.node("BatchNormalization", "x", *ARGUMENTS[2:]))
    x = b.conv(b.input(2, 3, 8, 8), 3, 6)
    b.output(b.node("Norm", x, *map(b.const, b.statistics(6)), domain="local", out="y"))
    result, told = normalized(b.model())
    assert not result.functions
    assert went_into(told["y"]) == ["Conv"]
    assert trivial(result) == ["y"]
    assert count(result) == 1


def swapped(b, groups, **options):
    """Swap with a check; return the model, the report and the swaps."""
    result = normswap.bn_to_gn(b.model(), groups=groups, **options)
    return result.model, result.report, result.report.plan.swaps


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("before", [lambda b: b.conv(b.input(2, 3, 8, 8), 3, 6), of_an_input])
def test_a_swap_is_the_group_normalization_of_the_normalized_tensor(before, groups):
    b = Builder()
    x = before(b)
    scale, bias, mean, var = stats = b.statistics(6)
    b.output(b.bn(x, 6, out="y", stats=stats, epsilon=1e-3))
    model, _, (swap,) = swapped(b, groups, check=None)
    feeds = feeds_for(b.model())
    given = feeds[x] if x in feeds else tensor_of(b.model(), x, **feeds)
    along = (-1, 1, 1)
    centred = given.astype(np.float64) - mean.astype(np.float32).reshape(along)
    normal = centred / np.sqrt(var.astype(np.float32).reshape(along) + np.float64(1e-3))
    wanted = group_normalization(normal, scale, bias, num_groups=groups, epsilon=1e-3)
    assert distance(tensor_of(model, "y", **feeds), wanted) < 1e-4
    assert swap.epsilon == pytest.approx(1e-3)
    plain, _, (swap,) = swapped(b, groups, normalize=False, check=None)
    assert swap.statistics is None
    wanted = group_normalization(given, scale, bias, num_groups=groups, epsilon=1e-3)
    assert distance(tensor_of(plain, "y", **feeds), wanted) < 1e-4


def test_a_group_of_one_channel_forgets_its_statistics():
    b = Builder()
    x = b.bn(b.conv(b.input(2, 3, 8, 8), 3, 4), 4, out="alone")
    b.output(b.bn(b.conv(b.node("Relu", x), 4, 8), 8, out="paired"))
    model, _, swaps = swapped(b, 4, check=None)
    assert [swap.statistics.normalized for swap in swaps] == [False, True]
    assert swaps[0].statistics.detail
    kept = {tensor.name for tensor in b.model().graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    assert set(first.input[1:]) <= kept


def test_in_training_mode_a_layer_has_no_statistics_to_move():
    b = Builder()
    x = b.conv(b.input(2, 3, 8, 8), 3, 4)
    parameters = map(b.const, b.statistics(4))
    y = b.node("BatchNormalization", x, *parameters, outputs=3, training_mode=1)[0]
    b.output(y)
    _, _, (swap,) = swapped(b, 2, check=None)
    assert swap.statistics.reason is Reason.TRAINING_MODE


def test_a_selection_holds_where_functions_are_copied():
    b = Builder()
    function_of_arguments(b)
    x = b.node("Relu", call(b, b.input(2, 3, 8, 8), 3, 4))
    x = b.node("Relu", b.bn(x, 4, name="stays"))
    b.output(call(b, x, 4, 4))
    model, report, swaps = swapped(b, 2, exclude=["stays"])
    assert report.check.verdict is normswap.Verdict.EQUIVALENT
    assert report.normalization.verdict is normswap.Verdict.EQUIVALENT
    assert report.normalization.proved
    assert len(swaps) == 2
    assert [entry.site.node for entry in report.plan.untouched] == ["stays"]
    assert count(model) == 1


def test_a_layer_that_is_used_twice_stays_one(tmp_path):
    b = Builder()
    weight, parameters = b.normal(4, 4, 3, 3), [b.const(v) for v in b.statistics(4)]
    x = b.input("N", 4, 8, 8)
    for _ in range(2):
        x = b.node("Conv", x, weight, pads=[1] * 4)
        x = b.node("Relu", b.node("BatchNormalization", x, *parameters))
    b.output(x)
    data = {"x": np.random.default_rng(0).normal(size=(8, 4, 8, 8)).astype(np.float32)}
    _, _, swaps = swapped(b, 2, calibrate=data, check=None)
    one, other = (swap.layer for swap in swaps)
    assert (one.scale == other.scale).all()
    assert (one.bias == other.bias).all()


def test_a_function_whose_statistics_could_go_at_one_call_only_keeps_them_at_both():
    """It is read as one group normalization, whichever call it is of."""
    b = Builder()
    function_of_arguments(b)
    x = b.node("Relu", call(b, b.input(2, 3, 8, 8), 3, 4))
    weights = [b.normal(4, 4, 3, 3), *map(b.const, b.statistics(4))]
    weights[3] = b.node("Neg", b.input(4, name="mean"))  # which is computed
    b.output(b.node("ConvBN", x, *weights, domain="local"))
    _, report, swaps = swapped(b, 2)
    assert report.check.is_proved
    assert {swap.statistics.normalized for swap in swaps} == {False}
