"""docs/unfold.md says what the command does."""

import re
from pathlib import Path

from support.cli import invoke

from normswap.unfolding.places import EXPLANATIONS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "unfold.md").read_text(encoding="utf-8")


def test_every_reason_is_explained():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", TEXT, re.MULTILINE))
    assert rows == {reason.value: words for reason, words in EXPLANATIONS.items()}


def test_the_command_says_the_same(tmp_path):
    model, result = tmp_path / "digits_resnet.folded.onnx", tmp_path / "new.onnx"
    assert invoke("fold", ROOT / "models/digits_resnet.onnx", "-o", model, "--no-check").code == 0
    planned = invoke("unfold", model, "--dry-run", "-v", "--include", "*classifier*").text
    assert "9 BatchNormalization put back after linear layers" in planned
    data = ROOT / "models/digits_test.npz"
    done = invoke("unfold", model, "--calibrate", data, "--samples", "64", "-o", result)
    assert done.code == 0, done.err
    assert (
        "8 BatchNormalization put back after linear layers, with the statistics of 64" in done.text
    )
    assert "1 layer left without" in done.text
    assert "equivalent, proved" in done.text
    again = invoke("fold", result, "--no-check", "-o", tmp_path / "again.onnx")
    assert again.code == 0
    assert (tmp_path / "again.onnx").read_bytes() == model.read_bytes()


def test_without_data_it_is_a_usage_error(tmp_path):
    done = invoke("unfold", ROOT / "models/digits_resnet.onnx", "-o", tmp_path / "new.onnx")
    assert done.code == 2
    assert "no data to estimate the statistics" in done.err
