"""The check from end to end: every test runs models in child processes."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.check_models import (
    conv_bn,
    deadly_batch_norm,
    model,
    one_node,
    save,
    tensor,
    value,
)

from normswap.check import arbitration
from normswap.check.options import CheckOptions, Tolerance
from normswap.check.report import from_dict, load_report
from normswap.check.verdict import Verdict
from normswap.errors import (
    DataError,
    ExitCode,
    ModelError,
    RunError,
    RunTimeoutError,
    UsageError,
)
from normswap.workflows.check import check, check_outputs

SMALL = CheckOptions(symbolic_dims={"H": 8, "W": 8})
TESTED = replace(SMALL, proof=False)
"""On inputs alone, nothing proved."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    return {
        name: save(home / f"{name}.onnx", made)
        for name, made in {
            "a": conv_bn(),
            "folded": conv_bn(folded=True),
            "spoiled": conv_bn(folded=True, scale=1.001),
            "half": conv_bn(dtype=np.float16),
            "half_folded": conv_bn(dtype=np.float16, folded=True),
        }.items()
    }


@pytest.fixture(scope="module")
def spoiled(models):
    told = []
    options = CheckOptions(symbolic_dims={"H": 8, "W": 8}, self_test=5, batch_invariant=True)
    report = check(models["a"], models["spoiled"], options, progress=told.append)
    return report, told


def test_a_fold_is_proved_and_runs_once(models):
    report = check(models["a"], models["folded"], SMALL)
    assert (report.verdict, report.exit_code) == (Verdict.EQUIVALENT, ExitCode.OK)
    assert (report.basis, report.reasons, report.failing) == ("proof", (), ())
    assert report.is_proved
    assert [output.standing.value for output in report.proof.outputs] == ["proved"]
    assert [(r.model, r.engine) for r in report.runs] == [
        ("original", "onnxruntime"),
        ("rewritten", "onnxruntime"),
    ]
    assert len(report.cases) == 1
    assert from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_one_weight_off_by_little_is_different(models, tmp_path):
    """Behind a whole network it is less than what rounding all weights does."""
    made = onnx.load(models["folded"])
    weight = next(t for t in made.graph.initializer if t.name == "W")
    array = onnx.numpy_helper.to_array(weight).copy()
    array[1, 2, 0, 0] *= 1 + 2e-5
    weight.CopyFrom(onnx.numpy_helper.from_array(array, "W"))
    report = check(models["a"], save(tmp_path / "off.onnx", made), SMALL)
    assert report.verdict is Verdict.DIFFERENT
    assert "weight[1, 2, 0, 0] in channel 1" in report.reasons[0]
    tested = check(models["a"], tmp_path / "off.onnx", replace(SMALL, proof=False))
    assert tested.verdict is Verdict.EQUIVALENT
    assert not tested.is_proved


def test_what_is_not_proved_says_why_and_is_tested(tmp_path):
    weights = [tensor("low", np.float32(-1e9)), tensor("one", np.float32(1.0))]
    report = run(
        tmp_path,
        one_node("Max", weights=weights[:1]),
        one_node("Mul", weights=weights[1:]),
    )
    assert (report.verdict, report.is_proved) == (Verdict.EQUIVALENT, False)
    assert "came from its input" in report.proof.outputs[0].reason
    assert len(report.runs) > 2


def test_a_fold_is_equivalent(models):
    report = check(models["a"], models["folded"], TESTED)
    assert (report.verdict, report.exit_code) == (Verdict.EQUIVALENT, ExitCode.OK)
    assert (report.basis, report.reasons, report.failing) == ("arbiter", (), ())
    assert {(r.model, r.engine) for r in report.runs} == {
        (m, e) for m in ("original", "rewritten") for e in ("onnxruntime", "arbiter")
    }
    assert all(r.providers == ("CPUExecutionProvider",) for r in report.runs[:1])
    assert all(r.peak_memory is None or r.peak_memory > 1 << 20 for r in report.runs)
    assert report.power.method == "estimate"
    assert report.power.smallest_scale_error < 1e-4


