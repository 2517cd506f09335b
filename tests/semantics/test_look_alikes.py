"""Pairs of nodes that look alike: the arbiter tells apart what the runtime does, and no other."""

import numpy as np
import pytest
from support.build import Builder
from support.draws.case import Case, apart, runtime
from support.draws.evaluators import arbiter
from support.folding import check_folds

RNG = np.random.default_rng(12)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def recurrent(op, gates, attributes=None, lengths=None):
    rng = np.random.default_rng(len(op))
    x, w, r = (
        rng.normal(size=s).astype(np.float32)
        for s in ((6, 2, 3), (1, gates * 4, 3), (1, gates * 4, 4))
    )
    given = {"hidden_size": 4, **(attributes or {})}
    lengths = None if lengths is None else np.array(lengths, np.int32)
    return Case(op, [x, w, r, None, lengths][: 3 if lengths is None else 5], given, since=14)


X, IMAGE, VECTOR = normal(2, 3, 4), normal(1, 2, 8, 8), normal(2, 5)
ROIS = [np.array([[1, 1, 5, 6]], np.float32), np.zeros(1, np.int64)]
ROI = {"output_height": 3, "output_width": 3, "sampling_ratio": 2}
CORNERS = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
PAIRS = {
    "LSTM lengths": (recurrent("LSTM", 4, lengths=[6, 2]), recurrent("LSTM", 4)),
    "GRU lengths": (recurrent("GRU", 3, lengths=[6, 2]), recurrent("GRU", 3)),
    "RNN lengths": (recurrent("RNN", 1, lengths=[6, 2]), recurrent("RNN", 1)),
    "LSTM activations": (
        recurrent("LSTM", 4, {"activations": ["Relu", "Softsign", "Elu"]}),
        recurrent("LSTM", 4),
    ),
    "GRU clip": (recurrent("GRU", 3, {"clip": 0.2}), recurrent("GRU", 3)),
    "RoiAlign": (
        Case("RoiAlign", [IMAGE, *ROIS], ROI, since=10),
        Case("RoiAlign", [IMAGE, *ROIS], ROI, since=16),
    ),
    "LRN": (
        Case("LRN", [normal(1, 4, 5, 5)], {"size": 1, "alpha": 0.9, "beta": 2.0}, since=13),
        Case("LRN", [normal(1, 4, 5, 5)], {"size": 1, "alpha": 1e-9}, since=13),
    ),
    "LpNormalization": (
        Case("LpNormalization", [VECTOR], {"p": 1}, since=1),
        Case(
            "Div",
            [VECTOR, VECTOR.sum(axis=-1, keepdims=True)],  # without their magnitudes
            since=14,
        ),
    ),
    "Resize by corners": (
        Case("Resize", [normal(1, 5), None, np.array([1, 0.5], "f")], CORNERS, since=13),
        Case(
            "Resize",
            [normal(1, 5), None, np.array([1, 0.5], "f")],
            {**CORNERS, "coordinate_transformation_mode": "asymmetric"},
            since=13,
        ),
    ),
    **{
        f"{op} at 12 and 13": (
            Case(op, [X], {"axis": 1}, since=11),
            Case(op, [X], {"axis": 1}, since=13),
        )
        for op in ("Softmax", "LogSoftmax", "Hardmax")
    },
    "Softmax by default": (Case("Softmax", [X], since=11), Case("Softmax", [X], since=13)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_differs_in_the_runtime_differs_in_the_arbiter(name):
    first, second = PAIRS[name]
    results = []
    for case in (first, second):
        found, right = arbiter(case), runtime(case)
        assert apart(found, right, case) is None
        results.append(found)
    assert apart(*results, first) is not None


def test_softmax_12_written_as_13_is_the_same():
    old = Case("Softmax", [X], {"axis": 1}, since=11)
    flat = Case("Softmax", [X.reshape(2, 12)], {"axis": -1}, since=13)
    np.testing.assert_array_equal(runtime(old)[0], runtime(flat)[0].reshape(X.shape))
    np.testing.assert_array_equal(arbiter(old)[0], arbiter(flat)[0].reshape(X.shape))


@pytest.mark.parametrize(
    ("opset", "axes"),
    [
        (12, [-2, -1]),
        (12, [-2, 2]),
        (12, [-1, 0, -2]),
        (11, [2, 1]),
        (11, [3, 0, -2]),
        (9, [2, 1]),
        (9, [3, 0, 2]),
        (7, [2, 3, 0]),
    ],
)
def test_a_constant_behind_unsqueeze_folds_as_the_runtime_has_it(opset, axes):
    """By attributes, unsorted, negative or mixed; the places are those of the result."""
    b = Builder(opset, "float32")
    moved = b.node("Unsqueeze", b.normal(6), axes=axes)
    y = b.node("Conv", b.input("N", 4, 8, 7), b.normal(6, 4, 3, 3))
    b.output(b.bn(b.node("Add", y, moved), 6), ("N", 6, 6, 5))
    check_folds(b.model())


def test_a_constant_of_one_axis_may_lie_along_the_last():
    b = Builder(9, "float32")
    moved = b.node("Unsqueeze", b.normal(6), axes=[1, 0])
    y = b.node("Conv", b.input("N", 4, 8), b.normal(6, 4, 3))
    b.output(b.bn(b.node("Add", y, moved), 6), ("N", 6, 6))
    check_folds(b.model())
