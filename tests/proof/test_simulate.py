"""Candidates by what two models make of the same inputs, and witnesses."""

from __future__ import annotations

import numpy as np
import pytest
from support.build import Builder
from support.proving import proof_of, sides

from normswap.proof import prove
from normswap.proof.budget import Budget
from normswap.proof.result import Standing
from normswap.proof.simulate import Alike, Simulated, simulate
from normswap.proof.witness import witness

LAYERS = 14


def network(*, rewritten=False, fault=1.0):
    """Return layers of seven operators; or these twice as large, until they are halved, renamed."""
    b = Builder(17, seed=1)
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    x = b.input(1, 4, 8, 8)
    weights = b.rng.normal(size=(LAYERS, 4, 4, 3, 3)) / 3
    b.count = 1000 * rewritten  # so that no name is the same
    for layer, weight in enumerate(weights):
        y = b.node("Conv", x, b.const(2 * weight if rewritten else weight), pads=[1] * 4)
        y = b.node("AveragePool", b.node("LeakyRelu", y), **window)
        y = b.node("Neg", b.node("MaxPool", b.node("Abs", y), **window))
        if rewritten:
            y = b.node("Mul", y, b.const(0.5 * (fault if layer == LAYERS // 2 else 1.0)))
        x = b.node("Tanh", y)
    b.output(b.node("Relu", b.node("Neg", x), out="y"))
    return b.model()


def test_a_model_in_other_words_is_proved_by_its_values(tmp_path, monkeypatch):
    models = network(), network(rewritten=True)
    proof = proof_of(*models, tmp_path)
    assert proof.is_whole, proof
    assert len(proof.regions) == LAYERS
    assert proof.largest == 7
    assert proof_of(*models, tmp_path) == proof
    monkeypatch.setattr(prove, "simulate", lambda *_, **__: Simulated({}, {}, {}))
    (output,) = proof_of(*models, tmp_path).outputs
    assert output.standing is Standing.OPEN


def test_a_fault_in_other_words_is_found_where_it_is(tmp_path):
    proof = proof_of(network(), network(rewritten=True, fault=1.0003), tmp_path, alone=True)
    assert [output.standing for output in proof.outputs] == [Standing.APART]
    (region,) = proof.apart
    assert (len(region.before), len(region.after)) == (6, 7)
    assert region.is_near
    assert proof.witness.output == "y"
    assert 1e-5 < proof.witness.off < 1e-2


def test_what_is_the_same_has_no_witness(tmp_path):
    a, b, feeds = sides(network(), network(rewritten=True), tmp_path)
    off = witness(a, b, [feeds], Budget(60))
    assert off is None or not off.is_plain


def test_nearest_first_and_nothing_that_is_far(tmp_path):
    a, b, feeds = sides(network(), network(rewritten=True, fault=1.0003), tmp_path)
    made = [simulate(side, feeds, budget=Budget(60)) for side in (a, b)]
    alike = Alike(*made)
    outputs = [dict(side.flat.outputs)["y"] for side in (a, b)]
    assert outputs[0] in alike.of(outputs[1], 4)
    np.testing.assert_allclose(made[0].outputs["y"], made[1].outputs["y"], atol=1e-2)
    twice = made[1].signatures[outputs[1]] * 2
    made[1].signatures[outputs[1]] = twice
    assert outputs[0] not in alike.of(outputs[1], 4)


@pytest.mark.parametrize("late", [True, False])
def test_what_is_not_reached_in_time_is_unknown(tmp_path, late):
    side, _, feeds = sides(network(), network(), tmp_path)
    made = simulate(side, feeds, budget=Budget(-1 if late else 60))
    assert (list(made.outputs) == []) is late
    assert (made.signatures == {}) is late
