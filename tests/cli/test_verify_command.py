"""``normswap verify``, and the certificates of ``fold`` and ``check``, as the shell sees them."""

import json
import re
import shutil
from pathlib import Path

import onnx
import pytest
from support.build import Builder
from support.cli import invoke

import normswap
from normswap.errors import ExitCode

ROOT = Path(normswap.__file__).parents[1]
PAGE = (ROOT / "docs" / "certificate.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    b = Builder(17)
    b.output(b.node("Relu", b.bn(b.conv(b.input("N", 3, 5, 5), 3, 4), 4), out="y"))
    onnx.save(b.model(), folder / "a.onnx")
    done = invoke(
        "fold", folder / "a.onnx", "-o", folder / "b.onnx", "--certificate", folder / "c.json"
    )
    assert done.code == 0, done.err
    (folder / "text.json").write_text("hello")
    return folder


def run(home, *names, **how):
    return invoke("verify", *(home / name if "." in name else name for name in names), **how)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["c.json", "a.onnx", "b.onnx"], ExitCode.OK, "holds: c.json of a.onnx and b.onnx, proved"),
        (["c.json", "a.onnx", "a.onnx"], ExitCode.FINDINGS, "rewritten.model: it is not the file"),
        (["c.json", "b.onnx", "a.onnx"], ExitCode.FINDINGS, "does not hold: c.json of"),
        (["c.json", "a.onnx"], ExitCode.USAGE, "Missing argument 'REWRITTEN'"),
        (["c.json", "-", "-"], ExitCode.USAGE, "Only one of the two models"),
        (["text.json", "a.onnx", "b.onnx"], ExitCode.MODEL, "is not a certificate"),
        (["a.onnx", "a.onnx", "b.onnx"], ExitCode.MODEL, "is not a certificate"),
        (["absent.json", "a.onnx", "b.onnx"], ExitCode.MODEL, "No such file"),
        (["c.json", "a.onnx", "absent.onnx"], ExitCode.MODEL, "absent.onnx"),
    ],
)
def test_every_way_to_end(home, arguments, code, words):
    result = run(home, *arguments)
    assert result.code == code
    assert words in (result.text or result.err)
    assert "Traceback" not in result.err


def test_a_model_from_a_pipe(home):
    result = run(home, "c.json", "a.onnx", "-", stdin=(home / "b.onnx").read_bytes())
    assert result.code == 0
    assert "holds: c.json of a.onnx and <stdin>" in result.text


def test_quiet_says_nothing_if_all_holds(home):
    assert run(home, "c.json", "a.onnx", "b.onnx", "-q").text == ""
    assert "does not hold" in run(home, "c.json", "a.onnx", "a.onnx", "-q").text


def test_verbose_lists_all(home, tmp_path):
    data = json.loads((home / "c.json").read_text())
    data["outputs"] *= 12
    data["regions"] *= 12
    (tmp_path / "c.json").write_text(json.dumps(data))
    few, all_of_them = (
        invoke("verify", tmp_path / "c.json", home / "a.onnx", home / "a.onnx", *more).text
        for more in ([], ["-v"])
    )
    assert re.search(r"and \d+ more; -v lists all", few)
    assert "regions[11]" in all_of_them
    assert "more; -v" not in all_of_them


def test_a_check_writes_one_if_the_models_are_equivalent(home, tmp_path):
    path = tmp_path / "c.json"
    result = invoke("check", home / "a.onnx", home / "b.onnx", "--certificate", path)
    assert result.code == 0
    assert json.loads(path.read_text())["verdict"] == "proved"
    path.unlink()
    b = Builder(17)
    b.output(b.node("Neg", b.input("N", 3, 5, 5), out="y"))
    onnx.save(b.model(), tmp_path / "other.onnx")
    result = invoke("check", home / "a.onnx", tmp_path / "other.onnx", "--certificate", path)
    assert result.code == 1
    assert "No certificate was written: the models are different." in result.err
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fold", "--dry-run"], "fold nothing that could be certified"),
        (["fold", "--explain", "y"], "fold nothing that could be certified"),
        (["fold", "--no-check"], "A certificate needs a check"),
        (["check", "--load-outputs", "x.npz"], "needs two models"),
        (["check", "--rtol", "1"], "models alone"),
        (["check", "--save-inputs", "in.npz"], "models alone"),
        (["recalibrate", "--freeze"], "No such option"),
        (["bn-to-gn", "--unfold", "--calibrate", "x.npz"], "--unfold makes it in memory"),
    ],
)
def test_where_there_is_none_it_is_refused(home, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    models = [home / "a.onnx"]
    if arguments[0] == "check" and "--load-outputs" not in arguments:
        models.append(home / "b.onnx")
    result = invoke(*arguments, *models, "--certificate", "c.json")
    assert (result.code, words in result.err) == (ExitCode.USAGE, True), result.err
    assert list(tmp_path.iterdir()) == []


def test_the_page_checks_one_without_normswap(tmp_path, monkeypatch, capsys):
    """The program of the page imports NumPy and onnx only, and comes to the same figures."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert "normswap" not in code
    shutil.copytree(ROOT / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    normswap.fold("models/unet.onnx", "folded.onnx", certificate="proof.json")
    exec(compile(code, "docs/certificate.md", "exec"), {})  # noqa: S102 - our own page
    assert capsys.readouterr().out == "10 of 12 regions judged\n"


def test_the_page_names_every_key(home):
    keys = json.loads((home / "c.json").read_text()).keys() - {"schema"}
    table = re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE)
    assert keys == {key for cell in table for key in re.findall(r"`(\w+)`", cell)}
