"""What a deviation is measured against: how far a channel moves where constants are rounded."""

from __future__ import annotations

import numpy as np
import pytest
from support.build import Builder
from support.proving import sides

from normswap.proof.drive import drive
from normswap.proof.facts import Facts
from normswap.proof.numbering import ClassTable
from normswap.proof.regions import RegionPair, cone_of

SEEDS = range(6)


def driven(seed, folder, *, shift, tiny=None):
    """Drive a scale that is folded into a Conv, behind a Relu, as one region."""
    a, b = Builder(17, seed=seed), Builder(17, seed=seed)
    for net in (a, b):
        x = net.input(2, 4, 6, 6)
        w = net.rng.normal(size=(4, 4, 1, 1)).astype(np.float32)
        scale = net.rng.uniform(0.5, 2, (4, 1, 1, 1)).astype(np.float32)
        y = net.node("Conv", x, net.const(w if net is a else w * scale))
        if net is a:
            y = net.node("Mul", y, net.const(scale[:, 0]))
        elif tiny is not None:
            y = net.node("Add", y, net.const(np.float32(tiny)))
        y = net.node("Add", y, net.const(np.full((4, 1, 1), shift)))
        net.output(net.node("Relu", y, out="y"))
    one, other, _ = sides(a.model(), b.model(), folder)
    table = ClassTable()
    table.walk(one)
    table.start(other)
    for index, node in enumerate(other.flat.nodes):
        for number, kind in zip(node.outputs, table.number(other, index), strict=True):
            other.classes[number] = kind
    inputs = {one.classes[n] for n, maker in enumerate(one.flat.makers) if maker is None}
    cones = [cone_of(side, dict(side.flat.outputs)["y"], inputs) for side in (one, other)]
    return drive(RegionPair(one, other, *cones, Facts(one), Facts(other)), np.inf).floors


@pytest.mark.parametrize("shift", [0.0, -6.0])
def test_a_channel_of_which_a_relu_leaves_little_is_measured_like_any_other(tmp_path, shift):
    assert max(driven(seed, tmp_path, shift=shift) for seed in SEEDS) < 6


def test_a_number_that_moves_nothing_leaves_the_measure_as_it_is(tmp_path):
    for seed in SEEDS:
        plain, with_it = (driven(seed, tmp_path, shift=0.0, tiny=tiny) for tiny in (None, 1e-30))
        assert with_it == pytest.approx(plain, rel=0.1)
