"""A torch module as a function of arrays; and whole checks of what torch exports."""

import io
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support.cli import invoke  # noqa: E402 - torch may be missing

import normswap  # noqa: E402
from normswap.source.binding import NotTakenError  # noqa: E402
from normswap.source.module import Module  # noqa: E402
from normswap.testing import assert_same_as_module  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, about what it does itself

nn = torch.nn
ROOT = Path(__file__).parents[2]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 4)

    def forward(self, image, scale=None):
        x = torch.relu(self.bn(self.conv(image))).mean((2, 3))
        x = self.fc(self.drop(x.float()))  # which would be a narrower type
        return {"y": x if scale is None else x * scale, "none": None}


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = Net()
    for _ in range(3):
        made.train()(torch.randn(8, 3, 6, 6))
    return made.eval()


IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def exported(net, args=(IMAGE,), **options):
    stream = io.BytesIO()
    program = torch.onnx.export(net, args, stream, **options)
    return stream.getvalue() if program is None else program.model_proto


EXPORTERS = [{"dynamo": False}, {"dynamo": True, "verbose": False}]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_what_torch_exports_is_the_module(net, exporter):
    if exporter["dynamo"]:
        pytest.importorskip("onnxscript")
    report = normswap.check_module(net, exported(net, **exporter), IMAGE)
    assert (report.verdict, report.reasons) == (normswap.Verdict.EQUIVALENT, ())
    assert report.source.module == "Net"


def test_it_is_float64_throughout_and_nothing_of_it_changes(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    (y,) = Module(net, IMAGE).outputs([IMAGE.numpy()])
    assert y.dtype == np.float64
    narrow = net(IMAGE)["y"].detach().numpy()
    assert 0 < np.abs(narrow - y).max() < 1e-6
    assert not (y.astype(np.float32) == y).all()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.get_default_dtype() is torch.float32


def test_arguments_are_named_by_what_takes_them(net):
    scale = torch.ones(1)
    assert [a.name for a in Module(net).arguments] == ["image", "scale"]
    assert [a.name for a in Module(net, (IMAGE, scale)).arguments] == ["image", "scale"]
    assert [a.name for a in Module(net, IMAGE, {"scale": scale}).arguments] == ["image", "scale"]
    assert [a.name for a in Module(net, {"image": IMAGE}).arguments] == ["image"]

    class Nested(nn.Module):
        def forward(self, state, flag, /):
            return state[0] + state[1]["b"] if flag else state[0]

    module = Module(Nested(), ((IMAGE, {"b": IMAGE}), True))
    assert [a.name for a in module.arguments] == ["state.0", "state.1.b"]
    (y,) = module.outputs([IMAGE.numpy(), 2 * IMAGE.numpy()])
    np.testing.assert_array_equal(y, 3.0 * IMAGE.double().numpy())


def test_layers_that_training_makes_another_function_are_named(net):
    arrays = [IMAGE.numpy()]
    assert Module(net, IMAGE).training(arrays) == ()
    named = Module(net.train(), IMAGE).training(arrays)
    assert named == ("bn (BatchNorm2d)", "drop (Dropout)")
    plain = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.0)).train()
    assert Module(plain).training([np.ones((2, 4), np.float32)]) == ()


def test_a_module_left_in_training_mode_is_said(net):
    model = exported(net, dynamo=False)
    with pytest.raises(AssertionError, match=r"bn \(BatchNorm2d\), drop \(Dropout\) depend"):
        assert_same_as_module(net.train(), model, IMAGE)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_folded_weight_that_was_changed_is_found(net, exporter):
    if exporter["dynamo"]:
        pytest.importorskip("onnxscript")
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto.FromString(
        m if isinstance(m := exported(net, **exporter), bytes) else m.SerializeToString()
    )
    kernel = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(kernel).copy()
    values[2, 1, 0, 0] *= 1.01
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))
    report = normswap.check_module(net, model, IMAGE)
    places = [(finding.code, finding.place) for finding in report.source.findings]
    assert places == [("weight", "conv.weight"), ("layer", "conv")]
    assert "1 of 216 elements differ, most at [2, 1, 0, 0]" in report.reasons[0]


def test_what_it_does_not_take_is_said_in_its_words(net):
    with pytest.raises(NotTakenError, match="RuntimeError: Given groups=1"):
        Module(net).outputs([np.ones((1, 4, 6, 6), np.float32)])
    with pytest.raises(normswap.UsageError, match=r"is not a torch\.nn\.Module, but a function"):
        Module(lambda x: x)


FACTORIES = """
    print("imported")
    import torch

    def bare():
        return torch.nn.Linear(3, 2).eval()

    def whole():
        torch.manual_seed(0)
        return bare(), (torch.ones(1, 3),), {}

    def broken():
        raise OSError("no checkpoint")

    def four():
        return 1, 2, 3, 4

    number = 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linears.py").write_text(textwrap.dedent(FACTORIES))
    monkeypatch.delitem(sys.modules, "linears", raising=False)
    torch.manual_seed(0)
    torch.onnx.export(nn.Linear(3, 2), (torch.ones(1, 3),), "m.onnx", dynamo=False)
    return tmp_path


def test_the_command_takes_a_factory(factories):
    done = invoke("check", "--module", "linears:whole", "m.onnx", "--json")
    assert (done.code, done.text[0]) == (0, "{")
    assert "imported" in done.err
    done = invoke("check", "--module", "linears.py:bare", "m.onnx")
    assert done.code == 1  # other random weights
    assert "weight 'weight' is not the module's" in done.text


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("linears:broken", "linears:broken raised OSError: no checkpoint"),
        ("linears:four", "returned 4 things"),
        ("linears:number", "has no function 'number'"),
        ("linears:missing", "has no function 'missing'"),
        ("nowhere:make", "nowhere can't be imported"),
        ("nowhere.py:make", "There is no nowhere.py"),
        ("linears", "is not of the form PKG.FILE:FACTORY"),
    ],
)
def test_a_factory_that_is_none_is_wrong_usage(factories, place, said):
    done = invoke("check", "--module", place, "m.onnx")
    assert (done.code, said in " ".join(done.err.split())) == (2, True)


def test_the_page_is_true(tmp_path):
    pytest.importorskip("onnxscript")
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "torch" in b)
    names = {}
    exec(compile(block, "docs/testing.md", "exec"), names)  # noqa: S102 - our own page
    names["test_the_export_is_the_network"](tmp_path)
