"""The BatchNormalization that is an identity, as exactly as its type allows."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto
from support.build import Builder

from normswap.dtypes import NUMPY_DTYPES
from normswap.unfolding.identity import EPSILON, ROOT, identity_of, overflow_of

VAR = np.array([0, 1e-30, 3e-7, 1e-5, 0.01, 0.7, 1, 9, 64, 255.3, 256, 3e3, 4e4])
MEAN = np.linspace(-3, 300, len(VAR))
F = TensorProto.FLOAT


def parts(data_type, mean=MEAN, var=VAR):
    found = identity_of(mean, var, data_type)
    assert found.scale.dtype == found.mean.dtype == found.var.dtype == NUMPY_DTYPES[data_type]
    return (values.astype(np.longdouble) for values in (found.scale, found.mean, found.var))


@pytest.mark.parametrize(
    ("data_type", "moved", "exact"),
    [(F, 2**-10, 1e8), (TensorProto.DOUBLE, 2**-20, 1e8), (TensorProto.FLOAT16, 2**-4, 0.01)],
)
def test_scale_over_the_root_is_one(data_type, moved, exact):
    scale, mean, var = parts(data_type)
    ratio = scale / np.sqrt(var + EPSILON)
    assert (ratio[exact >= VAR] == 1).all()
    assert np.abs(ratio - 1).max() <= float(np.finfo(NUMPY_DTYPES[data_type]).eps)
    assert (mean == MEAN.astype(NUMPY_DTYPES[data_type])).all()
    # What was measured is moved by less than data tells.
    assert np.abs(scale / np.sqrt(VAR + EPSILON) - 1).max() <= moved
    assert (scale[0], var[0]) == (ROOT, 0)


def test_many_deviations_are_exact():
    var = np.exp2(np.random.default_rng(0).uniform(-30, 14, 5000))
    scale, _, stored = parts(F, np.zeros(5000), var)
    assert (scale == np.sqrt(stored + EPSILON)).all()
    assert np.abs(scale / np.sqrt(var + EPSILON) - 1).max() < 2**-9


@pytest.mark.parametrize("optimized", [False, True])
def test_the_runtime_returns_its_input_bit_for_bit(optimized):
    b = Builder(17)
    found = identity_of(MEAN, VAR, F)
    stats = (found.scale, found.mean, found.mean, found.var)
    x = b.node("Identity", b.input("N", len(VAR), 4))
    b.output(b.node("Relu", b.bn(x, len(VAR), stats=stats, epsilon=EPSILON)), None)
    options = ort.SessionOptions()
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(b.model().SerializeToString(), options)
    given = np.random.default_rng(1).normal(size=(50, len(VAR), 4)).astype(np.float32)
    given = given * np.sqrt(found.var)[:, None] + found.mean[:, None]
    assert (session.run(None, {"x": given})[0] == np.maximum(given, 0)).all()


def test_a_variance_beyond_its_type_is_named():
    flaw = overflow_of("y", np.array([1.0, 7e4, 9e4]), TensorProto.FLOAT16)
    assert (flaw.name, flaw.index, flaw.count, flaw.limit) == ("y", (1,), 2, "float16")
    assert overflow_of("y", VAR, F) is None
