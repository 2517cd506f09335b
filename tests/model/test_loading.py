import io
import os
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.small_models import array, graph_of, initializer, model_of, value

from normswap.errors import ExitCode, ModelError
from normswap.model import load, source_of
from normswap.model.loading import data_files


def small_model(**fields):
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return model_of(graph_of([node], initializers=[initializer("w", 4)]), **fields)


def large_model():
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return model_of(graph_of([node], initializers=[initializer("w", 5000, 4)]))


def save(folder, model=None, name="model.onnx"):
    path = folder / name
    path.write_bytes((model or small_model()).SerializeToString())
    return path


def weight(model):
    return source_of(model.graph.nodes[0].inputs[1]).load()


def refusal(source, **options):
    with pytest.raises(ModelError) as caught:
        load(source, **options)
    error = caught.value
    assert error.exit_code == ExitCode.MODEL
    lines = [*str(error).splitlines(), *(error.tip or "").splitlines()]
    assert len(lines) <= 3
    return str(error)


@pytest.mark.parametrize("make", [small_model, large_model])
def test_from_a_path(tmp_path, make):
    path = save(tmp_path, make())
    for source in (path, str(path)):
        model = load(source)
        assert (model.name, model.path) == ("model.onnx", path)
        assert np.array_equal(weight(model), numpy_helper.to_array(make().graph.initializer[0]))
        assert model.size == path.stat().st_size


@pytest.mark.parametrize("make", [small_model, large_model])
def test_from_bytes_and_streams(make):
    data = make().SerializeToString()
    expected = numpy_helper.to_array(make().graph.initializer[0])
    for source, name in [(data, "<bytes>"), (bytearray(data), "<bytes>")]:
        assert load(source).name == name
        assert np.array_equal(weight(load(source)), expected)
    model = load(io.BytesIO(data))
    assert (model.name, model.path, model.size) == ("<stdin>", None, len(data))
    assert np.array_equal(weight(model), expected)
    assert load(io.BytesIO(data), name="given").name == "given"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_from_a_named_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(large_model().SerializeToString(),))
    writer.start()
    model = load(path)
    writer.join()
    assert (model.name, model.path) == ("pipe", None)
    assert weight(model).shape == (5000, 4)


def test_what_a_model_says_about_itself():
    graph = small_model().graph
    graph.input.append(value("w", 4))
    model = load(model_of(graph, ir_version=9).SerializeToString())
    assert (model.ir_version, model.opset, model.overridable) == (9, 20, {"w"})
    assert not model.has_external_data


def test_the_highest_opset_of_the_default_domain_counts():
    opsets = [helper.make_opsetid("ai.onnx", 13), helper.make_opsetid("", 12)]
    assert load(small_model(opsets=opsets).SerializeToString()).opset == 13


def test_the_default_domain_may_be_absent_where_nobody_uses_it():
    node = helper.make_node("F", ["x"], ["y"], domain="d")
    model = model_of(graph_of([node]), opsets=[helper.make_opsetid("d", 1)])
    assert load(model.SerializeToString()).opset == 0


def test_the_fingerprint_is_of_the_structure(tmp_path):
    one = load(save(tmp_path)).fingerprint()
    assert one == load(small_model().SerializeToString()).fingerprint()
    other = small_model()
    other.graph.node[0].op_type = "Mul"
    assert one != load(other.SerializeToString()).fingerprint()


def test_the_original_as_a_file(tmp_path):
    path = save(tmp_path)
    with load(path).original() as original:
        assert original == path
    with load(path.read_bytes()).original() as original:
        assert original.read_bytes() == path.read_bytes()
    assert not original.exists()


def test_loading_does_not_read_weights(tmp_path):
    path = save(tmp_path, large_model())
    model = load(path)
    data = bytearray(path.read_bytes())
    status = path.stat()
    position = data.index(array("w", 5000, 4).tobytes())
    data[position : position + 4] = np.float32(7).tobytes()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert weight(model)[0, 0] == 7


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path):
    path = save(tmp_path, large_model())
    model = load(path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelError, match="changed by another program"):
        weight(model)
    path.unlink()
    with pytest.raises(ModelError, match="can no longer be read"):
        weight(model)


# Refusals


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is text\n" * 50, "is a text file"),
        ("größer".encode() * 100, "is a text file"),
        (b"{}", "is a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x18\x00\x00\x00ORTM" + bytes(60), "onnxruntime's own format"),
        (b"\xff\xfe\xfd\xfc\xfb\xfa", "truncated, damaged, or not an ONNX model"),
        (bytes(1000), "truncated, damaged, or not an ONNX model"),
        (onnx.ModelProto(ir_version=8).SerializeToString() + b"\xb2\x01\x00", "has no graph"),
    ],
)
def test_what_is_no_model(tmp_path, data, message):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for source in (path, data):
        assert message in refusal(source)


@pytest.mark.parametrize("kept", [1, 20, 10_000, 80_000])
def test_a_truncated_model(tmp_path, kept):
    path = tmp_path / "cut.onnx"
    path.write_bytes(large_model().SerializeToString()[:kept])
    assert refusal(path).startswith("cut.onnx is truncated")


def test_a_folder_and_a_missing_file(tmp_path):
    assert "is a folder" in refusal(tmp_path)
    assert "doesn't exist" in refusal(tmp_path / "none.onnx")
    assert "can't be read" in refusal("a\0b")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = save(tmp_path)

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("normswap.model.loading.FileStorage", deny)
    assert refusal(path) == f"{path} can't be read: Permission denied."
    monkeypatch.setattr("pathlib.Path.stat", deny)
    assert "Permission denied" in refusal(path)


