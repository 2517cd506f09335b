"""Whatever graph a fold is given: the same function comes out, and every fold is accounted for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from support.folding import assert_same_signature, count, feeds_for, fold_model
from support.random_graphs import Choices, random_graph
from support.random_scopes import in_if
from support.rich_graphs import rich_graph
from support.truth import judge

SEEDS = 250
"""Of graphs that are drawn without hypothesis."""

EXACT = 1e-12
"""Largest difference in float64, relative to the largest value of an output (or to 1)."""


@st.composite
def graphs(draw, dtype="float64", largest=24):
    def integer(below):
        return draw(st.integers(0, below - 1)) if below > 1 else 0

    nodes, seed = draw(st.integers(1, largest)), draw(st.integers(0, 2**16))
    return random_graph(Choices(integer), nodes=nodes, seed=seed, dtype=dtype)


def outputs(model, feeds):
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, feeds)


def assert_folds_exactly(model, batchnorms):
    """Assert all that must be true of any fold; return how many went."""
    model.doc_string = "a random graph"
    onnx.helper.set_model_props(model, {"license": "none", "made by": "chance"})
    folded, plan = fold_model(model)
    onnx.checker.check_model(folded, full_check=True)
    assert_same_signature(model, folded)
    assert folded.doc_string == model.doc_string
    assert count(model) == batchnorms
    kept = [entry for entry in plan.kept if entry.site.op == "BatchNormalization"]
    gone = [entry for entry in plan.folded if entry.site.op == "BatchNormalization"]
    assert count(folded) == len(kept)
    assert len(kept) + len(gone) == batchnorms
    assert all(entry.detail for entry in kept)
    feeds = feeds_for(model, sizes={"N": 2})
    for want, got, info in zip(
        outputs(model, feeds), outputs(folded, feeds), model.graph.output, strict=True
    ):
        assert got.shape == want.shape, info.name
        size = max(np.abs(want).max(initial=0), 1.0)
        if np.isfinite(size) and size < 1e100:
            error = np.abs(want - got).max(initial=0) / size
            assert error <= EXACT, f"{info.name} differs by {error:.1e}"
    again, second = fold_model(folded)
    assert not second.folded, [entry.site.node for entry in second.folded]
    assert again == folded
    return len(gone)


@pytest.mark.slow
@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_folding_is_exact(graph):
    assert_folds_exactly(*graph)


def test_there_is_something_to_fold():
    # The property above would hold for a fold that never folds.
    rng = np.random.default_rng(0)
    choose = Choices(lambda below: int(rng.integers(below)))
    total = gone = 0
    for seed in range(40):
        model, batchnorms = random_graph(choose, nodes=20, seed=seed)
        total += batchnorms
        gone += assert_folds_exactly(model, batchnorms)
    assert gone > total / 5


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(graphs(largest=12))
def test_folding_in_a_body_is_exact(graph):
    model, batchnorms = graph
    if not all(
        info.name in {n for node in model.graph.node for n in node.output}
        for info in model.graph.output
    ):
        return  # a body may not hand on what it did not make
    assert_folds_exactly(in_if(model), 2 * batchnorms)


def test_a_scale_and_a_shift_along_different_axes():
    # Found by chance: an affine whose scale has more axes than its shift.
    rng = np.random.default_rng(5008)
    choose = Choices(lambda below: int(rng.integers(below)))
    model, batchnorms = random_graph(choose, nodes=16, seed=5008)
    assert_folds_exactly(in_if(model), 2 * batchnorms)


@st.composite
def cases(draw, largest=12):
    def integer(below):
        return draw(st.integers(0, below - 1)) if below > 1 else 0

    nodes, seed = draw(st.integers(1, largest)), draw(st.integers(0, 2**16))
    return rich_graph(Choices(integer), nodes=nodes, seed=seed)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(cases())
def test_rich_graphs_fold_right(case):
    found = judge(case)
    assert found.fault is None, f"{found.fault.value}: {found.detail} ({case.words})"


@pytest.mark.slow
def test_hundreds_of_rich_graphs_fold_right():
    # Other graphs than hypothesis draws, which likes them small; `benchmarks/random_graphs.py`
    # draws thousands.
    faults, judged, exact, total, gone = [], 0, 0, 0, 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        choose = Choices(lambda below, rng=rng: int(rng.integers(below)))
        case = rich_graph(choose, nodes=1 + choose.integer(12), seed=seed)
        found = judge(case)
        if found.fault is not None:
            faults.append(f"{seed}: {found.fault.value}: {found.detail} ({case.words})")
        judged += not found.unmade
        exact += found.in_float64
        total += found.batchnorms
        gone += found.folded
    assert not faults
    assert judged > 0.9 * SEEDS, "most graphs are models that onnxruntime runs"
    assert exact > 0.75 * judged, "most are judged in float64 too"
    assert gone > total / 5, "there is something to fold"


@pytest.mark.parametrize("seed", [101059, 101916, 200042, 217509])
def test_what_was_folded_wrong_once(seed):
    rng = np.random.default_rng(seed)
    choose = Choices(lambda below: int(rng.integers(below)))
    found = judge(rich_graph(choose, nodes=1 + choose.integer(12), seed=seed))
    assert found.fault is None, found.detail
