"""Statistics of all data as one batch: how they are merged, and in which order they are found."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support.build import Builder
from support.onebatch import distance_to, statistics_of_one_batch, stored_statistics
from support.swapping import run_ort

from normswap.graph.build import build_network
from normswap.groupnorm import estimate
from normswap.groupnorm.estimate import RunningStatistics
from normswap.groupnorm.opened import open_statistics
from normswap.groupnorm.recalibrate import RecalibrateOptions, find_layers
from normswap.model import load
from normswap.workflows.recalibrate import recalibrate

ROUNDING = 1e-5
"""What float32 activations may make of statistics."""


# --- merging --------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e5]),
)
def test_sets_of_any_size_give_the_statistics_of_all(sizes, seed, offset):
    x = np.random.default_rng(seed).normal(size=(sum(sizes), 3)) + offset
    statistics = RunningStatistics(3)
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        part = x[end - size : end]
        statistics.add(part.mean(axis=0), part.var(axis=0), size)
    np.testing.assert_allclose(statistics.mean, x.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(statistics.var, x.var(axis=0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", [(7, 3), (5, 3, 4), (5, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_activations_by_channel(shape, dtype):
    x = np.random.default_rng(0).normal(3, 2, shape).astype(dtype)
    statistics = RunningStatistics(3)
    statistics.observe(x[:1], 1.0)
    statistics.observe(x[1:], 1.0)
    wide = np.moveaxis(x.astype(np.float64), 1, 0).reshape(3, -1)
    np.testing.assert_allclose(statistics.mean, wide.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(statistics.var, wide.var(axis=1), rtol=1e-12)
    assert statistics.count == wide.shape[1]


def test_summaries_of_turns():
    turns = [np.random.default_rng(n).normal(n, 2, (n, 3, 5)) for n in (4, 0, 2, 7)]
    summaries = np.zeros((2, 2, 3, 3, 1))
    for summary, x in zip(summaries.reshape(4, 3, 3), turns, strict=True):
        if x.size:
            summary[:] = np.full(3, x.size / 3), x.mean(axis=(0, 2)), x.var(axis=(0, 2))
    statistics = RunningStatistics(3)
    statistics.observe_summaries(summaries, 1.0)
    whole = np.concatenate(turns)
    np.testing.assert_allclose(statistics.mean, whole.mean(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(statistics.var, whole.var(axis=(0, 2)), rtol=1e-12)


def test_a_negative_weight_takes_out_again():
    rng = np.random.default_rng(0)
    first, rest, extra = (rng.normal(5, 2, (n, 3, 4)) for n in (6, 2, 1))
    statistics = RunningStatistics(3)
    statistics.observe(first, 1.0)
    statistics.observe(np.concatenate([rest, extra, extra, extra]), 1.0)
    statistics.observe(np.repeat(extra, 5, axis=0), -3 / 5)
    whole = np.moveaxis(np.concatenate([first, rest]), 1, 0).reshape(3, -1)
    np.testing.assert_allclose(statistics.mean, whole.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(statistics.var, whole.var(axis=1), rtol=1e-12)


def test_nothing_to_take_in():
    statistics = RunningStatistics(3)
    statistics.observe(np.zeros((0, 3, 4)), 1.0)
    assert statistics.count == 0


# --- networks -------------------------------------------------------------------------


def residual(batch="N"):
    """Layers beside and behind each other, depthwise ones too, and one right at the input."""
    b = Builder(17, seed=5)
    x = b.input(batch, 4, 6, 6)
    stem = b.bn(x, 4, name="input", epsilon=1e-3)
    left = b.bn(b.conv(stem, 4, 4, group=4, pads=[1] * 4), 4, name="depthwise", epsilon=1e-3)
    left = b.bn(b.conv(b.node("Relu", left), 4, 6, kernel=(1, 1)), 6, name="pointwise")
    right = b.bn(b.conv(stem, 4, 6, kernel=(1, 1)), 6, name="shortcut", epsilon=1e-3)
    y = b.node("Relu", b.node("Add", left, right))
    y = b.bn(b.conv(b.node("Concat", y, stem, axis=1), 10, 5, kernel=(1, 1)), 5, name="last")
    b.output(b.node("Relu", y, out="y"), [batch, 5, 6, 6])
    return b.model()


def images(count=23, channels=4, size=6):
    """Samples that differ much, sorted."""
    rng = np.random.default_rng(2)
    level = np.sort(rng.normal(0, 3, count))[:, None, None, None]
    return (rng.normal(size=(count, channels, size, size)) + level).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 2, 7, 23])
@pytest.mark.parametrize("order", ["sorted", "shuffled", "backwards"])
def test_neither_batches_nor_their_order_count(batch, order):
    model, x = residual(), images()
    orders = {
        "sorted": np.arange(23),
        "shuffled": np.random.default_rng(0).permutation(23),
        "backwards": np.arange(23)[::-1],
    }
    truth = statistics_of_one_batch(model, {"x": x})
    feeds = [{"x": x[orders[order][i : i + batch]]} for i in range(0, 23, batch)]
    assert distance_to(recalibrate(model, feeds).model, truth) < ROUNDING
    # It is no accident: the model's own statistics are far off.
    assert distance_to(model, truth) > 0.5


@pytest.mark.parametrize("size", [1, 2, 4, 5, 22, 23, 24, 40])
def test_a_fixed_batch_takes_all_samples(size):
    x = images()
    truth = statistics_of_one_batch(residual(), {"x": x})
    result = recalibrate(residual(size), {"x": x})
    assert distance_to(result.model, truth) < ROUNDING
    assert result.report.samples == 23
    assert result.report.notes == ()


@pytest.mark.parametrize(("room", "least"), [(0, 18), (8000, 7), (1 << 30, 6)])
def test_where_there_is_no_room_passes_begin_at_the_inputs(monkeypatch, room, least):
    monkeypatch.setattr(estimate, "ROOM", room)
    model, x = residual(), images()
    runs = []
    run = estimate.Session.run

    def counted(self, feeds, outputs=()):
        runs.append("x" in feeds)
        return run(self, feeds, outputs)

    monkeypatch.setattr(estimate.Session, "run", counted)
    result = recalibrate(model, [{"x": x[i : i + 4]} for i in range(0, 23, 4)])
    assert distance_to(result.model, statistics_of_one_batch(model, {"x": x})) < ROUNDING
    # What comes to the first layer is the input itself, of which six batches are at hand. There are
    # three levels more.
    assert len(runs) == 18
    assert least <= sum(runs) <= (least if room != 8000 else 17)


def opened(tmp_path, model):
    onnx.save(model, tmp_path / "model.onnx")
    loaded = load(tmp_path / "model.onnx")
    layers = find_layers(loaded, build_network(loaded), RecalibrateOptions()).layers
    names = [layer.nodes[0].name for layer in layers]
    found = open_statistics(tmp_path / "model.onnx", layers, tmp_path)
    return found, [{names[number] for number in level} for level in found.levels]


def test_layers_of_a_level_are_found_in_one_pass(tmp_path):
    found, levels = opened(tmp_path, residual())
    assert levels == [{"input"}, {"depthwise", "shortcut"}, {"pointwise"}, {"last"}]
    assert found.recurring == {}


def test_a_frontier_is_what_the_rest_reads(tmp_path):
    found, _ = opened(tmp_path, residual())
    assert found.frontiers is not None
    model = residual()
    by_name = {node.name: node for node in model.graph.node}
    x_of = {name: by_name[name].input[0] for name in stored_statistics(model)}
    assert set(found.frontiers[1]) == {"x"}
    # Behind the stem: its result goes into the Concat too, so it is kept, not what comes to it.
    assert set(found.frontiers[2]) == {
        x_of["depthwise"],
        x_of["shortcut"],
        by_name["input"].output[0],
    }
    assert x_of["last"] in found.frontiers[4]
    assert set(found.frontiers[4]) == {x_of["last"]}


# --- layers that depend on themselves -------------------------------------------------


def twice_in_a_row():
    """One layer, used twice, one behind the other."""
    b = Builder(17, seed=4)
    stats = [b.const(v) for v in b.statistics(4, positive=True)]
    x = b.conv(b.input("N", 4, 6, 6), 4, 4, pads=[1] * 4)
    y = b.node("BatchNormalization", x, *stats, name="one", epsilon=1e-3)
    y = b.conv(b.node("Relu", y, out="between"), 4, 4, pads=[1] * 4, out="x_of_two")
    y = b.node("BatchNormalization", y, *stats, name="two", epsilon=1e-3)
    y = b.bn(b.conv(y, 4, 3), 3, name="behind", epsilon=1e-3)
    b.output(b.node("Relu", y, out="y"), None)
    return b.model()


def tapped(model, *names, **feeds):
    """Return tensors of a model in float64."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    return [value.astype(np.float64) for value in run_ort(shown, **feeds)]


