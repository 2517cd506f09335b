import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto
from support.check_models import one_node, value

from normswap.runtime.binding import Device, bindable, run_bound
from normswap.runtime.sessions import Provider


def session(model):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_outputs_are_those_of_a_plain_run():
    made = session(one_node("Softmax", shape=("N", 4)))
    device = Device("cpu")
    for batch in (1, 3):
        x = np.random.default_rng(batch).normal(size=(batch, 4)).astype(np.float32)
        (y,) = run_bound(made, {"x": x}, device, {"x": f"x{batch}"})
        assert np.array_equal(y, made.run(None, {"x": x})[0])


def test_an_array_is_copied_once():
    device = Device("cpu")
    x = np.ones((2, 3), np.float32)
    assert device.put("a", x) is device.put("a", x)
    assert device.put("b", x) is not device.put("a", x)


@pytest.mark.parametrize("x", [np.float32(3.0), np.zeros((0, 4), np.float32), np.ones((4, 2)).T])
def test_scalars_empty_and_transposed_arrays_keep_their_shape(x):
    x = np.asarray(x, np.float32)
    made = session(one_node("Neg", shape=x.shape))
    (y,) = run_bound(made, {"x": x}, Device("cpu"), {"x": "x"})
    assert np.array_equal(y, -x)
    assert y.shape == x.shape


def test_only_plain_tensors_can_be_bound():
    x = np.ones((1, 4), np.float32)
    made = session(one_node("Neg"))
    assert bindable(made, {"x": x})
    assert not bindable(made, {"x": [x]})
    words = one_node("Identity")
    for port in (words.graph.input[0], words.graph.output[0]):
        port.CopyFrom(value(port.name, ["N", 4], TensorProto.STRING))
    assert not bindable(session(words), {"x": np.array([["a"] * 4], dtype=object)})


def test_which_providers_have_a_device():
    assert Device.of(Provider("CPUExecutionProvider", (), {})) is None
    assert Device.of(Provider("OpenVINOExecutionProvider", (), {})) is None
    device = Device.of(Provider("CUDAExecutionProvider", (), {"device_id": "2"}))
    assert (device.kind, device.number) == ("cuda", 2)
    assert Device.of(Provider("TensorrtExecutionProvider", (), {})).number == 0
