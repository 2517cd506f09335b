"""CONTRIBUTING's lists are true: whoever follows one, and touches nothing else, is done.

Each list has an example here. It is added to a copy of the package, where a program of its own
tries it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import onnx
import pytest
from support.build import Builder

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LISTS = dict(re.findall(r"^## ((?:Teach|Add) .*)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))

OPERATOR = '''
from normswap.folding.answers import Answer, Up
from normswap.folding.operators.base import Operator
from normswap.graph.network import Use


class Same(Operator):
    """Of our own domain: y = x."""

    domain = "own"
    ops = ("Same",)

    def up(self, node, index, affine):
        return Answer(goals=(Up(Use(node, 0), affine),))
'''

TIDIER = """
from normswap.folding.edits import Bypass


def drop_abs(draft, graph):
    start = draft.mark()
    for node in graph.topological():
        maker = node.inputs[0].producer if node.op == "Abs" and not node.removed else None
        if maker is not None and maker.op == "Abs":
            draft.commit([Bypass(node.key, 0)])
    return bool(draft.since(start))
"""

FORM = """
from normswap.groupnorm.forms.base import Form, Preference


class Toy(Form):
    name = "toy"
    summary = "a normalization of our own"
    operator = "ToyNorm"
    opset = 13
    domain = "own"

    def preference(self, layer, provider, threads):
        return Preference(1e9, "we wrote it")

    def build(self, builder):
        builder.finish(builder.op(self.operator, [builder.x], "toy", domain=self.domain))


FORM = Toy()
"""

RULE = '''
from normswap.lint.rule import Rule


class Loud(Rule):
    """A node that shouts."""

    code = "NS199"
    name = "loud"
    what = "A node has a name in capitals."
    why = "It hurts."
    how = "Whisper."

    def find(self, subject, options):
        for node in subject.network.nodes():
            if node.name.isupper():
                yield self.finding("it shouts", node.name)


RULE = Loud()
'''

FORMAT = """
def tell(report, stream, *, verbose, envelope):
    stream.write(f"{len(report.plan.folded)} FOLDED!\\n")
"""

TIP = """def same(report, model):
    return f"`normswap diff {model} {model}` has nothing to tell" if report.plan.folded else None


"""

WORKFLOW = '''
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from normswap.errors import ExitCode
from normswap.model import load
from normswap.plain import AsDict


@dataclass(frozen=True, slots=True)
class CountReport(AsDict):
    """How many nodes a model has."""

    source: str
    nodes: int

    SCHEMA: ClassVar[str] = "normswap/count/1"
    TOLD = ("exit_code",)

    @property
    def exit_code(self) -> ExitCode:
        """How the command ends."""
        return ExitCode.OK


def count(model) -> CountReport:
    """Count the nodes of a model."""
    loaded = load(model)
    return CountReport(loaded.name, len(loaded.graph.nodes))
'''

COMMAND = '''
import click

from normswap.cli.options import model_argument, report_options
from normswap.cli.source_and_target import source_of_command
from normswap.cli.telling import telling


@click.command("count")
@model_argument
@report_options
def count_command(model, quiet, verbose):
    """Count the nodes of MODEL."""
    from normswap.workflows.count import count

    report = count(source_of_command(model))
    telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code
'''

COUNT_TEXT = """def count(report, console, verbose):
    console.print(f"{report.source}: {report.nodes} nodes")


"""

COUNT_PAGE = """def count(report: Any, wirings: Sequence[Wiring | None]) -> Page:
    return Page("count", report.source, Word(f"{report.nodes} nodes"), "")


"""

COUNT_RESULTS = """def _count(report: Any) -> Iterator[ReportItem]:
    yield ReportItem(f"{report.nodes} nodes", "pass")


