"""Networks whose channels are put in groups that hold still."""

import io

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.build import Builder
from support.folding import assert_same_function
from support.permuting import network_of
from support.swapping import plan_swap, swap_options

import normswap
from normswap.check.verdict import Verdict
from normswap.graph.reasons import Reason
from normswap.groupnorm.regroup.implied import implied
from normswap.groupnorm.regroup.measured import features, measured
from normswap.groupnorm.regroup.regroup import regroup
from normswap.model import load, write_to
from normswap.permuting.permute import permute


def opposites(*, output=False, seed=0):
    """A layer whose second four channels are the first, with the other sign.

    So groups of neighbours vary with the brightness of the image, and pairs of opposites don't.
    """
    b = Builder(seed=seed)
    w = b.rng.normal(size=(4, 3, 1, 1)) + 1
    w = np.concatenate([w, -w])
    x = b.node("Conv", b.input("N", 3, 4, 4), b.const(w))
    var = 4 * np.square(w.sum((1, 2, 3))) + np.square(w).sum((1, 2, 3))  # on DATA
    stats = np.ones(8), np.zeros(8), np.zeros(8), var
    x = b.bn(x, 8, stats=stats, epsilon=0.0, out="bn")
    if output:
        return b.output(x).model()
    return b.output(b.conv(b.node("Relu", x), 8, 2, kernel=(1, 1))).model()


def regrouped(model, tmp_path, batches=None, groups=4):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    loaded = load(path)
    plan = plan_swap(loaded, swap_options(groups))
    found = regroup(loaded, plan, path, batches, lambda _: None)
    stream = io.BytesIO()
    write_to(loaded, stream)
    result = onnx.load_from_string(stream.getvalue())
    assert_same_function(model, result)
    return result, found


def images(seed):
    """Noise, brighter in some samples than in others."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(5, 3, 4, 4)) + 2 * rng.normal(size=(5, 1, 1, 1))


DATA = [{"x": images(seed).astype(np.float32)} for seed in (0, 1)]


@pytest.mark.parametrize("batches", [None, DATA])
def test_opposites_share_a_group(tmp_path, batches):
    result, found = regrouped(opposites(), tmp_path, batches)
    (layer,) = found.layers
    assert layer.by == ("weights" if batches is None else "data")
    assert layer.reason is None
    assert layer.after < 0.7 * layer.before
    assert layer.moved
    assert found.moved == found.spaces == 1
    weight = next(t for t in result.graph.initializer if list(t.dims) == [8, 3, 1, 1])
    pairs = numpy_helper.to_array(weight).reshape(4, 2, 3)
    assert (pairs.sum(axis=2).prod(axis=1) < 0).all()  # one brightens, one darkens


def test_what_stays_has_a_reason(tmp_path):
    result, found = regrouped(opposites(output=True), tmp_path)
    (layer,) = found.layers
    assert (layer.moved, layer.by, layer.reason) == (0, "", Reason.GRAPH_OUTPUT)
    assert "is a graph output" in layer.detail
    assert not found.orders
    assert not [t.name for t in result.graph.initializer if t.name.endswith("_permuted")]


@pytest.mark.parametrize("groups", [1, 8])
def test_there_is_nothing_to_choose(tmp_path, groups):
    _, found = regrouped(opposites(), tmp_path, groups=groups)
    assert [(layer.moved, layer.reason) for layer in found.layers] == [(0, None)]
    assert "nothing to choose" in found.layers[0].detail


def test_a_layer_of_which_no_weights_tell(tmp_path):
    """Behind an activation, its channels are compared on data only."""
    b = Builder(seed=1)
    x = b.node("Relu", b.conv(b.input("N", 3, 4, 4), 3, 8))
    model = b.output(b.conv(b.bn(x, 8), 8, 2, kernel=(1, 1))).model()
    _, found = regrouped(model, tmp_path)
    assert [(layer.moved, layer.reason) for layer in found.layers] == [(0, Reason.NO_ESTIMATE)]
    _, found = regrouped(model, tmp_path, DATA)
    assert [(layer.by, layer.reason) for layer in found.layers] == [("data", None)]
    assert found.layers[0].after < found.layers[0].before


def test_products_are_those_of_the_normalized_tensor(tmp_path):
    """The cost by data is that of the head of the package, but for the square of a group's mean."""
    _, found = regrouped(opposites(), tmp_path, DATA)
    x = np.concatenate([feeds["x"] for feeds in DATA]).astype(np.float64)
    weight = numpy_helper.to_array(opposites().graph.initializer[0]).astype(np.float64)
    y = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], x)
    stored = {t.name: numpy_helper.to_array(t) for t in opposites().graph.initializer}
    (bn,) = (n for n in opposites().graph.node if n.op_type == "BatchNormalization")
    y = (y / np.sqrt(stored[bn.input[4]])[:, np.newaxis, np.newaxis]).reshape(10, 4, 2, 16)
    m, v = y.mean(axis=(2, 3)), np.square(y).mean(axis=(2, 3))
    want = (m**2).mean(axis=0).sum() + ((v - 1) ** 2).mean(axis=0).sum() / 4
    assert found.layers[0].before == pytest.approx(want, rel=1e-5)


