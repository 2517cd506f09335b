"""The same data for a calibration, a recalibration and a check, by the same rules."""

import json

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.check_models import model, save, value
from support.cli import invoke

from normswap.check.options import CheckOptions
from normswap.errors import DataError
from normswap.inputs.data import load_cases, open_data
from normswap.inputs.signature import read_signature
from normswap.workflows.check import check

X = np.random.default_rng(0).normal(size=(8, 3, 6, 6)).astype(np.float32)


def network():
    b = Builder(17, seed=1)
    x = b.conv(b.input("N", 3, 6, 6), 3, 4, pads=[1, 1, 1, 1])
    x = b.bn(x, 4, positive=True, name="bn", epsilon=1e-5)
    b.output(b.node("Relu", x, out="y"), None)
    return b.model()


def labelled(folder):
    np.savez(folder / "data.npz", x=X, labels=np.full(8, np.nan), ids=np.arange(8))
    return folder / "data.npz", "arrays that are not inputs of the model were ignored: ids, labels"


def by_another_name(folder):
    np.savez(folder / "data.npz", images=X, labels=np.arange(8))
    return folder / "data.npz", "arrays that are not inputs of the model were ignored: labels"


def of_a_wider_type(folder):
    np.save(folder / "data.npy", X.astype(np.float64))
    return folder / "data.npy", None


def a_tensor(folder):
    (folder / "x.pb").write_bytes(numpy_helper.from_array(X).SerializeToString())
    return folder / "x.pb", None


def a_folder_by_name(folder):
    (folder / "data").mkdir()
    np.save(folder / "data" / "x.npy", X)
    np.save(folder / "data" / "labels.npy", np.arange(8))
    return folder / "data", "arrays that are not inputs of the model were ignored: labels"


def nested_test_data(folder):
    for number in range(2):
        place = folder / "data" / "inner" / f"test_data_set_{number}"
        place.mkdir(parents=True)
        for name in ("input_0", "input_1"):
            proto = numpy_helper.from_array(X[4 * number : 4 * number + 4])
            (place / f"{name}.pb").write_bytes(proto.SerializeToString())
    return folder / "data", "arrays that are not inputs of the model were ignored: input_1"


def continuations(folder):
    np.savez(folder / "in.npz", x=X[:4])
    np.savez(folder / "in.1.npz", x=X[4:])
    return folder / "in.npz", None


KINDS = [
    labelled,
    by_another_name,
    of_a_wider_type,
    a_tensor,
    a_folder_by_name,
    nested_test_data,
    continuations,
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_alike(tmp_path, kind):
    path = tmp_path / "model.onnx"
    onnx.save(network(), path)
    data, note = kind(tmp_path)
    signature = read_signature(path)
    dataset = open_data(data, signature)
    cases = load_cases(signature, data)
    for feeds in ([case.feeds["x"] for case in cases], [f["x"] for f in dataset]):
        np.testing.assert_array_equal(np.concatenate(feeds), X)
    assert list(dataset.notes) == ([note] if note else [])
    assert {r for case in cases for r in case.remarks} == ({note} if note else set())


def test_each_command_says_what_it_ignores(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(network(), path)
    data, note = labelled(tmp_path)
    for command in (
        ["bn-to-gn", "--groups", "2", "--calibrate", data, path, "--no-check"],
        ["recalibrate", path, data],
        ["check", path, path, "--load-inputs", data],
    ):
        result = invoke(*command)
        assert result.code == 0, result.err
        assert f"note: {note}" in result.text
    again = invoke("recalibrate", path, data, "--force", "--json")
    assert note in json.loads(again.text)["notes"]


@pytest.mark.parametrize("read", [load_cases, lambda s, d: list(open_data(d, s))])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([{"x": X}, 3], r"batch 2 of the data is of type int"),
        (
            [{"x": X}, {"q": X, "r": X}],
            "batch 2 of the data has no array for the model's input x; .* q, r",
        ),
        ({"x": X[:, :2]}, "but axis 1 must be 3"),
        ({"x": X[:, :, 0]}, "with 3 axes, but 4 are needed"),
        ({"x": X > 0, "y": None}, None),
        ({"x": X.tolist()}, None),
        ({"x": [[1.0], [2.0, 3.0]]}, "it is of type list, but an array is needed"),
        ({"x": X.astype(str)}, "its type is <U32, but float32 is needed"),
        ({"x": X.astype(np.float64) * 1e60}, "beyond the range of float32"),
        ([], "does not fill one batch"),
        ("/nowhere/at/all", "There is no data at"),
    ],
)
def test_feeds_from_python(tmp_path, read, source, message):
    signature = read_signature(save(tmp_path / "m.onnx", network()))
    if message is None:
        assert len(read(signature, source)) == 1
        return
    with pytest.raises(DataError, match=message) as caught:
        read(signature, source)
    assert "\n" not in str(caught.value)


