"""The GitHub Action and the hooks of pre-commit: their shell steps, run as a runner does."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import onnx
import pytest
from support.build import Builder
from support.sharing import machine

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
C = 4

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the steps are for bash")


def model(path, *, foldable=False, training=0, seed=0):
    """Write a model, which is fine by default."""
    b = Builder(17, seed=seed)
    x = b.conv(b.input(2, 3, 5, 5), 3, C)
    if foldable or training:
        x = b.bn(x, C, name="/stem/bn", positive=True, training_mode=training)
    b.output(b.node("Relu", x, out="y"), (2, C, 3, 3))
    path.parent.mkdir(exist_ok=True)
    onnx.save(b.model(), path)


@pytest.fixture
def job(tmp_path):
    """Return what runs the action in a new repository, as a runner does."""
    home = tmp_path / "repository"
    (home / "models").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", home], check=True)  # noqa: S607 - as on the runner
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("normswap", " -m normswap"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n')
        (programs / name).chmod(0o755)

    def run(**inputs):
        assert set(inputs) <= {name.replace("-", "_") for name in ACTION["inputs"]}
        given = {"install": "none"} | {k.replace("_", "-"): v for k, v in inputs.items()}
        values = {n: given.get(n, spec.get("default", "")) for n, spec in ACTION["inputs"].items()}
        files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        text, code = "", 0
        for step in ACTION["runs"]["steps"]:
            script = tmp_path / "step.sh"
            script.write_text(step["run"])
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],  # noqa: S607
                cwd=home / filled(step.get("working-directory", "."), values),
                env={
                    **machine(),
                    "PATH": f"{programs}:{os.environ['PATH']}",
                    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                    "GITHUB_WORKSPACE": str(home),
                    **{name: str(file) for name, file in files.items()},
                    **{name: filled(value, values) for name, value in step["env"].items()},
                },
                capture_output=True,
                text=True,
                check=False,
            )
            text, code = text + done.stdout + done.stderr, done.returncode
            if code:
                break
        outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().split())
        assert code == int(outputs.get("exit-code", code))
        return code, text, files["GITHUB_STEP_SUMMARY"].read_text()

    run.home = home
    return run


def filled(text, values):
    """Fill in what GitHub fills in."""
    text = text.replace("${{ github.action_path }}", str(ROOT))
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: values[match[1]], text)


def test_a_good_model_is_green_and_a_bad_one_is_named(job):
    """Each finding is an annotation of the file, with the layer, and in the summary."""
    model(job.home / "models" / "good.onnx")
    code, text, summary = job()
    assert (code, "::error" in text, "::warning" in text) == (0, False, False)
    assert "no findings" in summary
    model(job.home / "models" / "deep" / "foldable.onnx", foldable=True)
    model(job.home / "models" / "trains.onnx", training=1)
    code, text, summary = job(output="sarif=lint.sarif\njunit = lint.xml\n")
    assert code == 1
    for file, annotation in (
        ("models/deep/foldable.onnx", r"::warning file={},title=normswap%3A NS101 [^\n]*/stem/bn"),
        ("models/trains.onnx", r"::error file={},title=normswap%3A NS102 [^\n]*/stem/bn"),
    ):
        assert re.search(annotation.format(file), text)
    assert "/stem/bn" in summary
    assert (job.home / "lint.sarif").is_file()
    assert (job.home / "lint.xml").is_file()


def test_a_gate_runs_dry_model_by_model(job):
    for name, training in (("a", 0), ("b", 1), ("c", 0)):
        model(job.home / "models" / f"{name}.onnx", foldable=True, training=training)
    code, text, summary = job(
        command="fold", fail_on="training", models="models/[ab].onnx", output="json=out.json"
    )
    assert code == 1
    assert "::error file=models/b.onnx,title=normswap%3A training-mode::" in text
    assert "file=models/a.onnx" not in text
    assert summary.count("##") >= 2
    names = {path.name for path in job.home.iterdir()}
    assert {"out.json", "out.1.json"} <= names
    assert {path.name for path in (job.home / "models").iterdir()} == {"a.onnx", "b.onnx", "c.onnx"}


def test_a_pair_is_compared_and_a_changed_weight_named(job):
    model(job.home / "models" / "old.onnx")
    shutil.copy(job.home / "models" / "old.onnx", job.home / "models" / "new.onnx")
    changed = onnx.load(job.home / "models" / "old.onnx")
    kernel = onnx.numpy_helper.to_array(changed.graph.initializer[0]).copy()
    kernel[1, 0, 0, 0] *= 1.01
    name = changed.graph.initializer[0].name
    changed.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(kernel, name))
    onnx.save(changed, job.home / "models" / "changed.onnx")
    pairs = "models/old.onnx models/new.onnx models/old.onnx models/changed.onnx"
    code, text, _ = job(command="check", models=pairs, args="--check proof")
    assert code == 1
    assert "equivalent, proved: old.onnx and new.onnx" in text
    assert re.search(r"::error file=models/changed.onnx,title=normswap%3A region [^\n]*Conv", text)


@pytest.mark.parametrize(
    ("inputs", "code", "said"),
    [
        ({"models": "nothing/*.onnx"}, 3, "::error title=normswap::there is no model that fits"),
        ({"models": "missing.onnx"}, 3, "missing.onnx"),
        ({"args": "--ignore 'NS1 01'", "models": "models/m.onnx"}, 2, "NS1 01"),
        ({"args": "$(touch hacked)", "models": "$(touch hacked) `touch hacked`"}, 3, "touch"),
    ],
)
def test_what_is_no_model_or_option_is_said_and_nothing_is_a_command(job, inputs, code, said):
    model(job.home / "models" / "m.onnx")
    found, text, _ = job(**inputs)
    assert (found, said in text) == (code, True)
    assert not list(job.home.rglob("hacked"))


NETS = """
    import torch
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3)
            self.bn = nn.BatchNorm2d(8)
            self.head = nn.Linear(8, 4)

        def forward(self, image):
            return self.head(torch.relu(self.bn(self.stem(image))).mean((2, 3)))

    def make():
        torch.manual_seed(0)
        net = Classifier()
        for _ in range(3):
            net(torch.randn(8, 3, 6, 6))
        return net.eval(), (torch.randn(2, 3, 6, 6),)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, about what it does itself
