"""Reports as Markdown: headings, tables, and names in which nothing is Markdown."""

import io
import re

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.cli import invoke

from normswap.report import tell
from normswap.report.envelope import Error, Failure

C = 4


@pytest.fixture
def model(tmp_path):
    b = Builder()
    x = b.bn(b.input("N", C, 4, 4), C, name="first|kept")
    x = b.conv(b.node("Relu", x), C, C)
    b.output(b.bn(x, C, name="second_*"))
    onnx.save(b.model(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def tables(text):
    """Return the tables of a text, each as its rows of cells; all rows of one are of one length."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        assert len({len(row) for row in rows}) == 1, block
        assert {cell.strip() for cell in rows[1]} == {"---"}
        found.append([[cell.strip() for cell in row] for row in [rows[0], *rows[2:]]])
    return found


def test_fold(model):
    text = invoke("fold", model, "--format", "markdown").text
    assert text.startswith("## model.onnx: 1 folded, 1 kept\n")
    folded, kept, check = tables(text)
    assert folded[1][0] == "`second_*`"
    assert kept[1][:2] == ["`first\\|kept`", "graph-input"]
    assert {row[-1] for row in check[1:]} == {"equivalent"}
    assert "**equivalent, proved**: `model.onnx` and `model.folded.onnx`" in text


def test_explain(model):
    text = invoke("fold", model, "--explain", "second_*", "--format", "markdown").text
    assert text.startswith("## second\\_\\*\n")
    assert "`second_*` is folded:\n\n- up: Conv" in text
    text = invoke("fold", model, "--explain", "first|kept", "--format", "markdown").text
    assert "is kept (graph-input):\n\ntried up, " in text


def test_verify(model, tmp_path):
    proof = tmp_path / "a_proof.json"
    invoke("fold", model, "--certificate", proof)
    folded = tmp_path / "model.folded.onnx"
    text = invoke("verify", proof, model, folded, "--format", "markdown").text
    assert text.startswith("**holds**: a\\_proof.json of model.onnx and model.folded.onnx, proved")
    text = invoke("verify", proof, model, model, "--format", "markdown").text
    assert text.startswith("**does not hold**: ")
    (table,) = tables(text)
    assert table[0] == ["claim", "why it does not hold"]
    assert table[1][0] == "`rewritten.model`"


def test_swap(model):
    text = invoke("bn-to-gn", "--groups", 2, model, "--format", "markdown").text
    assert text.startswith("## model.onnx: 2 swapped, 0 kept\n")
    batch = "same sample alone and in a batch, output"
    assert [table[0][0] for table in tables(text)] == ["swapped", "output", batch, "drift of"]
    went = [row[-1] for row in tables(text)[0][1:]]
    assert went == ["x is a graph input; 2 new operators", "`Conv_conv_9`"]
    assert "No accuracy was measured." in text
    assert "**group normalization, proved**" in text


def test_recalibrate(model, tmp_path):
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(8, C, 4, 4)))
    text = invoke("recalibrate", model, tmp_path / "data.npy", "--format", "markdown").text
    assert text.startswith("## model.onnx: 2 recalibrated\n\nOn 8 samples.\n")
    (layers,) = tables(text)
    assert len(layers) == 3


def test_check(model):
    text = invoke("check", model, model, "--format", "markdown").text
    assert text.startswith("**equivalent, proved**: `model.onnx` and `model.onnx`\n")
    assert len(tables(text)) == 1
    text = invoke("check", model, model, "--format", "markdown", "-q").text
    assert text == "**equivalent, proved**: `model.onnx` and `model.onnx`\n"


def test_providers():
    text = invoke("providers", "--format", "markdown").text
    (found,) = tables(text)
    assert ["`CPUExecutionProvider`", "yes"] in [row[:2] for row in found]


def test_an_error():
    stream = io.StringIO()
    tell(Failure(Error("ModelError", "a_b is empty."), 3), "markdown", stream)
    assert stream.getvalue() == "**error:** a\\_b is empty.\n"
