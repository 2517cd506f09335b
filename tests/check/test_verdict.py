import dataclasses

import numpy as np
import pytest

from normswap.check.evidence import ZERO, Distance, Truth, gather, is_constant
from normswap.check.options import Tolerance
from normswap.check.verdict import RULES, Verdict, judge, overall

RNG = np.random.default_rng(7)
A = RNG.normal(size=(4, 6, 5)).astype(np.float32)
NOISE = A + RNG.normal(scale=1e-6, size=A.shape).astype(np.float32)
PERTURBED = [A + RNG.normal(scale=1e-7, size=A.shape) for _ in range(2)]


def seen(b, truth=None, a=A, executions=(NOISE,), **options):
    return judge(gather("y", [a, *executions], [b, b], truth, **options), {})


def truth(deviation):
    return Truth(A.astype(float), A + deviation, PERTURBED)


def test_weight_rounding_passes_and_an_error_in_one_channel_does_not():
    rounding = RNG.normal(scale=1e-7, size=A.shape)
    assert seen(A, truth(rounding)).verdict is Verdict.EQUIVALENT
    scaled = np.zeros(A.shape)
    scaled[:, 3] = 1e-3 * A[:, 3]
    judgement = seen((A + scaled).astype(np.float32), truth(scaled))
    assert judgement.verdict is Verdict.DIFFERENT
    assert "channel 3" in judgement.reason


def test_an_error_in_a_small_channel_is_not_lost_among_large_ones():
    size = np.array([1e4, 1e4, 1e4, 1e-2, 1e4, 1e4])[:, None]
    values = RNG.normal(size=(40, 6, 50)) * size
    moved = [values * (1 + RNG.normal(scale=1e-7, size=values.shape)) for _ in range(2)]
    deviation = np.zeros(values.shape)
    deviation[:, 3] = 1e-1 * values[:, 3]
    evidence = gather("y", [], [], Truth(values, values + deviation, moved), storage=np.dtype("f"))
    assert evidence.function.channel == 3
    assert evidence.function.deviation.rms < 8 * evidence.function.floor.rms
    assert judge(evidence, {}).verdict is Verdict.DIFFERENT


def test_the_same_function_that_the_runtime_gets_wrong_is_different():
    rounding = RNG.normal(scale=1e-7, size=A.shape)
    judgement = seen(A + np.float32(0.01), truth(rounding))
    assert judgement.verdict is Verdict.DIFFERENT
    assert "runtime" in judgement.reason


def test_without_an_arbiter_noise_explains_noise():
    assert seen(NOISE).verdict is Verdict.EQUIVALENT


def test_without_an_arbiter_what_is_neither_noise_nor_gross_is_inconclusive():
    assert seen(A + np.float32(1e-4)).verdict is Verdict.INCONCLUSIVE


def test_without_an_arbiter_a_gross_error_is_different():
    assert seen(A + np.float32(0.1)).verdict is Verdict.DIFFERENT


def test_wild_noise_hides_no_fault():
    wild = A + RNG.normal(scale=0.5, size=A.shape).astype(np.float32)
    found = seen(A + np.float32(0.3), executions=(wild,))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "so large that it could hide a fault" in found.reason


def test_the_arbiter_on_other_inputs_backs_the_noise_floor():
    evidence = gather("y", [A, NOISE], [A + np.float32(1e-4)], None)
    assert judge(evidence, {}).verdict is Verdict.INCONCLUSIVE
    backed = dataclasses.replace(evidence, backed=ZERO)
    assert judge(backed, {}).verdict is Verdict.EQUIVALENT
    # A model that half a unit of its weights throws off as far is no fault of the rewrite.
    chaotic = gather("y", [A, A], [A + np.float32(0.1)], None)
    assert judge(chaotic, {}).verdict is Verdict.DIFFERENT
    known = dataclasses.replace(chaotic, backed=Distance(0.05, 0.05))
    assert judge(known, {}).verdict is Verdict.EQUIVALENT
    gross = dataclasses.replace(gather("y", [A, NOISE], [A + 0.1], None), backed=ZERO)
    assert judge(gross, {}).verdict is Verdict.DIFFERENT


