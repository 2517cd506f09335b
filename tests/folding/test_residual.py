"""Folded constants are read back from what was written, and held to their formulas."""

import contextlib
import json
import math

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.build import Builder
from support.cli import invoke

import normswap
import normswap.workflows.ending
from normswap.check.options import CheckOptions
from normswap.errors import ExitCode
from normswap.folding.apply import apply_plan
from normswap.folding.planner import make_plan
from normswap.folding.residual import _ulp, residuals
from normswap.model import load, write_to


def model(dtype="float32"):
    b = Builder(dtype=dtype)
    y = b.bn(b.conv(b.input("N", 4, 7, 7), 4, 6), 6)
    return b.output(b.node("Relu", y)).model()


def folded(made, path):
    edited = load(made.SerializeToString())
    apply_plan(make_plan(edited), edited)
    with path.open("wb") as stream:
        write_to(edited, stream)
    return edited


def spoil(path, name, change):
    """Change the values of an initializer in a written model."""
    written = onnx.load(path)
    tensor = next(t for t in written.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(change(array)), name))
    onnx.save(written, path)


def nudge(array):
    """Move one element by two units in its last place."""
    last = array.size - 1
    for _ in range(2):
        array.flat[last] = np.nextafter(array.flat[last], array.dtype.type(np.inf))
    return array


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_one_rounding(dtype, tmp_path):
    path = tmp_path / "m.onnx"
    found = residuals(folded(model(dtype), path), load(path))
    assert {r.tensor for r in found} <= {t.name for t in onnx.load(path).graph.initializer}
    assert len(found) == 2  # weight and bias
    assert all(r.is_rounding and r.ulps <= 0.505 for r in found)
    assert all(r.ulps > 0.2 for r in found)  # and rounded they are, in one place or another


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_two_units_in_the_last_place_of_one_element_are_found(dtype, tmp_path):
    path = tmp_path / "m.onnx"
    edited = folded(model(dtype), path)

    weight = residuals(edited, load(path))[0].tensor
    spoil(path, weight, nudge)
    off = [r for r in residuals(edited, load(path)) if not r.is_rounding]
    assert [r.tensor for r in off] == [weight]
    assert 1.49 <= off[0].ulps <= 2.51


def lose(array):
    array.flat[0] = np.nan
    return array


@pytest.mark.parametrize(
    "change", [lose, lambda a: a.astype(np.float64), lambda a: a[:-1]], ids=["nan", "type", "shape"]
)
def test_what_can_not_be_compared_is_infinitely_far(change, tmp_path):
    path = tmp_path / "m.onnx"
    edited = folded(model(), path)
    spoil(path, residuals(edited, load(path))[0].tensor, change)
    assert residuals(edited, load(path))[0].ulps == math.inf


def test_a_lost_constant(tmp_path):
    path = tmp_path / "m.onnx"
    edited = folded(model(), path)
    onnx.save(model(), path)
    assert [r.ulps for r in residuals(edited, load(path))] == [math.inf] * 2


def test_nothing_folded_is_nothing_to_judge(tmp_path):
    b = Builder()
    path = tmp_path / "m.onnx"
    edited = folded(b.output(b.node("Relu", b.input(2, 3))).model(), path)
    assert residuals(edited, load(path)) == ()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_units_in_the_last_place(dtype):
    kind = ml_dtypes.finfo(dtype)
    smallest = float(kind.smallest_normal)
    values = np.array([1, -1.5, 2, 1000, smallest, smallest / 2, 0, -0.0], dtype)
    expected = [1, 1, 2, 512, smallest, smallest, smallest, smallest]
    assert (_ulp(values) == np.array(expected) * float(kind.eps)).all()


@pytest.fixture
def wrong(monkeypatch):
    """Write one element two units off: too little for any comparison of runs."""
    staged_output = normswap.model.staging.staged_output

    @contextlib.contextmanager
    def spoiled(folded, output, **options):
        with staged_output(folded, output, **options) as staged:
            spoil(staged.path, onnx.load(staged.path).graph.initializer[0].name, nudge)
            yield staged

    monkeypatch.setattr(normswap.workflows.ending, "staged_output", spoiled)


@pytest.mark.usefixtures("wrong")
def test_a_wrong_constant_is_not_written(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx")
    target = tmp_path / "out.onnx"
    with pytest.raises(normswap.NotEquivalentError, match="deviates from its formula by") as caught:
        normswap.fold(tmp_path / "m.onnx", target, check=CheckOptions())
    report = caught.value.report
    assert report.check.exit_code is ExitCode.OK  # far below what a comparison of runs can see
    assert report.exit_code is ExitCode.FINDINGS
    assert not report.output
    assert not target.exists()
    assert max(r["ulps"] for r in report.to_dict()["residuals"]) > 1.4
    result = invoke("fold", tmp_path / "m.onnx", "-o", target)
    assert result.code == ExitCode.FINDINGS
    assert "deviates from its formula by" in result.text
    assert "nothing was written" in result.text


@pytest.mark.usefixtures("wrong")
def test_nobody_looks_without_a_check(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx")
    report = normswap.fold(tmp_path / "m.onnx", tmp_path / "out.onnx", check=None).report
    assert (report.residuals, report.exit_code) == ((), ExitCode.OK)


def test_the_report_tells(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx")
    result = invoke("fold", tmp_path / "m.onnx", "-o", tmp_path / "a.onnx")
    assert "constants deviate from the formula by at most" in result.text
    result = invoke("fold", tmp_path / "m.onnx", "-o", tmp_path / "b.onnx", "--json")
    told = json.loads(result.text)["residuals"]
    assert len(told) == 2
    assert all(0 < r["ulps"] <= r["allowed"] for r in told)
