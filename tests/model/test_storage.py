import errno
import io
import itertools
import os

import numpy as np
import pytest

from normswap.errors import ModelError
from normswap.model.storage import Extent, FileStorage, MemoryStorage

DATA = np.random.default_rng(0).bytes(300_000)


@pytest.fixture(params=["file", "memory"])
def storage(request, tmp_path):
    if request.param == "memory":
        return MemoryStorage(DATA)
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return FileStorage(path)


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 0), (0, 300_000), (7, 11), (100_000, 150_000)])
def test_reading_and_copying(storage, tmp_path, offset, nbytes):
    expected = DATA[offset : offset + nbytes]
    extent = Extent(storage, offset, nbytes)
    array = extent.read()
    assert array.tobytes() == expected
    assert array.flags.writeable
    stream = io.BytesIO()
    stream.write(b"before")
    extent.copy(stream)
    assert stream.getvalue() == b"before" + expected
    with (tmp_path / "copy").open("wb") as file:
        file.write(b"before")
        extent.copy(file)
        file.write(b"after")
    assert (tmp_path / "copy").read_bytes() == b"before" + expected + b"after"


def test_reading_gives_fresh_memory(storage):
    storage.read(0, 10)[:] = 0
    assert storage.read(0, 10).tobytes() == DATA[:10]


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="the kernel can't copy")
@pytest.mark.parametrize("copied", [0, 100_000])
def test_what_the_kernel_does_not_copy_is_copied_here(storage, tmp_path, monkeypatch, copied):
    real = os.copy_file_range

    def limited(source, target, count, offset):
        if offset + count > copied:
            if offset < copied:
                return real(source, target, copied - offset, offset)
            raise OSError(errno.EXDEV, "another file system")
        return real(source, target, count, offset)

    monkeypatch.setattr(os, "copy_file_range", limited)
    with (tmp_path / "copy").open("wb") as file:
        storage.copy(0, len(DATA), file)
    assert (tmp_path / "copy").read_bytes() == DATA


def test_a_kernel_that_stops_is_finished_here(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0, raising=False)
    with (tmp_path / "copy").open("wb") as file:
        storage.copy(1, 200_000, file)
    assert (tmp_path / "copy").read_bytes() == DATA[1:200_001]


@pytest.mark.parametrize("nbytes", [300_001, 10**6])
def test_reading_beyond_the_end_of_a_file(tmp_path, nbytes):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    extent = Extent(FileStorage(path), 0, nbytes)
    with pytest.raises(ModelError, match="is shorter than its tensors"):
        extent.read()
    with pytest.raises(ModelError, match="is shorter than its tensors"):
        extent.copy(io.BytesIO())


def test_a_view_is_a_sequence_of_bytes(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    positions = np.random.default_rng(1).integers(0, len(DATA), 200).tolist()
    with FileStorage(path).view() as view:
        assert len(view) == len(DATA)
        for start, stop in itertools.pairwise(positions):
            assert view[start] == DATA[start]
            assert view[start : start + 5] == DATA[start : start + 5]
            assert view[start:stop] == DATA[start:stop]
        assert view[299_990:] == DATA[299_990:]


@pytest.mark.skipif(os.name == "nt", reason="Windows doesn't truncate an open file")
def test_a_view_of_a_file_that_shrinks(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with FileStorage(path).view() as view:
        os.truncate(path, 10)
        with pytest.raises(OSError, match="became shorter"):
            view[:]
