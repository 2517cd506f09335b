"""The schemas that ship are those of the dataclasses, and what commands print fits them."""

import hashlib
import json
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from support.build import Builder
from support.cli import invoke

import normswap
from normswap.report.schema import FILES, FOLDER, REPORTS, schemas, text_of

C = 4
DOCS = (Path(normswap.__file__).parent.parent / "docs" / "json.md").read_text(encoding="utf-8")
TEMPORARY = (".tmp", ".new", "normswap-", "scratch")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a model, the same with other weights, one with external data, and data."""
    for name, seed in (("model", 0), ("other", 1)):
        b = Builder(seed=seed)
        x = b.node("Softmax", b.bn(b.conv(b.input("N", C, 4, 4), C, C), C, name="first"), axis=1)
        if name == "other":
            x = b.node("Mul", x, b.const(np.array(1.5, np.float32)))
        b.output(b.bn(x, C, name="second", out="y"))
        onnx.save(b.model(), tmp_path / f"{name}.onnx")
    onnx.save(
        onnx.load(tmp_path / "model.onnx"),
        tmp_path / "outside.onnx",
        save_as_external_data=True,
        location="outside.data",
        size_threshold=0,
    )
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(8, C, 4, 4)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def closed(schema):
    """Return a schema that allows no property which it does not name."""
    if isinstance(schema, dict):
        inner = {key: closed(item) for key, item in schema.items()}
        return inner | ({"additionalProperties": False} if "properties" in schema else {})
    return [closed(item) for item in schema] if isinstance(schema, list) else schema


def told(*arguments, **how):
    result = invoke(*arguments, "--json", **how)
    return result, json.loads(result.text or result.err)


def fits(data, kind):
    assert data["schema"] == f"normswap/{kind}/1"
    schema = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(closed(schema)).validate(data)


def strings(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_the_files_are_those_of_the_dataclasses():
    made = {f"{name}.json": text_of(schema) for name, schema in schemas().items()}
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert found == made, "python -m normswap.report.schema writes them anew"


def test_every_report_has_a_schema_that_is_one():
    assert len(schemas()) == len(REPORTS) + len(FILES)
    for name, schema in schemas().items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert f"`normswap/{name}/1`" in DOCS


@pytest.mark.parametrize(
    ("kind", "code", "arguments"),
    [
        ("fold", 0, ["fold", "model.onnx"]),
        ("fold", 0, ["fold", "model.onnx", "--dry-run"]),
        ("fold", 0, ["fold", "model.onnx", "--no-check", "--leftover", "affine"]),
        ("explain", 0, ["fold", "model.onnx", "--explain", "first"]),
        ("explain", 0, ["fold", "model.onnx", "--explain", "second"]),
        ("swap", 0, ["bn-to-gn", "model.onnx", "--groups", "2", "-v"]),
        ("swap", 0, ["bn-to-gn", "model.onnx", "--groups", "2", "--calibrate", "data.npy"]),
        ("swap", 0, ["bn-to-gn", "model.onnx", "--groups", "2", "--form", "fastest"]),
        ("swap", 0, ["bn-to-ln", "model.onnx", "--dry-run", "--exclude", "first"]),
        ("swap", 0, ["bn-to-in", "model.onnx"]),
        ("recalibrate", 0, ["recalibrate", "model.onnx", "data.npy"]),
        ("unfold", 0, ["unfold", "model.onnx", "--calibrate", "data.npy", "--include", "*conv*"]),
        ("check", 0, ["check", "model.onnx", "model.onnx"]),
        ("check", 1, ["check", "model.onnx", "other.onnx", "--self-test", "2"]),
        ("inspect", 0, ["inspect", "model.onnx"]),
        ("diff", 1, ["diff", "model.onnx", "other.onnx"]),
        ("lint", 1, ["lint", "model.onnx", "other.onnx"]),
        ("rules", 0, ["lint", "--list-rules"]),
        ("providers", 0, ["providers"]),
        ("providers", 4, ["providers", "--require", "nonsense"]),
        ("error", 2, ["fold", "model.onnx", "--nonsense"]),
        ("error", 2, ["nonsense"]),
        ("error", 2, ["fold", "model.onnx", "--explain", "nonsense"]),
        ("error", 2, ["bn-to-gn", "model.onnx", "--groups", "3"]),
        ("error", 3, ["fold", "data.npy"]),
        ("error", 3, ["recalibrate", "model.onnx", "absent.npy"]),
        ("error", 3, ["check", "model.onnx", "absent.onnx"]),
        ("error", 3, ["check", "--rejudge", "data.npy"]),
        ("error", 4, ["fold", "model.onnx", "--provider", "nonsense"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_commands_print_fits(home, kind, code, arguments):
    result, data = told(*arguments)
    fits(data, kind)
    assert (result.code, data["exit_code"]) == (code, code)
    assert data["command"] == ("explain" if kind == "explain" else arguments[0])
    assert data["normswap"] == normswap.__version__
    assert data["onnx"] == onnx.__version__
    assert (data["error"] is None) == (kind != "error")
    assert [text for text in strings(data) for part in TEMPORARY if part in text] == []


def test_a_report_that_is_judged_again_fits_too(home):
    (home / "report.json").write_text(invoke("check", "model.onnx", "other.onnx", "--json").text)
    _, data = told("check", "--rejudge", "report.json", "--atol", "1e9")
    fits(data, "check")
    assert data["verdict"] == "equivalent"


def test_what_a_certificate_and_verify_write_fits(home):
    _, data = told("check", "model.onnx", "model.onnx", "--certificate", "proof.json")
    fits(data, "check")
    certificate = json.loads((home / "proof.json").read_text(encoding="utf-8"))
    fits(certificate, "certificate")
    for target, code in (("model.onnx", 0), ("outside.onnx", 1)):
        result, data = told("verify", "proof.json", "model.onnx", target)
        fits(data, "verify")
        assert (result.code, data["exit_code"], data["command"]) == (code, code, "verify")
        assert [file["path"] for file in data["inputs"]][:2] == ["proof.json", "model.onnx"]
    result, data = told("fold", "outside.onnx", "--certificate", "fold.json")
    fits(json.loads((home / "fold.json").read_text(encoding="utf-8")), "certificate")
    result, data = told("verify", "model.onnx", "model.onnx", "model.onnx")
    fits(data, "error")
    assert result.code == 3


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_inputs_are_what_was_read(home):
    _, data = told("fold", "outside.onnx", "--dry-run")
    names = ["outside.onnx", "outside.data"]
    assert data["inputs"] == [{"path": n, "sha256": sha256(home / n)} for n in names]
    _, data = told("recalibrate", "model.onnx", "data.npy")
    names = ["model.onnx", "data.npy"]
    assert data["inputs"] == [{"path": n, "sha256": sha256(home / n)} for n in names]
    _, data = told("inspect", "model.onnx")
    assert data["inputs"] == [{"path": "model.onnx", "sha256": sha256(home / "model.onnx")}]
    _, data = told("fold", "absent.onnx")
    assert data["inputs"] == [{"path": "absent.onnx", "sha256": None}]


def test_a_model_that_is_replaced_is_named_as_it_was(home):
    before = sha256(home / "model.onnx")
    _, data = told("fold", "model.onnx", "--in-place", "--no-check")
    assert sha256(home / "model.onnx") != before
    assert data["inputs"] == [{"path": "model.onnx", "sha256": before}]


def test_a_model_from_a_pipe(home):
    model = (home / "model.onnx").read_bytes()
    result = invoke("fold", "--json", stdin=model)
    data = json.loads(result.err[result.err.index("{") :])
    fits(data, "fold")
    digest = hashlib.sha256(model).hexdigest()
    assert data["inputs"] == [{"path": "<stdin>", "sha256": digest}]
    assert (data["check"]["original"], data["check"]["rewritten"]) == ("<stdin>", "<stdout>")
    assert [text for text in strings(data) for part in TEMPORARY if part in text] == []


def test_numbers_that_json_lacks_are_strings(home):
    _, data = told("check", "model.onnx", "model.onnx")
    data["seconds"] = "inf"
    fits(data, "check")
    data["seconds"] = "long"
    with pytest.raises(jsonschema.ValidationError):
        fits(data, "check")
