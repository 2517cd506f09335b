"""A save that is broken off at one of its file-system calls ends with the old model or the new."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from support.broken_saves import model

from normswap.errors import ModelError
from normswap.model import load, stage

PROGRAM = Path(__file__).parents[1] / "support" / "broken_saves.py"
STEP = 13

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


@pytest.mark.parametrize("kind", ["OSError", "SIGINT", "SIGTERM", "SIGKILL", "twice"])
def test_no_model_is_lost_and_nothing_is_left(tmp_path, kind):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), kind, str(STEP)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert len(found["tried"]) == 8
    assert all(found["tried"].values())


def test_a_live_save_is_left_alone(tmp_path):
    proto = external_model(tmp_path / "source.onnx")
    with stage(load(tmp_path / "source.onnx"), tmp_path / "new.onnx") as one:
        with stage(load(tmp_path / "source.onnx"), tmp_path / "new.onnx") as other:
            assert one.path.exists()
            assert one.data != other.data
            other.commit()
        assert onnx.load(tmp_path / "new.onnx") == proto
        with stage(load(tmp_path / "source.onnx"), tmp_path / "third.onnx") as third:
            third.commit()
        one_data = one.data.name
    assert onnx.load(tmp_path / "new.onnx") == proto
    assert one_data not in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_the_later_of_two_saves_wins_and_its_data_stays(tmp_path):
    proto = external_model(tmp_path / "source.onnx")
    with stage(load(tmp_path / "source.onnx"), tmp_path / "new.onnx") as one:
        with stage(load(tmp_path / "source.onnx"), tmp_path / "new.onnx", overwrite=True) as other:
            one.commit()
            other.commit()
        assert onnx.load(tmp_path / "new.onnx") == proto
    assert onnx.load(tmp_path / "new.onnx") == proto
    assert names(tmp_path) == ["new.onnx", other.data.name, "source.onnx", "source.onnx.data"]


def test_saves_at_once(tmp_path):
    """Processes that save to one target again and again don't take each other's files away."""
    external_model(tmp_path / "source.onnx")
    code = (
        "import sys; from pathlib import Path; from normswap.model import load, stage\n"
        "for _ in range(25):\n"
        "    with stage(load('source.onnx'), 'new.onnx', overwrite=True) as staged:\n"
        "        staged.commit()\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [process.communicate()[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert onnx.load(tmp_path / "new.onnx") == onnx.load(tmp_path / "source.onnx")
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch, number):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    proto = external_model(tmp_path / "m.onnx")
    monkeypatch.setattr(os, "fsync", fsync)
    with stage(load(tmp_path / "m.onnx"), tmp_path / "m.onnx", overwrite=True) as staged:
        staged.commit()
    assert onnx.load(tmp_path / "m.onnx") == proto
    assert names(tmp_path) == ["m.onnx", "m.onnx.1.data"]


def test_a_folder_that_nobody_may_read_is_no_error(tmp_path, monkeypatch):
    folder = tmp_path / "closed"
    folder.mkdir()
    proto = external_model(folder / "m.onnx")
    folder.chmod(0o300)
    refuse(monkeypatch, folder)  # root may read it all the same
    try:
        with stage(load(folder / "m.onnx"), folder / "m.onnx", overwrite=True) as staged:
            staged.commit()
        with pytest.raises(ZeroDivisionError), stage(load(folder / "m.onnx"), folder / "n.onnx"):
            raise ZeroDivisionError
        monkeypatch.undo()
        assert onnx.load(folder / "m.onnx") == proto
    finally:
        folder.chmod(0o700)
    # Whether another model needs the old data is not known, so that it stays until it is.
    assert {"m.onnx", "m.onnx.1.data"} <= set(names(folder))
    assert "n.onnx.data" not in names(folder)
    with stage(load(folder / "m.onnx"), folder / "n.onnx"):
        pass
    assert names(folder) == ["m.onnx", "m.onnx.1.data"]


def refuse(monkeypatch, folder):
    real_open, real_list, real_scan = os.open, os.listdir, os.scandir

    def checked(call):
        def wrapper(path=".", *arguments, **options):
            if not isinstance(path, int) and Path(path) == folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *arguments, **options)

        return wrapper

    monkeypatch.setattr(os, "open", checked(real_open))
    monkeypatch.setattr(os, "listdir", checked(real_list))
    monkeypatch.setattr(os, "scandir", checked(real_scan))


@pytest.mark.parametrize("copy", ["m.onnx.bak", "copy.onnx", "m (old)"])
@pytest.mark.parametrize("by", ["copy", "hard link", "symbolic link"])
def test_data_that_a_copy_of_the_model_needs_stays(tmp_path, copy, by):
    proto = external_model(tmp_path / "m.onnx")
    if by == "hard link":
        os.link(tmp_path / "m.onnx", tmp_path / copy)
    else:
        shutil.copy(tmp_path / "m.onnx", tmp_path / copy)
    if by == "symbolic link":
        (tmp_path / "weights").symlink_to("m.onnx.data")
        other = onnx.load(tmp_path / copy, load_external_data=False)
        for tensor in other.graph.initializer:
            tensor.external_data[0].value = "weights"
        (tmp_path / copy).write_bytes(other.SerializeToString())
    with stage(load(tmp_path / "m.onnx"), tmp_path / "m.onnx", overwrite=True) as staged:
        staged.commit()
    assert "m.onnx.data" in names(tmp_path)
    assert onnx.load(tmp_path / "m.onnx") == proto
    if by != "symbolic link":  # which onnx does not follow
        assert onnx.load(tmp_path / copy) == proto


def test_new_data_is_as_private_as_the_model(tmp_path):
    external_model(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").chmod(0o600)
    with stage(load(tmp_path / "m.onnx"), tmp_path / "m.onnx", overwrite=True) as staged:
        assert {stat.S_IMODE(p.stat().st_mode) for p in (staged.path, staged.data)} == {0o600}


def test_a_replacement_that_is_made_but_answered_with_an_error_is_none(tmp_path, monkeypatch):
    proto = external_model(tmp_path / "m.onnx")
    real = os.replace

    def replace(*arguments):
        real(*arguments)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", replace)
    with stage(load(tmp_path / "m.onnx"), tmp_path / "m.onnx", overwrite=True) as staged:
        staged.commit()
    assert onnx.load(tmp_path / "m.onnx") == proto
    assert names(tmp_path) == ["m.onnx", "m.onnx.1.data"]


def test_no_model_is_put_in_place_whose_data_is_gone(tmp_path):
    proto = external_model(tmp_path / "m.onnx")
    with stage(load(tmp_path / "m.onnx"), tmp_path / "m.onnx", overwrite=True) as staged:
        staged.data.unlink()
        with pytest.raises(ModelError, match=r"m.onnx.1.data has been removed"):
            staged.commit()
    assert onnx.load(tmp_path / "m.onnx") == proto
    assert names(tmp_path) == ["m.onnx", "m.onnx.data"]


def test_what_came_after_a_dead_save_is_not_taken_for_its_own(tmp_path):
    """A file of the name that it claimed, made by somebody else since, stays."""
    external_model(tmp_path / "m.onnx")
    (tmp_path / ".n.onnx.data.lock").touch()
    (tmp_path / ".n.onnx.data.1234567.tmp").write_bytes(b"a part of a model")
    (tmp_path / "n.onnx.data").write_bytes(b"precious")
    (tmp_path / ".k.onnx.data.lock").touch()
    (tmp_path / "k.onnx.data").touch()  # the claimant died before it wrote anything
    with stage(load(tmp_path / "m.onnx"), tmp_path / "m.onnx", overwrite=True):
        pass
    assert names(tmp_path) == ["m.onnx", "m.onnx.data", "n.onnx.data"]


def test_a_target_that_cannot_be_read_is_replaced(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    proto = external_model(tmp_path / "source.onnx")
    (tmp_path / "m.onnx").write_bytes(b"secret")
    with stage(load(tmp_path / "source.onnx"), tmp_path / "m.onnx", overwrite=True) as staged:
        monkeypatch.setattr("normswap.model.staging.data_files", refused)
        staged.commit()
    assert onnx.load(tmp_path / "m.onnx") == proto


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def external_model(path):
    """Save a model with external data, and return it as onnx reads it."""
    onnx.save(
        model(0), path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0
    )
    return onnx.load(path)
