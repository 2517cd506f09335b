"""A new form is one file: whatever needs to know of it asks the registry."""

import subprocess
import sys

import onnx
from support.build import Builder
from support.swapping import ops

TOY = """
from normswap.groupnorm.forms.base import Form, Preference


class Toy(Form):
    name = "toy"
    summary = "a normalization of our own"
    operator = "ToyNorm"
    opset = 13
    domain = "own"
    version = 3

    def limit(self, layer, provider):
        return "ToyNorm takes images" if layer.rank != 4 else None

    def is_precise(self, provider):
        return provider != "cuda"

    def preference(self, layer, provider, threads):
        return Preference(-1, "we wrote it")

    def build(self, builder):
        y = builder.op(self.operator, [builder.x], "toy", domain=self.domain)
        builder.finish(y)


FORM = Toy()
"""

WITH_TOY = """
import sys
import normswap.groupnorm.forms as forms
forms.__path__.append(sys.argv[1])
from normswap.cli import run
sys.exit(run(sys.argv[2:]))
"""

DOCS = """
import sys
import pytest
import normswap.groupnorm.forms as forms
forms.__path__.append(sys.argv[1])
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[2]]))
"""


def run(tmp_path, code, *arguments):
    folder = tmp_path / "forms"
    folder.mkdir(exist_ok=True)
    (folder / "toy.py").write_text(TOY, encoding="utf-8")
    command = [sys.executable, "-c", code, str(folder), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def network(tmp_path, opset=17, dims=(2, 8, 5, 4)):
    b = Builder(opset)
    b.output(b.node("Relu", b.bn(b.input(*dims), 8, epsilon=1e-5)), None)
    onnx.save(b.model(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_it_can_be_asked_for_and_is_in_the_help(tmp_path):
    done = run(tmp_path, WITH_TOY, "bn-to-gn", "--help")
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "|primitive|toy]" in told
    assert "toy: a normalization of our own (opset 13)" in told


def test_auto_takes_it_where_it_says_so(tmp_path):
    done = run(tmp_path, WITH_TOY, "bn-to-gn", "--groups", 2, "--no-check", network(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "toy    we wrote it" in done.stderr + done.stdout
    made = onnx.load(tmp_path / "model.gn.onnx")
    assert "ToyNorm" in ops(made)
    assert {item.domain: item.version for item in made.opset_import}["own"] == 3


def test_auto_leaves_it_where_it_is_imprecise(tmp_path):
    arguments = ("bn-to-gn", "--groups", 2, "--dry-run", "--provider", "cuda", network(tmp_path))
    done = run(tmp_path, WITH_TOY, *arguments)
    assert done.returncode == 0, done.stderr
    assert "layernorm" in done.stdout
    assert "toy" not in done.stdout


def test_its_limits_are_told(tmp_path):
    arguments = ("bn-to-gn", "--groups", 2, "--form", "toy", "--dry-run")
    done = run(tmp_path, WITH_TOY, *arguments, network(tmp_path, opset=12))
    assert done.returncode == 2
    assert "ToyNorm needs opset 13, the model has 12" in done.stderr
    done = run(tmp_path, WITH_TOY, *arguments, network(tmp_path, dims=(2, 8)))
    assert done.returncode == 2
    assert "ToyNorm takes images" in done.stderr


def test_a_form_without_a_row_in_the_docs_is_found(tmp_path):
    names = "test_every_form_is_documented"
    done = run(tmp_path, DOCS, f"{__file__.replace('test_a_new_form', 'test_docs')}::{names}")
    assert done.returncode == 1
    assert "['toy']" in done.stdout
