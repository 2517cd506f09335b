"""Samples in another order: noise where that is rounding, and only there."""

import numpy as np
import pytest
from onnx import helper
from support.check_models import conv_bn, model, save, tensor, value

from normswap.check.evidence import Distance, gather
from normswap.check.options import CheckOptions
from normswap.check.reorder import batch_size, reordered, restored
from normswap.check.verdict import Verdict
from normswap.inputs.random import Case, Distribution
from normswap.workflows.check import check

ULP = 2.0**-23


def case(**feeds):
    return Case("", Distribution.USER, feeds)


@pytest.mark.parametrize(
    ("feeds", "size"),
    [
        ({"x": np.ones((3, 2)), "y": np.ones(3)}, 3),
        ({"x": np.ones((1, 2))}, None),
        ({"x": np.ones((3, 2)), "y": np.ones(4)}, None),
        ({"x": np.ones((3, 2)), "k": np.ones(())}, None),
        ({"x": [np.ones(3)]}, None),
        ({}, None),
    ],
)
def test_what_is_a_batch(feeds, size):
    assert batch_size(case(**feeds)) == size


def test_outputs_get_back_into_order():
    x = np.arange(12.0).reshape(4, 3)
    given = reordered(case(x=x)).feeds["x"]
    assert (given != x).all()
    back = restored({"y": given * 2, "total": given.sum(axis=0), "one": np.float64(3)}, 4)
    assert (back["y"] == x * 2).all()
    assert set(back) == {"y"}  # what has lost the batch has no order


def noise(other, first=None, executions=()):
    first = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3) if first is None else first
    return gather("y", [first, *executions], [first], None, reordered=other).noise


def test_rounding_is_noise():
    first = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    found = noise(first * np.float32(1 + ULP), first)
    assert 0 < found.max <= 2 * ULP


@pytest.mark.parametrize("part", [1.0, 1e-3, 1e-6])
def test_more_than_rounding_is_none(part):
    first = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    assert noise((first + part * first[:1]).astype(np.float32), first) == Distance(0.0, 0.0)


def test_a_noisy_model_may_be_noisy_in_another_order_too():
    first = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    noisy, twice, far = (first + np.float32(k) for k in (1e-4, 2e-4, 1e-2))
    assert noise(twice, first, [noisy]).max == pytest.approx(2e-4, rel=1e-2)
    assert noise(far, first, [noisy]).max == pytest.approx(1e-4, rel=1e-2)


def test_flips_and_lost_numbers_are_none():
    labels = np.arange(4)
    assert gather("y", [labels], [labels], None, reordered=labels[::-1]).noise_mismatches == 0
    first = np.ones((4, 3), np.float32)
    lost = first.copy()
    lost[0, 0] = np.nan
    evidence = gather("y", [first], [first], None, reordered=lost)
    assert (evidence.noise_disagreements, evidence.noise.max) == (0, 0.0)


def mixer(kind, size=None):
    """Return a model whose result for a sample depends on its place, or on the other samples."""
    weights = [tensor("zero", np.array([0])), tensor("axis", np.array(0))]
    nodes = {
        "first": [
            helper.make_node("Gather", ["x", "zero"], ["f"], axis=0),
            helper.make_node("Sub", ["x", "f"], ["y"]),
        ],
        "running": [helper.make_node("CumSum", ["x", "axis"], ["y"])],
        # As many channels as samples: the sum over the batch looks as if it followed it.
        "reduced": [helper.make_node("ReduceSum", ["x", "zero"], ["y"], keepdims=0)],
    }[kind]
    read = {name for node in nodes for name in node.input}
    weights = [w for w in weights if w.name in read]
    return model(nodes, [value("x", [size or "N", 7])], [value("y", None)], weights)


@pytest.mark.parametrize("kind", ["first", "running", "reduced"])
def test_models_that_mix_samples_gain_no_noise(tmp_path, kind):
    path = save(tmp_path / "a.onnx", mixer(kind))
    report = check(path, path, CheckOptions(depth="full", arbiter=False))
    assert report.verdict is Verdict.EQUIVALENT
    # Each sums at most seven numbers; the order of these is all that may show.
    assert all(o.evidence.noise.max <= 64 * ULP * o.evidence.scale.max for o in report.outputs)


@pytest.mark.parametrize(("depth", "runs"), [("full", 2), ("quick", 1)])
def test_batches_run_in_another_order_at_full_depth(tmp_path, depth, runs):
    path = save(tmp_path / "a.onnx", conv_bn(side=6))
    report = check(path, path, CheckOptions(depth=depth, arbiter=False))
    assert report.verdict is Verdict.EQUIVALENT
    assert [run.model for run in report.runs].count("original") == runs


def test_no_batch_no_order(tmp_path):
    path = save(tmp_path / "a.onnx", conv_bn(side=6, batch=1))
    report = check(path, path, CheckOptions(depth="full", arbiter=False))
    assert [run.model for run in report.runs].count("original") == 1


def test_an_order_that_the_model_refuses_is_told(tmp_path):
    """Indices that only hold in their own place: the second input of the last sample is its own."""
    nodes = [
        helper.make_node("Squeeze", ["n", "one"], ["flat"]),
        helper.make_node("Gather", ["flat", "zero"], ["count"]),
        helper.make_node("Expand", ["x", "count"], ["y"]),
    ]
    weights = [tensor("zero", np.array([1])), tensor("one", np.array([1]))]
    made = model(
        nodes,
        [value("x", [2]), value("n", [2, 1], 7)],
        [value("y", None)],
        weights,
    )
    path = save(tmp_path / "a.onnx", made)
    data = tmp_path / "in.npz"
    np.savez(data, x=np.ones(2, np.float32), n=np.array([[3], [2]]))
    report = check(path, path, CheckOptions(depth="full", arbiter=False, data=data))
    assert report.verdict is not Verdict.DIFFERENT
    assert any("another order" in note for note in report.notes)