def test_the_snippet_of_the_page_is_green_and_red(job, monkeypatch):
    """In a new repository: a good model, and the four that a pipeline is there to find."""
    torch = pytest.importorskip("torch")
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    (workflow,) = (
        block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "jobs:" in block
    )
    used = [step.get("with", {}) for step in steps(yaml.safe_load(workflow))]
    (job.home / "nets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.syspath_prepend(job.home)
    net, args = __import__("nets").make()
    path = job.home / "models" / "classifier.onnx"

    def export(**options):
        torch.onnx.export(net, args, path, dynamo=False, **options)

    def ran():
        done = [job(**{name.replace("-", "_"): v for name, v in each.items()}) for each in used]
        return [code for code, *_ in done], "".join(text for _, text, _ in done)

    export()
    codes, text = ran()
    assert (codes, "::error" in text) == ([0, 0], False)

    keep = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    export(**keep)  # a BatchNormalization that folds was left
    codes, text = ran()
    assert codes == [1, 0]
    assert re.search(r"::warning file=models/classifier.onnx,title=[^\n]*NS101[^\n]*/bn/", text)

    net.train()
    export(**keep)  # in training mode
    net.eval()
    codes, text = ran()
    assert codes == [1, 1]
    assert re.search(r"::error file=models/classifier.onnx,title=[^\n]*NS102[^\n]*/bn/", text)
    assert re.search(r"::error [^\n]*normswap%3A mode [^\n]*/bn/BatchNormalization", text)

    export()
    changed = onnx.load(path)  # a weight changed after the export
    kernel = next(t for t in changed.graph.initializer if len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(kernel).copy()
    values[1, 0, 0, 0] *= 1.01
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    onnx.save(changed, path)
    codes, text = ran()
    assert codes == [0, 1]
    assert re.search(r"::error [^\n]*normswap%3A weight [^\n]*::stem.weight: ", text)
    assert re.search(r"::error [^\n]*normswap%3A layer [^\n]*::stem: ", text)

    for parameter in net.parameters():  # the wrong file: another training run
        torch.nn.init.normal_(parameter)
    export()
    codes, text = ran()
    assert codes == [0, 1]
    assert re.search(r"::error [^\n]*normswap%3A (weight|layer) [^\n]*::(stem|head)", text)


def test_the_pages_use_inputs_that_there_are():
    pages = [ROOT / "README.md", ROOT / "docs" / "ci.md"]
    blocks = [
        block
        for page in pages
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(blocks) >= 3
    used = [step for block in map(yaml.safe_load, blocks) for step in steps(block)]
    assert used
    for step in used:
        assert set(step.get("with", {})) <= set(ACTION["inputs"])
    documented = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for name in (*ACTION["inputs"], *ACTION["outputs"], *(hook["id"] for hook in HOOKS)):
        assert f"`{name}`" in documented
    hooks = [h["id"] for b in map(yaml.safe_load, blocks) for h in pre_commit(b)]
    assert set(hooks) <= {hook["id"] for hook in HOOKS}


def steps(block):
    """Yield the steps of a workflow that use the action."""
    if isinstance(block, dict):
        if "normswap/normswap" in str(block.get("uses", "")):
            yield block
        block = block.values()
    elif not isinstance(block, list):
        return
    for each in block:
        yield from steps(each)


def pre_commit(block):
    """Yield the hooks of a configuration of pre-commit."""
    if isinstance(block, dict) and "repos" in block:
        for repository in block["repos"]:
            yield from repository["hooks"]


def test_hooks_are_commands_that_there_are():
    from normswap.cli import COMMANDS

    for hook in HOOKS:
        program, command, *_ = hook["entry"].split()
        assert (program, hook["language"]) == ("normswap", "python")
        assert command in COMMANDS


@pytest.mark.slow
def test_pre_commit_tries_the_repository(tmp_path):
    """It installs the package anew, for which it needs a package index."""
    program = shutil.which("pre-commit")
    if program is None or not (ROOT / ".git").exists():
        pytest.skip("pre-commit or a git checkout is missing")
    home = tmp_path / "repository"
    model(home / "models" / "good.onnx")
    model(home / "models" / "foldable.onnx", foldable=True)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=home, check=True)  # noqa: S607
    done = subprocess.run(
        [program, "try-repo", str(ROOT), "normswap-lint", "--all-files"],
        cwd=home,
        env={**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "/stem/bn" in done.stdout