def test_models_from_the_future():
    newer = onnx.defs.onnx_opset_version() + 1
    model = small_model(opsets=[helper.make_opsetid("", newer)])
    assert f"uses opset {newer}" in refusal(model.SerializeToString())
    model = small_model()
    model.ir_version = onnx.IR_VERSION + 1
    assert f"IR version {onnx.IR_VERSION + 1}" in refusal(model.SerializeToString())
    body = [helper.make_node("Neg", ["p"], ["q"])]
    function = helper.make_function("d", "F", ["p"], ["q"], body, [helper.make_opsetid("", newer)])
    model = small_model(functions=[function])
    assert f"uses opset {newer}" in refusal(model.SerializeToString())


@pytest.mark.parametrize("version", [0, -1])
def test_versions_that_do_not_exist(version):
    model = small_model(opsets=[helper.make_opsetid("", version)])
    assert "doesn't exist" in refusal(model.SerializeToString())
    model = small_model()
    model.ir_version = version
    assert "no IR version" in refusal(model.SerializeToString())


def test_standard_operators_without_an_opset():
    model = small_model(opsets=[helper.make_opsetid("d", 1)])
    assert "which opset" in refusal(model.SerializeToString())


@pytest.mark.parametrize(
    "damage",
    [
        lambda model: model.graph.node[0].MergeFromString(b"\x0a\x01\xff"),
        lambda model: model.graph.node[0].MergeFromString(b"\x22\x01\xff"),
        lambda model: model.graph.initializer[0].MergeFromString(b"\x42\x01\xff"),
        lambda model: model.graph.node[0].attribute.add().MergeFromString(b"\x0a\x01\xff"),
    ],
)
def test_names_that_are_no_text(damage):
    model = small_model()
    damage(model)
    assert "is damaged" in refusal(model.SerializeToString())


# External data


def external(folder, entries, *, name="w", data_type=TensorProto.FLOAT, dims=(4,), nbytes=16):
    (folder / "w.bin").write_bytes(bytes(range(nbytes)))
    tensor = TensorProto(name=name, data_type=data_type, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    node = helper.make_node("Add", ["x", name], ["y"])
    return save(folder, model_of(graph_of([node], initializers=[tensor])))


@pytest.mark.parametrize(
    ("entries", "first"),
    [
        ({"location": "w.bin"}, 0),
        ({"location": "w.bin", "offset": "8"}, 8),
        ({"offset": "8", "length": "16", "location": "w.bin"}, 8),
        ({"location": "./w.bin", "offset": "0", "length": "16", "checksum": "?"}, 0),
    ],
)
def test_external_data(tmp_path, entries, first):
    model = load(external(tmp_path, entries, nbytes=24))
    expected = np.frombuffer(bytes(range(first, first + 16)), np.float32)
    assert np.array_equal(weight(model), expected)
    assert model.has_external_data
    assert model.size == model.path.stat().st_size + 16


def test_external_data_in_a_folder_below(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w").write_bytes(bytes(16))
    assert np.array_equal(weight(load(external(tmp_path, {"location": "data/w"}))), np.zeros(4))


def test_external_data_of_strings_is_a_clear_error(tmp_path):
    path = external(tmp_path, {"location": "w.bin"}, data_type=TensorProto.STRING)
    with pytest.raises(ModelError, match="don't fit"):
        weight(load(path))


def test_external_data_through_links_of_a_content_addressed_cache(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    path = external(blobs, {"location": "w.bin"})
    (blobs / "w.bin").rename(blobs / "abc")
    path.rename(blobs / "def")
    (snapshot / "w.bin").symlink_to(blobs / "abc")
    (snapshot / "model.onnx").symlink_to(blobs / "def")
    assert weight(load(snapshot / "model.onnx")).shape == (4,)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "gone.bin"}, "doesn't exist"),
        ({"location": "w.bin", "offset": "4"}, "has only 16 bytes"),
        ({"location": "w.bin", "length": "99"}, "has only 16 bytes"),
        ({"location": "w.bin", "offset": "-4"}, "invalid offset or length"),
        ({"location": "w.bin", "offset": "four"}, "invalid offset or length"),
        ({"location": "w.bin", "length": "-4"}, "invalid offset or length"),
        ({"location": "../w.bin"}, "outside"),
        ({"location": "below/../w.bin"}, "outside"),
        ({"location": "/etc/passwd"}, "outside"),
        ({"location": "link"}, "outside"),
        ({"location": ""}, "has no file name"),
        ({"location": "a\0b"}, "can't be read"),
        ({"location": "."}, "doesn't exist"),
    ],
)
def test_external_data_that_is_not_there(tmp_path, entries, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (folder / "link").symlink_to(tmp_path / "w.bin")
    assert message in refusal(external(folder, entries))


def test_external_data_needs_a_path(tmp_path):
    data = external(tmp_path, {"location": "w.bin"}).read_bytes()
    assert "its folder is unknown" in refusal(data)


def test_the_data_files_of_a_model(tmp_path):
    assert data_files(external(tmp_path, {"location": "w.bin"})) == {"w.bin"}
    assert data_files(save(tmp_path)) == set()
    assert data_files(tmp_path / "none") == set()
    (tmp_path / "text.onnx").write_text("not a model")
    assert data_files(tmp_path / "text.onnx") == set()
