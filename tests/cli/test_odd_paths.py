"""What people give by mistake in place of a model or of data: one line, at once, code 2 or 3."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.build import Builder
from support.cli import invoke

import normswap
from normswap.errors import DataError, ModelError, UsageError

LONG = "n" * 300
DEVICES = [
    name for name in ("/dev/zero", "/dev/urandom", "/dev/full", "/dev/null") if Path(name).exists()
]


@pytest.fixture
def model(tmp_path):
    b = Builder()
    b.output(b.bn(b.conv(b.input("N", 3, 8, 8), 3, 4), 4))
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path)
    return path


def refuses(*arguments, code=3, says="", stdin=b""):
    result = invoke(*arguments, stdin=stdin)
    assert result.code == code, result.err
    told = [line for line in result.err.splitlines() if line.startswith(("error:", "Error:"))]
    assert len(told) == 1
    assert says in told[0]
    for word in ("internal", "allow_pickle", "unsafe", "Traceback"):
        assert word not in result.err
    return result


def commands(path, tmp_path):
    out = tmp_path / "new.onnx"
    np.savez(tmp_path / "fine.npz", x=np.ones((4, 3, 8, 8), np.float32))
    return [
        ("fold", path, "-o", out),
        ("fold", path, "--dry-run"),
        ("bn-to-gn", path, "-o", out),
        ("recalibrate", path, tmp_path / "fine.npz", "-o", out),
        ("check", path, path),
        ("check", tmp_path / "model.onnx", path),
    ]


@pytest.mark.parametrize("path", [*DEVICES, "missing.onnx", LONG])
def test_no_models(path, model, tmp_path):
    for arguments in commands(path, tmp_path):
        refuses(*arguments)


def test_a_folder_without_a_model(model, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments in commands(tmp_path / "empty", tmp_path):
        # One model only is what recalibrate takes; of many there has to be one.
        refuses(*arguments, code=3 if arguments[0] == "recalibrate" else 2)


def test_no_name(model, tmp_path):
    for arguments in commands("", tmp_path):
        refuses(*arguments, code=2, says="empty")
    refuses("fold", model, "-o", "", code=2, says="empty")
    with pytest.raises(UsageError, match="empty"):
        normswap.fold("")


@pytest.mark.parametrize("device", [name for name in DEVICES if name != "/dev/null"])
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_device_on_standard_input(device, arguments, tmp_path):
    command = [sys.executable, "-m", "normswap", "fold", *arguments]
    with Path(device).open("rb") as stream:
        result = subprocess.run(command, stdin=stream, capture_output=True, check=False)
    assert result.returncode == 3
    assert b"is a device" in result.stderr


@pytest.mark.parametrize("output", [LONG, "missing/new.onnx", "/dev/null", ".", "a\0b"])
def test_no_outputs(output, model):
    result = invoke("fold", model, "--no-check", "--force", "-o", output)
    assert result.code in (2, 3), result.err
    assert "internal" not in result.err


@pytest.mark.parametrize("place", ["model", "output"])
def test_a_nul(place, model):
    assert invoke("fold", "a\0b").code == 3
    with pytest.raises((ModelError, UsageError)):
        normswap.fold("a\0b") if place == "model" else normswap.fold(model, "a\0b", check=None)


def bad_data(tmp_path, kind):
    path = tmp_path / f"{kind}.npz"
    good = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("x = 3\n")
    elif kind == "pickled":
        np.savez(path, y=good, x=np.array([{"a": 1}, None], object))
    elif kind == "pickled-npy":
        path = path.with_suffix(".npy")
        np.save(path, np.array([{"a": 1}], object))
    elif kind == "truncated":
        np.savez(path, x=good)
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "truncated-npy":
        path = path.with_suffix(".npy")
        np.save(path, good)
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "damaged":
        np.savez(path, x=good)
        content = bytearray(path.read_bytes())
        content[400:420] = bytes(20)
        path.write_bytes(content)
    elif kind == "no-arrays":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "nothing")
    elif kind == "folder":
        path.mkdir()
    elif kind == "npy-as-npz":
        np.save(tmp_path / "array.npy", good)
        (tmp_path / "array.npy").rename(path)
    return path


KINDS = {
    "empty": "is empty",
    "text": "another format",
    "pickled": "'x' contains Python objects instead of numbers",
    "pickled-npy": "contains Python objects instead of numbers",
    "truncated": "can't be read",
    "truncated-npy": "can't be read",
    "damaged": "can't be read",
    "no-arrays": "",
    "folder": "contains no .npz, .npy or .pb",
    "npy-as-npz": "another format",
}


def takes(model, data, tmp_path):
    return [
        ("recalibrate", model, data, "-o", tmp_path / "new.onnx"),
        ("check", model, model, "--load-inputs", data),
        ("bn-to-gn", "--groups", "2", "--calibrate", data, model, "-o", tmp_path / "new.onnx"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_is_none(kind, model, tmp_path):
    data = bad_data(tmp_path, kind)
    for arguments in takes(model, data, tmp_path):
        refuses(*arguments, says=KINDS[kind])
    assert not (tmp_path / "new.onnx").exists()


@pytest.mark.parametrize("path", [*DEVICES, LONG, "missing.npz"])
def test_data_that_is_no_file(path, model, tmp_path):
    for arguments in takes(model, path, tmp_path):
        refuses(*arguments)
    refuses("check", model, "--load-inputs", path, "--load-outputs", path)
    refuses("check", "--rejudge", path)


def test_data_is_refused_before_anything_is_run(model, tmp_path, monkeypatch):
    monkeypatch.setattr("normswap.runtime.child.Child.__init__", _no_child)
    for kind in ("empty", "text", "pickled", "truncated"):
        for arguments in takes(model, bad_data(tmp_path, kind), tmp_path):
            refuses(*arguments, says=KINDS[kind])


def _no_child(*_, **__):
    raise AssertionError("a model is run")


def test_an_unreadable_file(model, tmp_path):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("everything is readable to this user")
    data = bad_data(tmp_path, "text")
    for path in (model, data):
        path.chmod(0)
    refuses("fold", model, says="Permission denied")
    with pytest.raises(DataError, match="Permission denied"):
        normswap.recalibrate(Builder().model(), data)


def test_an_error_of_data_is_json_too(model, tmp_path):
    data = bad_data(tmp_path, "pickled")
    result = invoke("check", model, model, "--load-inputs", data, "--json")
    assert result.code == 3
    assert "Python objects" in json.loads(result.text)["error"]["message"]
