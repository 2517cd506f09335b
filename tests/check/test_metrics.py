import math

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normswap.check.metrics import measure

finite = st.floats(-1e6, 1e6, width=32)
pairs = hnp.array_shapes(min_dims=1, max_dims=2, max_side=8).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=finite),
        hnp.arrays(np.float32, shape, elements=finite),
    )
)


@given(pairs, st.sampled_from([0.0, 1e-7, 1e-3, 0.5, 3.0]))
@settings(deadline=None, max_examples=60)
def test_envelope_answers_for_any_rtol_as_the_arrays_do(pair, rtol):
    a, b = (x.astype(np.float64) for x in pair)
    envelope = measure(*pair).envelope
    least = max(0.0, float((np.abs(b - a) - rtol * np.abs(a)).max()))
    assert math.isclose(envelope.least_atol(rtol), least, rel_tol=1e-12, abs_tol=1e-12)
    assert np.all(
        np.abs(b - a) <= envelope.least_atol(rtol) * (1 + 1e-12) + rtol * np.abs(a) + 1e-12
    )


@given(pairs)
@settings(deadline=None, max_examples=40)
def test_an_rtol_that_is_enough_needs_no_atol(pair):
    envelope = measure(*pair).envelope
    a, b = (x.astype(np.float64) for x in pair)
    rtol = max((abs(y - x) / abs(x) for x, y in zip(a.flat, b.flat, strict=True) if x), default=0)
    enough = not np.any((a == 0) & (b != 0))
    assert (envelope.least_atol(rtol * (1 + 1e-12)) == 0) == enough


def test_numbers_of_a_known_pair():
    a = np.array([[1.0, -2.0, 0.0, 4.0]], np.float32)
    b = np.array([[1.0, -2.5, 0.25, 4.0]], np.float32)
    m = measure(a, b)
    assert (m.elements, m.mismatches, m.max_abs, m.max_rel) == (4, 2, 0.5, math.inf)
    assert m.rms == pytest.approx(math.sqrt((0.25 + 0.0625) / 4))
    assert m.worst == {"index": [0, 1], "original": -2.0, "rewritten": -2.5}
    assert m.abs_quantiles == (0.0, 0.5, 0.5, 0.5)
    assert m.histogram == {"0": 2, "1e-01": 2}
    assert m.top1_agreement == 1.0
    assert m.snr_db == pytest.approx(20 * math.log10(m.reference_rms / m.rms))


def test_identical_outputs_have_no_worst_element_and_no_noise():
    a = np.linspace(-3, 3, 12, dtype=np.float32)
    m = measure(a, a.copy())
    assert (m.mismatches, m.max_abs, m.worst, m.snr_db) == (0, 0.0, None, None)
    assert m.cosine == pytest.approx(1.0)


def test_nan_equals_nan_and_nothing_else():
    a = np.array([np.nan, 1.0, np.inf, -np.inf, 2.0], np.float32)
    same = measure(a, a.copy())
    assert (same.nan_disagreements, same.inf_disagreements, same.mismatches) == (0, 0, 0)
    b = np.array([np.nan, np.nan, -np.inf, 5.0, 2.0], np.float32)
    apart = measure(a, b)
    assert (apart.nan_disagreements, apart.inf_disagreements) == (1, 2)
    assert apart.worst["index"] == [1]


def test_all_nan_has_no_histogram():
    a = np.full(3, np.nan, np.float32)
    assert measure(a, a).histogram is None


def test_ulps_count_units_of_the_outputs_own_type():
    a = np.array([1.0, 100.0], ml_dtypes.bfloat16)
    b = a.copy()
    b[0] = ml_dtypes.bfloat16(1.0 + 2**-7)
    assert measure(a, b).ulp_quantiles[-1] == pytest.approx(1.0)


def test_ulps_of_values_near_zero_are_not_counted():
    a = np.array([1.0, 1e-30], np.float32)
    b = np.array([1.0, -1e-30], np.float32)
    assert measure(a, b).ulp_quantiles == (0.0, 0.0, 0.0, 0.0)


def test_ranking_sees_another_winner():
    a = np.arange(20, dtype=np.float32).reshape(2, 10)
    b = a.copy()
    b[0, 0] = 99
    m = measure(a, b)
    assert (m.top1_agreement, m.top5_agreement) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("a", "b", "count"),
    [
        (np.array([1, 2, 3]), np.array([1, 5, 3]), 1),
        (np.array([True, False]), np.array([False, True]), 2),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), 1),
    ],
)
def test_discrete_types_count_elements(a, b, count):
    m = measure(a, b)
    assert m.mismatches == count
    assert m.worst["original"] != m.worst["rewritten"]
