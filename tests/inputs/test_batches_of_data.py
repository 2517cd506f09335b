"""Reading the user's data."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from normswap.errors import DataError, UsageError
from normswap.inputs.data import open_data
from normswap.inputs.signature import read_signature


@pytest.fixture
def signature(tmp_path):
    def make(**inputs):
        ports = [
            helper.make_tensor_value_info(name, dtype, shape)
            for name, (dtype, shape) in (inputs or {"x": (TensorProto.FLOAT, ["N", 3])}).items()
        ]
        graph = helper.make_graph(
            [helper.make_node("Identity", [ports[0].name], ["y"])],
            "g",
            ports,
            [helper.make_tensor_value_info("y", ports[0].type.tensor_type.elem_type, None)],
        )
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
        return read_signature(path)

    return make


X = np.arange(30, dtype=np.float32).reshape(10, 3)


def gathered(dataset):
    return np.concatenate([feeds["x"] for feeds in dataset])


@pytest.mark.parametrize(
    ("arrays", "why"),
    [({"x": X}, "its name"), ({"images": X, "labels": np.arange(10)}, "the only one that fits")],
)
def test_npz(tmp_path, signature, arrays, why):
    np.savez(tmp_path / "data.npz", **arrays)
    dataset = open_data(tmp_path / "data.npz", signature(), batch=4)
    assert [len(feeds["x"]) for feeds in dataset] == [4, 4, 2]
    assert (gathered(dataset) == X).all(), why
    assert (gathered(dataset) == X).all()  # and once more


def test_npy_and_types(tmp_path, signature):
    np.save(tmp_path / "data.npy", X.astype(np.float64))
    (feeds,) = open_data(tmp_path / "data.npy", signature())
    assert feeds["x"].dtype == np.float32


def test_a_folder_is_read_in_natural_order(tmp_path, signature):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in (10, 9, 1):
        np.save(folder / f"part{number}.npy", np.full((2, 3), number, np.float32))
    assert gathered(open_data(folder, signature()))[:, 0].tolist() == [1, 1, 9, 9, 10, 10]


def test_onnx_test_data_sets(tmp_path, signature):
    for number in range(2):
        folder = tmp_path / "data" / f"test_data_set_{number}"
        folder.mkdir(parents=True)
        tensor = numpy_helper.from_array(X[number : number + 1], "x")
        (folder / "input_0.pb").write_bytes(tensor.SerializeToString())
    assert (gathered(open_data(tmp_path / "data", signature())) == X[:2]).all()
    assert (gathered(open_data(tmp_path / "data" / "test_data_set_1", signature())) == X[1]).all()


def test_a_fixed_batch_size_gets_whole_batches(tmp_path, signature):
    np.savez(tmp_path / "data.npz", x=X)
    dataset = open_data(tmp_path / "data.npz", signature(x=(TensorProto.FLOAT, [4, 3])))
    assert [len(feeds["x"]) for feeds in dataset] == [4, 4]


def test_the_first_samples_only(tmp_path, signature):
    np.savez(tmp_path / "data.npz", x=X)
    assert len(gathered(open_data(tmp_path / "data.npz", signature(), batch=4, samples=6))) == 6


def test_iterables_and_generators(signature):
    feeds = [{"x": X[:5]}, {"x": X[5:]}]
    for source in (feeds, (entry for entry in feeds)):
        dataset = open_data(source, signature())
        assert (gathered(dataset) == X).all()
        assert (gathered(dataset) == X).all()


def test_several_inputs_are_batched_together(tmp_path, signature):
    both = signature(x=(TensorProto.FLOAT, ["N", 3]), k=(TensorProto.INT64, ["N"]))
    np.savez(tmp_path / "data.npz", x=X, k=np.arange(10))
    for feeds in open_data(tmp_path / "data.npz", both, batch=3):
        assert (feeds["x"][:, 0] / 3 == feeds["k"]).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X, "b": X}, "no array for the model's input x"),
        ({"x": X[:, :2]}, "but axis 1 must be 3"),
        ({"x": X[0]}, "with 1 axes"),
        ({"x": X.astype(complex)}, "its type is complex128"),
        ({"x": X[:0]}, "does not fill one batch"),
    ],
)
def test_data_that_does_not_fit(tmp_path, signature, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=message):
        list(open_data(tmp_path / "data.npz", signature()))


def test_no_data(tmp_path, signature):
    with pytest.raises(DataError, match="There is no data at"):
        open_data(tmp_path / "nothing", signature())
    with pytest.raises(UsageError, match="path of the data is empty"):  # no folder is meant by it
        open_data("", signature())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"contains no \.npz"):
        open_data(tmp_path / "empty", signature())
    (tmp_path / "data.npz").write_text("not a zip")
    with pytest.raises(DataError, match="can't be read"):
        list(open_data(tmp_path / "data.npz", signature()))
    with pytest.raises(DataError, match="does not fill one batch"):
        list(open_data([], signature()))
