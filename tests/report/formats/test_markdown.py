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
    assert text.startswith("## model.onnx: equivalent, proved\n")
    assert "\n\nfolded 1, kept 1, size " in text
    folded, kept, check, proved, _, constants = tables(text)
    assert folded[1][0] == "`second_*`"
    assert kept[1][:3] == ["`first\\|kept`", "4", "graph-input"]
    assert {row[-1] for row in check[1:]} == {"equivalent"}
    assert proved[1:] == [["`batchnormalization_14`", "proved, region by region"]]
    assert {row[-1] for row in constants[1:]} == {"rounding"}
    assert re.search(r"\n- \S*model\.folded\.onnx  [\d.]+ kB → [\d.]+ kB\n", text)


def test_explain(model):
    text = invoke("fold", model, "--explain", "second_*", "--format", "markdown").text
    assert text.startswith("## second\\_\\*: 1 folded, 0 kept\n")
    assert "### second\\_\\* is folded\n\n- up: Conv" in text
    text = invoke("fold", model, "--explain", "first|kept", "--format", "markdown").text
    assert "is kept (graph-input)\n\n- tried up, " in text


def test_verify(model, tmp_path):
    proof = tmp_path / "a_proof.json"
    invoke("fold", model, "--certificate", proof)
    folded = tmp_path / "model.folded.onnx"
    text = invoke("verify", proof, model, folded, "--format", "markdown").text
    assert re.match(r"## \S*a\\_proof.json: holds\n", text)
    assert "\n\na\\_proof.json of model.onnx and model.folded.onnx, proved" in text
    text = invoke("verify", proof, model, model, "--format", "markdown").text
    assert re.match(r"## \S*a\\_proof.json: does not hold\n", text)
    (table,) = tables(text)
    assert table[0] == ["claim", "why it does not hold"]
    assert table[1][0] == "`rewritten.model`"


def test_swap(model):
    text = invoke("bn-to-gn", "--groups", 2, model, "--format", "markdown").text
    assert text.startswith("## model.onnx: group normalization, proved\n")
    assert "\n\nswapped 2, kept 0, size " in text
    swapped, drift, alone, check, *_ = tables(text)
    went = [row[-1] for row in swapped[1:]]
    assert went == ["x is a graph input; 2 new operators", "Conv\\_conv\\_9"]
    assert drift[0][:2] == ["tensor", "what"]
    assert "\nThe same sample alone and in a batch:\n" in text
    assert alone[0] == ["output", "difference", "largest value"]
    assert {row[-1] for row in check[1:]} == {"equivalent"}
    assert "It was measured on random inputs, and does not tell the accuracy." in text


def test_recalibrate(model, tmp_path):
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(8, C, 4, 4)))
    text = invoke("recalibrate", model, tmp_path / "data.npy", "--format", "markdown").text
    assert text.startswith("## model.onnx: recalibrated on 8 samples\n\nlayers 2, samples 8, ")
    (layers,) = tables(text)
    assert len(layers) == 3


def test_check(model):
    text = invoke("check", model, model, "--format", "markdown").text
    assert text.startswith("## model.onnx and model.onnx: equivalent, proved\n")
    assert [len(table) for table in tables(text)] == [2, 2]
    text = invoke("check", model, model, "--format", "markdown", "-q").text
    assert text == "## model.onnx and model.onnx: equivalent, proved\n"


def test_providers():
    text = invoke("providers", "--format", "markdown").text
    (found,) = tables(text)
    assert ["`CPUExecutionProvider`", "yes"] in [row[:2] for row in found]


def test_an_error():
    stream = io.StringIO()
    tell(Failure(Error("ModelError", "a_b is empty."), 3), "markdown", stream)
    assert stream.getvalue() == "## error\n\na\\_b is empty.\n"
