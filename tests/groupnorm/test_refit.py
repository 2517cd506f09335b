"""Least squares over weights: what is held out, what is fitted, what comes of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.build import Builder
from support.functions import Body
from support.swapping import run_ort, swap_options, tensor_of

from normswap.check.options import CheckOptions
from normswap.errors import DataError, UsageError
from normswap.groupnorm.calibrate import CalibrationOptions
from normswap.groupnorm.options import FittedAffine
from normswap.groupnorm.planner import plan_swap
from normswap.groupnorm.refit import course, crew, outputs, sweep
from normswap.groupnorm.refit import judge as judging
from normswap.groupnorm.refit.fitting import RefitOptions, refit
from normswap.groupnorm.refit.holdout import hold_out
from normswap.groupnorm.refit.joint import solutions
from normswap.groupnorm.refit.judge import judge
from normswap.groupnorm.refit.mixing import Mixed
from normswap.groupnorm.refit.opening import open_pair
from normswap.groupnorm.refit.writing import write_constants
from normswap.inputs.data import open_data
from normswap.inputs.signature import read_signature
from normswap.model import load, stage
from normswap.progress import silent
from normswap.runtime.session import Session
from normswap.workflows.swap import swap

pytestmark = pytest.mark.usefixtures("sessions_in_process")

SAMPLES = 96


def images(count=SAMPLES, channels=3, size=6, seed=9):
    rng = np.random.default_rng(seed)
    contrast = rng.uniform(0.5, 2, size=(count, 1, 1, 1))  # which a group normalization loses
    return (contrast * rng.normal(0.3, 1, size=(count, channels, size, size))).astype(np.float32)


def layer(b, x, y=None):
    """A BatchNormalization of eight channels that are normalized already, and a Relu."""
    stats = (b.rng.uniform(0.5, 1.5, 8), b.rng.normal(size=8), np.zeros(8), np.ones(8))
    return b.node("Relu", b.bn(x, 8, stats=stats, epsilon=1e-5, name=y, out=y))


def network():
    """A network with a layer of every kind."""
    b = Builder(17, seed=3)
    x = layer(b, b.conv(b.input("N", 3, 6, 6), 3, 8, pads=[1, 1, 1, 1], name="first"), "bn0")
    x = layer(b, b.conv(x, 8, 8, group=2, strides=[2, 2], name="grouped"), "bn1")
    weight, bias = b.normal(8, 4, 2, 2), b.normal(8)
    x = b.node("ConvTranspose", x, weight, bias, group=2, strides=[2, 2], name="up")
    x = b.node("Flatten", b.node("GlobalAveragePool", layer(b, x, "bn2")))
    x = b.node("Add", b.node("MatMul", x, b.normal(8, 6), name="product"), b.normal(6))
    x = b.node(
        "Gemm", b.node("Relu", x), b.normal(4, 6), b.normal(4), transB=1, name="last", out="y"
    )
    return b.output(x, ("N", 4)).model()


def opened(model, path, data=None, *, units=None, batch=16):
    """Write a model; return where it is, its plan, and the samples on both sides."""
    onnx.save(model, path)
    feeds = {"x": images()} if data is None else data
    found = open_data(feeds, read_signature(path), batch=batch, units=units)
    return path, plan_swap(load(path), swap_options(2)), *hold_out(found)


def written(path, refitted):
    """Return the network before it is swapped, with what was fitted."""
    model = load(path)
    write_constants(model, refitted.constants)
    with stage(model, path.with_name("refitted.onnx"), overwrite=True) as staged:
        staged.commit()
    result = onnx.load(path.with_name("refitted.onnx"))
    onnx.checker.check_model(result, full_check=True)
    return result


# --- what is held out -------------------------------------------------------------------


def held(tmp_path, data, *, fixed=False, share=0.25, units=None, batch=5):
    onnx.save(network(), tmp_path / "model.onnx")
    found = open_data(data, read_signature(tmp_path / "model.onnx"), batch=batch, units=units)
    return hold_out(found, share=share, fixed=fixed)


def numbers(part):
    return [int(value) for feeds in part for value in feeds["x"][:, 0, 0, 0]]


def numbered(count):
    return np.broadcast_to(
        np.arange(count, dtype=np.float32)[:, None, None, None], (count, 3, 6, 6)
    )


def test_every_sample_is_on_one_side(tmp_path):
    fit, out = held(tmp_path, {"x": numbered(22)}, share=0.3)
    assert len(numbers(out)) == out.samples == 7
    assert fit.samples == 15
    assert sorted(numbers(fit) + numbers(out)) == list(range(22))
    assert numbers(out) == numbers(out)  # again, the same


def test_units_stay_together(tmp_path):
    data = {"x": numbered(24), "film": np.arange(24) // 4}
    fit, out = held(tmp_path, data, units="film")
    films = [{number // 4 for number in numbers(part)} for part in (fit, out)]
    assert [len(found) for found in films] == [4, 2]
    assert not films[0] & films[1]


def test_samples_know_their_unit_and_are_one_each_without(tmp_path):
    data = {"x": numbered(24), "film": np.arange(24) // 4}
    _, out = held(tmp_path, data, units="film")
    films = [number // 4 for number in numbers(out)]
    units = np.concatenate(out.units)
    assert sorted(set(zip(units, films, strict=True))) == [(0, films[0]), (1, films[-1])]
    _, out = held(tmp_path, {"x": numbered(24)})
    assert np.concatenate(out.units).tolist() == list(range(out.samples))
    _, out = held(tmp_path, {"x": numbered(40)}, fixed=True)
    assert [own.tolist() for own in out.units] == [[0] * 5, [1] * 5]  # a batch that stays whole


def nearness(ours, theirs, units):
    """Judge one output, in batches of two samples."""
    parts = [slice(at, at + 2) for at in range(0, len(ours), 2)]
    batches = [[{"y": values[part]} for part in parts] for values in (ours, theirs)]
    return judge(*batches, [("y", "y", "y")], [np.array(units[part]) for part in parts])


def test_what_helps_one_unit_and_hurts_another_is_no_gain():
    theirs = np.random.default_rng(0).normal(size=(6, 5, 1))
    noise = np.ones((6, 5, 1))
    units = [0, 0, 1, 1, 1, 2]
    before = nearness(theirs + noise, theirs, units)
    energy = np.bincount(units, np.square(noise).sum(axis=(1, 2)))
    assert before.units == pytest.approx(energy / np.square(theirs).sum())
    assert before.units.sum() == pytest.approx(before.error)
    all_nearer = nearness(theirs + 0.9 * noise, theirs, units)
    gains = 0.19 * before.units
    chance = np.sqrt(3) * gains.std(ddof=1)
    expected = (gains.sum() - chance) / before.error
    assert all_nearer.gain(before) == pytest.approx(expected)
    much = np.array([0.2, 0.2, 1.1, 1.1, 1.1, 1.1])[:, None, None]
    first_nearer = nearness(theirs + much * noise, theirs, units)
    assert first_nearer.error < before.error
    assert first_nearer.gain(before) < 0
    lost = nearness(np.where(theirs > 0, np.inf, theirs), theirs, units)
    assert lost.gain(before) == -np.inf
    assert before.gain(lost) == np.inf


def test_what_is_nearer_and_of_no_class_is_no_gain():
    theirs = 4 * np.eye(6, 5) + np.linspace(0, 1, 5)
    units = [0, 1, 2, 3, 4, 5]
    loud, mean = 2.2 * theirs, np.broadcast_to(theirs.mean(axis=0), theirs.shape)
    before, after = nearness(loud, theirs, units), nearness(mean, theirs, units)
    right = np.exp(theirs) / np.exp(theirs).sum(axis=1, keepdims=True)
    ours = np.exp(loud) / np.exp(loud).sum(axis=1, keepdims=True)
    assert before.classes == pytest.approx((right * np.log(right / ours)).sum(axis=1))
    assert after.error < 0.8 * before.error
    assert after.gain(before) < 0
    assert before.outputs["y"].agreed == 6 > after.outputs["y"].agreed


def test_batches_of_a_size_that_is_fixed_stay_whole(tmp_path):
    fit, out = held(tmp_path, {"x": numbered(20)}, fixed=True)
    assert [len(feeds["x"]) for feeds in (*fit, *out)] == [5] * 4
    assert out.samples == 5


def test_batches_that_stay_whole_are_of_one_unit(tmp_path):
    data = {"x": numbered(20), "film": np.arange(20) // 10}
    fit, out = held(tmp_path, data, fixed=True, units="film")
    assert {number // 10 for number in numbers(fit)} ^ {
        number // 10 for number in numbers(out)
    } == {0, 1}
    with pytest.raises(DataError, match="mix several units"):
        held(tmp_path, {"x": numbered(20), "film": np.arange(20) // 4}, fixed=True, units="film")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_what_is_no_share(tmp_path, share):
    with pytest.raises(UsageError, match="must be above 0 and below 1"):
        held(tmp_path, {"x": numbered(8)}, share=share)


@pytest.mark.parametrize(
    ("more", "units", "message"),
    [
        ({"film": np.zeros(8)}, "film", "has only one unit"),
        ({}, "film", "has no array 'film'"),
        ({"film": np.zeros((8, 2))}, "film", r"'film' is \[8, 2\], but one value for each"),
    ],
)
def test_data_that_can_not_be_divided(tmp_path, more, units, message):
    with pytest.raises(DataError, match=message):
        held(tmp_path, {"x": numbered(8), **more}, units=units)


@pytest.mark.parametrize("fixed", [False, True])
def test_others_between_two_samples(tmp_path, fixed):
    fit, _ = held(tmp_path, {"x": numbered(20)}, share=0.3, fixed=fixed)
    values = [feeds["x"][:, 0, 0, 0] for feeds in Mixed(fit)]
    if fixed:  # then a batch keeps its size
        assert {len(batch) for batch in values} == {5}
        values = [np.concatenate(two) for two in zip(values[::2], values[1::2], strict=True)]
    halves = [np.split(batch, 2) for batch in values]
    assert np.concatenate([real for real, _ in halves]).tolist() == numbers(fit)
    for real, mixed in halves:
        assert mixed.dtype == np.float32
        assert not np.isin(mixed, real).any()
        assert (real.min() < mixed).all() & (mixed < real.max()).all()
        assert (np.abs(mixed - real) <= 0.5 * np.ptp(real)).all()  # more of its own than of others
    again, others = ([feeds["x"] for feeds in Mixed(fit, draw)] for draw in (0, 1))
    np.testing.assert_array_equal(np.concatenate(values), np.concatenate(again)[:, 0, 0, 0])
    assert not np.array_equal(np.concatenate(again), np.concatenate(others))


@pytest.mark.parametrize("fixed", [False, True])
def test_batches_of_a_few_samples(tmp_path, fixed):
    fit, _ = held(tmp_path, {"x": numbered(20)}, share=0.3, fixed=fixed)
    whole, parts = ([feeds["x"] for feeds in Mixed(fit, most=most)] for most in (None, 3))
    assert max(map(len, parts)) == (5 if fixed else 3)
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(whole))


def test_a_share_of_the_samples(tmp_path):
    fit, _ = held(tmp_path, {"x": numbered(40)}, share=0.3)
    some = [Mixed(fit, draw, added=False, share=0.4) for draw in (1, 1, 2)]
    one, same, other = (np.concatenate([feeds["x"] for feeds in part]) for part in some)
    np.testing.assert_array_equal(one, same)
    assert len(one) == pytest.approx(0.4 * fit.samples, abs=sum(1 for _ in fit))
    assert not np.array_equal(one[:8], other[:8])


@pytest.mark.parametrize("fixed", [False, True])
def test_others_in_place_of_samples(tmp_path, fixed):
    fit, _ = held(tmp_path, {"x": numbered(20)}, share=0.3, fixed=fixed)
    real, mixed = (
        [feeds["x"][:, 0, 0, 0] for feeds in data] for data in (fit, Mixed(fit, added=False))
    )
    assert [len(batch) for batch in mixed] == [len(batch) for batch in real]
    for own, other in zip(real, mixed, strict=True):
        assert not np.isin(other, own).any()
        assert (np.abs(other - own) <= 0.5 * np.ptp(own)).all()


# --- what is fitted ---------------------------------------------------------------------


@pytest.fixture
def layer_by_layer(monkeypatch):
    monkeypatch.setattr(outputs, "TIMES", 0)
    monkeypatch.setattr(judging, "FEW", 0)  # what few samples are not sure of is fitted too


@pytest.mark.usefixtures("layer_by_layer")
def test_a_layer_of_every_kind_is_fitted(tmp_path):
    path, plan, fit, out = opened(network(), tmp_path / "model.onnx")
    refitted = refit(path, plan, fit, out, RefitOptions(), silent)
    steps = refitted.fit.steps
    assert {"up", "product", "last"} <= {step.layer for step in steps}
    assert {step.kind for step in steps} == {"weight"}
    told = {entry.layer: entry.why for entry in refitted.fit.unfitted}
    assert told.pop("first") == "its output is already that of the original"
    layers = {"grouped", "up", "product", "last", "bn0", "bn1", "bn2"}
    assert set(told) | {step.layer for step in steps} == layers
    assert refitted.fit.after["y"].snr > refitted.fit.before["y"].snr + 3
    for one, next_ in pairwise(steps):
        assert one.before < one.after == next_.before
    assert refitted.fit.fitted + refitted.fit.held_out == SAMPLES


@pytest.mark.parametrize("few", [0, judging.FEW])
def test_what_may_be_chance_is_not_taken(tmp_path, monkeypatch, few):
    monkeypatch.setattr(outputs, "TIMES", 0)
    monkeypatch.setattr(sweep, "LAMS", (1e-1,))
    monkeypatch.setattr(judging, "FEW", few)
    path, plan, fit, out = opened(network(), tmp_path / "model.onnx")
    fitted = refit(path, plan, fit, out, RefitOptions(), silent).fit
    # The last layer's fit lowers the error of 24 samples by 1 %, that of half of them.
    is_taken = "last" in {step.layer for step in fitted.steps}
    assert is_taken is (few == 0)


@pytest.mark.usefixtures("layer_by_layer")
def test_a_layer_gets_the_least_squares_on_what_comes_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "LAMS", (1e-9,))
    monkeypatch.setattr(sweep, "SHARES", (1.0,))
    path, plan, fit, out = opened(network(), tmp_path / "model.onnx")
    refitted = refit(path, plan, fit, out, RefitOptions(affines=False), silent)
    assert [step.layer for step in refitted.fit.steps][-1] == "last"
    model = written(path, refitted)
    onnx.save(model, tmp_path / "swapped.onnx")
    swap(path.with_name("refitted.onnx"), tmp_path / "gn.onnx", swap_options(2, normalize=False))
    swapped = onnx.load(tmp_path / "gn.onnx")
    x = np.concatenate([feeds["x"] for feeds in fit])
    last = next(node for node in swapped.graph.node if node.name == "last")
    columns = tensor_of(swapped, last.input[0], x=x).astype(np.float64)
    wanted = run_ort(onnx.load(path), x=x)[0]
    design = np.hstack([columns, np.ones((len(x), 1))])
    best, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    weights = {t.name: numpy_helper.to_array(t) for t in swapped.graph.initializer}
    left = np.square(design @ best - wanted).sum()
    got = columns @ weights[last.input[1]].T + weights[last.input[2]] - wanted
    assert np.square(got).sum() == pytest.approx(left, rel=1e-3)


@pytest.mark.usefixtures("layer_by_layer")
def test_neither_batches_nor_room_change_what_comes_out(tmp_path, monkeypatch):
    results = []
    for batch, room in ((16, 1 << 29), (96, 0), (16, 30_000)):
        monkeypatch.setattr(course, "ROOM", room)
        path, plan, fit, out = opened(network(), tmp_path / "model.onnx", batch=batch)
        found = refit(path, plan, fit, out, RefitOptions(), silent)
        results.append({c.name: values for c, values in found.constants})
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        for name, values in other.items():
            np.testing.assert_allclose(values, results[0][name], rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("layer_by_layer")
def test_a_fit_that_helps_nobody_is_not_taken(tmp_path, monkeypatch):
    """Fitted to samples of another kind, a layer is off on those that are held out."""
    monkeypatch.setattr(sweep, "LAMS", (1e-3,))
    monkeypatch.setattr(sweep, "SHARES", (1.0,))
    path, plan, _, out = opened(network(), tmp_path / "model.onnx")
    strange = {"x": np.full((8, 3, 6, 6), 3, np.float32) + 0.01 * images(8)}
    fit, _ = hold_out(open_data(strange, read_signature(path)))
    refitted = refit(path, plan, fit, out, RefitOptions(), silent)
    assert refitted.fit.after["y"].snr >= refitted.fit.before["y"].snr
    reasons = {entry.why for entry in refitted.fit.unfitted}
    assert "no fit of it reduced the error on held-out samples" in reasons


def test_all_is_fitted_to_the_outputs_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "TIMES", 1)
    path, plan, fit, out = opened(network(), tmp_path / "model.onnx")
    refitted = refit(path, plan, fit, out, RefitOptions(), silent)
    first = refitted.fit.steps[0]
    assert (first.kind, first.layer) == ("weights", "8 layers together")
    assert first.rounds in outputs.ROUNDS
    assert first.after > first.before + 3
    assert len(refitted.affines) == 3  # of every normalization
    assert not refitted.fit.unfitted


def test_what_little_memory_is_left_changes_no_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "TIMES", 1)
    monkeypatch.setattr(outputs, "ROUNDS", (3,))
    monkeypatch.setattr("normswap.groupnorm.refit.fitting.sweep", lambda _: None)
    opening = opened(network(), tmp_path / "model.onnx")
    found, sizes = [], []

    def at_work(pair, batches, timeout):
        sizes.append(sum(1 for _ in batches))
        return crew.at_work(pair, batches, timeout)

    monkeypatch.setattr(outputs, "at_work", at_work)
    monkeypatch.setattr(crew, "threads_here", lambda: 2)
    for room in (1 << 30, 1 << 20):  # all samples of a batch at once, or a few of them
        monkeypatch.setattr(crew, "free_memory", lambda room=room: room)
        refitted = refit(*opening, RefitOptions(), silent)
        found.append([value for _, value in refitted.constants])
    assert sizes[0] < sizes[1]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("fewest", "kind"), [(8, "weights"), (64, "weight")])
def test_of_much_data_a_part_is_fitted_to_at_once(tmp_path, monkeypatch, fewest, kind):
    def most(trial, route):
        takes, size = costs(trial, route)
        monkeypatch.setattr(outputs, "MOST", takes // 3)
        return takes, size

    costs = outputs._costs
    monkeypatch.setattr(outputs, "_costs", most)
    monkeypatch.setattr(outputs, "TIMES", 1)
    monkeypatch.setattr(outputs, "FEWEST", fewest)
    path, plan, fit, out = opened(network(), tmp_path / "model.onnx")
    steps = refit(path, plan, fit, out, RefitOptions(), silent).fit.steps
    assert steps[0].kind == kind
    assert steps[0].after > steps[0].before


@pytest.mark.parametrize(("module", "name"), [(outputs, "MOST"), (crew, "ROOM")])
def test_what_takes_too_much_is_fitted_layer_by_layer(tmp_path, monkeypatch, module, name):
    monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(crew, "free_memory", lambda: None)
    path, plan, fit, out = opened(network(), tmp_path / "model.onnx")
    refitted = refit(path, plan, fit, out, RefitOptions(), silent)
    assert {step.kind for step in refitted.fit.steps} == {"weight"}
    told = {entry.layer: entry.why for entry in refitted.fit.unfitted}
    assert "takes too much time or memory" in told["bn0"]


def test_what_an_operator_without_an_adjoint_hides_is_fitted_layer_by_layer(tmp_path):
    model = network()
    last = next(node for node in model.graph.node if node.name == "last")
    model.graph.node.insert(
        list(model.graph.node).index(last),
        helper.make_node("CumSum", [last.input[0], "axis"], ["sums"]),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), "axis"))
    last.input[0] = "sums"
    path, plan, fit, out = opened(model, tmp_path / "model.onnx")
    found = refit(path, plan, fit, out, RefitOptions(), silent).fit
    assert {step.layer for step in found.steps if step.kind == "weights"} == {"last"}
    told = {entry.layer: entry.why for entry in found.unfitted}
    assert told["bn0"] == "no derivative is known of sums, which comes after it"


def test_a_tangent_and_its_adjoint_agree(tmp_path, monkeypatch):
    path, plan, fit, _ = opened(network(), tmp_path / "model.onnx")
    pair = open_pair(path, plan, tmp_path, weights=True, affines=True)
    values = {p.name: p.values for problem in pair.problems for p in problem.parameters}
    rng = np.random.default_rng(0)
    along = np.concatenate([rng.normal(size=v.size) for _, v in sorted(values.items())])
    pulled = []
    with Session(pair.student.path, label="the student", taps=pair.student.taps) as session:
        session.hold(values)
        made = [session.run(feeds, ["y"])["y"] for feeds in fit]
    monkeypatch.setattr(crew, "free_memory", lambda: None)
    for room in (crew.ROOM, 0):  # kept, or made anew each time
        for cores in (1, 3):
            monkeypatch.setattr(crew, "ROOM", room)
            monkeypatch.setattr(crew, "threads_here", lambda cores=cores: cores)
            with crew.at_work(pair, made, 60.0) as found:
                found.begin(values, [("y", 0.5)])
                found.take((feeds, [y]) for feeds, y in zip(fit, made, strict=True))
                assert np.abs(found.pull(0.0)).max() < 1e-3  # nothing is missing
                energy = found.push(along)
                pulled.append(found.pull(-1.0))
            assert along @ pulled[-1] == pytest.approx(energy, rel=0.02)
    np.testing.assert_array_equal(pulled[0], pulled[2])
    np.testing.assert_array_equal(pulled[1], pulled[3])
    np.testing.assert_allclose(pulled[0], pulled[1], rtol=1e-3, atol=1e-3)


def products(matrix, residual):
    """A push and a pull by a matrix."""
    left, seen = residual.copy(), np.zeros_like(residual)

    def push(along):
        seen[:] = matrix @ along
        return seen @ seen

    def pull(step):
        left[:] -= step * seen
        return matrix.T @ left

    return push, pull


def test_conjugate_gradients_come_to_the_least_squares():
    rng = np.random.default_rng(0)
    matrix, residual = rng.normal(size=(40, 6)), rng.normal(size=40)
    found = dict(solutions(*products(matrix, residual), (2, 6)))
    best, *_ = np.linalg.lstsq(matrix, residual, rcond=None)
    np.testing.assert_allclose(found[6], best, atol=1e-10)
    assert np.linalg.norm(found[2]) < np.linalg.norm(best)  # it holds on to where it was
    assert not list(solutions(*products(matrix, np.zeros(40)), (2, 6)))


def siamese():
    """Two branches with one weight, one of whose biases is read by others too."""
    b = Builder(17, seed=3)
    weight, own, shared = b.normal(8, 8, 3, 3, name="w"), b.normal(8), b.normal(8, name="shared")
    branches = []
    for name in ("one", "two"):
        x = layer(b, b.conv(b.input("N", 3, 6, 6, name=name), 3, 8, name=f"{name}0"))
        x = b.node("Conv", x, weight, own, name=f"{name}1")
        branches.append(b.node("Flatten", b.node("GlobalAveragePool", x)))
    x = b.node("Add", b.node("Sub", *branches), shared)
    x = b.node("Gemm", x, b.normal(8, 4), b.normal(4), name="last")
    b.output(
        b.node(
            "Add",
            x,
            b.node("Slice", shared, b.const(np.int64([0])), b.const(np.int64([4]))),
            out="y",
        ),
        ("N", 4),
    )
    return b.model()


@pytest.mark.usefixtures("layer_by_layer")
def test_a_weight_that_is_shared_is_one_problem(tmp_path):
    data = {"one": images(), "two": images(seed=4)}
    path, plan, fit, out = opened(siamese(), tmp_path / "model.onnx", data)
    refitted = refit(path, plan, fit, out, RefitOptions(), silent)
    assert "one1" in {step.layer for step in refitted.fit.steps}
    assert "two1" not in {entry.layer for entry in refitted.fit.unfitted}
    model = written(path, refitted)
    users = [node for node in model.graph.node if node.name in ("one1", "two1")]
    assert len({tuple(node.input[1:]) for node in users}) == 1
    before, after = (
        {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
        for m in (onnx.load(path), model)
    )
    assert not np.array_equal(before["w"], after["w"])
    np.testing.assert_array_equal(before["shared"], after["shared"])


@pytest.mark.usefixtures("layer_by_layer")
def test_a_constant_that_others_read_is_theirs_as_it_was(tmp_path):
    model = network()
    weight = next(node for node in model.graph.node if node.name == "last").input[1]
    model.graph.node.append(helper.make_node("Identity", [weight], ["seen"]))
    model.graph.output.append(helper.make_tensor_value_info("seen", 1, (4, 6)))
    path, plan, fit, out = opened(model, tmp_path / "model.onnx")
    refitted = refit(path, plan, fit, out, RefitOptions(), silent)
    assert "last" in {step.layer for step in refitted.fit.steps}
    result = written(path, refitted)
    last = next(node for node in result.graph.node if node.name == "last")
    values = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
    assert not np.array_equal(values[last.input[1]], values[weight])
    np.testing.assert_array_equal(run_ort(result, x=images(2))[1], values[weight])


@pytest.mark.usefixtures("layer_by_layer")
def test_an_affine_in_a_body_has_a_turn_behind_the_weights(tmp_path):
    b = Builder(17, seed=3)
    x = b.node("Conv", b.input("N", 3, 6, 6), b.normal(8, 3, 3, 3), name="first")
    inner = Builder(17, seed=5)
    inner.count = 100
    made = layer(inner, x, "inside")
    branch = graph_of(inner, "branch", [], [(made, 1, None)])
    x = b.node("If", data_says(b, -9.0), then_branch=branch, else_branch=branch, name="choice")
    b.output(b.node("Flatten", b.node("GlobalAveragePool", x), out="y"), ("N", 8))
    path, plan, fit, out = opened(b.model(), tmp_path / "model.onnx")
    found = refit(path, plan, fit, out, RefitOptions(), silent).fit
    (step,) = found.steps
    told = {entry.layer: entry.why for entry in found.unfitted}
    assert told["choice.else_branch/inside"] == "it does not run on this data"
    assert (step.layer, step.kind) == ("choice.then_branch/inside", "affine")
    assert step.after > step.before + 3


def in_function(b, x, calls=2):
    """A function with layers, the weight of the last of which it is handed."""
    body = Body(b, "Block", ["a", "w"])
    stats = (b.rng.uniform(0.5, 1.5, 8), b.rng.normal(size=8), np.zeros(8), np.ones(8))
    y = body.node("Conv", "a", body.const(b.rng.normal(size=(8, 8, 3, 3)) / 6), pads=[1] * 4)
    y = body.node("BatchNormalization", y, *map(body.const, stats))
    body.returns(body.node("Conv", body.node("Relu", y), "w"))
    for number in range(calls):
        x = b.node("Block", x, b.normal(8, 8, 1, 1, name=f"w{number}"), domain="local")
    return x


def inner_layers(b, x, out):
    """A Conv, a BatchNormalization, a Relu and a Conv: nodes of a body, with its own constants."""
    inner = Builder(17, seed=b.count)
    inner.count = 100 * b.count  # names that no graph around has
    y = inner.conv(x, 8, 8, pads=[1] * 4, name="before")
    y = inner.conv(layer(inner, y, "inside"), 8, 8, pads=[1] * 4, name="behind")
    inner.node("Mul", y, inner.const(0.1), out=out)
    return inner


def graph_of(inner, name, inputs, outputs):
    infos = [
        [helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in some]
        for some in (inputs, outputs)
    ]
    return helper.make_graph(inner.nodes, name, *infos, inner.initializers)


def data_says(b, limit=0.3):
    """Whether the first value of a batch is above a limit."""
    first = b.node("Slice", "x", b.const(np.zeros(4, np.int64)), b.const(np.ones(4, np.int64)))
    return b.node("Greater", b.node("Squeeze", first), b.const(limit))


def in_branch(b, x):
    """Layers in both branches of an If, between which the first value of a batch chooses."""
    branches = {}
    for name in ("then", "else"):
        inner = inner_layers(b, x, f"of_{name}")
        branches[f"{name}_branch"] = graph_of(inner, name, [], [(f"of_{name}", 1, None)])
        b.count += 1
    return b.node("If", data_says(b), name="choice", **branches)


def in_loop(b, x):
    """Layers in a branch of an If in a Loop of three turns, of which the second does without."""
    inner = inner_layers(b, "state", "moved")
    inner.node("Add", "state", "moved", out="next")
    kept = helper.make_node("Identity", ["state"], ["held"])
    image = ("N", 8, 4, 4)
    branches = {
        "then_branch": graph_of(inner, "go", [], [("next", 1, None)]),
        "else_branch": helper.make_graph(
            [kept], "stay", [], [helper.make_tensor_value_info("held", 1, None)]
        ),
    }
    around = Builder(17)
    one = around.const(np.int64(1))
    goes = around.node("Not", around.node("Equal", "turn", one))
    around.node("If", goes, out="after", name="choice", **branches)
    around.node("Identity", "more", out="still")
    body = graph_of(
        around,
        "body",
        [("turn", 7, ()), ("more", 9, ()), ("state", 1, image)],
        [("still", 9, ()), ("after", 1, image)],
    )
    return b.node("Loop", b.const(np.int64(3)), "", x, body=body, name="turns")


def in_scan(b, x, *, chosen=False):
    """Layers that a Scan goes through, in a branch or not."""
    inner = inner_layers(b, "row", "moved")
    inner.node("Add", "row", "moved", out="next")
    image = ("N", 8, 4, 4)
    if chosen:
        branch = graph_of(inner, "branch", [], [("next", 1, None)])
        inner = Builder(17)
        inner.count = 1000
        sign = inner.node(
            "Greater", inner.node("ReduceMax", "row", keepdims=0), inner.const(np.float32(-9))
        )
        inner.node("If", sign, then_branch=branch, else_branch=branch, name="choice", out="next")
    body = graph_of(inner, "body", [("row", 1, image)], [("next", 1, image)])
    rows = b.node("Unsqueeze", x, b.const(np.int64([0])))
    rows = b.node("Concat", rows, rows, axis=0)
    rows = b.node("Scan", rows, body=body, num_scan_inputs=1, name="rows")
    return b.node("ReduceSum", rows, b.const(np.int64([0])), keepdims=0)


@pytest.mark.usefixtures("layer_by_layer")
@pytest.mark.parametrize("weights", [True, False])
def test_layers_in_functions_and_bodies(tmp_path, weights):
    """Held-out samples come nearer by far, as onnxruntime has it of the file that is written."""
    b = Builder(17, seed=3)
    x = b.node("Conv", b.input("N", 3, 6, 6), b.normal(8, 3, 3, 3), name="first")
    made = [layers(b, x) for layers in (in_function, in_branch, in_loop, in_scan)]
    made = [b.node("GlobalAveragePool", b.node("Relu", y)) for y in made]
    b.output(b.node("Flatten", b.node("Concat", *made, axis=1), out="y"), ("N", 32))
    path, target = tmp_path / "model.onnx", tmp_path / "gn.onnx"
    onnx.save(b.model(), path)
    data = {"x": images(64)}
    how = CalibrationOptions(refit=weights)
    fit = swap(path, target, swap_options(2), data=data, calibration=how).report.fit
    last = "behind" if weights else "inside"
    bodies = ["choice.then_branch", "choice.else_branch", "rows.body"]
    bodies += ["turns.body/choice.then_branch"]
    told = {step.layer for step in fit.steps}
    assert {f"{body}/{last}" for body in bodies} < told
    assert len(told) == 5  # and one in the function, for both calls
    _, out = hold_out(open_data(data, read_signature(path)))
    wanted, got = (
        np.concatenate([run_ort(onnx.load(file), **feeds)[0] for feeds in out])
        for file in (path, target)
    )
    snr = 10 * np.log10(np.square(wanted).sum() / np.square(got - wanted).sum())
    assert snr == pytest.approx(fit.after["y"].snr, abs=0.01)
    assert snr > fit.before["y"].snr + 4


@pytest.mark.usefixtures("layer_by_layer")
def test_layers_in_functions(tmp_path, monkeypatch):
    """A weight that a function has in itself, and one that it is handed: different in each call."""
    monkeypatch.setattr(sweep, "LAMS", (2.0,))  # so firm a hold that every layer gains
    b = Builder(17, seed=3)
    body = Body(b, "Twice", ["a", "w"])
    kept = body.const(b.rng.normal(size=(8, 8, 1, 1)))
    y = body.node("Conv", body.node("Relu", body.node("Conv", "a", kept)), "w")
    body.returns(y)
    x = layer(b, b.conv(b.input("N", 3, 6, 6), 3, 8, name="first"))
    for name in ("one", "two"):
        x = b.node("Twice", layer(b, x), b.normal(8, 8, 1, 1, name=name), domain="local")
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    b.output(b.node("Gemm", x, b.normal(8, 4), b.normal(4), out="y"), ("N", 4))
    path, plan, fit, out = opened(b.model(), tmp_path / "model.onnx")
    refitted = refit(path, plan, fit, out, RefitOptions(), silent)
    result = written(path, refitted)
    (function,) = result.functions
    constants = [
        n for n in (*onnx.load(path).functions[0].node, *function.node) if n.op_type == "Constant"
    ]
    before, after = (numpy_helper.to_array(node.attribute[0].t) for node in constants)
    assert not np.array_equal(before, after)
    assert {"one", "two"} <= {constant.name for constant, _ in refitted.constants}
    assert refitted.fit.after["y"].snr > refitted.fit.before["y"].snr + 3


def handed(*, is_shared=False, names=("one", "two")):
    """Calls of a function that hands the constants of its layers on to others.

    The bias of the normalization is the same in all calls, the other constants are where
    `is_shared`. Another function is handed a matrix, which it transposes.
    """
    b = Builder(17, seed=3)
    block = Body(b, "Block", ["a", "w", "scale", "B", "mean", "var"])
    y = block.node("Conv", "a", "w")
    y = block.node("BatchNormalization", y, "scale", "B", "mean", "var")
    block.returns(block.node("Relu", y))
    around = Body(b, "Around", ["a", "w", "scale", "B", "mean", "var"])
    around.returns(around.node("Block", *around.inputs, domain="local"))
    linear = Body(b, "Linear", ["a", "w"])
    linear.returns(linear.node("MatMul", "a", linear.node("Transpose", "w")))
    x = b.node("Conv", b.input("N", 3, 6, 6), b.normal(8, 3, 3, 3), name="first")
    zero, one = b.const(np.zeros(8, np.float32)), b.const(np.ones(8, np.float32))
    for name in names:
        if name == names[0] or not is_shared:
            weight, scale = b.normal(8, 8, 1, 1, name=f"w {name}"), b.normal(8, name=f"s {name}")
        x = b.node("Around", x, weight, scale, zero, zero, one, domain="local", name=name)
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    b.output(b.node("Linear", x, b.normal(4, 8, name="last"), domain="local", out="y"), ("N", 4))
    return b


def refitted_file(b, tmp_path, **how):
    """Swap a network as it stands; return the report, and its constants before and after."""
    path, target = tmp_path / "model.onnx", tmp_path / "gn.onnx"
    onnx.save(b.model(), path)
    data, calibration = {"x": images(64)}, CalibrationOptions(**how)
    options = swap_options(2, normalize=False)
    report = swap(path, target, options, data=data, calibration=calibration).report
    _, out = hold_out(open_data(data, read_signature(path)))
    wanted, got = (
        np.concatenate([run_ort(onnx.load(file), **feeds)[0] for feeds in out])
        for file in (path, target)
    )
    snr = 10 * np.log10(np.square(wanted).sum() / np.square(got - wanted).sum())
    assert snr == pytest.approx(report.fit.after["y"].snr, abs=0.01)
    before, after = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer}
        for file in (path, target)
    )
    return report, before, after


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("weights", [True, False])
def test_what_a_function_is_handed_is_fitted(tmp_path, monkeypatch, weights, is_shared):
    """One fit for one constant, however many calls hand it in; each its own where they differ."""
    monkeypatch.setattr(outputs, "TIMES", 1)
    monkeypatch.setattr(judging, "FEW", 0)
    b = handed(is_shared=is_shared)
    report, before, after = refitted_file(b, tmp_path, refit=weights)
    first = report.fit.steps[0]
    assert first.after > first.before + 1
    calls = 1 if is_shared else 2
    if weights:
        assert first.layer == f"{2 * calls + 2} layers together"
        moved = {"last", "w one", "s one", *(["w two", "s two"] if calls == 2 else [])}
    else:
        told = "local:Block/batchnormalization_2 with s one"
        assert first.layer == (told if is_shared else "2 layers together")
        moved = {"s one", *(["s two"] if calls == 2 else [])}
    changed = {n for n in before.keys() & after.keys() if not np.array_equal(before[n], after[n])}
    assert changed - {b.nodes[0].input[1]} == moved
    assert sum("_refitted" in name for name in after) == calls  # B, and the mean is what it was


def test_calls_that_a_swap_inlines_keep_their_own_affines(tmp_path, monkeypatch):
    """What torch's modules are as functions: statistics go from one into another."""
    monkeypatch.setattr(outputs, "TIMES", 1)
    b = Builder(17, seed=3)
    for name, op, given in (
        ("C", "Conv", ["w"]),
        ("N", "BatchNormalization", ["s", "B", "m", "v"]),
    ):
        body = Body(b, name, ["a", *given])
        body.returns(body.node(op, *body.inputs))
    x = b.input("N", 3, 6, 6)
    for channels, name in ((3, "one"), (8, "two")):
        x = b.node("C", x, b.normal(8, channels, 1, 1), domain="local")
        given = [b.normal(8, name=f"s {name}"), *map(b.const, b.statistics(8, positive=True)[1:])]
        x = b.node("Relu", b.node("N", x, *given, domain="local"))
    b.output(b.node("Flatten", b.node("GlobalAveragePool", x), out="y"), ("N", 8))
    path, target = tmp_path / "model.onnx", tmp_path / "gn.onnx"
    onnx.save(b.model(), path)
    data = {"x": images(64)}
    fit = swap(
        path, target, swap_options(2), data=data, calibration=CalibrationOptions()
    ).report.fit
    assert fit.steps[0].layer == "2 layers together"
    assert fit.after["y"].snr > fit.before["y"].snr + 1