def test_a_channel_off_by_a_thousandth_is_different_and_found(spoiled):
    report, told = spoiled
    assert (report.verdict, report.exit_code) == (Verdict.DIFFERENT, ExitCode.FINDINGS)
    assert "output 'out'" in report.reasons[0]
    (region,) = report.proof.apart
    assert region.tensor == "y"
    assert any("BatchNormalization" in node for node in region.before)
    assert str(region) in report.reasons[-1]
    assert report.worst.judgement.verdict is Verdict.DIFFERENT
    assert any("float64" in text for text in told)


def test_planted_faults_are_counted(spoiled):
    power = spoiled[0].power
    assert (power.method, power.planted) == ("planted", 5)
    assert power.caught + power.silent + len(power.missed) == 5
    assert power.caught >= 4


def test_a_convolution_does_not_depend_on_its_batch(spoiled):
    rows = [o for o in spoiled[0].outputs if o.case.startswith("same sample alone and in a batch")]
    assert [o.judgement.verdict for o in rows] == [Verdict.EQUIVALENT] * 2


def test_the_report_is_json_and_comes_back(spoiled, tmp_path):
    report, _ = spoiled
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert from_dict(json.loads(text)) == report
    (tmp_path / "r.json").write_text(text)
    assert load_report(tmp_path / "r.json").verdict is Verdict.DIFFERENT


def test_a_report_is_judged_again_without_a_run(spoiled):
    report, _ = spoiled
    lenient = report.rejudged({"": Tolerance(rtol=1.0, atol=1.0)})
    assert (lenient.verdict, lenient.reasons) == (Verdict.EQUIVALENT, ())
    strict = report.rejudged({"out": Tolerance(atol=1e-12)})
    assert strict.verdict is Verdict.DIFFERENT
    assert "smallest atol that passes" in strict.reasons[0]
    assert report.rejudged({}).verdict is report.verdict


@pytest.mark.parametrize("data", [{}, {"schema": 99}, {"schema": 1, "verdict": "fine"}])
def test_what_is_no_report(data, tmp_path):
    with pytest.raises(DataError):
        from_dict(data)
    (tmp_path / "r.json").write_text("[")
    with pytest.raises(DataError, match=r"r\.json"):
        load_report(tmp_path / "r.json")


def test_failing_inputs_reproduce_the_failure(spoiled, models, tmp_path):
    files = spoiled[0].save_failing_inputs(tmp_path / "failing.npz")
    assert files[0].exists()
    again = check(models["a"], models["spoiled"], CheckOptions(data=tmp_path / "failing.npz"))
    assert again.verdict is Verdict.DIFFERENT
    assert len(again.cases) == len(files)


def test_float16_is_judged_by_its_own_rounding(models):
    assert check(models["half"], models["half_folded"], SMALL).verdict is Verdict.EQUIVALENT


def halved(*, whole):
    """Return a model of the first half of the rows, which some sizes do not have."""
    size = [
        helper.make_node("Shape", ["x"], ["shape"], start=2, end=3),
        helper.make_node("Div" if whole else "Identity", ["shape", "two"][: 1 + whole], ["half"]),
        helper.make_node("Mul" if whole else "Identity", ["half", "two"][: 1 + whole], ["end"]),
        helper.make_node("Slice", ["x", "zero", "end", "two"], ["y"]),
    ]
    weights = [tensor("zero", np.array([0])), tensor("two", np.array([2]))]
    return model(size, [value("x", ["N", 2, "H", "W"])], [value("y", None)], weights)