def test_a_check_accepts_what_is_not_finite_and_nobody_else(tmp_path):
    signature = read_signature(save(tmp_path / "m.onnx", network()))
    wild = {"x": np.where(X > 2, np.nan, X).astype(np.float64)}
    (case,) = load_cases(signature, wild)
    assert case.feeds["x"].dtype == np.float32
    assert np.isnan(case.feeds["x"]).any()
    with pytest.raises(DataError, match=r"the data can't be used: x has .* not finite"):
        list(open_data(wild, signature))


def typed(tmp_path, elem_type):
    node = helper.make_node("Identity", ["x"], ["y"])
    made = model([node], [value("x", ["N"], elem_type)], [value("y", None, elem_type)])
    return read_signature(save(tmp_path / "m.onnx", made))


@pytest.mark.parametrize("read", [load_cases, lambda s, d: list(open_data(d, s))])
@pytest.mark.parametrize(
    ("elem_type", "array", "wanted"),
    [
        (TensorProto.INT32, np.array([1, 2]), np.array([1, 2], np.int32)),
        (TensorProto.INT32, np.array([1, 2**31]), "1 value that is beyond the range of int32"),
        (TensorProto.INT64, np.array([1.0]), "float64, but int64"),
        (TensorProto.UINT8, np.array([1]), "int64, but uint8"),
        (TensorProto.FLOAT16, np.array([1.5]), np.array([1.5], np.float16)),
        (TensorProto.FLOAT16, np.array([1e5]), "beyond the range of float16"),
        (TensorProto.FLOAT, np.array([True]), np.array([1], np.float32)),
        (TensorProto.STRING, np.array(["a"]), np.array(["a"], object)),
        (TensorProto.STRING, np.array([b"a"]), np.array(["a"], object)),
        (TensorProto.STRING, np.array([1.0]), "float64, but string"),
        (TensorProto.BFLOAT16, np.array([1.5]), np.array([1.5], ml_dtypes.bfloat16)),
        (TensorProto.BFLOAT16, np.array([0x3FC0], "u2"), np.array([1.5], ml_dtypes.bfloat16)),
    ],
)
def test_types_are_cast_by_one_rule(tmp_path, read, elem_type, array, wanted):
    signature = typed(tmp_path, elem_type)
    if isinstance(wanted, str):
        with pytest.raises(DataError, match=wanted):
            read(signature, {"x": array})
        return
    (found,) = read(signature, {"x": array})
    found = getattr(found, "feeds", found)["x"]
    assert found.dtype == wanted.dtype
    assert found.tolist() == wanted.tolist()


def fixed(tmp_path, **shapes):
    nodes = [helper.make_node("Identity", [name], [f"{name}_y"]) for name in shapes]
    inputs = [value(name, shape) for name, shape in shapes.items()]
    made = model(nodes, inputs, [value(f"{name}_y", None) for name in shapes])
    return read_signature(save(tmp_path / "m.onnx", made))


def test_a_fixed_batch_size_divides_the_samples_of_a_check_too(tmp_path):
    signature = fixed(tmp_path, x=[4, 3], table=[5])
    x, table = np.arange(30, dtype=np.float32).reshape(10, 3), np.zeros(5, np.float32)
    data = {"x": x, "table": table}
    cases = load_cases(signature, data)
    assert [case.name for case in cases] == [
        "data batch 1 from sample 0",
        "data batch 1 from sample 4",
    ]
    dataset = open_data(data, signature)
    for feeds in ([case.feeds for case in cases], list(dataset)):
        np.testing.assert_array_equal(np.concatenate([f["x"] for f in feeds]), x[:8])
        assert all(f["table"].shape == (5,) for f in feeds)
    note = (
        "2 of 10 samples were left out: the model has a fixed batch size of 4, which they don't "
        "fill"
    )
    assert list(dataset.notes) == [note]
    assert cases[0].remarks == (note,)
    with pytest.raises(DataError, match="does not fill one batch: 3 of 3 samples were left out"):
        load_cases(signature, {"x": x[:3], "table": table})
    with pytest.raises(DataError, match="but axis 0 must be 5"):
        load_cases(signature, {"x": x, "table": table[:4]})


