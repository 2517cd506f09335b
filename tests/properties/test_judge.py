"""The judge of random graphs: what is rounding is no fault, and what is wrong is one beside it."""

import numpy as np
import pytest
from onnx import numpy_helper
from support.build import Builder
from support.folding import every_node, feeds_for
from support.random_scopes import in_if
from support.shaken import shaken
from support.truth import Judgement, Truth, compare, hangs_on_luck, in_float64, narrowed, run

C = 4


def judged(model, folded, *, change=None):
    """Compare two models as the judge does, with a change made to what the second came to."""
    feeds = feeds_for(model)
    wants, gots = (run(narrowed(m), feeds) for m in (model, folded))
    if change is not None:
        change(gots)
    return compare(model, folded, feeds, wants, gots, Judgement())


def a_dead_channel(dtype="float64"):
    """Nothing varies in channel 2, and the spread of nothing is what rounding leaves of it."""
    b = Builder(17, dtype)
    scale = np.array([1.3, -0.7, 0.0, 0.9]).reshape(C, 1, 1)
    y = b.node("Mul", b.input(2, C, 6, 7), b.const(scale))
    y = b.node("Sub", b.node("Add", y, b.const(np.full(1, 0.1))), b.const(np.full(1, 2.7)))
    y = b.node("InstanceNormalization", y, b.normal(C), b.normal(C), epsilon=0.0)
    return b.output(y, (2, C, 6, 7)).model()


def test_what_is_divided_by_rounding_may_come_to_anything():
    model = a_dead_channel()

    def undefined(gots):
        gots[0][:, 2] = np.nan

    assert judged(model, model, change=undefined) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
def test_what_is_beside_it_is_judged(value):
    model = a_dead_channel()

    def wrong(gots):
        gots[0][1, 0, 3, 3] += value

    assert "off in the runtime" in judged(model, model, change=wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_in_float64_too_rounding_may_leave_no_number(dtype, value):
    model = a_dead_channel(dtype)
    truth = Truth(model, feeds_for(model))
    (got,) = (array.copy() for array in truth.values)
    got[:, 2] = value
    assert in_float64(model, truth, [got], [True]) == ""
    got[1, 0, 3, 3] = value
    assert "off in float64" in in_float64(model, truth, [got], [True])


def neighbours(parts, *, bias=0.0):
    """Pairs of values that are a few units apart, and each other's mean taken off them."""
    b = Builder(17, "float64")
    y = b.node("Mul", b.input(8, 2), b.const(np.full(1, 5e-6)))
    for part in parts:
        y = b.node("Add", y, b.const(np.full(1, part)))
    parameters = b.const(np.array([1.2, -0.8])), b.const(np.array([0.3, 0.1 + bias]))
    return b.output(b.node("LayerNormalization", y, *parameters, epsilon=0.0), (8, 2)).model()


def test_what_an_operator_rounds_within_is_rounding():
    """Between 2 and 4 the values are even at twice the digits, and halves of their sums exact."""
    model, folded = neighbours([3.3, -2.2]), neighbours([1.1])
    feeds = feeds_for(model)
    want, got = (run(narrowed(m), feeds)[0] for m in (model, folded))
    assert np.abs(want - got).max() > 1e-3, "the test itself must be meaningful"
    assert judged(model, folded) == ""
    assert "off in float64" in judged(model, neighbours([1.1], bias=0.1))


def misjudged(layers, *, dilation=2, target=(2, C, 2, 2)):
    """A pooling that onnxruntime makes smaller than it infers, and one that takes its memory."""
    b = Builder(22)
    y = b.input(2, C, 2, 2)
    for _ in range(layers):
        y = b.bn(y, C)
    y = b.node("MaxPool", y, kernel_shape=[1, 2], dilations=[1, dilation], auto_pad="SAME_UPPER")
    y = b.node("GlobalAveragePool", y)
    y = b.node("Expand", y, b.const(np.array(target)))
    return b.output(b.bn(y, C), (2, C, 2, 2)).model()


def test_a_runtime_that_misjudges_a_size():
    model, folded = misjudged(2), misjudged(1)
    feeds = feeds_for(model)
    run(model, feeds)
    with pytest.raises(Exception, match="re-use buffer"):
        run(folded, feeds)
    assert hangs_on_luck(model, folded, feeds)
    assert not hangs_on_luck(misjudged(2, dilation=1), folded, feeds), "made as inferred"
    assert not hangs_on_luck(model, misjudged(1, target=(2, 3, 2, 2)), feeds), "runs nowhere"


@pytest.mark.parametrize("way", ["initializer", "Constant", "Identity"])
def test_sizes_are_not_moved(way):
    """A scale of a little less than 2 makes 7 of 4, and no rounding does."""
    b = Builder(17, "float64")
    scales = np.array([1, 1, 2, 2], np.float32)
    if way == "Constant":
        name = b.node("Constant", value=numpy_helper.from_array(scales))
    else:
        name = b.const(scales, dtype=np.float32)
        name = b.node("Identity", name) if way == "Identity" else name
    y = b.node("Resize", b.input(1, C, 4, 4), "", name, mode="nearest")
    model = b.output(b.bn(y, C), (1, C, 8, 8)).model()
    truth = Truth(model, feeds_for(model))
    assert 0 < truth.noise(0, 2.0**-23) < 1e-5


def test_bodies_are_shaken_too():
    model = in_if(neighbours([3.3, -2.2]))
    before, after = (len(list(every_node(m.graph))) for m in (model, shaken(model, 0)))
    # Each result of both branches and of the If itself, by four nodes.
    assert after == before + 4 * before