def flat(size):
    weights = [tensor("shape", np.array([0, 2, size]))]
    return one_node("Reshape", ["N", 2, "H", "W"], weights=weights)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((halved(whole=False), halved(whole=True)), "its shape is [1, 2, 66, 67]"),
        ((flat(-1), flat(4096)), "the rewritten model did not return it"),
    ],
    ids=["a size that can't be halved", "a size that is fixed within"],
)
def test_sizes_that_little_divides_are_tried_too(tmp_path, pair, words):
    """64 by 64 is what is tried first, and the two are the same there."""
    report = run(tmp_path, *pair)
    assert report.verdict is Verdict.DIFFERENT
    assert words in report.reasons[0]
    if pair[1].graph.node[0].op_type == "Reshape":
        assert any("does not take all inputs that the original takes" in n for n in report.notes)


def sliced(end):
    weights = [tensor(n, np.array([i])) for n, i in (("start", 0), ("end", end), ("axis", 2))]
    return one_node("Slice", ["N", 2, "H", "W"], weights=weights)


def test_an_end_that_no_input_was_long_enough_for_is_named(tmp_path):
    plain = one_node("Identity", ["N", 2, "H", "W"])
    report = run(tmp_path, sliced(100), plain)
    assert "not tested: no input was as long as Slice y asks for, with 100" in report.notes
    assert not any("Slice" in note for note in run(tmp_path, sliced(2**62), plain).notes)


def test_golden_outputs(models, tmp_path):
    report = check(models["a"], models["a"], TESTED)
    report.save_inputs(tmp_path / "in.npz")
    report.save_outputs(tmp_path / "out.npz")
    options = CheckOptions(data=tmp_path / "in.npz", load_outputs=tmp_path / "out.npz")
    assert check_outputs(models["folded"], options).verdict is Verdict.EQUIVALENT
    assert check_outputs(models["spoiled"], options).verdict is not Verdict.EQUIVALENT
    (tmp_path / "out.2.npz").unlink()
    with pytest.raises(DataError, match="3 sets of inputs, but 2 sets of outputs"):
        check_outputs(models["folded"], options)
    with pytest.raises(UsageError, match="inputs"):
        check_outputs(models["folded"], CheckOptions(load_outputs=tmp_path / "out.npz"))


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_model_is_called_what_it_was_given_as(models, place):
    pair = [models["folded"], models["folded"]]
    pair[place] = b"no model"
    with pytest.raises(ModelError, match=r"^<bytes> is a text file"):
        check(*pair)


def test_golden_outputs_of_a_model_in_memory(models, tmp_path):
    report = check(models["a"], models["a"], SMALL)
    report.save_inputs(tmp_path / "in.npz")
    report.save_outputs(tmp_path / "out.npz")
    options = CheckOptions(data=tmp_path / "in.npz", load_outputs=tmp_path / "out.npz")
    again = check_outputs(models["a"].read_bytes(), options)
    assert (again.verdict, again.original) == (Verdict.EQUIVALENT, "<bytes>")


def run(tmp_path, a, b=None, **options):
    first = save(tmp_path / "a.onnx", a)
    second = first if b is None else save(tmp_path / "b.onnx", b)
    return check(first, second, CheckOptions(**options))


def test_a_lost_output_needs_no_run(tmp_path):
    report = run(tmp_path, one_node("Relu"), one_node("Relu", out="z"))
    assert (report.verdict, report.runs) == (Verdict.DIFFERENT, ())
    assert report.reasons == ("output 'y' is missing, and 'z' takes its place",)
    assert report.basis == "structure"
    assert report.rejudged({"": Tolerance(atol=1e9)}).verdict is Verdict.DIFFERENT


def test_a_dead_runtime_is_an_error_that_names_the_model(tmp_path):
    outcome = "equivalent"  # of a runtime that has learned better
    try:
        verdict = run(tmp_path, deadly_batch_norm()).verdict
    except RunError as error:
        outcome, verdict = str(error), None
    if verdict is None:
        assert outcome.startswith("the original model (a.onnx) crashed its process")
    else:
        assert verdict is Verdict.EQUIVALENT


