"""Where the runtime and float64 disagree, float64 is not believed, and what disagrees is named."""

import io
import json

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from support.check_models import conv_bn, model, save, tensor, value
from support.planted import plant_in_runtime, plant_operator, stay_here

from normswap.check import arbitration
from normswap.check.departure import type_of_rounding
from normswap.check.evidence import Distance, Evidence, Function, Truth, gather
from normswap.check.metrics import measure
from normswap.check.options import CheckOptions
from normswap.check.report import from_dict
from normswap.check.verdict import RULES, Verdict, departures, explained, judge
from normswap.inputs.signature import read_signature
from normswap.report import tell
from normswap.workflows.check import check

RNG = np.random.default_rng(5)
W = RNG.normal(size=(4, 6)).astype(np.float32)
SMALL = CheckOptions(symbolic_dims={"N": 3}, proof=False)
FIXED = CheckOptions(proof=False)


def printed(report):
    stream = io.StringIO()
    tell(report, "text", stream)
    return stream.getvalue()


def celu(alpha=2.0, *, weight=W, spelled=False, where="graph", head=()):
    """Return MatMul, Celu; Celu as an operator, in a branch or function, or spelled out."""
    weights = [tensor("w", weight)]
    functions = []
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="product")]
    if spelled:  # max(0, h) + min(0, alpha * (exp(h / alpha) - 1))
        weights += [tensor("alpha", np.float32(alpha)), tensor("one", np.float32(1))]
        weights += [tensor("zero", np.float32(0))]
        nodes += [
            helper.make_node("Div", ["h", "alpha"], ["d"]),
            helper.make_node("Exp", ["d"], ["e"]),
            helper.make_node("Sub", ["e", "one"], ["s"]),
            helper.make_node("Mul", ["s", "alpha"], ["m"]),
            helper.make_node("Min", ["m", "zero"], ["low"]),
            helper.make_node("Relu", ["h"], ["high"]),
            helper.make_node("Add", ["low", "high"], ["c"]),
        ]
    elif where == "branch":
        weights.append(tensor("flag", np.bool_(True)))
        inner = helper.make_node("Celu", ["h"], ["t"], alpha=alpha)
        then, other = (
            helper.make_graph([n], name, [], [value(n.output[0], None)])
            for name, n in (("then", inner), ("else", helper.make_node("Neg", ["h"], ["f"])))
        )
        nodes.append(
            helper.make_node(
                "If", ["flag"], ["c"], name="choice", then_branch=then, else_branch=other
            )
        )
    elif where == "function":
        inner = helper.make_node("Celu", ["a"], ["b"], alpha=alpha)
        opset = [helper.make_opsetid("", 17)]
        functions.append(helper.make_function("own", "Bend", ["a"], ["b"], [inner], opset))
        nodes.append(helper.make_node("Bend", ["h"], ["c"], name="bend", domain="own"))
    else:
        nodes.append(helper.make_node("Celu", ["h"], ["c"], name="bend", alpha=alpha))
    out = value("y", None)
    if head:
        nodes += [helper.make_node(op, [i], [o], **how) for op, i, o, how in head]
        if head[-1][0] == "ArgMax":
            out = value("y", None, TensorProto.INT64)
    else:
        nodes.append(helper.make_node("Neg", ["c"], ["y"]))
    return model(
        nodes,
        [value("x", ["N", 4])],
        [out],
        weights,
        functions=functions,
        domains=["own"] if functions else (),
    )


@pytest.fixture
def checked(monkeypatch, tmp_path):
    """Check two models in this process; a Celu in float64 forgets its alpha if it is `wrong`."""

    def run(a, b, *, wrong=True, options=SMALL, names=("a", "b")):
        stay_here(monkeypatch)
        if wrong:
            plant_operator(
                monkeypatch, "Celu", lambda x: np.maximum(0, x) + np.minimum(0, np.expm1(x))
            )
        paths = [save(tmp_path / f"{n}.onnx", made) for n, made in zip(names, (a, b), strict=True)]
        return check(*paths, options)

    return run


