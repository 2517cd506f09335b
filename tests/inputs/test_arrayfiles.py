"""Files of data that are empty, cut off, damaged or of another kind: one error that names them."""

import io
import zipfile

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.check_models import one_node, save
from support.cli import invoke

from normswap.errors import DataError
from normswap.inputs.arrayfiles import read_npy, read_npz, read_proto
from normswap.inputs.data import open_data

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(array=X):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def archive(name, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr(name, content)
    return stream.getvalue()


def damaged(content):
    middle = len(content) // 2
    return content[:middle] + bytes(255 - b for b in content[middle : middle + 8]) + content[-8:]


HUGE = npy().replace(b"(3, 4)", b"(3000000000000, 4)", 1)
OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([{}, []], dtype=object), allow_pickle=True)

FILES = {
    "empty.npz": b"",
    "empty.npy": b"",
    "empty.pb": b"",
    "cut.npz": npz(x=X)[:40],
    "cut.npy": npy()[:100],
    "head-only.npy": npy()[:6],
    "cut.pb": numpy_helper.from_array(X).SerializeToString()[:20],
    "damaged.npz": damaged(npz(x=np.arange(999))),
    "text.npz": b"x, y\n1, 2\n",
    "text.npy": b"x, y\n1, 2\n",
    "text.pb": b"x, y\n1, 2\n",
    "array.npz": npy(),
    "archive.npy": npz(x=X),
    "no-array.npz": archive("x.txt", b"hello"),
    "empty-member.npz": archive("x.npy", b""),
    "huge.npy": HUGE,
    "objects.npy": OBJECTS.getvalue(),
}


@pytest.mark.parametrize("name", FILES)
def test_what_cannot_be_read_is_one_error_that_names_the_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    read = {".npz": read_npz, ".npy": read_npy, ".pb": read_proto}[path.suffix]
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert ("is empty" in message) == name.startswith("empty.")


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".pb")])
def test_calibration_data_that_cannot_be_read(tmp_path, name):
    from normswap.inputs.signature import read_signature

    path = tmp_path / name
    path.write_bytes(FILES[name])
    signature = read_signature(save(tmp_path / "m.onnx", one_node("Relu")))
    if name == "archive.npy":  # what it is, is told by its content
        assert next(iter(open_data(path, signature)))["x"].shape == (3, 4)
        return
    with pytest.raises(DataError, match=r"is empty|can't be read"):
        list(open_data(path, signature))


@pytest.mark.parametrize("name", FILES)
def test_a_check_on_such_data_ends_with_3_and_one_line(tmp_path, name):
    save(tmp_path / "m.onnx", one_node("Relu"))
    (tmp_path / name).write_bytes(FILES[name])
    result = invoke(
        "check", tmp_path / "m.onnx", tmp_path / "m.onnx", "--load-inputs", tmp_path / name
    )
    if name == "archive.npy":  # the same as for a calibration
        assert result.code == 0, result.err
        return
    assert result.code == 3, result.err
    assert name in result.err
    assert "interrupted" not in result.err


def test_a_folder_is_no_array_file(tmp_path):
    with pytest.raises(DataError, match="can't be read"):
        read_npy(tmp_path)


def test_a_file_that_ends_too_early_is_no_interrupt(monkeypatch, tmp_path):
    path = save(tmp_path / "m.onnx", one_node("Relu"))

    def broken(*_args, **_options):
        raise EOFError("no data left")

    monkeypatch.setattr("normswap.workflows.check.check", broken)
    result = invoke("check", path, path)
    assert result.code == 4
    assert "no data left" in result.err
    assert "interrupted" not in result.err
    assert onnx.load(path).graph.node
