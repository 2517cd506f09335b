import errno
import io
import os
import stat

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.small_models import array, graph_of, initializer, model_of, value

from normswap.errors import ModelError, UsageError
from normswap.model import ArrayTensor, assembly, load, make_constant, stage, write_to


def save(folder, *, external=False, name="model.onnx", data="model.onnx.data", seed=0):
    """Save a model with a large weight `w` (read twice), a small one, and a Constant node."""
    nodes = [
        helper.make_node("Constant", [], ["k"], value=initializer("", 5000)),
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "k"], ["n"]),
        helper.make_node("Add", ["n", "b"], ["y"]),
    ]
    weight = numpy_helper.from_array(array("w", 30, 5000, seed=seed), "w")
    graph = graph_of(
        nodes,
        inputs=[value("x", "N", 30)],
        outputs=[value("y", "N", 5000)],
        initializers=[weight, initializer("b", 5000)],
    )
    path = folder / name
    onnx.save(
        model_of(graph),
        path,
        save_as_external_data=external,
        location=data if external else None,
        size_threshold=1024,
        convert_attribute=True,
    )
    return path


def values(path):
    """Return all tensors of the model at a path, by name."""
    model = onnx.load(path)
    constants = {"k": numpy_helper.to_array(model.graph.node[0].attribute[0].t)}
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer} | constants


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def locations(path):
    model = onnx.load(path, load_external_data=False)
    return {
        tensor.name: {item.key: item.value for item in tensor.external_data}
        for tensor in [*model.graph.initializer, model.graph.node[0].attribute[0].t]
        if tensor.external_data
    }


def listing(folder):
    return sorted(item.name for item in folder.iterdir())


def replace_weight(model, name="folded"):
    model.graph.nodes[1].inputs[1] = make_constant(name, ArrayTensor(array(name, 30, 5000)))


posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions and pipes")


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_nothing_happens_without_a_commit(tmp_path, out):
    path = save(tmp_path)
    with stage(load(path), out / "new.onnx") as staged:
        assert staged.path.parent == out
        assert not (out / "new.onnx").exists()
        assert same(values(staged.path), values(path))
        assert staged.size == path.stat().st_size
    assert listing(out) == []


def test_a_commit_moves_the_model_in_place(tmp_path, out):
    path = save(tmp_path)
    with stage(load(path), str(out / "new.onnx")) as staged:
        staged.commit()
    assert listing(out) == ["new.onnx"]
    assert (out / "new.onnx").read_bytes() == path.read_bytes()


def test_an_error_while_staged_leaves_nothing(tmp_path, out):
    for external in (False, True):
        path = save(tmp_path, external=external)
        with pytest.raises(KeyboardInterrupt), stage(load(path), out / "new.onnx"):
            raise KeyboardInterrupt
        assert listing(out) == []


def test_external_data_goes_beside_the_target(tmp_path, out):
    path = save(tmp_path, external=True)
    model = load(path)
    replace_weight(model)
    with stage(model, out / "new.onnx") as staged:
        assert np.array_equal(values(staged.path)["folded"], array("folded", 30, 5000))
        assert staged.size == sum(item.stat().st_size for item in out.iterdir())
        staged.commit()
    assert listing(out) == ["new.onnx", "new.onnx.data"]
    after = locations(out / "new.onnx")
    assert {entry["location"] for entry in after.values()} == {"new.onnx.data"}
    assert after.keys() == {"folded", "b", ""}
    assert all(int(entry["offset"]) % 64 == 0 for entry in after.values())
    assert int(after["folded"]["offset"]) % 4096 == 0
    onnx.checker.check_model(out / "new.onnx", full_check=True)


def test_unedited_external_data_is_the_same(tmp_path, out):
    path = save(tmp_path, external=True)
    with stage(load(path), out / "new.onnx") as staged:
        staged.commit()
    assert same(values(out / "new.onnx"), values(path))
    assert onnx.load(out / "new.onnx") == onnx.load(path)


def test_shared_external_data_stays_shared(tmp_path, out):
    path = save(tmp_path, external=True)
    proto = onnx.load(path, load_external_data=False)
    twin = proto.graph.initializer.add()
    twin.CopyFrom(proto.graph.initializer[0])
    twin.name = "twin"
    path.write_bytes(proto.SerializeToString())
    with stage(load(path), out / "new.onnx") as staged:
        staged.commit()
    after = locations(out / "new.onnx")
    assert after["w"] == after["twin"]


def test_small_new_constants_stay_in_the_model_file(tmp_path, out):
    model = load(save(tmp_path, external=True))
    model.graph.nodes[3].inputs[1] = make_constant("small", ArrayTensor(np.ones(1, np.float32)))
    with stage(model, out / "new.onnx") as staged:
        staged.commit()
    assert "small" not in locations(out / "new.onnx")