def test_a_right_operator_departs_nowhere(checked):
    report = checked(celu(), celu(spelled=True), wrong=False)
    assert report.verdict is Verdict.EQUIVALENT
    assert not report.departures
    assert report.basis == "arbiter"


@pytest.mark.parametrize(
    ("where", "operator", "node"),
    [("graph", "Celu", "bend"), ("branch", "If", "choice"), ("function", "Bend", "bend")],
)
def test_a_wrong_operator_of_the_arbiter_is_named_and_not_believed(checked, where, operator, node):
    report = checked(celu(where=where), celu(where=where))
    assert report.verdict is Verdict.EQUIVALENT  # bit for bit, by the runtime
    assert report.basis != "arbiter"
    assert [(d.model, d.level) for d in report.departures] == [
        ("a.onnx", "both"),
        ("b.onnx", "both"),
    ]
    for found in report.departures:
        assert (found.operator, found.node, found.tensor) == (operator, node, "c")
        assert found.level == "both"
        assert found.error > 0.01
        assert found.explained < 1e-4
        assert not any(found.alone.values())
    told = printed(report)
    assert "in the runtime" not in told
    assert f"it begins at {operator} {node}" in told
    assert "compared in onnxruntime only, which departs from float64 on" in told
    assert "float64 is not trusted" in told
    assert from_dict(json.loads(json.dumps(report.to_dict()))).departures == report.departures


def test_models_that_only_the_runtime_tells_apart_are_different(checked):
    report = checked(celu(2.0), celu(1.0))
    assert report.verdict is Verdict.DIFFERENT
    assert [d.model for d in report.departures] == ["a.onnx"]
    assert all(output.judgement.allowed < 1e-4 for output in report.outputs)
    back = checked(celu(1.0), celu(2.0))
    assert back.verdict is Verdict.DIFFERENT
    assert [d.model for d in back.departures] == ["b.onnx"]


def test_models_that_only_a_wrong_float64_tells_apart_are_not_different(checked):
    report = checked(celu(), celu(spelled=True))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "one of the two is wrong" in report.reasons[0]


def test_a_wrong_weight_is_found_in_spite_of_a_wrong_operator(checked):
    spoiled = W.copy()
    spoiled[:, 2] *= np.float32(1.01)
    assert checked(celu(), celu(weight=spoiled)).verdict is Verdict.DIFFERENT


def test_an_output_of_integers_behind_a_wrong_operator(checked):
    classes = [("Abs", "c", "s", {}), ("ArgMax", "s", "y", {"axis": 1})]
    options = CheckOptions(symbolic_dims={"N": 60}, proof=False)
    report = checked(celu(head=classes), celu(head=classes), options=options)
    assert report.verdict is Verdict.EQUIVALENT
    assert {d.operator for d in report.departures} == {"Celu"}
    other = checked(celu(head=classes), celu(0.5, head=classes), options=options)
    assert other.verdict is Verdict.DIFFERENT


@pytest.mark.parametrize(
    "wrong",
    [lambda x: x[:1], lambda x: np.full_like(x, np.nan), lambda x: np.where(x > 0, x, np.inf)],
    ids=["shape", "nan", "inf"],
)
def test_what_float64_gives_in_another_shape_or_not_at_all(monkeypatch, checked, wrong):
    stay_here(monkeypatch)
    plant_operator(monkeypatch, "Celu", wrong)
    assert checked(celu(), celu(), wrong=False).verdict is Verdict.EQUIVALENT
    report = checked(celu(2.0), celu(1.0), wrong=False)
    assert report.verdict is Verdict.DIFFERENT
    assert {d.operator for d in report.departures} == {"Celu"}


def test_a_runtime_that_errs_when_nobody_looks(monkeypatch, checked):
    plant_in_runtime(monkeypatch, "y", 0.5)
    report = checked(celu(), celu(), wrong=False)
    assert report.verdict is Verdict.EQUIVALENT  # it errs alike on both
    assert [d.operator for d in report.departures] == ["Neg", "Neg"]
    assert "in the runtime" not in printed(report)


