"""Which models names stand for, and where the result of each goes."""

import pytest

from normswap.errors import ExitCode, UsageError
from normswap.fleet.places import find, is_many, is_within, pairs, require_apart
from normswap.fleet.work import worst


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in (
        "a/x.onnx",
        "a/deep/y.onnx",
        "b/x.onnx",
        "a/.hidden/z.onnx",
        "a/.w.onnx",
        "a/n.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unders(words, **how):
    return [(each.path, each.under) for each in find(words, **how)]


def test_a_folder_is_its_models_and_keeps_its_tree(home):
    assert unders(["a"]) == [("a/x.onnx", "x.onnx"), ("a/deep/y.onnx", "deep/y.onnx")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*/x.onnx", [("a/x.onnx", "a/x.onnx"), ("b/x.onnx", "b/x.onnx")]),
        ("a/**/*.onnx", [("a/deep/y.onnx", "deep/y.onnx"), ("a/x.onnx", "x.onnx")]),
        ("a/[x-z].onnx", [("a/x.onnx", "x.onnx")]),
    ],
)
def test_a_pattern_keeps_what_is_below_its_fixed_part(home, pattern, expected):
    assert unders([pattern]) == expected


def test_a_file_goes_by_its_name_and_one_of_a_list_by_its_path(home):
    assert unders(["a/deep/y.onnx", "a"]) == [("a/deep/y.onnx", "y.onnx"), ("a/x.onnx", "x.onnx")]
    assert unders(["a/deep/y.onnx"], listed=True) == [("a/deep/y.onnx", "a/deep/y.onnx")]
    assert unders(["../b/x.onnx"], listed=True) == [("../b/x.onnx", "x.onnx")]
    assert unders(["a/x.onnx", str(home / "a/x.onnx")]) == [("a/x.onnx", "x.onnx")]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(home):
    (home / "m[1].onnx").write_bytes(b"")
    assert not is_many("m[1].onnx")
    assert unders(["m[1].onnx"]) == [("m[1].onnx", "m[1].onnx")]
    assert is_many("m[2].onnx")
    assert is_many("s3://bucket/m.onnx")
    assert not is_many("absent.onnx")


def test_nothing_found_is_said(home):
    for word in ("none*.onnx", "a/.hidden/..//deep/../../b/../.git"):
        (home / ".git").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=r"No \*\.onnx files were found in"):
            find([word])


def test_pairs_have_both_sides_of_what_either_has(home):
    assert pairs("a", "b") == [
        ("a/deep/y.onnx", "b/deep/y.onnx"),
        ("a/x.onnx", "b/x.onnx"),
    ]


def test_two_outputs_on_one_file_are_refused_by_name(home):
    with pytest.raises(UsageError, match=r"a/x\.onnx and b/x\.onnx would both go to o/x\.onnx"):
        require_apart(["a/x.onnx", "b/x.onnx"], ["o/../o/x.onnx", "o/x.onnx"])
    with pytest.raises(UsageError, match=r"b/x\.onnx would be overwritten"):
        require_apart(["b/x.onnx", "a/x.onnx"], ["o/x.onnx", "b/x.onnx"])
    assert is_within("a/deep/y.onnx", "a")
    assert not is_within("ab/y.onnx", "a")


def test_the_worst_exit_code():
    codes = [ExitCode.OK, ExitCode.INCONCLUSIVE, ExitCode.FINDINGS, ExitCode.USAGE]
    codes += [ExitCode.MODEL, ExitCode.RUN]
    for count in range(1, len(codes) + 1):
        assert worst(codes[:count]) is codes[count - 1]
    assert worst([]) is ExitCode.OK
