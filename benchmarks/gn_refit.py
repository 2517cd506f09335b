"""What least squares over weights wins back of what a swap costs.

    python -m benchmarks.gn_refit
    python -m benchmarks.gn_refit --only digits --splits 1 --groups 8 16 --ways refit
    python -m benchmarks.gn_refit --time resnet50.onnx --samples 64

writes ``benchmarks/RESULTS-GN-REFIT.md``: the accuracy of trained networks, swapped to several
numbers of groups: without data, with ``--regroup``, ``--calibrate`` and ``--refit``. Every figure
is of samples that the fit has not seen, the mean over several divisions of the data.

``--networks DIR`` takes further ones: NAME.onnx, and NAME.npz with ``images`` and ``labels``, and
perhaps ``about``, ``fit``, how many images to fit to, and ``units``, which of them are of the same
picture, say, and stay on one side. ``--results FILE`` keeps every figure as
soon as it is there, and goes on where it was left.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import onnxruntime as ort

import normswap
from normswap.groupnorm.calibrate import CalibrationOptions
from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.policy import GroupPolicy
from normswap.workflows.swap import swap

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "RESULTS-GN-REFIT.md"
EACH = "one channel each"
GROUPS = ("1", "2", "4", "8", "16", "32", EACH)
WAYS = {
    "no data": (None, False),
    "no data, regrouped": (None, True),
    "calibrate": (CalibrationOptions(), False),
    "refit": (CalibrationOptions(refit=True), False),
    "regroup": (CalibrationOptions(refit=True), True),
}
"""What is fitted, and whether channels are regrouped before."""

TITLES = {
    "no data": "without data",
    "no data, regrouped": "without data, `--regroup`",
    "calibrate": "`--calibrate`",
    "refit": "`--refit`",
    "regroup": "`--refit --regroup`",
}


@dataclass(frozen=True)
class Task:
    """A trained network, and labelled data that it has not seen.

    Attributes
    ----------
    name, about : str
    model : Path
    images, labels : ndarray
    fit : int
        How many samples are for the fit, a quarter of them held out to accept by; the others test.
    units : ndarray or None
        What each sample belongs to; no unit is on two sides.
    """

    name: str
    about: str
    model: Path
    images: np.ndarray
    labels: np.ndarray
    fit: int = 256
    units: np.ndarray | None = None

    def divided(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the samples to fit to, and of those to test by."""
        if self.units is None:
            order = np.random.default_rng(seed).permutation(len(self.images))
            return order[: self.fit], order[self.fit :]
        # Units are few and unlike: over the divisions every one is to test as often as any other.
        count = self.units.max() + 1
        turn = seed * round(count * (1 - self.fit / len(self.images)))
        ranks = (np.random.default_rng(0).permutation(count) + turn)[self.units] % count
        order = np.argsort(ranks, kind="stable")
        last = ranks[order[self.fit]]  # the first unit that would be on both sides
        return order[ranks[order] < last], order[ranks[order] >= last]


def digits() -> Task:
    data = np.load(ROOT / "models" / "digits_test.npz")
    about = "`models/digits_resnet.onnx`, 8 BatchNormalizations; scikit-learn's digits"
    model = ROOT / "models" / "digits_resnet.onnx"
    return Task("digits", about, model, data["image"], data["labels"])


def prepared(folder: Path) -> list[Task]:
    """Return the networks of a folder: NAME.onnx, and NAME.npz with images and labels."""
    tasks = []
    for path in sorted(folder.glob("*.onnx")):
        data = np.load(path.with_suffix(".npz"))
        about = str(data["about"]) if "about" in data else path.name
        fit = int(data["fit"]) if "fit" in data else Task.fit
        units = data.get("units")
        tasks.append(Task(path.stem, about, path, data["images"], data["labels"], fit, units))
    return tasks