def test_what_a_function_is_handed_for_other_nodes_too_stays(tmp_path):
    """Of what only some nodes of a function read, a call can't hand it another."""
    b = Builder(17, seed=3)
    body = Body(b, "Block", ["a", "w", "half", "scale", "B"])
    y = body.node("Conv", body.node("Mul", "a", body.node("ReduceMax", "w")), "w")
    y = body.node("Conv", y, body.node("Add", "half", "half"))
    y = body.node("BatchNormalization", y, "scale", "B", *map(body.const, np.eye(2, 8)))
    body.returns(body.node("Add", y, body.node("ReduceMax", "B")))
    given = [b.normal(8, 8, 1, 1, name="w"), b.normal(8, 8, 1, 1, name="half")]
    given += [b.normal(8, name="scale"), b.normal(8, name="B")]
    b.output(b.node("Block", b.input("N", 8, 3, 3), *given, domain="local", out="y"), None)
    onnx.save(b.model(), tmp_path / "model.onnx")
    plan = plan_swap(load(tmp_path / "model.onnx"), swap_options(2))
    pair = open_pair(tmp_path / "model.onnx", plan, tmp_path, weights=True, affines=True)
    assert not pair.problems
    norm, first, second = pair.kept.values()
    assert first == "its function reads w in other places too"
    assert second.endswith("is computed from what another call or turn has otherwise")
    assert norm == "its function reads B in other places too"