def test_nan_is_equal_to_nan_only_if_the_original_made_it():
    a = A.copy()
    a[0, 0, 0] = np.nan
    assert seen(a.copy(), a=a, executions=(a,)).verdict is Verdict.EQUIVALENT
    assert seen(a, executions=(A,)).verdict is Verdict.DIFFERENT
    assert seen(A, a=a, executions=(a,)).verdict is Verdict.DIFFERENT


@pytest.mark.parametrize("empty", [np.full((2, 3), np.nan, np.float32), np.zeros((0, 3), "f")])
def test_nothing_to_compare_is_inconclusive(empty):
    assert seen(empty.copy(), a=empty, executions=(empty,)).verdict is Verdict.INCONCLUSIVE


def test_a_constant_that_ought_to_vary_is_inconclusive_when_equal_and_different_when_not():
    a = np.full((2, 3), 0.25, np.float32)
    same = seen(a.copy(), a=a, executions=(a,), constant=True)
    assert same.verdict is Verdict.INCONCLUSIVE
    assert seen(a + 1, a=a, executions=(a,), constant=True).verdict is Verdict.DIFFERENT


@pytest.mark.parametrize(
    ("values", "constant"),
    [
        ([np.zeros(4, "f")], True),
        ([np.ones(1, "f")], False),
        ([np.ones(1, "f"), np.ones(1, "f")], True),
        ([np.zeros(2, "f"), np.ones(2, "f")], False),
        ([np.array([1.0, 1.0 + 2**-23], "f")], True),
        ([np.array([1, 1])], True),
        ([np.array(["a", "b"], object)], False),
        ([np.array([np.nan, np.nan], "f")], False),
    ],
)
def test_is_constant(values, constant):
    assert is_constant(values) is constant


def test_another_shape_or_type_is_different():
    assert "shape" in seen(A[:2]).reason
    assert seen(A[:2]).verdict is Verdict.DIFFERENT
    assert "float64" in seen(A.astype(np.float64)).reason


def test_flipped_classes_need_an_excuse():
    a = np.arange(50)
    b = a.copy()
    b[3] = 0
    assert seen(b, a=a, executions=(a,)).verdict is Verdict.DIFFERENT
    assert seen(b, a=a, executions=(b,)).verdict is Verdict.EQUIVALENT
    assert seen(a, a=a, executions=(a,)).verdict is Verdict.EQUIVALENT


def test_a_person_may_decide():
    evidence = gather("y", [A, NOISE], [A + np.float32(0.01)], truth(np.zeros(A.shape)))
    judgement = judge(evidence, {"y": Tolerance(atol=0.02)})
    assert (judgement.verdict, judgement.basis) == (Verdict.EQUIVALENT, "tolerance")
    assert judge(evidence, {"": Tolerance(rtol=1e-9)}).verdict is Verdict.DIFFERENT
    assert "smallest atol that passes is 0.01" in judge(evidence, {"": Tolerance()}).reason
    assert judge(evidence, {"other": Tolerance(atol=1.0)}).basis == "arbiter"


def test_infinite_in_float64_in_one_model_only_is_different():
    deviation = np.zeros(A.shape)
    deviation[0, 0, 0] = np.inf
    assert seen(A, truth(deviation)).verdict is Verdict.DIFFERENT


def test_random_models_are_judged_as_functions_alone():
    found = seen(A + np.float32(5), truth(np.zeros(A.shape)), comparable=False)
    assert found.verdict is Verdict.EQUIVALENT


def test_the_bound_of_noise_is_that_of_the_type():
    half = A.astype(np.float16)
    found = judge(gather("y", [half, half], [(A * 1.02).astype(np.float16)], None), {})
    assert found.verdict is Verdict.EQUIVALENT or found.verdict is Verdict.INCONCLUSIVE
    assert seen(A * np.float32(1.02)).verdict is Verdict.DIFFERENT


def test_overall_is_never_a_pass_of_nothing():
    assert overall([]) is Verdict.INCONCLUSIVE
    same = seen(NOISE)
    assert overall([same]) is Verdict.EQUIVALENT
    assert overall([same, seen(A + np.float32(1e-4))]) is Verdict.INCONCLUSIVE
    assert overall([seen(A + np.float32(1e-4)), seen(A + 1)]) is Verdict.DIFFERENT
    assert RULES.function <= RULES.runtime
