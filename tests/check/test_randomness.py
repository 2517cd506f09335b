"""Random operators draw the same numbers in two models, wherever they are."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from support.check_models import conv_bn, model, save, tensor, value

from normswap.check.options import CheckOptions
from normswap.check.verdict import Verdict
from normswap.runtime.randomness import draws, paired_seeds, pinned, seed_all, seeds
from normswap.workflows.check import check

X = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
DOMAIN = "example"


def node(op, reads, makes, **attributes):
    return helper.make_node(op, reads, [makes], **attributes)


def constant(name, array):
    return node("Constant", [], name, value=tensor("", array))


def noise(op, x, out):
    """Return nodes that make random floats `out` of the tensor `x` of shape (2, 3)."""
    if op in {"RandomNormal", "RandomUniform"}:
        return [node(op, [], out, shape=[2, 3])]
    if op == "Bernoulli":
        return [node("Sigmoid", [x], f"{out}_p"), node(op, [f"{out}_p"], out)]
    if op == "Multinomial":
        return [
            node(op, [x], f"{out}_i", sample_size=3),
            node("Cast", [f"{out}_i"], out, to=TensorProto.FLOAT),
        ]
    if op == "Dropout":
        return [
            constant(f"{out}_r", np.float32(0.4)),
            constant(f"{out}_t", np.bool_(True)),
            node(op, [x, f"{out}_r", f"{out}_t"], out),
        ]
    return [node(op, [x], out)]


def branch(nodes, out, name):
    return helper.make_graph(nodes, name, [], [value(out, None)])


def in_graph(op, name):
    return noise(op, "x", "y"), []


def in_branch(op, name):
    made = node(
        "If",
        ["flag"],
        "y",
        then_branch=branch(noise(op, "x", name), name, "then"),
        else_branch=branch([node("Neg", ["x"], name)], name, "else"),
    )
    return [constant("flag", np.bool_(True)), made], []


def in_branch_of_a_branch(op, name):
    inner, _ = in_branch(op, name)
    outer = node(
        "If",
        ["on"],
        "y",
        then_branch=branch([*inner[:-1], _renamed(inner[-1], f"{name}2")], f"{name}2", "outer"),
        else_branch=branch([node("Neg", ["x"], f"{name}2")], f"{name}2", "other"),
    )
    return [constant("on", np.bool_(True)), outer], []


def _renamed(made, output):
    made.output[0] = output
    return made


def in_loop(op, name):
    body = helper.make_graph(
        [
            *noise(op, "x", name),
            node("Add", ["sum_in", name], "sum_out"),
            node("Identity", ["go_on"], "on"),
            node("Identity", [name], "each"),
        ],
        "body",
        [
            value("i", [], TensorProto.INT64),
            value("go_on", [], TensorProto.BOOL),
            value("sum_in", None),
        ],
        [value("on", [], TensorProto.BOOL), value("sum_out", None), value("each", None)],
    )
    loop = helper.make_node("Loop", ["times", "", "x"], ["last", "y"], body=body)
    return [constant("times", np.int64(4)), loop], []


def in_scan(op, name):
    body = helper.make_graph(
        [*noise(op, "x", name), node("Add", [name, "row"], "plus")],
        "body",
        [value("row", [3])],
        [value("plus", None)],
    )
    return [node("Scan", ["x"], "y", body=body, num_scan_inputs=1)], []


def in_function(op, name):
    function = helper.make_function(
        DOMAIN, "Noise", ["a"], [name], noise(op, "a", name), [helper.make_opsetid("", 17)]
    )
    return [helper.make_node("Noise", ["x"], ["y"], domain=DOMAIN)], [function]


def in_function_in_a_branch(op, name):
    calls, functions = in_function(op, name)
    then = [_renamed(calls[0], f"{name}2")]
    made = node(
        "If",
        ["flag"],
        "y",
        then_branch=branch(then, f"{name}2", "then"),
        else_branch=branch([node("Neg", ["x"], f"{name}2")], f"{name}2", "else"),
    )
    return [constant("flag", np.bool_(True)), made], functions


PLACES = [
    in_graph,
    in_branch,
    in_branch_of_a_branch,
    in_loop,
    in_scan,
    in_function,
    in_function_in_a_branch,
]
OPERATORS = [
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
]


def built(place, op, name="r", before=0, tail=()):
    """Return a model with `before` idle nodes, which change the places of those behind them."""
    nodes, functions = place(op, name)
    idle = [node("Neg", ["x"], f"idle{i}") for i in range(before)]
    return model(
        [*idle, *nodes, *tail],
        [value("x", [2, 3])],
        [value(tail[-1].output[0] if tail else "y", None)],
        functions=functions,
        domains=[DOMAIN] if functions else (),
    )


def ran(made, numbers, level="ORT_DISABLE_ALL"):
    made = onnx.ModelProto.FromString(made.SerializeToString())
    seed_all(made, numbers)
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [session.run(None, {"x": X})[0] for _ in range(2)]


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["r", "other"])
def test_two_models_draw_alike_in_every_run_and_iteration(place, op, name):
    a, b = built(place, op), built(place, op, name, before=3)
    first, second = paired_seeds(draws(a), draws(b))
    assert len(first) == 1
    one, again = ran(a, first)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        other, once_more = ran(b, second, level)
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(again, once_more)
    if place is in_loop and op != "Bernoulli":
        assert not np.array_equal(one[0], one[1])  # every iteration draws anew


def test_sisters_of_one_name_are_told_apart():
    made = built(in_branch, "RandomNormalLike")
    other = made.graph.node[-1].attribute[0].g
    del other.node[:]
    other.node.extend(noise("RandomNormalLike", "x", "r"))
    found = draws(made)
    assert len(found) == len(set(seeds(found))) == 2
    assert [str(draw) for draw in found] == [
        "r (in else_branch of y)",
        "r (in then_branch of y)",
    ]


def test_a_seed_is_left_and_given_to_the_other():
    own, none = built(in_graph, "RandomNormal"), built(in_graph, "RandomNormal")
    own.graph.node[-1].attribute.append(helper.make_attribute("seed", 7.0))
    assert paired_seeds(draws(own), draws(none)) == ((None,), (7.0,))
    assert paired_seeds(draws(none), draws(own)) == ((7.0,), (None,))
    assert paired_seeds(draws(own), draws(own)) == ((None,), (None,))


def test_operators_that_only_one_model_has_get_their_own():
    one = built(in_graph, "RandomNormal")
    two = built(in_graph, "RandomNormal", tail=[node("RandomUniformLike", ["y"], "z")])
    first, second = paired_seeds(draws(one), draws(two))
    assert first[0] == second[0] != second[1]


def test_an_operator_of_that_name_in_another_domain_is_not_random():
    made = helper.make_node("Bernoulli", ["x"], ["y"], domain=DOMAIN)
    assert not draws(model([made], [value("x", [2, 3])], [value("y", None)], domains=[DOMAIN]))


@pytest.mark.parametrize("place", [in_branch, in_loop, in_function])
def test_noise_hides_no_wrong_weight_and_excuses_none(tmp_path, place):
    w = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)

    def made(factor, name):
        tail = [
            constant("w", (w * np.float32(factor)).astype(np.float32)),
            node("MatMul", ["y", "w"], "z"),
        ]
        return built(place, "RandomNormalLike", name, tail=tail)

    a = save(tmp_path / "a.onnx", made(1, "r"))
    same = check(a, save(tmp_path / "b.onnx", made(1, "s")))
    assert same.verdict is Verdict.EQUIVALENT
    assert all(output.evidence.verdict_level.max_abs == 0 for output in same.outputs)
    assert "were given fixed seeds: r (in " in same.notes[0]
    for arbiter in (True, False):
        report = check(a, save(tmp_path / "c.onnx", made(1.1, "r")), CheckOptions(arbiter=arbiter))
        assert report.verdict is Verdict.DIFFERENT
        assert all(output.judgement.allowed < 1e-3 for output in report.outputs)


def test_nodes_that_stand_behind_their_readers_are_sorted(tmp_path):
    made = conv_bn(side=4)
    nodes = list(made.graph.node)
    moved = onnx.ModelProto.FromString(made.SerializeToString())
    del moved.graph.node[:]
    moved.graph.node.extend([*nodes[1:], nodes[0]])
    found = pinned(str(save(tmp_path / "a.onnx", moved)), ())
    assert [node.name for node in found.graph.node] == [node.name for node in nodes]
    assert len({node.output[0] for node in found.graph.node}) == len(nodes)
