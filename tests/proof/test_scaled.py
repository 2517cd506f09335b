"""Tensors that are the original's but for a scale and a shift of each channel."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.build import Builder
from support.folding import fold_model
from support.functions import Body
from support.proving import is_made_again, proof_of

from normswap.inputs.signature import drawing_alike, read_signature
from normswap.proof.files import sides_of
from normswap.proof.prove import prove
from normswap.proof.result import Cut, Means, Standing
from normswap.proof.retrace import retrace

CHANNELS = 4


def mixer(blocks=2):
    """Return a residual network whose normalizations are behind activations, as ConvMixer's are.

    Their scales go through the activation into the Conv before it, their shifts along the sum.
    """
    b = Builder(17)
    x = b.conv(b.input("N", 3, 8, 8), 3, CHANNELS)
    for _ in range(blocks):
        y = b.conv(x, CHANNELS, CHANNELS, group=CHANNELS, auto_pad="SAME_UPPER")
        x = b.node("Add", x, b.bn(b.node("Relu", y), CHANNELS, positive=True))
        y = b.conv(x, CHANNELS, CHANNELS, kernel=(1, 1))
        x = b.bn(b.node("Relu", y), CHANNELS, positive=True)
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    b.output(b.node("Gemm", x, b.normal(CHANNELS, 5), b.normal(5), out="y"))
    return b.model()


@pytest.fixture(scope="module")
def folded():
    model = mixer()
    rewritten, plan = fold_model(model)
    assert len(plan.folded) >= 2
    return model, rewritten


def test_a_shift_on_its_way_along_a_residual_network_keeps_regions_small(folded, tmp_path):
    proof = proof_of(*folded, tmp_path)
    assert proof.is_whole
    assert proof.largest <= 3
    assert {region.means for region in proof.regions if region.is_scaled} == set(Means)


def test_it_is_found_again_from_its_cut_points(folded, tmp_path):
    proof = proof_of(*folded, tmp_path)
    cuts = {region.cut.tensor: region.cut for region in proof.regions}

    def traced(cuts):
        return retrace(*sides(*folded, tmp_path), cuts)

    again = traced(cuts)
    assert not again.refused
    assert [output.standing for output in again.outputs] == [Standing.PROVED]
    assert [region.is_scaled for region in again.regions] == [r.is_scaled for r in proof.regions]
    scaled = next(cut for cut in cuts.values() if cut.is_scaled)
    left_out = traced({number: cut for number, cut in cuts.items() if cut != scaled})
    assert [output.standing for output in left_out.outputs] == [Standing.OPEN]
    equal = Cut(scaled.tensor, scaled.original, scaled.frontier)  # which it is not
    assert equal in traced({**cuts, equal.tensor: equal}).refused


def sides(a, b, folder):
    for name, model in (("a", a), ("b", b)):
        onnx.save(model, folder / f"{name}.onnx")
    return sides_of(*drawing_alike(*(read_signature(folder / f"{name}.onnx") for name in "ab")))[:2]


def test_a_number_that_is_off_anywhere_is_not_scaled_away(folded, tmp_path):
    """A channel's scale or shift that nothing takes in again, too."""
    a, b = folded
    tried = 0
    for at, tensor in enumerate(b.graph.initializer):
        array = numpy_helper.to_array(tensor).copy()
        if array.dtype != np.float32 or not array.any():
            continue
        channel = np.unravel_index(np.abs(array).argmax(), array.shape)[0]
        array[channel] *= 1 + 1e-4
        wrong = onnx.ModelProto.FromString(b.SerializeToString())
        wrong.graph.initializer[at].CopyFrom(numpy_helper.from_array(array, tensor.name))
        assert not prove(*sides(a, wrong, tmp_path)).is_whole, tensor.name
        tried += 1
    assert tried > 5


def halves(factor=1.0, *, dead=False):
    """Return a scale that an activation lets through, behind it and before it."""
    a, b = Builder(17), Builder(17)
    scale, shift = a.rng.uniform(0.5, 2, (2, 6)).astype(np.float32)
    weight = a.rng.normal(size=(6, 3, 1, 1)).astype(np.float32)
    after = a.rng.normal(size=(6, 6, 1, 1)).astype(np.float32)
    if dead:
        weight[2] = 0
    x = a.node("Relu", a.node("Conv", a.input("N", 3, 6, 6), a.const(weight), out="c"), out="r")
    x = a.node("Mul", x, a.const(scale.reshape(6, 1, 1)), out="m")
    x = a.node("Abs", a.node("Add", x, a.const(shift.reshape(6, 1, 1)), out="s"), out="z")
    a.output(a.node("Conv", x, a.const(after), out="y"))
    moved = (scale * factor).reshape(6, 1, 1, 1) * weight
    x = b.node("Relu", b.node("Conv", b.input("N", 3, 6, 6), b.const(moved), out="c"), out="r")
    x = b.node("Abs", b.node("Add", x, b.const(shift.reshape(6, 1, 1)), out="s"), out="z")
    b.output(b.node("Conv", x, b.const(after), out="y"))
    return a.model(), b.model()


