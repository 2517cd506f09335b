"""A name that is none, and close to one: commands, options, values, files, tensors, patterns."""

import shutil

import pytest
from support.cli import invoke


@pytest.fixture
def home(tmp_path, monkeypatch):
    shutil.copy("models/partial.onnx", tmp_path / "partial.onnx")
    (tmp_path / "images.npz").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "code", "meant"),
    [
        ("fodl partial.onnx", 2, "'fold'"),
        ("fold partial.onnx --dryrun", 2, "'--dry-run'"),
        ("fold partial.onnx --check ful", 2, "'full'"),
        ("fold partal.onnx", 3, "'partial.onnx'"),
        ("inspect partial.onx", 3, "'partial.onnx'"),
        ("check partial.onnx partail.onnx", 3, "'partial.onnx'"),
        ("recalibrate partial.onnx image.npz", 3, "'images.npz'"),
        ("fold partial.onnx --explain /norm_hed/BatchNormalization", 2, "/norm_head/"),
        ("fold partial.onnx --explain norm_head", 2, "'/norm_head/BatchNormalization'"),
        ("bn-to-gn partial.onnx --dry-run --include norm_head", 2, "/norm_head/"),
        ("check partial.onnx partial.onnx --input-shape imge:1,3,32,32", 2, "'image'"),
        ("check partial.onnx partial.onnx --rtol logit:1", 2, "'logits'"),
        ("check partial.onnx partial.onnx --symbolic-dim bath=3", 2, "'batch'"),
        ("check partial.onnx partial.onnx --provider cdua", 4, "'cuda'"),
        ("lint partial.onnx --select NS109", 2, "'NS10"),
    ],
)
def test_what_is_close_is_named(home, typed, code, meant):
    done = invoke(*typed.split())
    assert done.code == code, done.err
    asked = done.err.partition("Did you mean ")[2].partition("?")[0]
    assert meant in asked, done.err


def test_what_is_like_nothing_is_not(home):
    assert "Did you mean" not in invoke("fold", "zzzzzz.bin").err
    assert "Did you mean" not in invoke("qqq").err
    assert "Did you mean" not in invoke("fold", "no/such/folder.onnx").err
