"""One command on many models: each as if it were the only one, and none twice."""

import json
import os
import shutil
import signal
import subprocess
import sys

import onnx
import pytest
from support.cli import invoke
from support.fleet import save_models

from normswap.cli.one import done

NAMES = ("a.onnx", "b.onnx", "deep/c.onnx")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_models(folder, *NAMES)
    return folder


@pytest.fixture
def here(monkeypatch):
    """Do jobs in this process, for tests of what is done and not of who does it."""
    monkeypatch.setattr("normswap.fleet.pool.run", lambda jobs, *how: map(done, jobs))


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(result):
    return sorted(result.text.splitlines())


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_folder_is_mirrored_and_each_model_has_its_line(home, monkeypatch):
    (home / "m/broken.onnx").write_text("no model")
    result = invoke("fold", "m", "-o", "out", "--jobs", "1", "--max-growth=9")
    assert result.code == 3
    assert lines(result) == [
        "m/a.onnx  2 folded, 0 kept; equivalent, proved  → out/a.onnx",
        "m/b.onnx  2 folded, 0 kept; equivalent, proved  → out/b.onnx",
        "m/broken.onnx  broken.onnx is a text file, not an ONNX model.",
        "m/deep/c.onnx  2 folded, 0 kept; equivalent, proved  → out/deep/c.onnx",
    ]
    assert result.err.strip() == "4 models; 1 unreadable or unsupported"
    assert files(home / "out") == sorted(NAMES)
    alone = invoke("fold", "m/a.onnx", "-o", "alone.onnx")
    assert alone.code == 0
    assert (home / "alone.onnx").read_bytes() == (home / "out/a.onnx").read_bytes()
    again = invoke("fold", "m/a.onnx", "m/b.onnx", "-o", "out")
    assert (again.code, "out/a.onnx, out/b.onnx already exist" in again.err) == (2, True)

    monkeypatch.setattr("normswap.fleet.pool.run", lambda jobs, *how: map(done, jobs))
    checked = invoke("check", "m", "out", "--json", "--output", "jsonl=each.jsonl")
    report = json.loads(checked.text)
    assert (checked.code, report["exit_code"], report["schema"]) == (3, 3, "normswap/fleet/1")
    by_name = {each["model"]: each for each in report["models"]}
    assert by_name["m/a.onnx out/a.onnx"]["report"]["verdict"] == "equivalent"
    assert by_name["m/broken.onnx out/broken.onnx"]["report"]["error"]["type"] == "ModelError"
    each = [json.loads(line) for line in (home / "each.jsonl").read_text().splitlines()]
    assert each == [model["report"] for model in report["models"]]


def test_a_line_of_json_is_what_the_command_tells_of_that_model_alone(home, here):
    alone = json.loads(invoke("inspect", "m/a.onnx", "--json").text)
    result = invoke("inspect", "m/a.onnx", "m/b.onnx", "--output", "jsonl")
    assert alone in [json.loads(line) for line in result.text.splitlines()]
    assert invoke("inspect", "m/a.onnx", "--output", "jsonl").text == json.dumps(alone) + "\n"


