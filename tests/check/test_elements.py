"""Maps and sequences are compared as the tensors that they were made of."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.check_models import model, save, tensor, value

from normswap.check.elements import tensors
from normswap.check.options import CheckOptions
from normswap.check.verdict import Verdict
from normswap.workflows.check import check
from normswap.workflows.fold import fold

F = np.float32
ML = "ai.onnx.ml"


def named(value):
    return {name: array.tolist() for name, array in tensors("y", value)}


def test_a_sequence_of_maps_is_a_table():
    rows = [{1: F(0.25), 0: F(0.75)}, {0: F(0.5), 1: F(0.5)}]
    assert named(rows) == {"y[0, 1]": [[0.75, 0.25], [0.5, 0.5]]}
    ((_, array),) = tensors("y", rows)
    assert array.dtype == np.float32


def test_maps_of_other_keys_are_another_tensor():
    assert named([{0: F(1)}]).keys() != named([{1: F(1)}]).keys()
    many = [{str(key): F(key) for key in range(1000)}]
    other = [{("x" if key == 500 else str(key)): F(key) for key in range(1000)}]
    assert named(many).keys() != named(other).keys()
    assert len(next(iter(named(many)))) < 60
    assert named(many).keys() == named([dict(reversed(many[0].items()))]).keys()


def test_other_values():
    assert named({"b": F(2), "a": F(1)}) == {"y['a', 'b']": [1.0, 2.0]}
    assert named([{0: F(1)}, {0: F(1), 2: F(2)}]) == {"y[0][0]": [1.0], "y[1][0, 2]": [1.0, 2.0]}
    assert named([F([1, 2]), F([3])]) == {"y[0]": [1.0, 2.0], "y[1]": [3.0]}
    assert named([F([1]), F([2]), F([3])]) == {"y[0..2]": [[1.0], [2.0], [3.0]]}
    assert named([{0: "word"}]) == {"y[0]": [["word"]]}
    assert named([]) == named(None) == {}
    assert named(F(3)) == {"y": 3.0}


def classifier(labels, *, factor=1.0, single=False, folded=False):
    """Return MatMul, BatchNormalization, Softmax and ZipMap."""
    rng = np.random.default_rng(4)
    w = (rng.normal(size=(3, 4)) * factor).astype(F)
    statistics = [rng.normal(size=4).astype(F) for _ in range(3)] + [F([0.5, 1, 2, 4])]
    key = "classlabels_int64s" if isinstance(labels[0], int) else "classlabels_strings"
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Softmax", ["n"], ["p"], axis=1),
        helper.make_node("ZipMap", ["p"], ["y"], domain=ML, **{key: labels}),
    ]
    kind = TensorProto.INT64 if isinstance(labels[0], int) else TensorProto.STRING
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    made = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, number))
    out = helper.make_value_info("y", made)
    weights = [tensor("w", w)]
    weights += [tensor(n, a) for n, a in zip("sbmv", statistics, strict=True)]
    batch = 1 if single else "N"
    return model(nodes, [value("x", [batch, 3])], [out], weights, domains=[ML])


LABELS = [[0, 1, 2, 3], ["cat", "dog", "eel", "fox"]]


@pytest.mark.parametrize("labels", LABELS, ids=["numbers", "words"])
@pytest.mark.parametrize("single", [False, True])
def test_a_classifier_that_ends_in_maps_folds(tmp_path, labels, single):
    path = save(tmp_path / "a.onnx", classifier(labels, single=single))
    report = fold(path, tmp_path / "b.onnx", check=CheckOptions()).report
    assert (report.exit_code, len(report.plan.folded)) == (0, 1)
    for output in report.check.outputs:
        assert output.evidence.dtype == "float32"
        assert output.evidence.shape[1] == 4
        assert output.evidence.verdict_level.max_abs < 1e-6
    assert not any("Classifier" in note for note in report.check.notes)
    assert onnx.load(tmp_path / "b.onnx").graph.node[-1].op_type == "ZipMap"


@pytest.mark.parametrize("labels", LABELS, ids=["numbers", "words"])
def test_maps_that_differ(tmp_path, labels):
    a = save(tmp_path / "a.onnx", classifier(labels))
    wrong = check(a, save(tmp_path / "b.onnx", classifier(labels, factor=1.05)))
    assert wrong.verdict is Verdict.DIFFERENT
    others = [*labels[:2], labels[3], type(labels[0])(9)]
    report = check(a, save(tmp_path / "c.onnx", classifier(others)))
    assert report.verdict is Verdict.DIFFERENT
    assert "did not return it" in report.reasons[0]


def test_a_sequence_of_single_numbers_is_judged_by_the_size_of_all(tmp_path):
    """One that is nearly 0 may be off by what rounding does to the others."""

    def made(order):
        nodes = [
            helper.make_node("Mul", ["x", "big"], ["h"]),
            helper.make_node(*order[0]),
            helper.make_node(*order[1]),
            helper.make_node("SplitToSequence", ["t"], ["y"], axis=0),
        ]
        weights = [
            tensor("big", F([1000, 1])),
            tensor("c", F([-1000, 1])),
            tensor("d", F([0.1, 1])),
        ]
        out = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
        return model(nodes, [value("x", [2])], [out], weights)

    one = made((("Add", ["h", "c"], ["s"]), ("Add", ["s", "d"], ["t"])))
    two = made((("Add", ["h", "d"], ["s"]), ("Add", ["s", "c"], ["t"])))
    paths = [save(tmp_path / f"{n}.onnx", m) for n, m in (("a", one), ("b", two))]
    report = check(*paths, CheckOptions(arbiter=False))
    assert report.verdict is Verdict.EQUIVALENT
    assert {output.name for output in report.outputs} == {"y[0..1]"}