@pytest.mark.parametrize(
    ("levels", "level", "word"),
    [
        (["ORT_ENABLE_ALL"], "default", "with optimizations disabled the result is right"),
        (["ORT_DISABLE_ALL"], "disabled", "at its default optimization level the result is right"),
        (["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"], "both", "this node gives the right result"),
    ],
)
def test_a_runtime_that_errs_on_one_model_is_said_to_both_ways_round(
    monkeypatch, checked, levels, level, word
):
    bad, good = celu(), celu(spelled=True)
    bad.graph.name = "errs"
    plant_in_runtime(monkeypatch, "y", 0.5, levels=levels, graph="errs")
    told = []
    for names, pair in ((("bad", "good"), (bad, good)), (("good", "bad"), (good, bad))):
        report = checked(*pair, wrong=False, names=names)
        assert report.verdict is Verdict.DIFFERENT
        (found,) = report.departures
        assert (found.model, found.level, found.operator) == ("bad.onnx", level, "Neg")
        assert found.error == pytest.approx(0.5, abs=1e-5)
        assert all(output.judgement.allowed < 1e-4 for output in report.outputs)
        assert "in the runtime" not in printed(report)
        assert word in report.notes[-1]
        assert report.notes[-1].endswith("so the error is onnxruntime's")
        told.append(report)
    assert told[0].notes[-1] == told[1].notes[-1]
    assert told[0].reasons == told[1].reasons
    assert told[0].departures[0].operator == told[1].departures[0].operator


def test_no_operator_is_named_where_none_can_be_found(monkeypatch, checked):
    monkeypatch.setattr("normswap.proof.arbiter.locate._CUTS", 1)
    plant_in_runtime(monkeypatch, "y", 0.5)
    report = checked(celu(), celu(), wrong=False)
    assert not report.departures[0].operator
    assert "each node agrees with float64 when it is run alone" in report.notes[-1]


def numpy_batchnorm(x):
    axes = (0, 2)
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5)


def training(momentum):
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    node = helper.make_node(
        "BatchNormalization",
        ["x", "s", "b", "m", "v"],
        ["y", "mean", "var"],
        training_mode=1,
        momentum=momentum,
    )
    weights = [tensor(n, a) for n, a in (("s", ones), ("b", zeros), ("m", zeros), ("v", ones))]
    return model([node], [value("x", [2, 4, 3])], [value("y", None)], weights)