def by_channel(x):
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def test_statistics_that_depend_on_themselves_reproduce_themselves():
    x = images(16)
    result = recalibrate(twice_in_a_row(), [{"x": x[:9]}, {"x": x[9:]}])
    new = result.model
    x_of_one = new.graph.node[0].output[0]
    x_of_behind = next(n for n in new.graph.node if n.name == "behind").input[0]
    one, two, behind = tapped(new, x_of_one, "x_of_two", x_of_behind, x=x)
    pooled = np.concatenate([by_channel(one), by_channel(two)], axis=1)
    truth = {
        "one": (pooled.mean(axis=1), pooled.var(axis=1)),
        "behind": (by_channel(behind).mean(axis=1), by_channel(behind).var(axis=1)),
    }
    truth["two"] = truth["one"]
    assert distance_to(new, truth) < 1e-4
    (first, _) = result.report.layers
    assert (first.site.node, [site.node for site in first.shared]) == ("one", ["two"])


def test_statistics_that_do_not_settle_keep_the_layer():
    """The larger the variance, the smaller it gets in the next pass, by its third power."""
    b = Builder(17, seed=4)
    stats = [b.const(v) for v in (np.ones(3), np.zeros(3), np.zeros(3), np.full(3, 2.0))]
    x = b.input("N", 3)
    y = b.node("BatchNormalization", x, *stats, name="one", epsilon=0.0)
    y = b.node("Mul", b.node("Mul", b.node("Mul", y, y), y), b.const([5.0]))
    y = b.node("BatchNormalization", y, *stats, name="two", epsilon=0.0)
    y = b.bn(y, 3, name="behind", epsilon=1e-3)
    b.output(y, None)
    model = b.model()
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    result = recalibrate(model, {"x": x})
    kept = {entry.site.node: entry.detail for entry in result.report.untouched}
    assert set(kept) == {"one", "two"}
    assert "did not converge" in kept["one"]
    assert stored_statistics(result.model)["one"][1] == pytest.approx(2.0)
    behind = next(n for n in result.model.graph.node if n.name == "behind").input[0]
    (seen,) = tapped(result.model, behind, x=x)
    mean, var = stored_statistics(result.model)["behind"]
    np.testing.assert_allclose(mean, seen.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(var, seen.var(axis=0), rtol=1e-4)
