"""How to export with the normalizations: one piece of advice, and it is true."""

import io
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.cli import invoke

import normswap
from normswap.graph.batchnorm import EXPORT_TIP

ROOT = Path(__file__).parent.parent
WAYS = re.search(r"keeps it with (.*), or with (.*)\. `", EXPORT_TIP).groups()


@pytest.fixture
def without(tmp_path):
    """A model without a normalization, whose Conv may have taken one in."""
    b = Builder()
    b.output(b.node("Relu", b.conv(b.input(2, 3, 5, 5), 3, 4)), None)
    onnx.save(b.model(), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((2, 3, 5, 5), np.float32))
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("fold", "model.onnx", "--dry-run"), 0),
        (("bn-to-gn", "model.onnx", "--dry-run"), 0),
        (("recalibrate", "model.onnx", "data.npz"), 3),
    ],
)
def test_every_command_advises_the_same(without, monkeypatch, arguments, code):
    monkeypatch.chdir(without.parent)
    done = invoke(*arguments)
    assert done.code == code
    assert EXPORT_TIP in " ".join((done.text + done.err).split())


def test_it_is_written_in_one_place_and_explained_in_one():
    sources = [*(ROOT / "normswap").rglob("*.py"), *(ROOT / "docs").glob("*.md")]
    texts = {path: path.read_text(encoding="utf-8") for path in [*sources, ROOT / "README.md"]}
    told = {path.name for path, text in texts.items() if "TrainingMode." in text}
    assert told == {"batchnorm.py", "export.md"}
    for argument in re.findall(r"\w+=[\w.]*\w", " ".join(WAYS)):
        assert argument in texts[ROOT / "docs" / "export.md"]


@pytest.mark.filterwarnings("ignore")  # torch's own, about what it does itself
@pytest.mark.parametrize("way", WAYS)
def test_torch_keeps_what_the_fold_then_takes(way):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 7 * 7, 4),
        torch.nn.BatchNorm1d(4),
    )
    for _ in range(3):
        network.train()(torch.randn(16, 3, 9, 9))  # statistics of its own
    stream = io.BytesIO()
    arguments = eval(f"dict({way})", {"torch": torch})  # noqa: S307 - our own words
    program = torch.onnx.export(network.eval(), (torch.randn(2, 3, 9, 9),), stream, **arguments)
    for model in (stream.getvalue(), *([program] if program else [])):
        plan = normswap.fold(model).report.plan
        assert (len(plan.folded), len(plan.kept)) == (2, 0)