def each_way(kind, opset):
    """A layer in a body of which it is known how it runs: twice, or once in a branch.

    Its first weight is captured, its second is another in each turn of a Scan. What is scanned
    goes backwards, by other axes than the first.
    """
    b = Builder(opset, seed=3)
    x = b.node("Conv", b.input("N", 3, 6, 6), b.normal(8, 3, 3, 3), name="first")
    inner = Builder(opset, seed=5)
    inner.count = 100
    inner.node("Conv", "state", b.normal(8, 8, 3, 3, name="w"), pads=[1] * 4, name="in", out="c")
    y = layer(inner, "c", "inside")
    image = ("N", 8, 4, 4)
    if kind == "Scan":
        y = inner.node("Conv", y, "own", name="varies")
    inner.node("Add", "state" if kind != "If" else x, y, out="next")
    if kind == "If":
        for node in inner.nodes:
            node.input[:] = [x if name == "state" else name for name in node.input]
        branch = graph_of(inner, "branch", [], [("next", 1, None)])
        other = helper.make_graph(
            [helper.make_node("Identity", [x], ["same"])],
            "other",
            [],
            [helper.make_tensor_value_info("same", 1, None)],
        )
        x = b.node("If", b.const(np.bool_(False)), then_branch=other, else_branch=branch)
    elif kind == "Loop":
        inner.node("Identity", "more", out="still")
        states = [("turn", 7, ()), ("more", 9, ()), ("state", 1, image)]
        body = graph_of(
            inner, "body", states, [("still", 9, ()), ("next", 1, image), ("c", 1, image)]
        )
        x, rows = b.node("Loop", b.const(np.int64(2)), "", x, body=body, outputs=2)
        x = b.node("Sub", x, b.node("Gather", rows, b.const(np.int64(1)), axis=0))
    else:
        given = [("state", 1, image), ("own", 1, (8, 8, 1, 1))]
        body = graph_of(inner, "body", given, [("next", 1, image), ("c", 1, image)])
        own = b.normal(8, 8, 2, 1, 1)
        directions = {"scan_input_directions": [1], "scan_output_directions": [1]}
        axes = {"scan_input_axes": [2], "scan_output_axes": [1]}
        x, rows = b.node(
            "Scan", x, own, body=body, num_scan_inputs=1, outputs=2, **directions, **axes
        )
        x = b.node("Sub", x, b.node("Gather", rows, b.const(np.int64(1)), axis=1))
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    b.output(b.node("Gemm", x, b.normal(8, 4), b.normal(4), name="last", out="y"), ("N", 4))
    return b.model()


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("kind", ["If", "Loop", "Scan"])
def test_all_at_once_goes_into_bodies_of_which_one_knows_how_they_run(tmp_path, kind, opset):
    model = each_way(kind, opset)
    onnx.save(model, tmp_path / "model.onnx")
    plan = plan_swap(load(tmp_path / "model.onnx"), swap_options(2))
    pair = open_pair(tmp_path / "model.onnx", plan, tmp_path, weights=True, affines=True)
    teacher = onnx.load(pair.teacher.path)
    assert kind not in {node.op_type for node in teacher.graph.node}
    x = images(5)
    np.testing.assert_allclose(
        run_ort(teacher, x=x)[0], run_ort(model, x=x)[0], rtol=1e-4, atol=1e-4
    )
    problems = {problem.layer.rpartition("/")[2]: problem for problem in pair.problems}
    assert problems.keys() == {"first", "in", "inside", "last"}
    assert not pair.route.unknown
    times = 1 if kind == "If" else 2
    assert [len(problems[name].uses) for name in ("in", "inside")] == [times] * 2
    assert not any(problem.is_hidden for problem in pair.problems)
    assert problems["in"].weight.constant.name == "w"
    assert [why[-20:] for why in pair.kept.values()] == ["r turn has otherwise"] * (kind == "Scan")


