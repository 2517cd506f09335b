"""Certificates of swaps: what of the original was read as what, and that it is what was written."""

from __future__ import annotations

import copy
import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.build import Builder

import normswap
from normswap.errors import DataError
from normswap.workflows.certificate import digest_of

C = 8


def network():
    b = Builder(17)
    x = b.bn(b.conv(b.input("N", 3, 6, 6), 3, C), C, out="y1", name="one", epsilon=1e-3)
    x = b.bn(b.conv(b.node("Relu", x), C, C), C, out="y2", name="two", epsilon=1e-5)
    b.output(b.node("GlobalAveragePool", b.node("Sigmoid", x), out="y"))
    return b.model()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a model, its swap, and the certificate of that; the same for a fitted one."""
    folder = tmp_path_factory.mktemp("swapped")
    onnx.save(network(), folder / "a.onnx")
    normswap.bn_to_gn(folder / "a.onnx", folder / "b.onnx", groups=2, certificate=folder / "c.json")
    data = {"x": np.random.default_rng(0).normal(size=(6, 3, 6, 6)).astype(np.float32)}
    normswap.bn_to_gn(
        folder / "a.onnx",
        folder / "fitted.onnx",
        groups=4,
        calibrate=data,
        keep_bias=False,
        certificate=folder / "fitted.json",
    )
    return folder


@pytest.fixture(scope="module")
def written(home):
    return json.loads((home / "c.json").read_text(encoding="utf-8"))


@pytest.fixture
def verified(home, tmp_path):
    """Verify a certificate of other content, whose digest is right, or another model."""

    def verify(data=None, b="b.onnx"):
        path = home / "c.json"
        if data is not None:
            path = tmp_path / "other.json"
            path.write_text(json.dumps({**data, "digest": digest_of(data)}), encoding="utf-8")
        return normswap.verify(path, home / "a.onnx", home / b)

    return verify


def test_a_swap_is_certified(home, verified, written):
    report = verified()
    # What comes to each layer, its statistics in the Conv before, and what it makes of that.
    assert (report.holds, report.verdict, report.regions) == (True, "proved", 4)
    assert [entry["output"] for entry in written["swapping"]] == ["y1", "y2"]
    assert written["swapping"][0] == {
        "node": 0,
        "output": "y1",
        "type": "FLOAT",
        "rank": 4,
        "channels": C,
        "num_groups": 2,
        "epsilon": float(np.float32(1e-3)),
        "scale": "kept",
        "bias": "kept",
        "normalized": True,
    }
    assert written["folding"] is None
    assert normswap.verify(home / "fitted.json", home / "a.onnx", home / "fitted.onnx").holds
    fitted = json.loads((home / "fitted.json").read_text())["swapping"][0]
    assert len(fitted["scale"]) == len(fitted["bias"]) == C


def test_a_swap_of_one_model_is_none_of_another(verified):
    report = verified(b="fitted.onnx")
    claims = {finding.claim for finding in report.findings}
    assert {"rewritten.model", "verdict", "regions[1]"} <= claims


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node", 1),
        ("output", "y2"),
        ("type", "DOUBLE"),
        ("type", "INT64"),
        ("type", "nothing"),
        ("rank", None),
        ("channels", 4),
        ("num_groups", 4),
        ("num_groups", 0),
        ("num_groups", 3),
        ("epsilon", 1.1e-3),
        ("scale", "dropped"),
        ("bias", "dropped"),
        ("bias", [0.0] * C),
        ("normalized", False),
    ],
)
def test_another_reading_is_found_whatever_the_digest_says(verified, written, name, value):
    data = copy.deepcopy(written)
    data["swapping"][0][name] = value
    report = verified(data)
    assert not report.holds
    assert any(f.claim.startswith("regions[") for f in report.findings)


def test_a_number_that_was_fitted_is_claimed(home, tmp_path):
    data = json.loads((home / "fitted.json").read_text())
    data["swapping"][1]["scale"][3] *= 1 + 1e-5
    (tmp_path / "other.json").write_text(json.dumps({**data, "digest": digest_of(data)}))
    report = normswap.verify(tmp_path / "other.json", home / "a.onnx", home / "fitted.onnx")
    assert not report.holds
    assert "regions[3]" in {finding.claim for finding in report.findings}


def test_to_claim_no_swap_is_found(verified, written):
    for claimed in (None, [], written["swapping"][:1]):
        assert not verified({**written, "swapping": claimed}).holds


def test_a_weight_that_is_altered_is_found_by_its_region(home, written, tmp_path):
    model = onnx.load(home / "b.onnx")
    tensor = next(t for t in model.graph.initializer if t.name.startswith("one/scale"))
    array = numpy_helper.to_array(tensor).copy()
    array.flat[3] *= np.float32(1 + 1e-5)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, tmp_path / "b.onnx")
    report = normswap.verify(home / "c.json", home / "a.onnx", tmp_path / "b.onnx")
    assert "regions[1]" in {finding.claim for finding in report.findings}


def test_what_is_no_reading_is_refused(verified, written):
    data = copy.deepcopy(written)
    data["swapping"][0]["scale"] = "doubled"
    with pytest.raises(DataError, match="swapping"):
        verified(data)


def test_external_data_is_where_it_was(tmp_path):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "a.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="w", size_threshold=0)
    target, proof = tmp_path / "b.onnx", tmp_path / "c.json"
    report = normswap.bn_to_in(path, target, certificate=proof).report
    assert report.check.is_proved
    assert normswap.verify(proof, path, target).holds
    assert sorted(file.name for file in path.parent.iterdir()) == ["a.onnx", "w"]


def test_a_model_with_nothing_to_swap(tmp_path):
    b = Builder(17)
    b.output(b.node("Relu", b.input(1, 4)))
    model = b.model()
    result = normswap.bn_to_ln(model, certificate=tmp_path / "c.json")
    assert normswap.verify(tmp_path / "c.json", model, result.model).holds
