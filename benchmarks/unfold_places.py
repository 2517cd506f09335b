"""Where unfold puts BatchNormalizations in real architectures, and where they were.

    python -m benchmarks.unfold_places ZOO ... --output benchmarks/RESULTS-UNFOLD.md

ZOO are folders that ``benchmarks.zoo`` and ``benchmarks.timm_zoo`` have filled. Of each
architecture one export is taken, every BatchNormalization in it. It is folded, which tells the
places: the linear layers that took one in. The folded model is unfolded on two random samples, and
the layers in front of its BatchNormalizations are compared with these. Then it is folded again, and
compared with what it was, bit for bit.

Where the folder has what torch's exporter makes by default (``NAME.optimized.onnx``, beside
``NAME.dynamo.onnx``, which keeps all), that is asked too: there the tensors that a
BatchNormalization made have the names that unfold gives them again.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import normswap
from benchmarks.runtime import inputs
from normswap.workflows.unfold import plan_report

KINDS = ("", ".script", ".dynamo")
"""Endings of exports that have all BatchNormalizations, the first that is there is taken."""


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one architecture.

    Attributes
    ----------
    name : str
    before : int
        BatchNormalizations of the export.
    kept : int
        Those that a fold keeps.
    elsewhere : int
        Folds into what is no linear layer, or is behind the BatchNormalization, or that was merged
        into another layer with its branch.
    layers, same : int
        Linear layers that took one in, and those of them that have one again.
    missing : Counter
        The others, by unfold's reason.
    extra : int
        Layers that have one and had none.
    is_back : bool
        Whether folding again gives the folded model.
    is_of_zoo : bool
        Whether it is one of ``benchmarks.zoo``.
    """

    name: str
    before: int
    kept: int
    elsewhere: int
    layers: int
    same: int
    missing: Counter[str]
    extra: int
    is_back: bool
    is_of_zoo: bool

    @property
    def is_reproduced(self) -> bool:
        """Whether the places are the same."""
        return not self.missing and not self.extra

    def __str__(self) -> str:
        missing = ", ".join(f"{count} {reason}" for reason, count in self.missing.items())
        cells = (
            self.name,
            self.before,
            self.kept or "",
            self.elsewhere or "",
            self.layers,
            self.same,
            missing,
            self.extra or "",
            "yes" if self.is_reproduced else "no",
            "yes" if self.is_back else "no",
        )
        return "| " + " | ".join(map(str, cells)) + " |"


def compare(name: str, path: Path) -> Row:
    """Fold an export, unfold it, and compare the places."""
    result = normswap.fold(path, check=None)
    folded, entries = result.model, result.report.plan.folded
    batchnorms = [entry for entry in entries if entry.site.op == "BatchNormalization"]
    steps = [step for entry in batchnorms for step in entry.absorbers]
    took = {step.node for step in steps if step.direction == "up"}
    given = {key: np.repeat(value, 2, axis=0) for key, value in inputs(path).items()}
    rng = np.random.default_rng(1)
    data = {key: rng.normal(size=value.shape).astype(np.float32) for key, value in given.items()}
    done = normswap.unfold(folded, calibrate=data, check=None)
    plan = done.report.plan
    # An Add behind a MatMul may have taken the shift.
    makers = {out: node.name for node in folded.graph.node for out in node.output}
    had = {
        layer: layer.node in took or makers[layer.output] in took
        for layer in (*plan.places, *plan.left_out)
    }
    return Row(
        name,
        len(batchnorms) + len(result.report.plan.kept),
        len(result.report.plan.kept),
        sum(step.direction != "up" for step in steps)
        + len(took - {layer.node for layer in had} - {makers[layer.output] for layer in had}),
        sum(had.values()),
        sum(had[layer] for layer in plan.places),
        Counter(layer.reason.value for layer in plan.left_out if had[layer]),
        sum(not had[layer] for layer in plan.places),
        normswap.fold(done.model, check=None).model == folded,
        path.name == f"{name}.onnx",
    )


@dataclass(frozen=True, slots=True)
class DefaultRow:
    """What came of one architecture as torch's exporter folds it.

    Attributes
    ----------
    name : str
    folded, kept : int
        BatchNormalizations that the exporter folded, and that it left.
    same, missing, extra : int
        Tensors that one made and makes again; that one made; that one makes only now.
    """

    name: str
    folded: int
    kept: int
    same: int
    missing: int
    extra: int

    def __str__(self) -> str:
        counts = (self.kept, self.same, self.missing, self.extra)
        is_same = "no" if self.missing or self.extra else "yes"
        cells = (self.name, self.folded, *(count or "" for count in counts), is_same)
        return "| " + " | ".join(map(str, cells)) + " |"


