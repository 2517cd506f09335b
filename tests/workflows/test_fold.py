import io

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.folding import assert_same_function, count

import normswap
from normswap.check.options import CheckOptions
from normswap.errors import ExitCode, ModelError, NotEquivalentError, UsageError

C = 6


def model(*, kept=False):
    b = Builder()
    y = b.bn(b.conv(b.input("N", 4, 7, 7), 4, C), C)
    if kept:
        y = b.bn(b.node("Sigmoid", y), C)
    b.output(b.node("Sigmoid", y))
    return b.model(producer_name="trainer", doc_string="a model")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(model(), path)
    return path


@pytest.mark.parametrize("kind", ["str", "path", "bytes", "stream"])
@pytest.mark.parametrize("check", [None, CheckOptions()], ids=["unchecked", "checked"])
def test_every_kind_of_source(path, kind, check):
    source = {
        "str": lambda: str(path),
        "path": lambda: path,
        "bytes": path.read_bytes,
        "stream": lambda: io.BytesIO(path.read_bytes()),
    }[kind]()
    target = path.with_name("out.onnx")
    report = normswap.fold(source, target, check=check).report
    assert report.output == str(target)
    assert (report.check is None) == (check is None)
    assert report.exit_code is ExitCode.OK
    assert report.size_after == target.stat().st_size
    assert_same_function(model(), onnx.load(target))


def test_into_a_stream(path):
    stream = io.BytesIO()
    report = normswap.fold(path, stream, check=CheckOptions()).report
    assert report.output == "<stdout>"
    assert count(onnx.ModelProto.FromString(stream.getvalue())) == 0


def test_an_existing_output_needs_consent(path):
    with pytest.raises(UsageError):
        normswap.fold(path, path)
    normswap.fold(path, path, check=None, overwrite=True)
    assert count(onnx.load(path)) == 0


def test_a_plan_is_data(path):
    report = normswap.plan(path)
    assert not report.output
    assert report.to_dict()["plan"]["folded"][0]["route"][0]["op"] == "Conv"
    assert report.size_before == path.stat().st_size


def test_progress_is_told_in_order(path):
    stages = []
    normswap.fold(path, path.with_name("o.onnx"), check=CheckOptions(), progress=stages.append)
    assert stages[:3] == ["reading the model", "planning", "writing"]
    assert "checking" in stages


def test_a_plan_for_another_model_is_refused(path):
    from normswap.folding.apply import apply_plan
    from normswap.folding.planner import make_plan
    from normswap.model import load

    plan = make_plan(load(model(kept=True).SerializeToString()))
    with pytest.raises(ModelError, match="does not belong to"):
        apply_plan(plan, load(path))


def test_what_the_fold_does_not_touch_survives(path):
    folded = path.with_name("folded.onnx")
    normswap.fold(path, folded, check=None)
    before, after = onnx.load(path), onnx.load(folded)
    for field in ("producer_name", "doc_string", "ir_version", "opset_import", "metadata_props"):
        assert getattr(before, field) == getattr(after, field)
    assert before.graph.node[-1] == after.graph.node[-1]


def test_a_failing_check_is_the_reports_exit_code(path, monkeypatch):
    from normswap.graph.formulas import Scaled

    whole = Scaled._made
    monkeypatch.setattr(Scaled, "_made", lambda *args: whole(*args) + np.float64(0.25))
    target = path.with_name("out.onnx")
    said = r"The rewrite of model\.onnx failed its check"
    with pytest.raises(NotEquivalentError, match=said) as caught:
        normswap.fold(path, target, check=CheckOptions())
    report = caught.value.report
    assert report.exit_code is ExitCode.FINDINGS
    assert not report.output
    assert not target.exists()
    assert report.to_dict()["written"] is False


@pytest.mark.parametrize("factor", [0.5, -1, float("nan")])
def test_a_model_can_be_asked_to_grow_but_not_to_shrink(factor):
    with pytest.raises(UsageError, match="is less than 1"):
        normswap.plan(model().SerializeToString(), max_growth=factor)