def test_layers_that_can_not_be_fitted_say_why(tmp_path, monkeypatch):
    b = Builder(17, seed=3)
    x = layer(b, b.conv(b.input("N", 3, 6, 6), 3, 8, name="first"))
    given = b.normal(8, 8, 1, 1, name="given")
    b.inputs.append(helper.make_tensor_value_info(given, 1, (8, 8, 1, 1)))
    x = layer(b, b.node("Conv", x, given, name="replaceable"))
    x = in_scan(b, x, chosen=True)
    inner = inner_layers(b, "each", "made")
    image = ("N", 8, 4, 4)
    body = graph_of(inner, "body", [("each", 1, image)], [("made", 1, image)])
    x = b.node("SequenceMap", b.node("SequenceConstruct", x), body=body, name="map")
    x = b.node("Flatten", b.node("ConcatFromSequence", x, axis=1))
    b.output(b.node("Gemm", x, b.normal(128, 4), b.normal(4), name="large", out="y"), ("N", 4))
    monkeypatch.setattr("normswap.groupnorm.refit.layers.LARGEST", 100)
    monkeypatch.setattr("normswap.groupnorm.refit.unrolling.MOST", 1)
    path, plan, fit, out = opened(b.model(), tmp_path / "model.onnx")
    refitted = refit(path, plan, fit, out, RefitOptions(affines=False), silent)
    assert not refitted.fit.steps
    told = {entry.layer: entry.why for entry in refitted.fit.unfitted}
    assert "graph input with a default value" in told["replaceable"]
    scan, map_ = (told[f"{body}/behind"] for body in ("rows.body/choice.then_branch", "map.body"))
    assert scan == "it is in If choice inside Scan rows, which takes no varying lengths"
    assert map_ == "it is in a subgraph of SequenceMap map, whose tensors can't be read"
    assert "a fit takes 100 at most" in told["large"]


