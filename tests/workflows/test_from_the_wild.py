"""Models as exporters and people leave them, each through the commands that a person would run."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.folding import count
from support.swapping import ops

import normswap
from normswap import Verdict


def layer(b, x, c_in=3, c_out=4, **conv):
    return b.bn(b.conv(x, c_in, c_out, **conv), c_out)


def folds(model):
    """Fold a model and check it; return the report."""
    result = normswap.fold(model)
    assert result.report.check.verdict is Verdict.EQUIVALENT
    assert count(result.model) == 0
    return result.report


def swaps(model, groups=2):
    """Swap the normalizations of a model and check them; return the report."""
    result = normswap.bn_to_gn(model, groups=groups)
    assert result.report.check.verdict is Verdict.EQUIVALENT
    assert "BatchNormalization" not in ops(result.model)
    return result.report


def rename_sizes(model, size):
    """Write a size in place of the batch, wherever the file tells it."""
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = size
    return model


# ------------------------------------------------------------------------- sizes that are none


@pytest.mark.parametrize("size", [-1, 0])
def test_sizes_that_are_none_are_any(size):
    b = Builder()
    b.output(layer(b, b.input("N", 3, 8, 8)))
    model = rename_sizes(b.model(), size)
    report = folds(model)
    assert all(0 not in shape for case in report.check.cases for shape in case.shapes.values())
    swaps(model)
    assert normswap.check(model, model).verdict is Verdict.EQUIVALENT


def test_a_size_of_zero_may_be_meant():
    """What is put before the maps has to be empty, or they would not fit what is added."""
    b = Builder()
    b.input(1, 4, 0, 6, name="past")
    grown = b.node("Concat", "past", layer(b, b.input(1, 3, 8, 8)), axis=2)
    b.output(b.node("Add", grown, b.normal(1, 4, 6, 6)))
    report = folds(b.model())
    assert {case.shapes["past"] for case in report.check.cases} == {(1, 4, 0, 6)}


def test_data_goes_for_a_size_of_zero(tmp_path):
    b = Builder()
    b.output(layer(b, b.input("N", 3, 8, 8)))
    model = rename_sizes(b.model(), 0)
    data = [{"x": np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)}]
    report = normswap.bn_to_gn(model, groups=2, calibrate=data).report
    assert report.calibrated == 1