"""

# What is written where: a new file, or what is put before a passage of an old one.
EXAMPLES = {
    "Teach the fold a new operator": {"normswap/folding/operators/same.py": OPERATOR},
    "Add a pass to the fold": {
        "normswap/folding/passes/abs.py": TIDIER,
        "normswap/folding/planner.py": [
            (
                "from normswap.folding.passes.branches",
                "from normswap.folding.passes.abs import drop_abs\n",
            ),
            ("        store,\n", "        drop_abs,\n"),
        ],
    },
    "Teach the swap a new form": {"normswap/groupnorm/forms/toy.py": FORM},
    "Add a rule to lint": {"normswap/lint/rules/loud.py": RULE},
    "Add a report format": {"normswap/report/formats/shout.py": FORMAT},
    "Add a tip": {
        "normswap/report/next.py": [
            ("TIPS = {", TIP),
            ("training, overridable, growth, folded", "same, "),
        ],
    },
    "Add a command": {
        "normswap/workflows/count.py": WORKFLOW,
        "normswap/__init__.py": [
            ('    "workflows.diff":', '    "workflows.count": ("CountReport", "count"),\n'),
            ('    "DataError",\n    "Depth",\n', '    "CountReport",\n'),
            ('    "diff",\n    "fold",\n', '    "count",\n'),
            (
                "    from normswap.workflows.diff import",
                "    from normswap.workflows.count import CountReport, count\n",
            ),
        ],
        "normswap/cli/count.py": COMMAND,
        "normswap/cli/__init__.py": [
            ('    "check": (\n', '    "count": ("normswap.cli.count:count_command", "Count."),\n')
        ],
        "normswap/report/formats/text/others.py": [("def error(", COUNT_TEXT)],
        "normswap/report/pages/others.py": [("def error(", COUNT_PAGE)],
        "normswap/report/pages/__init__.py": [
            ('    "error": others.error', '    "count": others.count,\n')
        ],
        "normswap/report/results.py": [
            ("_KINDS: dict", COUNT_RESULTS),
            ('    "error": _error', '    "count": _count,\n'),
        ],
        "normswap/report/schema.py": [
            (
                '    "normswap.runtime.survey:Survey"',
                '    "normswap.workflows.count:CountReport",\n',
            )
        ],
    },
}


def named(title):
    """Return the files and folders of the package that a list names."""
    return set(re.findall(r"`(normswap/[\w./]*)`", LISTS[title]))


@pytest.fixture
def follow(tmp_path):
    """Return what follows a list in a copy of the package, and then runs Python there."""

    def run(*arguments, code=0):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    def following(title):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "normswap", tmp_path / "normswap", ignore=ignored)
        for name, text in EXAMPLES[title].items():
            path = tmp_path / name
            if isinstance(text, str):
                assert not path.exists()
                path.write_text(text, encoding="utf-8")
                continue
            whole = path.read_text(encoding="utf-8")
            for passage, added in text:
                assert whole.count(passage) == 1, passage
                whole = whole.replace(passage, added + passage)
            path.write_text(whole, encoding="utf-8")
        return run

    return following


@pytest.fixture
def model(tmp_path):
    b = Builder(17)
    b.output(b.bn(b.node("Identity", b.conv(b.input(2, 3, 5, 5), 3, 4)), 4), None)
    made = onnx.shape_inference.infer_shapes(b.model())
    (same,) = (node for node in made.graph.node if node.op_type == "Identity")
    same.op_type, same.domain = "Same", "own"
    made.opset_import.append(onnx.helper.make_opsetid("own", 1))
    onnx.save(made, tmp_path / "model.onnx")
    return "model.onnx"


def test_every_list_is_followed():
    assert LISTS.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("title", EXAMPLES)
def test_a_list_names_what_is_touched_and_nothing_else(title):
    touched = {
        name if (ROOT / name).exists() else f"{Path(name).parent.as_posix()}/"
        for name in EXAMPLES[title]
    }
    assert touched == {name for name in named(title) if "." not in name or name.endswith(".py")}
    for name in re.findall(r"`((?:normswap|tests|docs)/[\w./-]*)`", LISTS[title]):
        assert (ROOT / name).exists(), name


def test_a_new_operator(follow, model):
    run = follow("Teach the fold a new operator")
    told = json.loads(run("-m", "normswap", "fold", "--dry-run", "--json", model))
    assert [entry["route"][0]["op"] for entry in told["plan"]["folded"]] == ["Same"]
    assert not told["plan"]["kept"]


def test_a_new_pass(follow, tmp_path):
    run = follow("Add a pass to the fold")
    b = Builder(17)
    b.output(b.node("Sigmoid", b.node("Abs", b.node("Abs", b.bn(b.input(2, 3, 5, 5), 3)))))
    onnx.save(b.model(), tmp_path / "model.onnx")
    run("-m", "normswap", "fold", "model.onnx", "-o", "new.onnx")
    made = onnx.load(tmp_path / "new.onnx")
    assert [node.op_type for node in made.graph.node] == ["BatchNormalization", "Abs", "Sigmoid"]


def test_a_new_form(follow, model):
    run = follow("Teach the swap a new form")
    assert "|toy" in run("-m", "normswap", "bn-to-gn", "--help")
    arguments = ("--form", "toy", "--groups", "2", "--no-check", "-o", "new.onnx")
    run("-m", "normswap", "bn-to-gn", *arguments, model)
    made = onnx.load(Path(run("-c", "import os; print(os.getcwd())").strip()) / "new.onnx")
    assert "ToyNorm" in {node.op_type for node in made.graph.node}


def test_a_new_rule(follow, model, tmp_path):
    run = follow("Add a rule to lint")
    loud = onnx.load(tmp_path / model)
    loud.graph.node[0].name = "LOUD"
    onnx.save(loud, tmp_path / "loud.onnx")
    told = run("-m", "normswap", "lint", "loud.onnx", model, "--select", "NS19", code=1)
    assert re.search(r"NS199 +loud +LOUD +it shouts", told)
    assert "Whisper." in run("-m", "normswap", "lint", "--explain", "loud")


def test_a_new_report_format(follow, model):
    run = follow("Add a report format")
    assert "|shout|" in run("-m", "normswap", "fold", "--help")
    assert run("-m", "normswap", "fold", "--dry-run", "--format", "shout", model) == "0 FOLDED!\n"


def test_a_new_tip(follow, tmp_path):
    run = follow("Add a tip")
    for name, folds in (("plain", False), ("fold", True)):
        b = Builder(17)
        x = b.input(2, 3, 5, 5)
        b.output(b.bn(b.conv(x, 3, 4), 4) if folds else b.node("Relu", x), None)
        onnx.save(b.model(), tmp_path / f"{name}.onnx")
        told = json.loads(run("-m", "normswap", "fold", "--dry-run", "--json", f"{name}.onnx"))
        tips = ["`normswap diff fold.onnx fold.onnx` has nothing to tell"] if folds else []
        assert told["tips"] == tips


def test_a_new_command(follow, model, tmp_path):
    run = follow("Add a command")
    assert re.search(r"^ *count +Count\.$", run("-m", "normswap", "--help"), re.MULTILINE)
    assert run("-m", "normswap", "count", model) == "model.onnx: 3 nodes\n"
    marked = run("-m", "normswap", "count", model, "--format", "markdown")
    assert marked == "## model.onnx: 3 nodes\n"
    assert 'name="3 nodes"' in run("-m", "normswap", "count", model, "--output", "junit")
    run("-m", "normswap.report.schema")
    schema = json.loads((tmp_path / "normswap/report/schemas/count.json").read_text("utf-8"))
    told = json.loads(run("-m", "normswap", "count", model, "--json"))
    jsonschema.Draft202012Validator(schema).validate(told)
    assert (told["command"], told["nodes"], told["exit_code"]) == ("count", 3, 0)
    failed = json.loads(run("-m", "normswap", "count", "none.onnx", "--json", code=3))
    assert failed["error"]["type"] == "ModelError"
    public = "import normswap; print('count' in dir(normswap), normswap.count('model.onnx').nodes)"
    assert run("-c", public) == "True 3\n"