@pytest.mark.usefixtures("layer_by_layer")
@pytest.mark.parametrize("last", ["Softmax", "ArgMax"])
def test_class_scores_are_judged_before_what_is_made_of_them(tmp_path, last):
    model = network()
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("p", 7 if last == "ArgMax" else 1, None)
    )
    model.graph.node.append(helper.make_node(last, ["y"], ["p"]))
    path, plan, fit, out = opened(model, tmp_path / "model.onnx")
    soft = refit(path, plan, fit, out, RefitOptions(), silent).fit
    path, plan, fit, out = opened(network(), tmp_path / "logits.onnx")
    hard = refit(path, plan, fit, out, RefitOptions(), silent).fit
    assert soft.after["p"].snr == pytest.approx(hard.after["y"].snr, abs=0.01)


def test_no_output_to_judge_by(tmp_path):
    model = network()
    model.graph.node.append(helper.make_node("Greater", ["y", "y"], ["more"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("more", 9, None))
    path, plan, fit, out = opened(model, tmp_path / "model.onnx")
    with pytest.raises(DataError, match="no output of a float type"):
        refit(path, plan, fit, out, RefitOptions(), silent)


@pytest.mark.usefixtures("layer_by_layer")
@pytest.mark.parametrize("groups", [1, 8])
def test_numbers_of_groups_are_chosen_after_the_fit(tmp_path, monkeypatch, groups):
    """One group is better for this network than two, and one for each channel is worse."""

    def found(path, plan, *_):
        numbers = [(swap.place, swap.layer) for swap in plan.swaps]
        return {place: FittedAffine(each.scale, each.bias, groups) for place, each in numbers}

    path, target = tmp_path / "model.onnx", tmp_path / "gn.onnx"
    onnx.save(network(), path)
    monkeypatch.setattr("normswap.workflows.calibration.calibrate", found)
    how = CalibrationOptions(search_groups=True, refit=True)
    report = swap(path, target, swap_options(2), data={"x": images()}, calibration=how).report
    searched = report.fit.searched
    assert (searched.found > searched.asked) is (groups == 1)
    assert {each.num_groups for each in report.plan.swaps} == {min(groups, 2)}
    best = max(searched.found, searched.asked)
    assert report.fit.after["y"].snr == pytest.approx(best)


# --- a whole swap -----------------------------------------------------------------------


@pytest.mark.parametrize("how", [CalibrationOptions(refit=True), CalibrationOptions()])
def test_what_is_written_is_what_was_judged(tmp_path, how, monkeypatch):
    monkeypatch.setattr(outputs, "TIMES", 1)
    path, target = tmp_path / "model.onnx", tmp_path / "model.gn.onnx"
    onnx.save(network(), path)
    data = {"x": images()}
    report = swap(
        path, target, swap_options(2), check=CheckOptions(), data=data, calibration=how
    ).report
    assert report.exit_code == 0
    assert report.fit.weights is how.refit
    _, out = hold_out(open_data(data, read_signature(path)))
    x = np.concatenate([feeds["x"] for feeds in out])
    wanted, got = (run_ort(onnx.load(file), x=x)[0].astype(np.float64) for file in (path, target))
    snr = 10 * np.log10(np.square(wanted).sum() / np.square(got - wanted).sum())
    for told in (report.fit.after["y"], report.check.drift.outputs["y"]):
        assert told.snr == pytest.approx(snr, abs=0.01)
    assert report.uncalibrated.outputs["y"].snr == pytest.approx(
        report.fit.before["y"].snr, abs=0.01
    )
    assert report.fit.before["y"].snr < snr