def test_what_is_no_sample_goes_with_every_batch(tmp_path):
    signature = fixed(tmp_path, x=["N", 3], table=[5])
    x, table = np.arange(30, dtype=np.float32).reshape(10, 3), np.zeros(5, np.float32)
    found = list(open_data({"x": x, "table": table}, signature, batch=4))
    assert [(len(f["x"]), len(f["table"])) for f in found] == [(4, 5), (4, 5), (2, 5)]
    (found,) = open_data({"x": x, "table": table}, signature, samples=5)
    assert (len(found["x"]), len(found["table"])) == (5, 5)


def test_tensors_of_test_data_go_by_the_names_that_they_have(tmp_path):
    signature = fixed(tmp_path, a=["N"], b=["N"])
    for order in (("b", "a"), ("", "")):
        for index, name in enumerate(order):
            proto = numpy_helper.from_array(np.full(2, index, np.float32), name)
            (tmp_path / f"input_{index}.pb").write_bytes(proto.SerializeToString())
        (case,) = load_cases(signature, tmp_path)
        assert case.feeds["a"][0] == (1 if order[0] else 0)


def test_sets_of_inputs_and_of_outputs_have_one_order(tmp_path):
    from normswap.inputs.data import load_outputs

    signature = fixed(tmp_path, x=["N"])
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    for number in range(12):
        one = np.full(1, number, np.float32)
        np.savez(tmp_path / "in" / f"{number}.npz", x=one)
        np.savez(tmp_path / "out" / f"{number}.npz", x_y=one)
    cases = load_cases(signature, tmp_path / "in")
    outputs = load_outputs(signature, tmp_path / "out")
    assert [case.feeds["x"][0] for case in cases] == list(range(12))
    assert [values["x_y"][0] for values in outputs] == list(range(12))


def test_a_check_takes_feeds_of_a_program(tmp_path):
    path = save(tmp_path / "m.onnx", network())
    feeds = ({"x": X[:2], "labels": np.arange(2)} for _ in range(2))
    report = check(path, path, CheckOptions(data=feeds))
    assert report.exit_code == 0
    assert [case.name for case in report.cases] == ["data batch 1", "data batch 2"]
    assert any("ignored: labels" in note for note in report.notes)


@pytest.mark.parametrize("size", [1, 3, 4, 9, 10, 11, 25])
def test_weights_count_every_sample_once(tmp_path, size):
    signature = fixed(tmp_path, x=[size, 3], table=[5])
    x, table = np.random.default_rng(0).normal(size=(10, 3)), np.zeros(5, np.float32)
    found = list(open_data({"x": x, "table": table}, signature).cases(filled=True))
    assert all(case.feeds["x"].shape == (size, 3) for case in found)
    assert all(case.feeds["table"].shape == (5,) for case in found)
    assert {(case.sampled, case.samples) for case in found} == {(("x",), size)}
    total = sum(case.weight * case.feeds["x"].sum(axis=0, dtype=np.float64) for case in found)
    np.testing.assert_allclose(total, x.sum(axis=0), rtol=1e-5)
    assert sum(case.weight * case.samples for case in found) == pytest.approx(10)
    assert len(found) <= 10 // size + 2


def test_what_fills_a_batch_anyway_has_no_weight(tmp_path):
    signature = fixed(tmp_path, x=["N", 3])
    dataset = open_data({"x": np.zeros((10, 3), np.float32)}, signature, batch=4)
    found = [(case.samples, case.weight) for case in dataset.cases(filled=True)]
    assert found == [(4, 1.0), (4, 1.0), (2, 1.0)]
    assert not dataset.notes
