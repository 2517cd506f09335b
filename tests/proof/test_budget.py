"""A proof that is stopped: by work always at the same place, by time with a word of it."""

from __future__ import annotations

import onnx
import pytest
from support.build import Builder
from support.proving import proof_of

from normswap.proof.budget import NODE, Budget
from normswap.proof.result import Standing
from normswap.workflows import check as workflow
from normswap.workflows.check import check

LAYERS = 4


def network(*, twice):
    """Return layers of a Conv and a LeakyRelu; or with twice its weight, which is halved behind."""
    b = Builder(17, seed=2)
    x = b.input(1, 4, 6, 6)
    for layer, weight in enumerate(b.rng.normal(size=(LAYERS, 4, 4, 3, 3)) / 3):
        y = b.node("Conv", x, b.const(2 * weight if twice else weight), pads=[1] * 4)
        y = b.node("LeakyRelu", y, out=f"bent {layer}{' twice' * twice}")
        if twice:
            y = b.node("Mul", y, b.const(0.5), out=f"bent {layer}")
        x = b.node("Tanh", y)
    b.output(b.node("Neg", x, out="y"))
    return b.model()


@pytest.fixture(scope="module")
def models():
    return network(twice=False), network(twice=True)


def test_work_stops_a_proof_at_the_same_place(tmp_path, models):
    whole = Budget()
    proof = proof_of(*models, tmp_path, budget=whole)
    assert proof.is_whole
    assert whole.spent > LAYERS * NODE
    half = [proof_of(*models, tmp_path, budget=Budget(work=whole.spent / 2)) for _ in range(2)]
    assert half[0] == half[1]
    assert [output.standing for output in half[0].outputs] == [Standing.OPEN]
    assert 0 < len(half[0].regions) < len(proof.regions)
    assert half[0].stopped == half[0].outputs[0].reason
    assert half[0].stopped.startswith("the limit of ")
    assert half[0].stopped.endswith(" multiply-adds for a proof was reached")


def test_time_stops_a_proof_and_the_report_says_so(tmp_path, models, monkeypatch):
    monkeypatch.setitem(workflow._BUDGETS, False, (0.0, 1e9))
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for model, path in zip(models, paths, strict=True):
        onnx.save(model, path)
    report = check(*paths)
    assert report.verdict.value == "equivalent"
    assert not report.is_proved
    expected = "the proof was stopped early: the limit of 0 s for a proof was reached"
    assert expected in report.notes
