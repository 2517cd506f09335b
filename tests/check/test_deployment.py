"""When a proof and one run of each model are enough, and what is made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.check_models import conv_bn, save

from normswap.check import deployment
from normswap.check.compare import compare
from normswap.check.deployment import proved_outputs, with_proof
from normswap.check.evidence import Evidence
from normswap.check.metrics import measure
from normswap.check.observations import Observations
from normswap.check.options import CheckOptions, Tolerance
from normswap.check.report import OutputReport
from normswap.check.starting import is_enough
from normswap.check.verdict import Judgement, Verdict
from normswap.errors import RunError
from normswap.inputs.signature import read_signature
from normswap.proof.result import BY_SIZE, NARROWER, Output, Proof, Region, Standing, Witness

PROVED = Proof(outputs=(Output("out", Standing.PROVED),), values=3, identical=2)


def region(**found):
    return Region("y", "y", ("x",), ("Conv c", "BatchNormalization b"), ("Conv c",), **found)


@pytest.mark.parametrize(
    "asked",
    [
        {"depth": "full"},
        {"against_provider": "cpu"},
        {"batch_invariant": True},
        {"self_test": 3},
        {"iterations": 2},
        {"tolerances": {"": Tolerance(atol=1.0)}},
        {"data": "in.npz"},
        {"arbiter": False},
        {"proof": False},
    ],
)
def test_what_asks_for_more_gets_more(asked):
    assert is_enough(CheckOptions())
    assert is_enough(CheckOptions(symbolic_dims={"N": 3}, seed=4, provider="cuda"))
    assert not is_enough(CheckOptions(**asked))


def seen(signature, off):
    """Return what was seen of models whose only output is so far off."""

    class Results:
        def __init__(self, values):
            self.values = ((values,),)

    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 4, 4, 4)
    observed = Observations()
    observed.cases = [type("Case", (), {"name": "case", "expected": {}})()]
    observed.original = Results({"out": values})
    observed.rewritten = Results({"out": values + np.float32(off)})
    return observed


@pytest.mark.parametrize(("off", "enough"), [(0.0, True), (1e-5, True), (0.01, False)])
def test_a_run_is_believed_as_far_as_it_is_rounding(tmp_path, off, enough):
    signature = read_signature(save(tmp_path / "a.onnx", conv_bn(side=4)))
    outputs = proved_outputs(signature, seen(signature, off), PROVED)
    assert (outputs is not None) is enough
    if outputs is not None:
        (output,) = outputs
        assert (output.judgement.verdict, output.judgement.basis) == (Verdict.EQUIVALENT, "proof")
        assert output.judgement.reason.startswith(
            "proved; in the runtime the outputs differ by at most "
        )


CONVERTED = replace(PROVED, precision="float16")


@pytest.mark.parametrize(
    ("off", "verdict"), [(1e-5, "equivalent"), (0.01, "equivalent"), (0.2, "inconclusive")]
)
def test_a_conversion_may_be_off_by_what_its_type_explains(tmp_path, off, verdict):
    signature = read_signature(save(tmp_path / "a.onnx", conv_bn(side=4)))
    for (output,) in (
        proved_outputs(signature, seen(signature, off), CONVERTED),
        with_proof(compare(signature, seen(signature, off), {}), CONVERTED),
    ):
        assert output.judgement.verdict.value == verdict
    assert (
        "float16" in proved_outputs(signature, seen(signature, off), CONVERTED)[0].judgement.reason
    )


def judged(verdict, **evidence):
    found = Evidence("out", "float32", (4,), **evidence)
    return OutputReport("case", found, Judgement(verdict, "values", "it is constant"))


def off(by):
    return measure(np.ones(4, np.float32), np.ones(4, np.float32) + np.float32(by))


def test_what_is_proved_needs_no_output_that_varies():
    (output,) = with_proof((judged(Verdict.INCONCLUSIVE),), PROVED)
    assert output.judgement.verdict is Verdict.EQUIVALENT
    assert output.judgement.reason == "proved, although it is constant"
    (output,) = with_proof((judged(Verdict.INCONCLUSIVE, fault="no shape"),), PROVED)
    assert output.judgement.verdict is Verdict.INCONCLUSIVE
    (output,) = with_proof((judged(Verdict.DIFFERENT),), PROVED)
    assert output.judgement.verdict is Verdict.DIFFERENT


OFF = region(
    is_apart=True,
    element="weight[1, 2]",
    channel=1,
    reason="it differs by 90 times the rounding error of the constants",
)
APART = Proof(outputs=(Output("out", Standing.APART),), apart=(OFF,))
SHOWN = Witness("out", 1e-7, 1.0, is_plain=True)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (OFF, "equivalent"),  # half of a rewrite, it may be
        (replace(OFF, is_near=True), "inconclusive"),
        (replace(OFF, is_partial=True), "inconclusive"),
        (replace(OFF, before=("Gemm a",), after=("Gemm b",)), "inconclusive"),
    ],
)
def test_what_differs_is_a_verdict_where_it_shows(found, verdict):
    proof = replace(APART, apart=(found,))
    tested = (judged(Verdict.EQUIVALENT, verdict_level=off(1e-7)),)
    for unseen in (None, replace(SHOWN, is_plain=False), replace(SHOWN, output="other")):
        (output,) = with_proof(tested, replace(proof, witness=unseen))
        assert output.judgement.verdict.value == verdict
    two = replace(proof, apart=(found,) * 2)
    (output,) = with_proof(tested, two)
    assert output.judgement.verdict.value == "equivalent"  # what one lacks the other may have
    for seen in (proof, two):
        (output,) = with_proof(tested, replace(seen, witness=SHOWN))
        assert (output.judgement.verdict, output.judgement.basis) == (Verdict.DIFFERENT, "proof")
        assert "weight[1, 2] in channel 1" in output.judgement.reason
        assert "in float64 it differs by up to 1e-07" in output.judgement.reason


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (f"Equal e {BY_SIZE}", "inconclusive"),
        (NARROWER, "inconclusive"),
        ("Foo is not supported in float64", "equivalent"),
    ],
)
def test_what_tests_do_not_settle(reason, verdict):
    proof = Proof(outputs=(Output("out", Standing.OPEN, reason),))
    (output,) = with_proof((judged(Verdict.EQUIVALENT, verdict_level=off(0.0)),), proof)
    assert output.judgement.verdict.value == verdict
    (output,) = with_proof((judged(Verdict.DIFFERENT, verdict_level=off(1.0)),), proof)
    assert output.judgement.verdict is Verdict.DIFFERENT


def test_models_that_do_not_run_are_left_to_the_rest_of_the_check(tmp_path):
    class Runner:
        def execute(self, *_given, **_named):
            raise RunError("it does not run")

    signature = read_signature(save(tmp_path / "a.onnx", conv_bn(side=4)))
    options = CheckOptions()
    assert deployment.deploy(Runner(), None, signature, signature, options) is None


def test_metrics_are_those_of_the_run(tmp_path):
    signature = read_signature(save(tmp_path / "a.onnx", conv_bn(side=4)))
    observed = seen(signature, 1e-5)
    (output,) = proved_outputs(signature, observed, PROVED)
    first, second = (r.values[0][0]["out"] for r in (observed.original, observed.rewritten))
    assert output.evidence.deployed == measure(first, second)
