"""A part of onnx's backend suite; ``python -m benchmarks.backend_suite`` does all of it."""

from unittest import mock

import numpy as np
import pytest
from support.inprocess import backend_suite

# Operators whose inputs ask something of their values, and those that are not defined everywhere.
NAMES = (
    "test_acos",
    "test_acosh",
    "test_log",
    "test_sqrt",
    "test_bitshift_left_uint8",
    "test_clip",
    "test_compress_0",
    "test_constantofshape_int_zeros",
    "test_cumsum_1d",
    "test_div_uint8",
    "test_expand_dim_changed",
    "test_gather_elements_0",
    "test_gathernd_example_int32_batch_dim1",
    "test_hardswish",
    "test_if",
    "test_loop11",
    "test_isnan",
    "test_isinf",
    "test_equal_string",
    "test_maxunpool_export_with_output_shape",
    "test_mod_mixed_sign_int64",
    "test_nllloss_NCd1d2",
    "test_nonmaxsuppression_two_batches",
    "test_onehot_with_axis",
    "test_range_int32_type_negative_delta",
    "test_reduce_sum_keepdims_random",
    "test_reshape_negative_dim",
    "test_roialign_aligned_false",
    "test_scatter_elements_with_axis",
    "test_scatternd",
    "test_slice",
    "test_split_variable_parts_1d_opset13",
    "test_squeeze",
    "test_tile",
    "test_top_k",
    "test_tril_pos",
    "test_unsqueeze_axis_0",
    "test_dropout_default_mask",
)


@pytest.fixture(scope="module")
def tests():
    found = {test.name: test for test in backend_suite.tests()}
    assert len(found) > 1000
    return found


@pytest.mark.slow
def test_no_verdict_on_the_suite_is_false(tests, tmp_path):
    wanted = [tests[name] for name in NAMES if name in tests]
    assert len(wanted) >= 0.9 * len(NAMES)  # onnx renames one now and then
    results = []
    with mock.patch("normswap.check.runner.run_task", backend_suite.here):
        for test in wanted:
            folder = tmp_path / test.name
            folder.mkdir()
            results += backend_suite.examine(test, folder)
    told = {(r["name"], r["other"]): backend_suite.judged(r) for r in results}
    wrong = {
        k: v for k, v in told.items() if v not in {"right", "equivalent, the runtime can't tell"}
    }
    assert wrong == {}
    assert len(results) > len(wanted)
    report = backend_suite.report(results, len(tests))
    assert f"| itself | {len(wanted)} | {len(wanted)} | 0 | 0 | 0 | 0 | 0 | 0 |" in report


def result(said, apart, **more):
    found = {"name": "test_x", "other": "opset 9", "verdict": said, "apart": apart, "reason": ""}
    return {**found, **more}


@pytest.mark.parametrize(
    ("said", "apart", "judged"),
    [
        ("equivalent", 0.0, "right"),
        ("equivalent", 1e6, "false equivalent"),
        ("different", np.inf, "right"),
        ("different", 0.5, "false different"),
        ("inconclusive", 0.0, "inconclusive"),
        ("error", 0.0, "error"),
        ("equivalent", "no kernel", "equivalent, the runtime can't tell"),
    ],
)
def test_how_a_verdict_is_held_against_the_runtime(said, apart, judged):
    assert backend_suite.judged(result(said, apart)) == judged


def test_what_is_wrong_is_listed_with_its_reason():
    results = [
        result("equivalent", 1e6),
        result("inconclusive", 0.0, reason="output 'y': too noisy (normal 2x3, seed 0)"),
        result("equivalent", 0.0, other="itself"),
    ]
    text = backend_suite.report(results, 9)
    assert "1 of 9 models" in text
    assert "## False equivalent" in text
    assert "too noisy — x (opset N)" in text or "too noisy — x (opset 9)" in text
    assert "## Bug" not in text


def test_results_are_kept_and_the_latest_counts(tmp_path):
    log = tmp_path / "log.jsonl"
    assert backend_suite.read(log) == []
    backend_suite._write(log, [result("error", 0.0)])
    backend_suite._write(log, [result("equivalent", 0.0)])
    assert [r["verdict"] for r in backend_suite.read(log)] == ["equivalent"]