def test_momentum_of_0_in_training_mode(checked):
    x = RNG.normal(size=(2, 4, 3)).astype(np.float32)
    session = ort.InferenceSession(
        training(0.0).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (given,) = session.run(["y"], {"x": x})
    if np.allclose(given, numpy_batchnorm(x.astype(float)), atol=1e-4):
        pytest.skip("this onnxruntime computes it right")
    reports = [
        checked(training(0.0), training(1.0), wrong=False, options=FIXED, names=("zero", "one")),
        checked(training(1.0), training(0.0), wrong=False, options=FIXED, names=("one", "zero")),
    ]
    assert {report.verdict for report in reports} == {Verdict.DIFFERENT}
    assert reports[0].notes[-1] == reports[1].notes[-1]
    assert reports[0].reasons == reports[1].reasons
    for report in reports:
        (found,) = report.departures
        assert (found.model, found.operator) == ("zero.onnx", "BatchNormalization")
        assert all(output.judgement.allowed < 1e-4 for output in report.outputs)


def two_batchnorms(*, shared):
    """Return two BatchNormalizations, the first in training mode, that read one mean or not.

    Where they don't, the mean of the second is in its bias: onnxruntime makes one of two constants
    that are the same.
    """
    mean = np.random.default_rng(3).normal(size=4).astype(np.float32)
    second = ("b", "m") if shared else ("b2", "zero")
    nodes = [
        helper.make_node(
            "BatchNormalization", ["x", "s", "b", "m", "v"], ["t", "mean", "var"], training_mode=1
        ),
        helper.make_node("BatchNormalization", ["t", "s", *second, "w"], ["u"]),
        helper.make_node("Relu", ["u"], ["y"]),
    ]
    weights = [
        tensor("s", np.ones(4, np.float32)),
        tensor("b", np.linspace(1, 2, 4, dtype=np.float32)),
        tensor("m", mean),
        tensor("v", np.full(4, 2, np.float32)),
        tensor("w", np.full(4, 3, np.float32)),
    ]
    if not shared:
        moved = np.linspace(1, 2, 4) - mean / np.sqrt(3 + 1e-5)
        weights += [tensor("zero", np.zeros(4, np.float32)), tensor("b2", moved.astype(np.float32))]
    return model(nodes, [value("x", [2, 4, 3])], [value("y", None)], weights)


def test_a_mean_that_training_mode_writes_over(checked):
    x = RNG.normal(size=(2, 4, 3)).astype(np.float32)
    given = []
    for shared in (True, False):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(
            two_batchnorms(shared=shared).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )
        given += session.run(["y"], {"x": x})
    bias = np.linspace(1, 2, 4)[:, None]
    mean = np.random.default_rng(3).normal(size=4).astype(np.float32)[:, None]
    batch = numpy_batchnorm(x.astype(float)) + bias
    right = np.maximum((batch - mean) / np.sqrt(3 + 1e-5) + bias, 0)
    np.testing.assert_allclose(given[1], right, atol=1e-5)
    if np.allclose(given[0], right, atol=1e-4):
        pytest.skip("this onnxruntime computes it right")
    pair = {"shared": two_batchnorms(shared=True), "apart": two_batchnorms(shared=False)}
    for names in (("shared", "apart"), ("apart", "shared")):
        report = checked(*(pair[n] for n in names), wrong=False, options=FIXED, names=names)
        assert report.verdict is Verdict.DIFFERENT
        (found,) = report.departures
        assert (found.model, found.operator) == ("shared.onnx", "BatchNormalization")
        assert any(found.alone.values())
        assert all(output.judgement.allowed < 1e-4 for output in report.outputs)
        assert "in the runtime" not in printed(report)


ONE = Distance(1.0, 1.0)


def evidence(**fields):
    a = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
    plain = {
        "unit_roundoff": 2.0**-24,
        "scale": ONE,
        "verdict_level": measure(a, a),
        "deployed": measure(a, a),
        "function": Function(Distance(1e-12, 1e-12), Distance(1e-7, 1e-7)),
        "error_original": Distance(1e-7, 1e-7),
        "error_original_deployed": Distance(1e-7, 1e-7),
        "error_rewritten": Distance(1e-7, 1e-7),
        "error_deployed": Distance(1e-7, 1e-7),
    }
    return Evidence("y", "float32", (4, 6), **{**plain, **fields})


@pytest.mark.parametrize("error", [1e-7, 1e-6, 1e-5, 1e-3, 1.0, 12.0])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1.0])
def test_an_allowance_never_exceeds_what_rounding_explains(error, noise):
    off = Distance(error, error)
    seen = evidence(error_original=off, error_original_deployed=off, noise=Distance(noise, noise))
    judged = judge(seen, {})
    assert judged.allowed <= explained(seen).max < 1e-5
    assert bool(departures(seen)) is (error > explained(seen).max)
    assert (judged.basis == "arbiter") is not bool(departures(seen))


@pytest.mark.parametrize(
    ("field", "model", "level"),
    [
        ("error_original", "original", "disabled"),
        ("error_original_deployed", "original", "default"),
        ("error_rewritten", "rewritten", "disabled"),
        ("error_deployed", "rewritten", "default"),
    ],
)
def test_model_and_level_of_a_departure(field, model, level):
    (found,) = departures(evidence(**{field: ONE}))
    assert (found.model, found.level, found.error) == (model, level, 1.0)


def test_rounding_that_was_measured_explains_more():
    off = Distance(1e-4, 1e-4)
    assert departures(evidence(error_original=off))
    measured = evidence(error_original=off, rounding=Distance(1e-5, 1e-5))
    assert not departures(measured)
    assert explained(measured).max == pytest.approx(RULES.rounding * 1e-5, rel=0.1)