def test_in_place(tmp_path):
    path = save(tmp_path)
    model = load(path)
    replace_weight(model)
    before = path.read_bytes()
    with stage(model, path, overwrite=True) as staged:
        assert path.read_bytes() == before
        staged.commit()
    assert listing(tmp_path) == ["model.onnx"]
    assert np.array_equal(values(path)["folded"], array("folded", 30, 5000))


def test_in_place_with_external_data(tmp_path):
    path = save(tmp_path, external=True)
    expected = values(path)
    for name in ("model.onnx.1.data", "model.onnx.data", "model.onnx.1.data"):
        with stage(load(path), path, overwrite=True) as staged:
            staged.commit()
        assert listing(tmp_path) == ["model.onnx", name]
        assert same(values(path), expected)


def test_in_place_without_a_commit(tmp_path):
    path = save(tmp_path, external=True)
    before = {item.name: item.read_bytes() for item in tmp_path.iterdir()}
    with stage(load(path), path, overwrite=True):
        pass
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before


def test_data_that_is_not_the_targets_own_stays(tmp_path):
    path = save(tmp_path, external=True, data="weights.bin")
    with stage(load(path), path, overwrite=True) as staged:
        staged.commit()
    assert listing(tmp_path) == ["model.onnx", "model.onnx.data", "weights.bin"]


def test_data_that_another_model_uses_stays(tmp_path):
    path = save(tmp_path, external=True)
    (tmp_path / "copy.onnx").write_bytes(path.read_bytes())
    expected = values(path)
    with stage(load(path), path, overwrite=True) as staged:
        staged.commit()
    assert listing(tmp_path) == ["copy.onnx", "model.onnx", "model.onnx.1.data", "model.onnx.data"]
    assert same(values(tmp_path / "copy.onnx"), expected)


@pytest.mark.parametrize("written", ["./model.onnx.data", "below/../model.onnx.data"])
def test_data_that_another_model_uses_by_another_path_stays(tmp_path, written):
    path = save(tmp_path, external=True)
    other = onnx.load(path, load_external_data=False)
    for tensor in other.graph.initializer:
        tensor.external_data[0].value = written
    (tmp_path / "other.onnx").write_bytes(other.SerializeToString())
    (tmp_path / "text.onnx").write_text("no model")
    with stage(load(path), path, overwrite=True) as staged:
        staged.commit()
    assert "model.onnx.data" in listing(tmp_path)


def test_data_in_a_folder_below_stays(tmp_path):
    path = save(tmp_path, external=True)
    (tmp_path / "below").mkdir()
    (tmp_path / "model.onnx.data").rename(tmp_path / "below" / "model.onnx.data")
    proto = onnx.load(path, load_external_data=False)
    for tensor in [*proto.graph.initializer, proto.graph.node[0].attribute[0].t]:
        tensor.external_data[0].value = "below/model.onnx.data"
    path.write_bytes(proto.SerializeToString())
    expected = values(path)
    with stage(load(path), path, overwrite=True) as staged:
        staged.commit()
    assert same(values(path), expected)
    assert listing(tmp_path) == ["below", "model.onnx", "model.onnx.data"]
    assert listing(tmp_path / "below") == ["model.onnx.data"]


def test_data_of_a_replaced_model_goes(tmp_path, out):
    old = save(out, external=True, name="target.onnx", data="target.onnx.data", seed=1)
    path = save(tmp_path)
    with stage(load(path), old, overwrite=True) as staged:
        staged.commit()
    assert listing(out) == ["target.onnx"]
    assert same(values(old), values(path))


def test_a_data_file_that_nobody_names_is_not_touched(tmp_path, out):
    (out / "new.onnx.data").write_bytes(b"precious")
    path = save(tmp_path, external=True)
    with stage(load(path), out / "new.onnx") as staged:
        staged.commit()
    assert listing(out) == ["new.onnx", "new.onnx.1.data", "new.onnx.data"]
    assert (out / "new.onnx.data").read_bytes() == b"precious"


def test_a_data_file_that_appears_meanwhile_is_not_touched(tmp_path, out, monkeypatch):
    real = assembly.assemble

    def assemble(model, location, **how):
        if location == "new.onnx.data":
            (out / location).write_bytes(b"precious")
        return real(model, location, **how)

    monkeypatch.setattr("normswap.model.staging.assemble", assemble)
    with stage(load(save(tmp_path, external=True)), out / "new.onnx") as staged:
        staged.commit()
    assert (out / "new.onnx.data").read_bytes() == b"precious"
    assert listing(out) == ["new.onnx", "new.onnx.1.data", "new.onnx.data"]


def test_an_existing_target_is_refused(tmp_path, out):
    path = save(tmp_path)
    (out / "new.onnx").write_bytes(b"precious")
    (out / "dangling.onnx").symlink_to(out / "nowhere")
    for name in ("new.onnx", "dangling.onnx"):
        with pytest.raises(UsageError, match="exists"), stage(load(path), out / name):
            raise AssertionError
    assert listing(out) == ["dangling.onnx", "new.onnx"]


