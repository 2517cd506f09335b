"""What ``import normswap`` gives: every name, on every kind of model, as its help says."""

import doctest
import importlib
import inspect
import io
import re
import shutil
import subprocess
import sys
import textwrap
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from support.build import Builder
from support.folding import assert_same_function, count

import normswap

ROOT = Path(normswap.__file__).parents[1]
FUNCTIONS = ["fold", "plan", "bn_to_gn", "bn_to_ln", "bn_to_in", "recalibrate", "unfold", "check"]
FUNCTIONS += ["check_module", "verify", "inspect", "lint", "diff"]


def network():
    b = Builder()
    b.output(b.node("Relu", b.bn(b.conv(b.input("N", 3, 5, 5), 3, 4), 4)))
    return b.model()


def run(code, *, arguments=()):
    return subprocess.run(
        [sys.executable, *arguments, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


# --- the names -------------------------------------------------------------------------


def test_every_public_name_is_typed_and_found():
    """What a type checker sees is what is there."""
    source = Path(normswap.__file__).read_text(encoding="utf-8")
    typed, _, _ = source.partition("__all__ =")
    for name in normswap.__all__:
        assert f"{name}," in typed or f"{name}\n" in typed, name
        assert getattr(normswap, name).__name__ == name
    assert {*FUNCTIONS, "Reason", "CheckOptions", "FoldResult"} <= set(normswap.__all__)


def test_every_error_is_public():
    errors = {
        name
        for name, value in vars(normswap.errors).items()
        if inspect.isclass(value) and issubclass(value, normswap.NormswapError)
    }
    assert errors <= set(normswap.__all__)


def test_nothing_heavy_is_imported_before_it_is_used():
    done = run(
        """
        import sys, normswap
        normswap.NotEquivalentError, normswap.ExitCode
        heavy = {"numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "rich", "click", "onnx_ir"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "first",
    [
        "import normswap",
        "import normswap.check",
        "import normswap.check.verdict",
        "from normswap import check",
        "from normswap.check import report",
        "from normswap.check.options import CheckOptions",
        "import normswap.workflows.check",
        "import normswap.cli.check",
        "import normswap; normswap.check; import normswap.check",
        "import normswap; normswap.plan('models/mlp.onnx'); import normswap.check.runner",
    ],
)
def test_check_is_the_function_whatever_is_imported_first(first):
    done = run(
        f"""
        {first}
        import importlib, inspect, sys
        import normswap
        assert inspect.isfunction(normswap.check), normswap.check
        from normswap import check
        assert check is normswap.check
        import normswap.check
        from normswap.check import verdict
        from normswap.check.options import CheckOptions
        assert inspect.ismodule(verdict)
        assert CheckOptions is normswap.CheckOptions
        assert inspect.ismodule(sys.modules["normswap.check"])
        assert importlib.import_module("normswap.check.verdict") is verdict
        assert normswap.check is check is importlib.import_module("normswap.workflows.check").check
        """
    )
    assert done.returncode == 0, done.stderr


def test_lint_and_diff_are_functions_though_packages_have_their_names():
    for name in ("lint", "diff"):
        importlib.import_module(f"normswap.{name}")
        assert inspect.isfunction(getattr(normswap, name))
        assert inspect.ismodule(sys.modules[f"normswap.{name}"])


# --- what it says of itself ------------------------------------------------------------


def modules_with_examples():
    for file in sorted((ROOT / "normswap").rglob("*.py")):
        if ">>>" in file.read_text(encoding="utf-8"):
            yield ".".join(file.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.slow
@pytest.mark.parametrize("module", list(modules_with_examples()))
def test_the_examples_run(module, monkeypatch):
    monkeypatch.chdir(ROOT)
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for found in doctest.DocTestFinder().find(importlib.import_module(module)):
        runner.run(found, out=said.append)
    assert not said, "".join(said)
    assert runner.tries


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_example(name):
    (found,) = doctest.DocTestFinder(recurse=False).find(getattr(normswap, name), name)
    assert found.examples


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_names_every_parameter_and_what_comes_back(name):
    function = getattr(normswap, name)
    text = inspect.getdoc(function)
    for parameter in inspect.signature(function).parameters:
        assert parameter in text, parameter
    for section in ("Parameters", "Returns", "Examples"):
        assert f"{section}\n{'-' * len(section)}" in text


@pytest.mark.parametrize("name", ["bn_to_ln", "bn_to_in"])
def test_the_ends_of_bn_to_gn_have_its_parameters(name):
    general = dict(inspect.signature(normswap.bn_to_gn).parameters)
    for settled in ("groups", "group_size", "on_indivisible", "search_groups", "regroup"):
        del general[settled]
    function = getattr(normswap, name)
    assert dict(inspect.signature(function).parameters) == general
    text, whole = inspect.getdoc(function), inspect.getdoc(normswap.bn_to_gn)
    for sentence in ("Calibrate all layers in one pass", "NotEquivalentError"):
        assert sentence in whole
        assert sentence in text
    assert "search_groups" not in text
    assert "form='grouped'" not in text


@pytest.mark.slow
def test_a_type_checker_sees_the_signatures(tmp_path):
    mypy = pytest.importorskip("mypy.api")
    names = [n for n in inspect.signature(normswap.bn_to_ln).parameters if n != "model"]
    every = ", ".join(f"{name}=any_value" for name in names)
    code = f"""
        from typing import Any
        from pathlib import Path
        import normswap
        import normswap.check

        result = normswap.fold(Path("a.onnx"), leftover="affine")
        reveal_type(result.report)
        reveal_type(normswap.check(b"", "b.onnx").verdict)
        reveal_type(normswap.bn_to_ln("a.onnx", samples=3))
        normswap.fold("a.onnx", leftover="foo")
        normswap.bn_to_in("a.onnx", groups=3)
        normswap.bn_to_in("a.onnx", one_pass="yes")
        any_value: Any = None
        normswap.bn_to_ln("a.onnx", {every})
        result.report.check and result.report.check.save_failing_inputs("a.npz")
        normswap.CheckOptions(data=Path("a"), load_outputs="b.npz")
    """
    path = tmp_path / "user.py"
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    said, _, _ = mypy.run([str(path), "--strict", "--config-file", str(ROOT / "pyproject.toml")])
    lines = [line for line in said.splitlines() if "user.py:" in line]
    assert [line.split(":")[1] for line in lines if "error" in line] == ["11", "12", "13"], said
    revealed = [line for line in lines if "Revealed" in line]
    for line, kind in zip(revealed, ("FoldReport", "Verdict", "SwapResult"), strict=True):
        assert kind in line


# --- what a model may be given as ------------------------------------------------------


class ONNXProgram:
    """What ``torch.onnx.export(..., dynamo=True)`` returns, as far as it matters here."""

    __module__ = "torch.onnx._internal.exporter._onnx_program"

    def __init__(self, model):
        self.model = model

    @property
    def model_proto(self):
        return onnx_ir().to_proto(self.model)

    def save(self, destination):
        onnx_ir().save(self.model, destination)


def onnx_ir():
    return pytest.importorskip("onnx_ir")


KINDS = {
    "str": str,
    "path": Path,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "stream": lambda path: io.BytesIO(path.read_bytes()),
    "ModelProto": onnx.load,
    "Graph": lambda path: gs.import_onnx(onnx.load(path)),
    "onnx_ir": lambda path: onnx_ir().load(path),
    "ONNXProgram": lambda path: ONNXProgram(onnx_ir().load(path)),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(network(), path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(path, kind):
    given = KINDS[kind](path)
    plan = normswap.plan(KINDS[kind](path)).plan
    assert (len(plan.folded), plan.kept) == (1, ())
    result = normswap.fold(given, check=None)
    assert_same_function(network(), result.model)
    assert count(result.model) == 0
    report = normswap.check(KINDS[kind](path), result.model)
    assert report.verdict is normswap.Verdict.EQUIVALENT
    assert report.rewritten == "<ModelProto>"
    assert report.original == (str(path) if kind in ("str", "path") else result.report.source)
    if kind not in ("str", "path"):
        assert report.original[0] == "<"


@pytest.mark.parametrize("kind", ["ModelProto", "Graph", "onnx_ir"])
def test_the_model_that_is_given_stays(path, kind):
    given = KINDS[kind](path)
    before = normswap.model.sources.read_bytes(given)
    normswap.fold(given, check=None)
    assert normswap.model.sources.read_bytes(given) == before


def test_a_model_of_onnx_ir_with_external_data(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(network(), path, save_as_external_data=True, size_threshold=0, location="weights")
    given = onnx_ir().load(path)
    (first, *_) = given.graph.initializers.values()
    stored = first.const_value
    result = normswap.fold(given)
    assert first.const_value is stored
    assert_same_function(network(), result.model)


def test_a_path_with_external_data_gives_a_whole_model(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(network(), path, save_as_external_data=True, size_threshold=0, location="weights")
    assert_same_function(network(), normswap.fold(path, check=None).model)
    result = normswap.fold(path, tmp_path / "new.onnx", check=None)
    assert_same_function(network(), result.model)


def test_a_proto_whose_weights_are_elsewhere_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(network(), path, save_as_external_data=True, size_threshold=0, location="weights")
    with pytest.raises(normswap.ModelError, match="<ModelProto>"):
        normswap.fold(onnx.load(path, load_external_data=False))


def test_a_proto_beyond_two_gib_is_refused():
    class Huge:
        def SerializeToString(self):  # noqa: N802 - protobuf's name
            raise ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB")

    Program = type("ONNXProgram", (), {"__module__": "torch.onnx", "model_proto": Huge()})
    with pytest.raises(normswap.ModelError, match="maximum protobuf size") as caught:
        normswap.fold(Program())
    assert "external data" in caught.value.tip


@pytest.mark.parametrize("thing", [3, None, ["model.onnx"], {"model": 1}, io.StringIO("text")])
def test_what_is_no_model(thing):
    for function in (normswap.fold, normswap.plan, normswap.bn_to_gn):
        with pytest.raises(normswap.UsageError, match="A model can't be"):
            function(thing)
    with pytest.raises(normswap.UsageError, match="A model can't be"):
        normswap.check(thing, thing)


# --- what comes back -------------------------------------------------------------------

IMAGES = [{"x": np.random.default_rng(0).normal(1, 2, (4, 3, 5, 5)).astype(np.float32)}]

REWRITES = {
    "fold": normswap.fold,
    "bn_to_gn": lambda model, *rest, **options: normswap.bn_to_gn(
        model, *rest, groups=2, **options
    ),
    "recalibrate": lambda model, *rest, **options: normswap.recalibrate(
        model, IMAGES, *rest, **options
    ),
    "unfold": lambda model, *rest, **options: normswap.unfold(
        normswap.fold(model, check=None).model, *rest, calibrate=IMAGES, **options
    ),
}


UNCHECKED = {name: {} if name == "recalibrate" else {"check": None} for name in REWRITES}


@pytest.mark.parametrize("name", REWRITES)
def test_without_an_output_nothing_is_written(path, name, monkeypatch):
    monkeypatch.chdir(path.parent)
    result = REWRITES[name](path)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert result.report.exit_code is normswap.ExitCode.OK
    told = result.report.to_dict()
    assert (told["output"], told["size_after"]) == (None, result.report.size_after)
    onnx.checker.check_model(result.model, full_check=True)
    saved = result.save("new.onnx")
    assert saved == Path("new.onnx")
    assert onnx.load(saved) == result.model
    with pytest.raises(normswap.UsageError, match="exists"):
        result.save("new.onnx")
    result.save("new.onnx", overwrite=True)


class OwnPath:
    """A path that is neither a str nor a Path."""

    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize("kind", [str, Path, OwnPath])
def test_every_path_may_be_of_any_kind(path, kind):
    model, new, data = path, path.with_name("new.onnx"), path.with_name("data.npz")
    np.savez(data, **IMAGES[0])
    result = normswap.bn_to_gn(kind(model), kind(new), groups=2, calibrate=kind(data))
    assert (result.report.source, result.report.output) == ("model.onnx", str(new))
    assert normswap.recalibrate(kind(model), kind(data)).report.samples == 4
    options = normswap.CheckOptions(data=kind(data), load_outputs=None)
    report = normswap.check(kind(model), kind(new), options)
    assert report.verdict is normswap.Verdict.DIFFERENT
    assert (report.original, report.rewritten) == (str(model), str(new))
    assert [case.name for case in report.cases] == ["data data.npz"]
    saved = report.save_failing_inputs(kind(path.with_name("failing.npz")))
    assert saved == (path.with_name("failing.npz"),)
    np.testing.assert_array_equal(np.load(saved[0])["x"], IMAGES[0]["x"])
    assert result.save(kind(path.with_name("again.onnx"))).exists()


@pytest.mark.parametrize("name", REWRITES)
def test_with_an_output_the_model_is_there(path, name):
    target = path.with_name("new.onnx")
    result = REWRITES[name](path, str(target), **UNCHECKED[name])
    assert result.report.output == str(target)
    assert result.model == onnx.load(target)
    assert onnx.load(result.save(path.with_name("copy.onnx"))) == result.model


@pytest.mark.parametrize("name", REWRITES)
def test_a_stream_keeps_its_model(path, name):
    stream = io.BytesIO()
    result = REWRITES[name](path, stream, **UNCHECKED[name])
    onnx.checker.check_model(onnx.load_from_string(stream.getvalue()))
    with pytest.raises(normswap.UsageError, match="stream"):
        _ = result.model
    with pytest.raises(normswap.UsageError, match="stream"):
        result.save(path.with_name("copy.onnx"))


# --- the check -------------------------------------------------------------------------


@pytest.fixture
def verdicts(monkeypatch):
    """Have every check end as a test says."""
    import dataclasses

    from normswap.workflows.ending import Ending

    checked = Ending.checked

    def end(verdict, *reasons):
        def judged(*arguments):
            return dataclasses.replace(checked(*arguments), verdict=verdict, reasons=reasons)

        monkeypatch.setattr(Ending, "checked", judged)

    return end


@pytest.mark.parametrize("way", ["path", "memory"])
@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (normswap.Verdict.DIFFERENT, normswap.NotEquivalentError),
        (normswap.Verdict.INCONCLUSIVE, normswap.InconclusiveError),
    ],
)
def test_what_the_check_does_not_vouch_for_is_an_error(path, verdicts, verdict, error, way):
    verdicts(verdict, "output 'y': it is so")
    target = path.with_name("new.onnx") if way == "path" else None
    with pytest.raises(error, match=r"model\.onnx.*: output 'y': it is so") as caught:
        normswap.fold(path, target)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    report = caught.value.report
    assert isinstance(report, normswap.FoldReport)
    assert isinstance(caught.value, normswap.UnprovenError)
    assert report.check.verdict is verdict
    assert report.exit_code is caught.value.exit_code
    assert report.to_dict()["written"] is False
    assert normswap.fold(path, target, check=None).report.check is None


def test_a_swap_that_is_none_is_an_error(path, monkeypatch):
    from normswap.workflows import swap_check

    right = swap_check.check_files
    for verdict, error in (
        (normswap.Verdict.DIFFERENT, normswap.NotEquivalentError),
        (normswap.Verdict.INCONCLUSIVE, normswap.InconclusiveError),
    ):
        monkeypatch.setattr(
            swap_check,
            "check_files",
            lambda *given, verdict=verdict, **named: replace(
                right(*given, **named), verdict=verdict
            ),
        )
        with pytest.raises(error) as caught:
            normswap.bn_to_gn(path, path.with_name("new.onnx"), groups=2)
        assert isinstance(caught.value.report, normswap.SwapReport)
        assert not path.with_name("new.onnx").exists()
    monkeypatch.setattr(swap_check, "check_files", right)
    assert normswap.bn_to_gn(path, groups=2).report.check.verdict is normswap.Verdict.EQUIVALENT


@pytest.mark.parametrize("check", [None, "off"])
@pytest.mark.parametrize("name", ["fold", "bn_to_gn"])
def test_to_go_without_a_check_is_said(path, name, check):
    assert REWRITES[name](path, check=check).report.check is None


@pytest.mark.parametrize("check", ["full", normswap.CheckOptions(depth="full", seed=3)])
def test_how_thoroughly_is_said(path, check):
    report = normswap.fold(path, check=check).report
    assert report.check.depth == "full"
    assert report.check.seed == getattr(check, "seed", 0)


# --- what is mistyped ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "listed"),
    [
        (lambda m: normswap.fold(m, leftover="foo"), "'keep', 'affine', 'normalize'"),
        (lambda m: normswap.plan(m, leftover="foo"), "'keep', 'affine', 'normalize'"),
        (lambda m: normswap.fold(m, check="quik"), "'quick', 'full', 'proof', 'off'"),
        (lambda m: normswap.fold(m, check=True), "'quick', 'full', 'proof', 'off'"),
        (lambda m: normswap.bn_to_gn(m, check="quik"), "'quick', 'full', 'off'"),
        (lambda m: normswap.bn_to_gn(m, check="proof"), "'quick', 'full', 'off'"),
        (lambda m: normswap.bn_to_gn(m, form="foo"), "'auto', 'fastest', .*'primitive'"),
        (lambda m: normswap.bn_to_ln(m, form="foo"), "'auto', 'fastest', .*'primitive'"),
        (
            lambda m: normswap.bn_to_gn(m, on_indivisible="foo"),
            "'error', 'gcd', 'nearest', 'keep'",
        ),
        (lambda m: normswap.bn_to_gn(m, groups="foo"), "a number nor 'channels'"),
        (lambda m: normswap.bn_to_gn(m, groups=8, group_size=2), "only one of them is possible"),
        (lambda m: normswap.bn_to_gn(m, groups=2, one_pass=True), "one_pass needs data"),
        (lambda m: normswap.bn_to_gn(m, groups=2, samples=3), "samples needs data"),
        (lambda m: normswap.recalibrate(m, IMAGES, momentum=1.5), "below 1"),
        (normswap.unfold, "There is no data"),
        (lambda m: normswap.check(m, m, "quik"), "'quick', 'full'"),
        (lambda m: normswap.fold(m, 3), "of type int"),
        (lambda m: normswap.CheckOptions(depth="quik"), "'quick', 'full'"),
    ],
)
def test_a_mistyped_value_is_a_value_error_that_lists_what_is_allowed(path, call, listed):
    with pytest.raises(ValueError, match=listed) as caught:
        call(path)
    assert isinstance(caught.value, normswap.UsageError)


def test_what_was_meant_is_guessed(path):
    with pytest.raises(normswap.UsageError) as caught:
        normswap.fold(path, check="quik")
    assert caught.value.tip == "Did you mean 'quick'?"
    if sys.version_info >= (3, 11):  # which ends a traceback with notes
        (*_, last) = traceback.format_exception_only(caught.value)
        assert last == "tip: Did you mean 'quick'?\n"


# --- the swaps -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "groups"),
    [
        (lambda m: normswap.bn_to_gn(m, groups=2), 2),
        (lambda m: normswap.bn_to_gn(m, group_size=4), 1),
        (lambda m: normswap.bn_to_gn(m, on_indivisible="gcd"), 4),
        (normswap.bn_to_ln, 1),
        (normswap.bn_to_in, 4),
        (lambda m: normswap.bn_to_gn(m, groups="channels", calibrate=IMAGES, one_pass=True), 4),
    ],
)
def test_how_many_groups(path, call, groups):
    result = call(path)
    assert [swap.num_groups for swap in result.report.plan.swaps] == [groups]
    assert count(result.model) == 0


# --- the same that the command prints --------------------------------------------------


def test_reports_are_what_json_prints(path):
    import json

    from support.cli import invoke

    done = invoke("fold", path, "--json", "--no-check", "-o", path.with_name("new.onnx"))
    report = normswap.fold(path, path.with_name("new.onnx"), check=None, overwrite=True).report
    assert json.loads(done.out)["plan"] == report.to_dict()["plan"]
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


# --- the page about it -----------------------------------------------------------------

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def run_blocks(blocks, folder):
    """Run blocks of Python one after another in a copy of what they read, and their tests."""
    shutil.copytree(ROOT / "models", folder / "models")
    names = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)  # noqa: S102 - our own page
    for name, value in names.items():
        if name.startswith("test_"):
            value()


@pytest.mark.slow
def test_the_page_is_true(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_blocks([block for block in BLOCKS if "torch" not in block], tmp_path)
    assert "norm_image" in capsys.readouterr().out
    assert {"folded.onnx", "unet.onnx", "mlp.onnx", "gn.onnx"} <= {
        path.name for path in tmp_path.iterdir()
    }


@pytest.mark.filterwarnings("ignore")  # torch's own, about what it does itself
def test_the_page_is_true_of_torch(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in BLOCKS if "torch" in block]
    assert blocks
    run_blocks(["import normswap", *blocks], tmp_path)


def test_the_page_names_every_function_and_error():
    named = set(re.findall(r"`(\w+)", PAGE))
    errors = {name for name in normswap.__all__ if name.endswith("Error")}
    assert {*FUNCTIONS, *errors} <= named
