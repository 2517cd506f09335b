import numpy as np
import pytest
from support.check_models import conv_bn, one_node, save

from normswap.proof.faults import Fault, draw_faults

RNG = np.random.default_rng(5)
W = RNG.normal(size=(4, 3, 2))


def test_one_channel_is_scaled():
    wrong = Fault("scale", "w", 1, 2, "").applied(W)
    np.testing.assert_allclose(wrong[:, 2], W[:, 2] * 1.01)
    np.testing.assert_array_equal(wrong[:, :2], W[:, :2])


def test_a_shift_is_dropped_and_channels_are_swapped():
    assert (Fault("shift", "b", 0, 3, "").applied(W)[3] == 0).all()
    swapped = Fault("swap", "w", 0, 3, "").applied(W)
    np.testing.assert_array_equal(swapped[[0, 3]], W[[3, 0]])
    np.testing.assert_array_equal(swapped[1:3], W[1:3])


def test_epsilon_and_group_touch_what_they_should():
    assert np.ptp(Fault("epsilon", "w", 0, 0, "").applied(W) / W) < 1e-12
    rolled = Fault("group", "w", 0, 0, "").applied(W)
    np.testing.assert_array_equal(rolled[:2], W[[1, 0]])
    np.testing.assert_array_equal(rolled[2:], W[2:])


@pytest.mark.parametrize("kind", ["scale", "shift", "swap", "epsilon", "group"])
def test_the_weight_itself_is_left_alone(kind):
    before = W.copy()
    assert not np.array_equal(Fault(kind, "w", 0, 1, "").applied(W), W)
    np.testing.assert_array_equal(W, before)


def test_faults_are_drawn_in_turn_and_by_seed(tmp_path):
    path = str(save(tmp_path / "m.onnx", conv_bn(folded=True)))
    faults = draw_faults(path, 10, 0)
    assert [f.kind for f in faults[:5]] == ["scale", "shift", "swap", "epsilon", "group"]
    assert {f.tensor for f in faults if f.kind == "shift"} == {"bias"}
    assert faults == draw_faults(path, 10, 0)
    assert faults != draw_faults(path, 10, 1)
    assert draw_faults(str(save(tmp_path / "r.onnx", one_node("Relu"))), 10, 0) == []
