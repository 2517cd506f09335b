"""How far a network has moved: outputs of every kind, on a person's own data and on noise."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.cli import invoke
from support.swapping import run_ort, swap_model

from normswap.groupnorm.drift import LEAST_SAMPLES, Outputs, measure_drift
from normswap.inputs.signature import read_signature
from normswap.progress import silent
from normswap.runtime.session import Session

pytestmark = pytest.mark.usefixtures("sessions_in_process")

KINDS = {"classes": TensorProto.INT64, "flags": TensorProto.BOOL, "words": TensorProto.STRING}


def network(*, scores=True):
    """Scores of five classes, and what can be made of them."""
    b = Builder(17, seed=1)
    x = b.node("Relu", b.bn(b.conv(b.input("N", 3, 6, 6), 3, 8), 8, name="bn", out="z"))
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    y = b.node("Gemm", x, b.normal(8, 5), b.normal(5), out="scores")
    b.node("ArgMax", y, axis=1, keepdims=0, out="classes")
    b.node("Greater", y, b.const(0.0), out="flags")
    b.node("Cast", b.node("Round", y), to=TensorProto.STRING, out="words")
    b.node("SplitToSequence", y, axis=1, out="list")
    b.outputs += [helper.make_tensor_value_info(name, kind, None) for name, kind in KINDS.items()]
    b.outputs.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None))
    if scores:
        b.output("scores", ("N", 5))
    return b.model()


@pytest.fixture
def paths(tmp_path):
    """Return where the original is, and its swap."""
    models = network(), swap_model(network(), 2)[0]
    files = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    for model, file in zip(models, files, strict=True):
        onnx.save(model, file)
    return files


@pytest.mark.parametrize(
    ("count", "own"), [(LEAST_SAMPLES, True), (LEAST_SAMPLES - 1, True), (99, False)]
)
def test_outputs_of_every_kind(paths, count, own):
    x = np.random.default_rng(0).normal(size=(count, 3, 6, 6)).astype(np.float32)
    batches = [{"x": x[:20]}, {"x": x[20:]}]
    outputs = Outputs.of(read_signature(paths[0]).outputs)
    with Session(paths[0], label="a") as before, Session(paths[1], label="b") as after:
        found = measure_drift(before, after, batches, outputs, [], silent, own=own)
    assert list(found.outputs) == ["scores"]
    assert found.left_out["list"] == "it is no tensor (sequence:tensor)"
    told = own and count >= LEAST_SAMPLES
    assert set(found.agreement) == (set(KINDS) if told else set())
    assert set(found.left_out) == {"list"} | (set() if told else set(KINDS))
    places = [port.name for port in read_signature(paths[0]).outputs]
    theirs, ours = (dict(zip(places, run_ort(onnx.load(f), x=x), strict=True)) for f in paths)
    for name, same in found.agreement.items():
        assert (same.same, same.values) == ((theirs[name] == ours[name]).sum(), ours[name].size)
        assert 0 < same.same < same.values


def test_what_has_no_output_of_floats_is_told_of_layer_by_layer(tmp_path):
    onnx.save(network(scores=False), tmp_path / "a.onnx")
    done = invoke("bn-to-gn", "--groups", 2, tmp_path / "a.onnx", "-o", tmp_path / "b.onnx")
    assert done.code == 0
    assert "SNR of the layers: " in done.text
    assert "output words is left out: its values are not floats" in done.text
    assert "no accuracy was measured" in done.text
    assert "%" not in done.text.partition("drift")[2]