@posix
def test_places_for_no_file_are_refused(tmp_path):
    model = load(save(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    for target, message in [
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "new.onnx", "doesn't exist"),
        (tmp_path / "pipe", "not a regular file"),
    ]:
        with pytest.raises(UsageError, match=message), stage(model, target, overwrite=True):
            raise AssertionError


@posix
def test_permissions_of_a_replaced_file_stay(tmp_path):
    path = save(tmp_path)
    path.chmod(0o640)
    with stage(load(path), path, overwrite=True) as staged:
        staged.commit()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@posix
def test_permissions_of_a_new_file_are_the_users(tmp_path, out):
    path = save(tmp_path, external=True)
    old = os.umask(0o027)
    try:
        with stage(load(path), out / "new.onnx") as staged:
            staged.commit()
    finally:
        os.umask(old)
    assert {stat.S_IMODE(item.stat().st_mode) for item in out.iterdir()} == {0o640}


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path, out):
    path = save(tmp_path)
    before = path.read_bytes()
    link = out / "link.onnx"
    link.symlink_to(path)
    model = load(link)
    replace_weight(model)
    with stage(model, link, overwrite=True) as staged:
        staged.commit()
    assert path.read_bytes() == before
    assert not link.is_symlink()
    assert "folded" in values(link)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_full_disk_is_a_clear_error(tmp_path, out, monkeypatch, external, fails_at):
    calls = []

    def fsync(_):
        calls.append(1)
        if len(calls) == (fails_at if external else 1):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    model = load(save(tmp_path, external=external))
    with (
        pytest.raises(ModelError, match="could not be written: No space"),
        stage(model, out / "new.onnx"),
    ):
        raise AssertionError
    assert listing(out) == []


def test_a_commit_that_fails_leaves_the_target(tmp_path, monkeypatch):
    path = save(tmp_path)
    before = path.read_bytes()

    def replace(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    model = load(path)
    replace_weight(model)
    monkeypatch.setattr(os, "replace", replace)
    with (
        pytest.raises(ModelError, match="Permission denied"),
        stage(model, path, overwrite=True) as staged,
    ):
        staged.commit()
    assert listing(tmp_path) == ["model.onnx"]
    assert path.read_bytes() == before


def test_a_file_system_that_cannot_sync_folders(tmp_path, out, monkeypatch):
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    with stage(load(save(tmp_path)), out / "new.onnx") as staged:
        staged.commit()
    assert listing(out) == ["new.onnx"]


# One file


@pytest.mark.parametrize("external", [False, True])
def test_a_stream_gets_everything(tmp_path, external):
    path = save(tmp_path, external=external)
    stream = io.BytesIO()
    write_to(load(path), stream)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "new.onnx").write_bytes(stream.getvalue())
    assert same(values(tmp_path / "alone" / "new.onnx"), values(path))
    expected = onnx.load(path)
    for tensor in [*expected.graph.initializer, expected.graph.node[0].attribute[0].t]:
        tensor.ClearField("data_location")  # onnx.load says that nothing is external
    assert onnx.load(tmp_path / "alone" / "new.onnx") == expected


def test_a_model_that_grows_too_large_for_a_file_gets_external_data(tmp_path, out, monkeypatch):
    path = save(tmp_path)
    monkeypatch.setattr(assembly, "MAX_MODEL_NBYTES", 10_000)
    with stage(load(path), out / "new.onnx") as staged:
        staged.commit()
    assert listing(out) == ["new.onnx", "new.onnx.data"]
    assert (out / "new.onnx").stat().st_size < 10_000
    assert same(values(out / "new.onnx"), values(path))


def test_a_model_too_large_for_a_stream_is_refused(tmp_path, monkeypatch):
    model = load(save(tmp_path, external=True))
    monkeypatch.setattr(assembly, "MAX_MODEL_NBYTES", 10_000)
    stream = io.BytesIO()
    with pytest.raises(ModelError, match="limited to 2 GiB"):
        write_to(model, stream)
    assert stream.getvalue() == b""


def test_integers_in_a_typed_field_stay_in_the_model_file(tmp_path, out, monkeypatch):
    tensor = helper.make_tensor("w", onnx.TensorProto.INT64, [20_000], np.arange(20_000))
    node = helper.make_node("Add", ["x", "w"], ["y"])
    path = tmp_path / "model.onnx"
    onnx.save(model_of(graph_of([node], initializers=[tensor])), path)
    monkeypatch.setattr(assembly, "MAX_MODEL_NBYTES", 10_000)
    with pytest.raises(ModelError, match="limited"), stage(load(path), out / "new.onnx"):
        raise AssertionError
    assert listing(out) == []
