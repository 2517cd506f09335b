"""Every report in every format, and the commands that choose it."""

import io
from importlib import import_module

import onnx
import pytest
from support.cli import invoke

from normswap.cli import COMMANDS
from normswap.folding.plan import Plan
from normswap.report import formats, results, tell
from normswap.report.envelope import Error, Failure
from normswap.report.formats import find, names
from normswap.report.formats.text import MODULES
from normswap.report.pages import PAGES
from normswap.report.schema import FOLDER
from normswap.workflows.fold import FoldReport

EMPTY = FoldReport("m.onnx", None, Plan("", (), ()), size_before=1234)


def printed(report, form, **how):
    stream = io.StringIO()
    tell(report, form, stream, **how)
    return stream.getvalue()


def test_formats_are_the_files_of_the_folder():
    assert names() == ["github", "html", "json", "jsonl", "junit", "markdown", "sarif", "text"]
    assert all(callable(find(name).tell) for name in names())


def test_a_new_file_is_a_format(tmp_path, monkeypatch):
    (tmp_path / "shout.py").write_text(
        "def tell(report, stream, *, verbose, envelope):\n"
        "    stream.write(report.source.upper() + '!' * verbose)\n"
    )
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    everything = ["github", "html", "json", "jsonl", "junit", "markdown", "sarif", "shout", "text"]
    assert names() == everything
    assert printed(EMPTY, "shout", verbose=2) == "M.ONNX!!"


def test_an_unknown_format_says_which_there_are():
    with pytest.raises(
        ValueError,
        match="'yaml' is not a report format; the formats are "
        "github, html, json, jsonl, junit, markdown, sarif, text",
    ):
        tell(EMPTY, "yaml", io.StringIO())


def test_every_report_is_told_in_every_way():
    kinds = {path.stem for path in FOLDER.glob("*.json")} - {"certificate"}
    assert PAGES.keys() == results._KINDS.keys() == kinds
    for kind in kinds:
        module = import_module(f"normswap.report.formats.text.{MODULES.get(kind, 'others')}")
        assert callable(getattr(module, kind))


def test_an_error_is_told_where_the_report_would_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [f"--output={form}=r.{form}" for form in ("text", "markdown")]
    done = invoke("fold", "none.onnx", *files)
    assert done.code == 3
    assert (tmp_path / "r.text").read_text() == "error: none.onnx doesn't exist.\n"
    assert (tmp_path / "r.markdown").read_text() == "## error\n\nnone.onnx doesn't exist.\n"


def test_sizes_are_in_the_unit_that_suits():
    assert "nothing was written; the model has 1.2 kB" in printed(EMPTY, "text")


def test_a_failure_is_told_as_json_too():
    text = printed(Failure(Error("ModelError", "m.onnx is empty."), 3), "json")
    assert '"schema": "normswap/error/1"' in text
    assert '"exit_code": 3' in text


def test_help_names_the_formats():
    for command in COMMANDS.keys() - {"completion"}:  # which tells a shell, in its language
        text = invoke(command, "--help").text
        assert "--format [github|html|json|jsonl|junit|markdown|sarif|text]" in text, command
        assert "--output FORMAT[=FILE]" in text, command
        assert "--report FILE.html" in text, command


def test_an_option_that_is_wrong_is_json_where_json_is_asked_for():
    for arguments in (["--json"], ["--format", "json"], ["--format=json"]):
        assert '"type": "UsageError"' in invoke("fold", "--nonsense", *arguments).text
    assert invoke("fold", "--nonsense", "--format", "text").text == ""
    assert invoke("fold", "--nonsense", "--", "--json").text == ""


def test_json_of_an_error_goes_where_the_report_would(tmp_path):
    onnx.save(onnx.ModelProto(ir_version=8), tmp_path / "m.onnx")
    result = invoke("fold", tmp_path / "m.onnx", "-o", "-", "--json")
    assert (result.code, result.out) == (3, b"")
    assert result.err.startswith("{")
    assert result.err.endswith("}\n")