def test_features():
    x = np.random.default_rng(0).normal(3, 2, size=(6, 5))
    m, v = features(x, np.full(5, 3.0), np.full(5, 2.0))
    np.testing.assert_allclose(m, (x - 3) / 2)
    np.testing.assert_allclose(v, (((x - 3) / 2) ** 2 - 1) / 2)


def rows(kind):
    b = Builder(seed=3)
    x = b.input(2, 4, 6, 6) if "Conv" in kind else b.input(2, 4)
    w = b.rng.normal(size=(6, 4))
    kernel = b.rng.normal(size=(6, 4, 2, 2))
    grouped = np.zeros((6, 4))
    grouped[:3, :2], grouped[3:, 2:] = kernel.sum((2, 3))[:3, :2], kernel.sum((2, 3))[3:, 2:]
    halves = np.concatenate([kernel[:3, :2], kernel[3:, 2:]])
    made, want = {
        "Conv": lambda: (b.node("Conv", x, b.const(kernel)), kernel.sum((2, 3))),
        "grouped Conv": lambda: (b.node("Conv", x, b.const(halves), group=2), grouped),
        "ConvTranspose": lambda: (
            b.node("ConvTranspose", x, b.const(kernel.swapaxes(0, 1))),
            kernel.sum((2, 3)),
        ),
        "Gemm": lambda: (b.node("Gemm", x, b.const(w), transB=1), w),
        "MatMul, Add": lambda: (
            b.node("Add", b.normal(6), b.node("MatMul", x, b.const(w.T))),
            w,
        ),
        "a sum": lambda: (
            b.node("Add", b.node("MatMul", x, b.const(w.T)), b.node("MatMul", x, b.const(-w.T))),
            w,
        ),
    }[kind]()
    return b.output(made).model(), want


@pytest.mark.parametrize(
    "kind", ["Conv", "grouped Conv", "ConvTranspose", "Gemm", "MatMul, Add", "a sum"]
)
def test_correlations_by_weights(kind):
    model, want = rows(kind)
    network = network_of(load(model.SerializeToString()))
    got = implied(network.graphs[0].outputs[0])
    want = want / np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(got, want @ want.T, atol=1e-6)


def test_the_whole_swap(tmp_path):
    """It is proved, and nearer to the original than without."""
    path = tmp_path / "model.onnx"
    onnx.save(opposites(), path)
    plain = normswap.bn_to_gn(path, groups=4, evaluate=DATA).report
    assert plain.regrouping is plain.permutation is None
    report = normswap.bn_to_gn(path, groups=4, regroup=True, evaluate=DATA).report
    assert report.permutation.verdict is Verdict.EQUIVALENT
    assert report.permutation.proved
    assert report.regrouping.moved == 1
    (before,), (after,) = (r.check.drift.outputs.values() for r in (plain, report))
    assert after.snr > before.snr + 1
    assert "orders" not in report.to_dict()["regrouping"]


def test_a_wrong_permutation_writes_nothing(tmp_path, monkeypatch):
    """The rewrite is not believed: here it leaves the kernels of a Conv as they were."""

    def wrong(model, spaces, orders):
        (before,) = (n.inputs[1] for n in model.graph.nodes if n.name == "Conv_conv_2")
        found = permute(model, spaces, orders)
        (conv,) = (n for n in model.graph.nodes if n.name == "Conv_conv_2")
        assert conv.inputs[1] is not before
        conv.inputs[1] = before
        return found

    path = tmp_path / "model.onnx"
    onnx.save(opposites(), path)
    monkeypatch.setattr("normswap.groupnorm.regroup.regroup.permute", wrong)
    with pytest.raises(normswap.NotEquivalentError) as caught:
        normswap.bn_to_gn(path, tmp_path / "out.onnx", groups=4, regroup=True)
    assert caught.value.report.permutation.verdict is Verdict.DIFFERENT
    assert not (tmp_path / "out.onnx").exists()


def test_what_is_held_out_has_no_say(tmp_path, monkeypatch):
    path, seen = tmp_path / "model.onnx", []
    onnx.save(opposites(), path)

    def spy(original, layers, batches, progress):
        seen.extend(batches)
        return measured(original, layers, batches, progress)

    monkeypatch.setattr("normswap.groupnorm.regroup.regroup.measured", spy)
    monkeypatch.setattr("normswap.groupnorm.refit.outputs.TIMES", 0)
    report = normswap.bn_to_gn(
        path, groups=4, regroup=True, calibrate=iter(DATA), check=None
    ).report
    assert sum(len(feeds["x"]) for feeds in seen) == report.fit.fitted == 8
    assert report.regrouping.moved == 1
