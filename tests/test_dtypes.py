"""One rounding, to nearest even, into every type."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from normswap.dtypes import NUMPY_DTYPES, is_float, largest, round_to, wide_dtype

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=64)


def neighbours(value):
    """Return the representable values below and above one of a narrow type."""
    dtype = value.dtype
    bits = np.dtype(f"u{dtype.itemsize}")
    raw = int(value.view(bits))
    both = [np.array(raw + step, dtype=bits).view(dtype) for step in (-1, 1) if raw + step >= 0]
    return [n for n in both if np.isfinite(n.astype(np.float64))]


@pytest.mark.parametrize("data_type", NUMPY_DTYPES)
@given(x=FLOATS)
def test_no_representable_value_is_closer(data_type, x):
    rounded = round_to(np.array(x, dtype=wide_dtype(data_type)), data_type)
    assert rounded.dtype == NUMPY_DTYPES[data_type]
    if not np.isfinite(rounded.astype(np.float64)):
        assert abs(x) > largest(data_type)
        return
    error = abs(Fraction(float(rounded)) - Fraction(x))
    for other in neighbours(rounded):
        assert error <= abs(Fraction(float(other)) - Fraction(x))


@given(x=st.floats(1.0, 1.98))
def test_bfloat16_is_not_rounded_twice(x):
    # Just above the middle of two bfloat16 values, float32 would round down to the middle.
    middle = np.float64(ml_dtypes.bfloat16(x)) + 2.0**-8
    above = np.nextafter(middle, 4.0)
    rounded = float(round_to(np.array(above), TensorProto.BFLOAT16))
    assert rounded > middle


def test_what_is_not_a_float_is_none():
    assert not is_float(TensorProto.INT8)
    assert not is_float(None)
    assert is_float(TensorProto.BFLOAT16)


def test_nothing_finite_becomes_nan():
    for special in (np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-320):
        for data_type in NUMPY_DTYPES:
            rounded = round_to(np.array([special]), data_type).astype(np.float64)
            assert np.isnan(rounded[0]) == np.isnan(special)
