import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.check_models import model, one_node, save, value

from normswap.errors import DataError
from normswap.inputs.archives import save_sets, save_values
from normswap.inputs.data import load_cases, load_outputs
from normswap.inputs.signature import read_signature

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def relu(tmp_path, elem_type=TensorProto.FLOAT):
    node = helper.make_node("Relu", ["x"], ["y"])
    made = model([node], [value("x", ["N", 4], elem_type)], [value("y", None, elem_type)])
    return read_signature(save(tmp_path / "m.onnx", made))


def two(tmp_path):
    node = helper.make_node("Add", ["a", "b"], ["y"])
    made = model([node], [value("a", ["N", 4]), value("b", ["N", 4])], [value("y", None)])
    return read_signature(save(tmp_path / "m2.onnx", made))


def test_each_kind_of_file(tmp_path):
    signature = relu(tmp_path)
    np.save(tmp_path / "one.npy", X)
    np.savez(tmp_path / "named.npz", x=X)
    (tmp_path / "t.pb").write_bytes(numpy_helper.from_array(X).SerializeToString())
    for name in ("one.npy", "named.npz", "t.pb"):
        (case,) = load_cases(signature, tmp_path / name)
        np.testing.assert_array_equal(case.feeds["x"], X)


def test_onnx_test_data_sets_bring_their_outputs(tmp_path):
    signature = two(tmp_path)
    for number in range(2):
        folder = tmp_path / "data" / f"test_data_set_{number}"
        folder.mkdir(parents=True)
        for name, array in (("input_0", X), ("input_1", X + number), ("output_0", 2 * X + number)):
            proto = numpy_helper.from_array(array)
            (folder / f"{name}.pb").write_bytes(proto.SerializeToString())
    first, second = load_cases(signature, tmp_path / "data")
    np.testing.assert_array_equal(second.feeds["b"], X + 1)
    np.testing.assert_array_equal(first.expected["y"], 2 * X)


def test_folders_of_arrays_and_of_sets(tmp_path):
    signature = two(tmp_path)
    by_name, sets = tmp_path / "by_name", tmp_path / "sets"
    by_name.mkdir()
    sets.mkdir()
    np.save(by_name / "a.npy", X)
    np.save(by_name / "b.npy", X)
    assert len(load_cases(signature, by_name)) == 1
    for number in range(3):
        np.savez(sets / f"{number}.npz", a=X + number, b=X)
    cases = load_cases(signature, sets)
    assert [c.feeds["a"][0, 0] for c in cases] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"a": X}, r"d\.npz has no array for the model's input b; it has a"),
        ({"a": X, "c": X}, "no array for the model's input b; it has a, c"),
        ({"a": X.astype(np.complex64), "b": X}, "complex64, but float32 is needed"),
        (
            {"a": X.astype(str), "b": X},
            "input a of the model: its type is <U32, but float32 is needed",
        ),
        ({"a": X.astype(np.float64) * 1e39, "b": X}, "d.npz can't be used: a has 7 values"),
        ({"a": X[:, :3], "b": X}, "shape"),
        ({"a": X[0], "b": X}, "shape"),
    ],
)
def test_data_that_does_not_fit(tmp_path, arrays, word):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=word):
        load_cases(two(tmp_path), tmp_path / "d.npz")


@pytest.mark.parametrize("name", ["bad.npz", "bad.npy", "bad.pb", "bad.txt", "absent.npz"])
def test_files_that_cannot_be_read(tmp_path, name):
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"\x08\xff\xff nonsense")
    with pytest.raises(DataError, match=name):
        load_cases(relu(tmp_path), tmp_path / name)


def test_an_empty_folder_and_an_array_for_two_inputs(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data"):
        load_cases(relu(tmp_path), tmp_path / "empty")
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(DataError, match="2 inputs"):
        load_cases(two(tmp_path), tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("elem_type", "array"),
    [
        (TensorProto.BFLOAT16, X.astype(ml_dtypes.bfloat16)),
        (TensorProto.FLOAT16, X.astype(np.float16)),
        (TensorProto.STRING, np.array([["a", "Ω", "", "d"]], object)),
        (TensorProto.BOOL, X > 3),
    ],
)
def test_saved_sets_come_back_as_they_were(tmp_path, elem_type, array):
    signature = relu(tmp_path, elem_type)
    files = save_sets(tmp_path / "in.npz", [{"x": array}, {"x": array[:1]}])
    assert [f.name for f in files] == ["in.npz", "in.1.npz"]
    first, second = load_cases(signature, tmp_path / "in.npz")
    assert first.feeds["x"].dtype == array.dtype
    np.testing.assert_array_equal(first.feeds["x"], array)
    np.testing.assert_array_equal(second.feeds["x"], array[:1])


def test_a_tensor_may_be_called_file_and_a_sequence_is_saved_in_parts(tmp_path):
    save_values(tmp_path / "o.npz", {"file": X, "s": [X, X + 1]})
    with np.load(tmp_path / "o.npz") as archive:
        assert set(archive.files) == {"file", "s[0]", "s[1]"}
    info = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    node = helper.make_node("SequenceAt", ["s", "file"], ["y"])
    made = model([node], [info, value("file", ["N", 4])], [value("y", None)])
    (case,) = load_cases(read_signature(save(tmp_path / "s.onnx", made)), tmp_path / "o.npz")
    assert [a[0, 0] for a in case.feeds["s"]] == [0, 1]


def test_golden_outputs(tmp_path):
    signature = relu(tmp_path)
    for arrays, word in (
        ({"z": X}, "the model has no output 'z'"),  # one that the model has lost
        ({}, "output 'y' is missing"),
        ({"y": X.astype(np.float64)}, "float64, but float32 is needed"),
    ):
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(DataError, match=rf"bad\.npz.*{word}"):
            load_outputs(signature, tmp_path / "bad.npz")
    save_sets(tmp_path / "out.npz", [{"y": X}, {"y": X + 1}])
    assert [o["y"][0, 0] for o in load_outputs(signature, tmp_path / "out.npz")] == [0, 1]
    with pytest.raises(DataError, match="no saved outputs"):
        load_outputs(signature, tmp_path / "none.npz")


def test_the_data_of_an_optional(tmp_path):
    inner = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 4])
    info = helper.make_value_info("x", helper.make_optional_type_proto(inner))
    node = helper.make_node("OptionalGetElement", ["x"], ["y"])
    made = model([node], [info], [value("y", None)], opset=18)
    signature = read_signature(save(tmp_path / "o.onnx", made))
    proto = onnx.numpy_helper.from_optional(X)
    (tmp_path / "x.pb").write_bytes(proto.SerializeToString())
    (case,) = load_cases(signature, tmp_path / "x.pb")
    np.testing.assert_array_equal(case.feeds["x"], X)
    assert one_node("Relu").graph.input[0].name == "x"
