"""Elements that are not finite: which is named, in which words."""

import ml_dtypes
import numpy as np
import pytest

from normswap.finite import flaw_of

FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ml_dtypes.float8_e4m3fn]


@pytest.mark.parametrize("dtype", [*FLOATS, np.int64, np.uint8, np.bool_, ml_dtypes.int4])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_finite_arrays(dtype, shape):
    assert flaw_of("x", np.ones(shape, dtype)) is None


def test_text_is_finite():
    assert flaw_of("x", np.array(["a", "b"], dtype=object)) is None


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_first_is_named_and_all_are_counted(dtype):
    array = np.ones((12, 3, 8, 8), dtype)
    array[7, 1, 2, 3] = np.nan
    flaw = flaw_of("x", array)
    assert (flaw.name, flaw.index, flaw.count) == ("x", (7, 1, 2, 3), 1)
    assert str(flaw) == ("x has 1 value that is not finite: at index (7, 1, 2, 3) it is NaN")
    array[8:10, 0, 0, 0] = np.nan
    assert str(flaw_of("x", array)) == (
        "x has 3 values that are not finite: the first, at index (7, 1, 2, 3), is NaN"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.inf, "is infinite"), (-np.inf, "is minus infinite"), (np.nan, "is NaN")],
)
def test_kinds(value, words):
    flaw = flaw_of("w", np.array([1, value]))
    assert str(flaw) == f"w has 1 value that is not finite: at index 1 it {words}"
    assert str(flaw_of("w", np.array(value))) == f"w has 1 value that is not finite: it {words}"


@pytest.mark.parametrize(
    ("value", "stored", "name"),
    [
        (1e39, np.float32, "float32"),
        (7e4, np.float16, "float16"),
        (-1e39, ml_dtypes.bfloat16, "bfloat16"),
    ],
)
def test_beyond_a_type(value, stored, name):
    array = np.ones((2, 2))
    array[1, 0] = value
    flaw = flaw_of("x", array, np.dtype(stored))
    assert (flaw.index, flaw.count, flaw.limit) == ((1, 0), 1, name)
    assert f"beyond the range of {name}: at index (1, 0) it is {value:g}" in str(flaw)
    assert flaw_of("x", array, np.dtype(np.float64)) is None


def test_integers_beyond_a_type():
    assert flaw_of("x", np.array([1, 70000]), np.dtype(np.float16)).value == 70000
    assert flaw_of("x", np.array([1, 70000]), np.dtype(np.int32)) is None


def test_what_is_not_finite_comes_before_what_a_type_cannot_hold():
    flaw = flaw_of("x", np.array([1e39, np.nan]), np.dtype(np.float32))
    assert (flaw.index, flaw.limit) == ((1,), "")
