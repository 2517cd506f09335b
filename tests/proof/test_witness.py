"""What shows that regions which differ make another model, and what doesn't."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.proving import proof_of

from normswap.check.verdict import Verdict
from normswap.proof.result import Standing
from normswap.workflows.check import check

C = 6


def weight(model, name):
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = onnx.numpy_helper.to_array(tensor).copy()
    return array, lambda: tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))


def edited(model, name, edit):
    """Return a model with a constant changed in place."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    array, store = weight(made, name)
    edit(array)
    store()
    return made


def drowned():
    """Return a network of which nearly all that comes out is not of ``w``, but of another branch.

    Rounding the weights of that one moves it by as much as a hundredth of what w gives.
    """
    b = Builder(17, seed=3)
    x = b.input("N", 4, 9, 9)
    y = b.node("Tanh", b.node("Conv", x, b.normal(C, 4, 3, 3, name="w"), pads=[1] * 4))
    other = b.node("Conv", x, b.normal(C, 4, 3, 3, scale=3e4), pads=[1] * 4)
    b.output(b.node("Add", y, b.node("Relu", other), out="out"))
    return b.model()


@pytest.mark.parametrize("factor", [0.0, 1.3, 1 + 1e-5])
def test_one_tap_shows_however_little_of_it_comes_out(tmp_path, factor):
    model = drowned()

    def edit(array):
        array[5, 1, 2, 0] *= np.float32(factor)

    report = checked(tmp_path, model, edited(model, "w", edit), "proof")
    assert report.verdict is Verdict.DIFFERENT
    (region,) = report.proof.apart
    assert region.element == "weight[5, 1, 2, 0]"
    assert region.is_partial
    assert "weight[5, 1, 2, 0] in channel 5" in " ".join(report.reasons)


def checked(folder, model, other, how):
    paths = [folder / "a.onnx", folder / "b.onnx"]
    for made, path in zip((model, other), paths, strict=True):
        onnx.save(made, path)
    return check(*paths, how)


def test_one_tap_that_sees_nothing_is_no_verdict(tmp_path):
    model, name, _ = same_by_size()

    def edit(w):
        w[5, 1, 0, 0] = 0

    report = checked(tmp_path, model, edited(model, name, edit), "quick")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.proof.fault is report.proof.apart[0]
    assert report.proof.fault.is_partial
    assert report.proof.witness is None


def test_a_bias_that_large_weights_hide_shows_on_an_input_of_zeros(tmp_path):
    b = Builder(17)
    w, bias = b.normal(C, 4, 3, 3, scale=1e4), b.const(np.zeros(C), "bias")
    b.output(b.node("Conv", b.input(2, 4, 5, 5), w, bias, out="out"))

    def edit(bias):
        bias[1] = 1e-2

    model = b.model()
    report = checked(tmp_path, model, edited(model, "bias", edit), "quick")
    assert report.verdict is Verdict.DIFFERENT


def same_by_scale():
    """Return a network that takes any scale of what ``w`` makes out again, and an edit of w."""
    b = Builder(17, seed=4)
    y = b.node("Conv", b.input(2, 4, 5, 5), b.normal(C, 4, 3, 3, name="w"))
    b.output(b.node("Sign", y, out="out"))
    return b.model(), "w", lambda w: np.multiply(w, np.float32(3.3), out=w)


def same_by_size():
    """Return a network whose window sees nothing but its middle, and another without the rest."""
    b = Builder(17, seed=5)
    y = b.node("Conv", b.input(2, 4, 1, 1), b.normal(C, 4, 3, 3, name="w"), pads=[1] * 4)
    b.output(b.node("Floor", y, out="out"))

    def edit(w):
        w[..., [0, 2], :] = 0
        w[..., 1, [0, 2]] = 0

    return b.model(), "w", edit


def same_by_order():
    """Return a network that takes the largest of all channels, and another order of these."""
    b = Builder(17, seed=6)
    y = b.node("Conv", b.input(2, 4, 5, 5), b.normal(C, 4, 3, 3, name="w"))
    b.output(b.node("ReduceMax", b.node("Ceil", y), axes=[1], out="out"))

    def edit(w):
        w[:] = w[::-1].copy()

    return b.model(), "w", edit


@pytest.mark.parametrize("case", [same_by_scale, same_by_size, same_by_order])
def test_a_right_rewrite_of_one_region_is_not_called_different(tmp_path, case):
    model, name, edit = case()
    report = checked(tmp_path, model, edited(model, name, edit), "proof")
    assert report.verdict is not Verdict.DIFFERENT, report.reasons
    assert len(report.proof.apart) == 1
    assert not report.proof.apart[0].is_partial
    assert report.proof.witness is None or not report.proof.witness.is_plain


def test_a_row_that_no_draw_asks_for_is_asked_for(tmp_path):
    b = Builder(17, seed=7)
    ids = b.input("N", name="ids", elem_type=onnx.TensorProto.INT64)
    row = b.node("Gather", b.normal(4000, C, name="table"), ids)
    b.output(b.node("Relu", b.node("MatMul", row, b.normal(C, 3)), out="out"))
    model = b.model()
    wrong = edited(model, "table", lambda t: np.multiply(t[3123], np.float32(1.5), out=t[3123]))
    proof = proof_of(model, wrong, tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.APART]
    assert proof.witness.output == "out"
    assert proof.witness.is_plain


def test_nothing_is_shown_beyond_ranges_that_are_given(tmp_path):
    b = Builder(17, seed=8)
    y = b.node("Conv", b.input(1, 3, 5, 5), b.normal(C, 3, 1, 1))
    limits = b.const(np.array(-1000.0)), b.const(np.array(1000.0), name="high")
    b.output(b.node("Clip", y, *limits, out="out"))
    model = b.model()
    wrong = edited(model, "high", lambda high: np.multiply(high, np.float32(1.01), out=high))
    for ranges, shows in (({}, True), ({"x": (0.0, 1.0)}, False)):
        witness = proof_of(model, wrong, tmp_path, ranges=ranges).witness
        assert (witness is not None and witness.is_plain) is shows