def test_results_of_all_models_are_in_one_report(home, here):
    result = invoke(
        *("lint", "m", "--select", "NS1", "--output", "sarif=r.sarif"),
        *("--output", "markdown=r.md", "--output", "junit=r.xml", "-v"),
    )
    assert result.code == 1
    (run,) = json.loads((home / "r.sarif").read_text())["runs"]
    found = {
        each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for each in run["results"]
    }
    assert found == {f"m/{name}" for name in NAMES}
    assert (home / "r.md").read_text().count("2 NS101") == len(NAMES)
    assert (home / "r.xml").read_text().count("<testsuite ") == len(NAMES)
    assert result.text.count("foldable-batchnorm") == 3 * len(NAMES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fold", "m/a.onnx", "m/deep", "-o", "m/b.onnx"), "m/b.onnx is a file"),
        (("fold", "m/a.onnx", "m/b.onnx", "-o", "m"), "itself one of the input models"),
        (("fold", "m/a.onnx", "m/b.onnx", "-o", "-"), "can't be written to standard output"),
        (("fold", "m", "--in-place", "-o", "out"), "can't be used together"),
        (("fold", "m", "-", "-o", "out"), "Standard input can be only one model"),
        (("fold", "m", "--certificate", "c.json"), "--certificate names a single file"),
        (("fold", "--from-file", "absent", "-o", "out"), "absent can't be read"),
        (("fold", "--jobs", "2"), "No model was given"),
        (("check", "m", "m/a.onnx"), "are a model and a folder"),
        (("check", "m"), "second model or folder is missing"),
        (("check", "--from-file", "list"), "Line 1 of list does not name a pair"),
        (("lint", "empty"), "No *.onnx files were found in empty"),
        (("lint", "nonsense://bucket/m/", "--scheduler", "x"), "nonsense://bucket/m/"),
        (("lint", "m", "--scheduler", "tcp://"), "No Dask scheduler could be reached at tcp://"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(home, arguments, words):
    (home / "empty").mkdir()
    (home / "list").write_text("m/a.onnx m/b.onnx\n")
    before = files(home)
    result = invoke(*arguments)
    assert result.code in {2, 3, 4}
    assert words in result.err
    assert not result.text
    assert files(home) == before


def test_lists_and_what_is_beside_a_model(home, here):
    lists = "m/a.onnx\n\nm/b.onnx\n"
    result = invoke("fold", "--from-file", "-", "--no-check", stdin=lists.encode())
    assert (result.code, files(home / "m")) == (
        0,
        ["a.folded.onnx", "a.onnx", "b.folded.onnx", "b.onnx", "deep/c.onnx"],
    )
    # Of a folder, what is the place of a result is no model.
    result = invoke("fold", "m", "--no-check", "--force")
    assert [line.split()[0] for line in lines(result)] == [f"m/{name}" for name in NAMES]
    (home / "pairs").write_text("m/a.onnx\tm/a.folded.onnx\nm/b.onnx\tm/a.folded.onnx\n")
    result = invoke("check", "--from-file", "pairs", "-q")
    assert (result.code, len(lines(result))) == (1, 1)
    assert lines(result)[0].startswith("m/b.onnx m/a.folded.onnx  different")


def test_only_what_changed_is_done_again(home, here):
    call = ("fold", "m", "-o", "out", "--resume", "done", "--no-check", "--jobs", "1")
    assert invoke(*call).code == 0
    times = {name: (home / "out" / name).stat().st_mtime_ns for name in NAMES}

    def done_now(*more):
        result = invoke(*call, *more)
        assert result.code == 0, result.err
        return [line.split()[0][2:] for line in lines(result) if not line.endswith("unchanged")]

    assert done_now() == []
    assert times == {name: (home / "out" / name).stat().st_mtime_ns for name in NAMES}
    save_models(home / "m", "z.onnx", "a.onnx")  # another model, and one more
    assert done_now() == ["a.onnx", "z.onnx"]
    (home / "out/b.onnx").unlink()
    assert done_now() == ["b.onnx"]
    assert len(done_now("--leftover", "affine")) == 4
    assert done_now("--leftover", "affine") == []
    with (home / "out/b.onnx").open("ab") as file:
        file.write(b"\x92\x03\0")  # somebody else's hand: an empty field of metadata
    result = invoke(*call, "--leftover", "affine")
    assert (result.code, "out/b.onnx already exists" in result.text) == (2, True)
    assert done_now("--leftover", "affine", "--force") == ["b.onnx"]


def test_what_is_done_in_place_is_done_once(home, here):
    call = ("lint", "m", "--fix", "--select", "NS101", "--resume", "done", "--jobs", "1")
    assert "2 fixed" in invoke(*call).text
    assert invoke(*call).text.count("unchanged") == len(NAMES)
    (home / "normswap.toml").write_text('[lint]\nignore = ["NS101"]\n')
    assert "unchanged" not in invoke(*call).text


def test_broken_off_in_the_middle_and_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{number:02}.onnx" for number in range(12)]
    save_models(tmp_path / "m", *names)
    call = ("fold", "m", "-o", "out", "--resume", "done", "--jobs", "2", "--no-check")
    command = [sys.executable, "-m", "normswap", *call]
    times = {}
    for number in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            for line in process.stdout:
                if b"unchanged" not in line:
                    break
            (os.kill if number == signal.SIGINT else os.killpg)(process.pid, number)
            err = process.communicate()[1].decode()
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert "of 12 models were processed" in err
        kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.onnx")}
        assert times.items() <= kept.items()  # nothing is written twice
        times = kept
        assert 0 < len(times) < len(names)
    result = invoke(*call)
    assert result.code == 0
    assert len(lines(result)) == len(names)
    assert files(tmp_path / "out") == names
    for name in names:
        onnx.checker.check_model(onnx.load(tmp_path / "out" / name))
    last = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.onnx")}
    assert times.items() <= last.items()


def test_findings_that_are_let_pass_are_not_called_fine(tmp_path):
    shutil.copy("models/mlp.onnx", tmp_path)
    result = invoke("lint", tmp_path, "--exit-zero")
    assert result.code == 0
    assert "4 NS101" in result.text
    assert result.err.strip() == "1 model; no failures"