@pytest.mark.parametrize("dead", [False, True])
def test_what_is_scaled_must_be_taken_back(tmp_path, dead):
    assert proof_of(*halves(dead=dead), tmp_path).is_whole
    assert not proof_of(*halves(1 + 1e-5, dead=dead), tmp_path).is_whole
    assert not proof_of(*halves(2.0, dead=dead), tmp_path).is_whole


def test_a_channel_that_is_scaled_by_zero_is_constant(tmp_path):
    """Its scale is fitted to what rounding leaves of a constant."""
    a, b = Builder(17), Builder(17)
    scale, shift = a.rng.uniform(0.5, 2, (2, 6))
    scale[2] = 0
    for net in (a, b):
        weights = net.node("Softmax", net.input(2, 9, 9, name="p"))
        parts = net.const(scale), net.const(shift)

        def moved(x, net=net, parts=parts):
            return net.node("Add", net.node("Mul", x, parts[0]), parts[1])

        v = net.input(2, 9, 6, name="v")
        m = net.node("MatMul", weights, v if net is a else moved(v), out="m")
        net.output(net.node("Neg", moved(m) if net is a else m, out="y"))
    proof = proof_of(a.model(), b.model(), tmp_path)
    assert proof.is_whole
    assert any(region.is_scaled for region in proof.regions)


def near_one(epsilon=1e-5, *, edit=None):
    """Return calls of a function, whose Conv takes in a scale that the layer behind it undoes.

    That is what becomes of statistics that nobody has trained: a mean of 0, a variance of 1. The
    weight is computed in the graph that calls; no name tells which tensors belong together.
    """
    nets = Builder(17), Builder(17)
    root = np.float32(np.sqrt(1 + epsilon))
    for net in nets:
        own = ("conv", "bn") if net is nets[0] else ("standard", "same")
        body = Body(net, f"Block{own[0]}", ["a", "w", "s", "b", "m", "v"])
        body.nodes = [
            onnx.helper.make_node("Conv", ["a", "w"], [own[0]]),
            onnx.helper.make_node(
                "BatchNormalization", [own[0], "s", "b", "m", "v"], [own[1]], epsilon=epsilon
            ),
            onnx.helper.make_node("Relu", [own[1]], ["relu"]),
            onnx.helper.make_node("Add", ["relu", "a"], ["add"]),
        ]
        body.returns("add")
        x = net.input("N", CHANNELS, 5, 5)
        for call in range(2):
            w = net.rng.normal(size=(CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
            s, shift = net.rng.uniform(0.5, 2, (2, CHANNELS))
            m, v = np.zeros(CHANNELS), np.ones(CHANNELS)
            if net is nets[0]:
                w = net.node("Mul", net.const(w), net.const(np.float32(0.7)))
            else:
                w = np.float32(w * np.float32(0.7)) / root
                if edit is not None and call == 0:
                    edit(w)
                w, v = net.const(w), v - epsilon
            parts = [net.const(part) for part in (s, shift - 2, m, v)]
            x = net.node(f"Block{own[0]}", x, w, *parts, domain="local", name=f"call{call}")
        net.output(net.node("GlobalAveragePool", x, out="y"))
    return tuple(net.model() for net in nets)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-6])
def test_a_scale_near_one_that_is_taken_back_is_no_fault(tmp_path, epsilon):
    a, b = near_one(epsilon)
    proof = proof_of(a, b, tmp_path)
    assert proof.is_whole
    assert proof.largest <= 2
    assert is_made_again(a, b, proof, tmp_path)


def one(w):
    w[2, 1] *= np.float32(1.001)


def channel(w):
    w[2] *= np.float32(1 + 1e-4)


def all_of_them(w):
    w *= np.float32(1 + 2e-5)


@pytest.mark.parametrize("edit", [one, channel, all_of_them])
def test_a_scale_near_one_that_is_not_taken_back_is_a_fault(tmp_path, edit):
    proof = proof_of(*near_one(edit=edit), tmp_path)
    assert not proof.is_whole
    assert proof.witness is not None
    assert proof.witness.is_plain


def test_regions_that_take_out_what_the_other_does_show_nothing(tmp_path, monkeypatch):
    """Where neither can be read as scaled, and either is apart in some channels only."""
    monkeypatch.setattr("normswap.proof.prove.scaled", lambda *_: None)
    proof = proof_of(*near_one(), tmp_path)
    assert not proof.is_whole
    assert proof.witness is None


@pytest.mark.parametrize("factor", [1, 1 + 1e-5])
def test_a_small_fault_is_not_lost_in_the_rounding_of_what_is_behind(tmp_path, factor):
    a, b = Builder(17), Builder(17)
    for net in (a, b):
        x = net.input("N", 4, 6, 6)
        w, then = net.rng.normal(size=(2, 4, 4, 1, 1))
        shift = net.rng.normal(size=4).astype(np.float32)
        if net is b:
            shift *= np.float32(factor)
        x = net.node("Conv", x, net.const(w), net.const(shift), out="c")
        sign = 1 if net is a else -1
        last = net.const(sign * then), net.const(np.full(4, sign * 1e7))
        x = net.node("Conv", x, *last, out="z" if net is a else "y")
        net.output(net.node("Neg", x, out="y") if net is a else x)
    proof = proof_of(a.model(), b.model(), tmp_path)
    assert proof.is_whole is (factor == 1)
    assert [region.tensor for region in proof.apart] == ([] if factor == 1 else ["c"])