def compare_default(name: str, whole: Path, folded: Path) -> DefaultRow:
    """Compare the places in what torch folded by itself with those in what keeps all."""
    kept = _batchnorms(folded)
    had = _batchnorms(whole) - kept
    again = {place.output for place in plan_report(folded).plan.places}
    counts = (len(had), len(kept), len(had & again), len(had - again), len(again - had))
    return DefaultRow(name, *counts)


def _batchnorms(path: Path) -> set[str]:
    """Return the tensors that BatchNormalizations make."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return {node.output[0] for node in nodes if node.op_type == "BatchNormalization"}


def defaults(folders: list[Path]) -> dict[str, tuple[Path, Path]]:
    """Return the exports of an architecture with all BatchNormalizations and by default."""
    found = [path for folder in folders for path in sorted(folder.glob("*.optimized.onnx"))]
    pairs = {path.name.split(".")[0]: path for path in found}
    return {
        name: (path.with_name(f"{name}.dynamo.onnx"), path) for name, path in sorted(pairs.items())
    }


def exports(folders: list[Path]) -> dict[str, Path]:
    """Return one export of each architecture, by its name."""
    found: dict[str, Path] = {}
    for kind in KINDS:
        for folder in folders:
            for path in sorted(folder.glob(f"*{kind}.onnx")):
                name = path.name.removesuffix(f"{kind}.onnx")
                if "." not in name:
                    found.setdefault(name, path)
    return dict(sorted(found.items()))


HEAD = """# Where BatchNormalizations are put back

Made by `python -m benchmarks.unfold_places`: architectures with random weights, exported with their
BatchNormalizations, folded, and unfolded on two random samples. Of {} architectures {} have them
behind exactly the layers that took one in, and {} of {} such layers have one again; {} have one
that had none. {} come back bit for bit when they are folded again.

{}

- **kept**: the fold leaves it, and so does unfold.
- **elsewhere**: it was folded into what comes behind it, or into what is no linear layer, or went
  with a branch into another layer. Nothing in the folded file tells where it was.
- **layers**: linear layers that took one in; **again**: those that have one again; **missing**: the
  others, by unfold's reason ([docs/unfold.md](../docs/unfold.md#where-one-belongs)); **extra**:
  layers that have one, and had none; **same**: whether the places are; **file**: whether folding
  again gives the same bits.

| architecture | BNs | kept | elsewhere | layers | again | missing | extra | same | file |
|---|---|---|---|---|---|---|---|---|---|
"""


DEFAULTS = """
## As torch folds them

What the exporter of torch 2.13 makes by default, beside what it makes with `optimize=False`: of {}
architectures {} have the BatchNormalizations that it folded back where they were, by the names of
the tensors that they make. **kept** are those that it leaves, as unfold does.

| architecture | folded | kept | again | missing | extra | same |
|---|---|---|---|---|---|---|
"""


def report(rows: list[Row], by_torch: list[DefaultRow]) -> str:
    zoo = [row for row in rows if row.is_of_zoo]
    others = [row.name for row in zoo if not row.is_reproduced]
    text = HEAD.format(
        len(rows),
        sum(row.is_reproduced for row in rows),
        sum(row.same for row in rows),
        sum(row.layers for row in rows),
        sum(row.extra for row in rows),
        sum(row.is_back for row in rows),
        textwrap.fill(
            f"Of the {len(zoo)} of `benchmarks.zoo` ({', '.join(row.name for row in zoo)}) it is "
            f"{len(zoo) - len(others)}, and not {', '.join(others) or 'any other'}.",
            100,
        ),
    )
    text += "".join(f"{row}\n" for row in rows)
    if by_torch:
        right = sum(not row.missing and not row.extra for row in by_torch)
        text += DEFAULTS.format(len(by_torch), right) + "".join(f"{row}\n" for row in by_torch)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="ZOO")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--output", type=Path, help="default: standard output")
    arguments = parser.parse_args()

    def asked(name: str) -> bool:
        return arguments.only is None or name in arguments.only

    rows, by_torch = [], []
    for name, path in exports(arguments.folders).items():
        if asked(name) and _batchnorms(path):
            rows.append(compare(name, path))
            print(rows[-1], flush=True, file=sys.stderr)
    for name, pair in defaults(arguments.folders).items():
        if asked(name) and any(_batchnorms(path) for path in pair):
            by_torch.append(compare_default(name, *pair))
            print(by_torch[-1], flush=True, file=sys.stderr)
    text = report(rows, by_torch)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
