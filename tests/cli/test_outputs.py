"""``--output FORMAT[=FILE]``: several at once, each whole; and gates."""

import json

import onnx
import pytest
from support.build import Builder
from support.cli import invoke

import normswap

C = 4


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a model of which one normalization folds, and one that trains."""
    for name, training in (("m", 0), ("training", 1)):
        b = Builder(17)
        x = b.bn(b.conv(b.input(2, 3, 5, 5), 3, C), C, name="folds", positive=True)
        x = b.node("Sigmoid", x)
        b.output(
            b.bn(x, C, name="stays", positive=True, training_mode=training, out="y"), (2, C, 3, 3)
        )
        onnx.save(b.model(), tmp_path / f"{name}.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_several_at_once(home):
    result = invoke(
        *("fold", "m.onnx", "--dry-run", "--output", "text", "--output", "json=r.json"),
        *("--output=junit=r.xml", "--output", "markdown=r.md", "--output", "text=r.txt", "-q"),
    )
    assert (result.code, result.text) == (0, "")
    assert json.loads((home / "r.json").read_text())["plan"]["folded"]
    assert (home / "r.xml").read_text().startswith("<testsuites")
    assert (home / "r.md").read_text().startswith("## m.onnx: nothing was written")
    assert "folded 1, kept 1" in (home / "r.md").read_text()
    assert "1 folded" in (home / "r.txt").read_text()
    assert sorted(path.name for path in home.iterdir()) == [
        "m.onnx",
        "r.json",
        "r.md",
        "r.txt",
        "r.xml",
        "training.onnx",
    ]
    spoken = invoke("fold", "m.onnx", "--dry-run", "--output", "json=r.json")
    assert "1 folded" in spoken.text


def test_one_stream_takes_one_format_and_annotations(home):
    result = invoke("fold", "m.onnx", "--dry-run", "--json", "--output", "text")
    assert (result.code, "can't both go" in result.err) == (2, True)
    gate = ("fold", "m.onnx", "--dry-run", "--fail-on", "kept")
    for order in (["github", "text"], ["text", "github"]):
        text = invoke(*gate, *(word for form in order for word in ("--output", form))).text
        assert "::error file=m.onnx" in text
        assert "1 folded, 1 kept" in text


def test_a_file_is_a_model_only_where_one_is_made(home):
    assert invoke("fold", "m.onnx", "--output", "new.onnx", "--no-check").code == 0
    assert invoke("fold", "m.onnx", "-o", "json", "--no-check").code == 0
    assert len(onnx.load("new.onnx").graph.node) == len(onnx.load("json").graph.node) == 3
    result = invoke("inspect", "m.onnx", "--output", "new.onnx")
    assert (result.code, "unknown report format" in result.err) == (2, True)
    for value in ("json=", "json=absent/r.json", "json=."):
        result = invoke("inspect", "m.onnx", "--output", value)
        assert (result.code, "does not name a file" in result.err) == (2, True), value


def test_a_report_that_breaks_off_leaves_the_old_one(home, monkeypatch):
    (home / "r.json").write_text("old")

    def broken(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("normswap.files.beside.os.fsync", broken)
    result = invoke("inspect", "m.onnx", "--output", "json=r.json")
    assert (result.code, "No space left" in result.err) == (3, True)
    assert (home / "r.json").read_text() == "old"
    assert sorted(path.name for path in home.iterdir()) == ["m.onnx", "r.json", "training.onnx"]


def test_an_error_goes_where_the_report_would(home):
    result = invoke(
        "inspect", "absent.onnx", "--output", "json=r.json", "--output", "sarif=r.sarif"
    )
    assert (result.code, result.text) == (3, "")
    assert json.loads((home / "r.json").read_text())["error"]["type"] == "ModelError"
    (run,) = json.loads((home / "r.sarif").read_text())["runs"]
    told = run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]
    assert told == "absent.onnx doesn't exist."


@pytest.mark.parametrize(
    ("model", "fail_on", "nodes"),
    [
        ("m", ["foldable"], ["folds"]),
        ("m", ["kept"], ["stays"]),
        ("m", ["training"], []),
        ("training", ["training"], ["stays"]),
        ("training", ["foldable", "kept", "training"], ["folds", "stays", "stays"]),
    ],
)
@pytest.mark.parametrize("command", ["fold", "bn-to-gn"])
def test_a_gate(home, command, model, fail_on, nodes):
    words = [word for each in fail_on for word in ("--fail-on", each)]
    more = ["--groups", "2", "--exclude", "stays"] if command == "bn-to-gn" else []
    result = invoke(command, f"{model}.onnx", "--dry-run", *more, *words, "--json")
    data = json.loads(result.text)
    assert [finding["node"] for finding in data["failing"]] == nodes
    assert result.code == data["exit_code"] == int(bool(nodes))
    text = invoke(command, f"{model}.onnx", "--dry-run", *more, *words).text
    assert ("--fail-on allows none" in text) is bool(nodes)


def test_a_gate_knows_a_dropout_that_drops_and_no_look_alike(tmp_path):
    b = Builder(17)
    x = b.node("Dropout", b.input(2, C), b.const(0.5), b.const(True), name="drops")
    x = b.node("Dropout", x, b.const(0.5), b.const(False), name="passes")
    # How exporters write an instance normalization: the samples are in the channels.
    rows = b.node("Reshape", x, b.const([1, 2 * C, 1]))
    b.output(b.bn(rows, 2 * C, name="instance", training_mode=1, out="y"), (1, 2 * C, 1))
    failing = normswap.plan(b.model(), fail_on=["training"]).failing
    assert [finding.node for finding in failing] == ["drops"]
    with pytest.raises(normswap.UsageError, match="is not one of"):
        normswap.plan(b.model(), fail_on=["folded"])


def test_a_check_says_that_a_model_trains(home):
    report = normswap.check("training.onnx", "training.onnx")
    assert report.verdict is normswap.Verdict.EQUIVALENT
    (note,) = [note for note in report.notes if "training mode" in note]
    assert note.startswith(
        "training.onnx is in training mode: its outputs depend on the other samples of the batch"
    )
    assert not [n for n in normswap.check("m.onnx", "m.onnx").notes if "training mode" in n]


def test_a_gate_needs_a_dry_run(home):
    for command in ("fold", "bn-to-gn"):
        result = invoke(command, "m.onnx", "--fail-on", "kept")
        assert (result.code, "--fail-on needs --dry-run" in result.err) == (2, True)


def test_what_had_to_be_proved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    b = Builder(17)
    b.output(b.node("Relu", b.bn(b.conv(b.input(1, 3, 5, 5), 3, C), C), out="y"))
    onnx.save(b.model(), "a.onnx")
    onnx.save(normswap.fold("a.onnx", check=None).model, "b.onnx")
    assert invoke("check", "a.onnx", "b.onnx", "--require", "proved").code == 0
    # Inputs and outputs that are kept are of a test, and nothing is proved beside it.
    loose = ("check", "a.onnx", "b.onnx", "--require", "proved", "--save-outputs", "out.npz")
    result = invoke(*loose, "--output", "json=r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["verdict"], report["is_proved"], report["exit_code"]) == ("equivalent", False, 1)
    assert (
        result.code,
        "a proof was required, but none was attempted" in result.text,
    ) == (1, True)