def test_a_slow_model_is_stopped(tmp_path):
    with pytest.raises(RunTimeoutError, match=r"longer than 0\.01 s"):
        run(tmp_path, one_node("Relu"), timeout=0.01)


def test_a_model_that_takes_too_much_memory(tmp_path):
    sizes = [tensor("k", np.array([10**11, 1, 4]))]
    nodes = [
        helper.make_node("Expand", ["x", "k"], ["z"]),
        helper.make_node("ReduceMax", ["z"], ["y"]),
    ]
    made = model(nodes, [value("x", ["N", 4])], [value("y", None)], sizes)
    with pytest.raises(RunError, match="ran out of memory"):
        run(tmp_path, made)


def test_an_absent_provider_says_what_to_install(tmp_path):
    with pytest.raises(RunError, match="'rocm' is not available") as info:
        run(tmp_path, one_node("Relu"), provider="rocm")
    assert info.value.tip is None or "onnxruntime" in info.value.tip


def test_an_invalid_model_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="invalid"):
        run(tmp_path, one_node("Rellu"))


def test_inputs_of_no_size_that_the_model_takes(tmp_path):
    weights = [tensor("w", np.ones((3, 3), np.float32))]
    made = one_node("MatMul", shape=(), weights=weights)
    with pytest.raises(RunError, match="MatMul"):
        run(tmp_path, made)


def test_a_type_the_runtime_lacks_is_judged_in_float64_alone(tmp_path):
    kind = TensorProto.BFLOAT16

    def made(factor):
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Mul", ["r", "k"], ["y"]),
        ]
        k = helper.make_tensor("k", kind, [4], [1.0, -2.0, 0.5, factor])
        return model(nodes, [value("x", ["N", 4], kind)], [value("y", None, kind)], [k])

    report = run(tmp_path, made(3.0))
    assert report.verdict is Verdict.EQUIVALENT
    assert any("compared in float64 only" in note for note in report.notes)
    assert run(tmp_path, made(3.0), made(5.0)).verdict is Verdict.DIFFERENT
    with pytest.raises(RunError, match="no kernel"):
        run(tmp_path, made(3.0), arbiter=False)


@pytest.mark.parametrize(
    ("made", "verdict", "word"),
    [
        (one_node("Mul", weights=[tensor("w", np.zeros(4, "f"))]), "inconclusive", "the same for"),
        (one_node("Log", weights=[]), "equivalent", ""),
        (one_node("RandomUniformLike"), "equivalent", ""),
        (one_node("Identity"), "equivalent", ""),
    ],
)
def test_outputs_that_show_nothing_and_others(tmp_path, made, verdict, word):
    report = run(tmp_path, made, proof=False)
    assert report.verdict.value == verdict
    assert all(word in reason for reason in report.reasons)
    if made.graph.node[0].op_type.startswith("Random"):
        assert "fixed seeds" in report.notes[0]
    report = run(tmp_path, made)
    assert (report.verdict, report.is_proved) == (Verdict.EQUIVALENT, True)


def test_a_model_without_inputs(tmp_path):
    node = helper.make_node("Constant", [], ["y"], value=tensor("", np.arange(5.0)))
    made = model([node], [], [value("y", None, TensorProto.DOUBLE)])
    report = run(tmp_path, made)
    assert (report.verdict, len(report.cases)) == (Verdict.EQUIVALENT, 1)


def test_strings_sequences_and_booleans(tmp_path):
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [2, 2])
    nodes = [
        helper.make_node("SequenceAt", ["x", "one"], ["t"]),
        helper.make_node("SequenceConstruct", ["t", "t"], ["y"]),
        helper.make_node("Identity", ["s"], ["z"]),
        helper.make_node("Not", ["b"], ["n"]),
    ]
    inputs = [
        sequence,
        value("s", ["N", 3], TensorProto.STRING),
        value("b", ["N", 3], TensorProto.BOOL),
    ]
    outputs = [
        helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None),
        value("z", None, TensorProto.STRING),
        value("n", None, TensorProto.BOOL),
    ]
    report = run(tmp_path, model(nodes, inputs, outputs, [tensor("one", np.int64(1))]))
    assert report.verdict is Verdict.EQUIVALENT
    assert {o.name for o in report.outputs} == {"y[0]", "y[1]", "z", "n"}


