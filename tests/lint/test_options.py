"""Which rules are asked: by code, name and beginning, and by what a project has written down."""

import pytest
from support.build import Builder

import normswap
from normswap.errors import UsageError
from normswap.lint import config
from normswap.lint.options import LintOptions
from normswap.lint.selection import asked


def codes(**options):
    return [rule.code for rule in asked(LintOptions(**options))]


def test_the_more_exact_word_decides():
    every = codes()
    assert codes(select=("NS2",)) == [code for code in every if code[2] == "2"]
    assert codes(ignore=("NS2",)) == [code for code in every if code[2] != "2"]
    assert codes(select=("NS", "NS201"), ignore=("NS2",)) == [
        code for code in every if code[2] != "2" or code == "NS201"
    ]
    assert codes(select=("NS101",), ignore=("NS101",)) == []
    assert codes(select=("dead-channels",), ignore=("NS20",)) == ["NS202"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"select": ("NS999",)}, "no rule 'NS999'"),
        ({"ignore": ("foldable",)}, "no rule 'foldable'"),
        ({"select": ("",)}, "no rule ''"),
        ({"groups": 0}, "at least 1"),
        ({"groups": "all"}, "neither a number"),
        ({"groups": 4, "group_size": 4}, "only one of them is possible"),
    ],
)
def test_what_can_not_be(options, words):
    with pytest.raises(UsageError, match=words):
        asked(LintOptions(**options))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_nearest_file_decides(tmp_path):
    own = write(tmp_path / "normswap.toml", "[lint]\nmin-opset = 20\n")
    write(tmp_path / "pyproject.toml", "[tool.normswap.lint]\nmin-opset = 9\n")
    inner = write(tmp_path / "a" / "pyproject.toml", '[tool.normswap.lint]\nselect = ["NS1"]\n')
    write(tmp_path / "b" / "pyproject.toml", "[tool.other]\n")
    assert config.find(tmp_path / "m.onnx").path == own
    assert config.find(tmp_path / "a" / "deep" / "m.onnx").path == inner
    assert config.find(tmp_path / "b" / "m.onnx").options.min_opset == 20


def test_overrides_are_by_path_from_the_file_on(tmp_path):
    path = write(
        tmp_path / "normswap.toml",
        """
        [lint]
        ignore = ["NS2"]
        groups = 32
        [[lint.overrides]]
        files = ["legacy/*"]
        ignore = ["NS401"]
        min-opset = 9
        [[lint.overrides]]
        files = ["*/tiny.onnx"]
        groups = "channels"
        """,
    )
    found = config.read(path)
    usual = found.options_for(tmp_path / "m.onnx")
    assert (usual.ignore, usual.groups, usual.min_opset) == (("NS2",), 32, 13)
    legacy = found.options_for(tmp_path / "legacy" / "deep" / "tiny.onnx")
    assert legacy == LintOptions(ignore=("NS2", "NS401"), groups="channels", min_opset=9)
    assert found.options_for(None) == usual


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[lint", "can't be read"),
        ("[lnt]", "Did you mean 'lint'"),
        ("[lint]\nmin_opset = 9", "Did you mean 'min-opset'"),
        ('[lint]\nselect = "NS1"', "not a list of codes"),
        ("[lint]\nmin-opset = true", "is not a number"),
        ('[lint]\nselect = ["NS9"]', "no rule 'NS9'"),
        ("[[lint.overrides]]\nignore = []", "has no key files"),
        ('[[lint.overrides]]\nfiles = ["*"]\nignore = ["X1"]', "no rule 'X1'"),
        ("lint = 3", "is not a table"),
        ('ignore = ["NS1"]', "belongs in the lint table"),
    ],
)
def test_what_nobody_would_read_is_refused(tmp_path, text, words):
    path = write(tmp_path / "normswap.toml", text)
    with pytest.raises(UsageError) as caught:
        config.read(path)
    assert str(path) in str(caught.value)
    assert words in f"{caught.value} {caught.value.tip}"


def test_what_is_told_comes_on_top(tmp_path):
    b = Builder(11)
    b.output(b.bn(b.conv(b.input(1, 3, 5, 5), 3, 4), 4, positive=True, out="y"))
    path = write(tmp_path / "mine.toml", '[lint]\nselect = ["NS1", "NS4"]\n')

    def found(**how):
        return {each.code for each in normswap.lint(b.model(), config=path, **how).findings}

    assert found() == {"NS101", "NS401"}
    assert found(ignore=["old-opset"]) == {"NS101"}
    assert found(select=["NS401"]) == {"NS401"}
