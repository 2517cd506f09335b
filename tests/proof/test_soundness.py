"""No edit that changes a function is proved harmless, and no right rewrite is said to be wrong."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from support.edits import changes, edited
from support.folding import feeds_for, fold_model
from support.proving import is_made_again, proof_of
from support.random_graphs import Choices, random_graph
from support.rich_graphs import rich_graph

from normswap.inputs.signature import drawing_alike, read_signature, structural_differences
from normswap.proof.result import Standing

SEEDS = 60
EDITS = 3


def drawn(seed):
    rng = np.random.default_rng(seed)
    choose = Choices(lambda below: int(rng.integers(below)))
    if seed % 2:
        nodes = 1 + choose.integer(14)
        return random_graph(choose, nodes=nodes, seed=seed, dtype="float32")[0], rng
    return rich_graph(choose, nodes=1 + choose.integer(8), seed=seed).model, rng


def feeds(model):
    for seed, size in ((1, 2), (2, 3)):
        for scale in (1, 30):
            given = feeds_for(model, seed=seed, sizes={"N": size})
            yield {
                name: value * value.dtype.type(scale) if value.dtype.kind == "f" else value
                for name, value in given.items()
            }


def is_valid(model):
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return True


def is_shown(proof):
    """Whether an output is said to be another one."""
    return proof.witness is not None and proof.witness.is_plain


@pytest.mark.parametrize(
    "seed", [*range(SEEDS), 20110, 20778, 20799, 30268, 30811, 30912, 70198, 70374]
)
def test_what_is_proved_is_so(seed, tmp_path):
    warnings.simplefilter("ignore")  # of edits that divide by zero, and the like
    model, rng = drawn(seed)
    folded, _ = fold_model(model)
    right = proof_of(model, folded, tmp_path)
    assert not right.reason
    said = right.fault is not None or is_shown(right)
    assert not said, "a right rewrite is said to be another function"
    assert is_made_again(model, folded, right, tmp_path) == right.is_whole
    for _ in range(EDITS):
        wrong, words = edited(folded, rng)
        if wrong is None or not is_valid(wrong) or changes(folded, wrong, feeds(model)) != "yes":
            continue
        assert not proof_of(model, wrong, tmp_path).is_whole, words
        assert not is_made_again(model, wrong, right, tmp_path), words


def test_most_folds_are_proved(tmp_path):
    standings = []
    for seed in range(1, 40, 2):  # odd seeds have no bodies
        model, _ = drawn(seed)
        folded, _ = fold_model(model)
        standings += [output.standing for output in proof_of(model, folded, tmp_path).outputs]
    proved = sum(standing in {Standing.IDENTICAL, Standing.PROVED} for standing in standings)
    assert proved >= 0.95 * len(standings)
    assert Standing.PROVED in standings


def test_edits_are_found_to_change_something(tmp_path):
    """The property above would say nothing if no edit changed a function."""
    changed = 0
    for seed in range(10):
        model, rng = drawn(seed)
        folded, _ = fold_model(model)
        for _ in range(3):
            wrong, _ = edited(folded, rng)
            if wrong is not None and is_valid(wrong):
                changed += changes(folded, wrong, feeds(model)) == "yes"
    assert changed >= 8


def test_a_model_is_itself(tmp_path):
    model, _ = drawn(1)
    onnx.save(model, tmp_path / "model.onnx")
    signature = read_signature(tmp_path / "model.onnx")
    assert structural_differences(*drawing_alike(signature, signature)) == []
    proof = proof_of(model, model, tmp_path)
    assert proof.is_whole
    assert proof.regions == ()
    assert proof.identical == proof.values