def test_elements_that_are_finite_in_the_runtime_alone():
    assert not departures(evidence(flips_original=1))
    assert departures(evidence(flips_original=3))
    assert not departures(evidence(flips_original=3, rounding_flips=3))


def test_random_numbers_that_are_alike_in_the_runtime_are_compared_there():
    a = RNG.normal(size=(4, 6)).astype(np.float32)
    truth = Truth(a * 2.0, a * 2.0, [a * 2.0 + 1e-7])
    near, far = a + np.float32(1e-7), a + np.float32(5)
    for b, verdict in ((near, Verdict.EQUIVALENT), (far, Verdict.DIFFERENT)):
        seen = gather("y", [a, a], [b, b], truth, comparable=False, alike=True)
        assert judge(seen, {}).verdict is verdict


@pytest.mark.parametrize(
    ("dtype", "cast", "coarsest"),
    [
        (np.float32, None, "float32"),
        (np.float64, None, "float64"),
        (np.float16, None, "float16"),
        (np.float32, TensorProto.FLOAT16, "float16"),
        (np.float64, TensorProto.FLOAT, "float32"),
    ],
)
def test_the_type_of_rounding(tmp_path, dtype, cast, coarsest):
    made = conv_bn(dtype=dtype)
    if cast is not None:
        made.graph.node.append(helper.make_node("Cast", ["out"], ["other"], to=cast))
    signature = read_signature(save(tmp_path / "m.onnx", made))
    assert type_of_rounding([signature], []) == coarsest


def test_inputs_made_for_the_arbiter_run_in_the_runtime_too(monkeypatch, checked):
    monkeypatch.setattr(arbitration, "_BUDGET", {False: 100_000, True: 100_000})
    options = CheckOptions(symbolic_dims={}, proof=False)
    report = checked(conv_bn(), conv_bn(folded=True), wrong=False, options=options)
    seen = [o.evidence for o in report.outputs if o.evidence.function is not None]
    assert report.verdict is Verdict.EQUIVALENT
    assert len(report.cases) > len(seen) > 0
    assert all(e.error_original is not None and e.error_deployed is not None for e in seen)
    assert len(report.golden) == len(report.inputs)


@pytest.mark.parametrize("op", ["ReduceL2", "ReduceMean", "ReduceSumSquare"])
def test_a_long_sum_is_no_departure(checked, op):
    node = helper.make_node(op, ["x"], ["y"], axes=[1])
    made = model([node], [value("x", [2, 200_000])], [value("y", None)], opset=11)
    report = checked(made, made, wrong=False, options=FIXED)
    assert (report.verdict, report.departures) == (Verdict.EQUIVALENT, ())


@pytest.mark.parametrize("op", ["InstanceNormalization", "LayerNormalization"])
@pytest.mark.parametrize("mean", [10, 1000])
def test_cancellation_is_no_departure(checked, op, mean):
    shape, axis = ((8,), {}) if op == "InstanceNormalization" else ((16,), {"axis": -1})
    nodes = [
        helper.make_node("Add", ["x", "mean"], ["h"]),
        helper.make_node(op, ["h", "s", "b"], ["y"], **axis),
    ]
    weights = [tensor("mean", np.float32(mean)), tensor("s", np.ones(shape, np.float32))]
    weights.append(tensor("b", np.zeros(shape, np.float32)))
    made = model(nodes, [value("x", [2, 8, 16])], [value("y", None)], weights)
    report = checked(made, made, wrong=False, options=FIXED)
    assert (report.verdict, report.departures) == (Verdict.EQUIVALENT, ())


def test_one_file_against_itself_is_said_once(monkeypatch, tmp_path):
    stay_here(monkeypatch)
    plant_in_runtime(monkeypatch, "y", 0.5)
    path = save(tmp_path / "a.onnx", celu())
    report = check(path, path, SMALL)
    assert report.verdict is Verdict.EQUIVALENT
    assert sum("departs from float64" in note for note in report.notes) == 1
    last = printed(report).splitlines()[-1]
    assert f"which departs from float64 on {path} (" in last