def test_external_data_is_found_beside_the_model(tmp_path):
    for name, made in (("a", conv_bn()), ("b", conv_bn(folded=True))):
        onnx.save(
            made,
            tmp_path / f"{name}.onnx",
            save_as_external_data=True,
            location=f"{name}.bin",
            size_threshold=0,
        )
    report = check(tmp_path / "a.onnx", tmp_path / "b.onnx", SMALL)
    assert (report.verdict, report.basis) == (Verdict.EQUIVALENT, "proof")
    report = check(tmp_path / "a.onnx", tmp_path / "b.onnx", TESTED)
    assert (report.verdict, report.basis) == (Verdict.EQUIVALENT, "arbiter")


def test_training_mode_depends_on_its_batch(tmp_path):
    weights = [tensor(n, np.ones(4, np.float32)) for n in "sbmv"]
    node = helper.make_node(
        "BatchNormalization", ["x", *"sbmv"], ["y", "mean", "var"], training_mode=1
    )
    made = model([node], [value("x", ["N", 4, 3])], [value("y", None)], weights)
    report = run(tmp_path, made, batch_invariant=True)
    assert report.verdict is Verdict.DIFFERENT
    assert "in a batch" in report.reasons[0]


def test_batch_invariance_needs_a_free_batch(tmp_path):
    with pytest.raises(UsageError, match="one batch size"):
        run(tmp_path, one_node("Relu", shape=(1, 4)), batch_invariant=True)


@pytest.mark.parametrize(
    "options",
    [
        {"tolerances": {"nope": Tolerance()}},
        {"input_shapes": {"nope": (1,)}},
        {"value_ranges": {"nope": (0, 1)}},
    ],
)
def test_options_that_name_nothing(tmp_path, options):
    with pytest.raises(UsageError, match="'nope'"):
        run(tmp_path, one_node("Relu"), **options)


def test_the_full_depth(tmp_path):
    report = run(tmp_path, conv_bn(side=6), conv_bn(side=6, folded=True), depth="full")
    assert report.verdict is Verdict.EQUIVALENT
    assert len(report.cases) == 18
    assert all(o.evidence.function is not None for o in report.outputs)


def test_dropout_that_trains_gets_a_seed(tmp_path):
    weights = [tensor("r", np.float32(0.5)), tensor("t", np.array(True))]
    made = one_node("Dropout", shape=("N", 40), weights=weights)
    report = run(tmp_path, made, depth="full")
    assert report.verdict is Verdict.EQUIVALENT
    assert report.notes[0].startswith("operators that draw random numbers")
    assert not any("change from run to run" in note for note in report.notes)


def test_a_heavy_model_is_evaluated_on_smaller_inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(arbitration, "_BUDGET", {False: 100_000})
    report = run(tmp_path, conv_bn(side=64), conv_bn(side=64, folded=True), proof=False)
    assert report.verdict is Verdict.EQUIVALENT
    assert report.cases[-1].shapes["x"] == (1, 3, 16, 16)
    assert [o.judgement.basis for o in report.outputs] == ["noise floor"] * 3 + ["arbiter"]
    assert report.basis == "arbiter"


def test_what_the_arbiter_cannot_evaluate_is_left_to_the_noise_floor(tmp_path):
    node = helper.make_node("Inverse", ["x"], ["y"], domain="com.microsoft")
    made = model([node], [value("x", ["N", 3, 3])], [value("y", None)], domains=["com.microsoft"])
    report = run(tmp_path, made, proof=False)
    assert report.verdict is Verdict.EQUIVALENT
    assert any("could not be compared in float64" in note for note in report.notes)