def scores(path: Path, images: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [images[at : at + 64] for at in range(0, len(images), 64)]
    return np.concatenate([session.run(None, {name: part})[0] for part in parts])


def figures(path: Path, task: Task, test: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Return the accuracy in percent, and the SNR of the scores beside the original's in dB."""
    found = scores(path, task.images[test]).astype(np.float64)
    right = 100 * float((found.argmax(axis=1) == task.labels[test]).mean())
    off = float(np.square(found - wanted).sum())
    return right, 10 * float(np.log10(np.square(wanted, dtype=np.float64).sum() / max(off, 1e-30)))


def measured(task: Task, groups: str, way: str, seed: int, folder: Path) -> list[float]:
    """Return the original's accuracy, and accuracy and SNR when it is swapped in a way."""
    fit, test = task.divided(seed)
    wanted = scores(task.model, task.images[test])
    name = ort.InferenceSession(str(task.model)).get_inputs()[0].name
    how, regroup = WAYS[way]
    data = {name: task.images[fit]}
    if task.units is not None:
        data["unit"] = task.units[fit]
        how = how and replace(how, holdout="unit")
    target = folder / "swapped.onnx"
    policy = GroupPolicy.of("channels" if groups == EACH else int(groups), None, "gcd")
    swap(
        task.model,
        target,
        SwapOptions(policy, form="primitive", regroup=regroup),
        overwrite=True,
        data=None if how is None else data,
        calibration=how,
    )
    own, _ = figures(task.model, task, test, wanted)
    return [own, *figures(target, task, test, wanted)]


def table(cells: dict[str, list[float]]) -> str:
    """Return figures as Markdown: means over the divisions for which there are any."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for key, values in cells.items():
        groups, way, _ = key.split("/")
        found.setdefault((groups, way), []).append(values)
    ways = [way for way in WAYS if any(way == known for _, known in found)]
    titles = " | ".join(TITLES[way] for way in ways)
    lines = [f"| groups | original | {titles} |", "|---" * (2 + len(ways)) + "|"]
    most = max(map(len, found.values()))
    for groups in GROUPS:
        row = [found.get((groups, way), []) for way in ways]
        if not any(row):
            continue
        own = np.mean([values[0] for values in max(row, key=len)])
        lines.append(
            f"| {groups} | {own:.1f} % | " + " | ".join(_cell(c, most) for c in row) + " |"
        )
    what = f"Means of {most} divisions" if most > 1 else "One division"
    few = ", or of as many as stand in brackets" * any(0 < len(c) < most for c in found.values())
    return "\n".join(lines) + f"\n\n{what} of the data{few}."


def _cell(values: list[list[float]], most: int) -> str:
    if not values:
        return ""
    _, right, snr = np.mean(values, axis=0)
    few = f" ({len(values)})" if len(values) < most else ""
    return f"{right:.1f} %, {snr:.1f} dB{few}"


def time_and_memory(model: Path, samples: int) -> None:
    """Tell what a refit takes, on noise of the size of images."""
    (port,) = ort.InferenceSession(str(model)).get_inputs()
    images = np.random.default_rng(0).normal(size=(samples, 3, 224, 224)).astype(np.float32)
    began = time.time()
    report = normswap.bn_to_gn(
        model, groups=32, calibrate={port.name: images}, refit=True, check=None
    ).report
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    cpu = own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime
    print(
        f"{samples} images, {len(report.fit.steps)} steps: {time.time() - began:.0f} s; processor "
        f"{cpu[0]:.0f} s in the process and {cpu[1]:.0f} s in its children; memory "
        f"{own.ru_maxrss / 2**20:.1f} GiB, and {children.ru_maxrss / 2**20:.1f} GiB in the largest"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="the name of one network")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--groups", nargs="*", choices=GROUPS, default=[*GROUPS[:5], EACH])
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--networks", type=Path, help="a folder of further networks")
    parser.add_argument("--results", type=Path, help="a file of results, which is gone on with")
    parser.add_argument("--time", type=Path, help="only the time and memory of a refit of a model")
    parser.add_argument("--samples", type=int, default=64)
    given = parser.parse_args()
    if given.time:
        time_and_memory(given.time, given.samples)
        return
    tasks = [digits(), *(prepared(given.networks) if given.networks else ())]
    results = (
        json.loads(given.results.read_text()) if given.results and given.results.exists() else {}
    )
    chosen = [task for task in tasks if given.only in (None, task.name)]
    with tempfile.TemporaryDirectory() as name:
        for task, seed, way, groups in product(
            chosen, range(given.splits), given.ways, given.groups
        ):
            result = results.setdefault(task.name, {"about": task.about, "cells": {}})
            key = f"{groups}/{way}/{seed}"
            if key in result["cells"]:
                continue
            result["cells"][key] = measured(task, groups, way, seed, Path(name))
            print(task.name, key, result["cells"][key], flush=True)
            if given.results:
                given.results.write_text(json.dumps(results, indent=1))
    parts = [f"## {each['about']}\n\n{table(each['cells'])}" for each in results.values()]
    text = OUTPUT.read_text(encoding="utf-8") if OUTPUT.exists() else "<!-- tables -->\n"
    head, _, rest = text.partition("<!-- tables -->")
    tail = rest.partition("<!-- end -->")[2]
    tables = "<!-- tables -->\n\n" + "\n\n".join(parts) + "\n\n<!-- end -->"
    OUTPUT.write_text(head + tables + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
