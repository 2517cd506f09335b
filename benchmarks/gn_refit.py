"""What least squares over weights wins back of what a swap costs.

    python -m benchmarks.gn_refit
    python -m benchmarks.gn_refit --only digits --splits 1
    python -m benchmarks.gn_refit --time resnet50.onnx --samples 64

writes ``benchmarks/RESULTS-GN-REFIT.md``: the accuracy of trained networks, swapped to several
numbers of groups: without data, with ``--calibrate`` and with ``--refit``. Every figure is of
samples that the fit has not seen, the mean over several divisions of the data.

``--networks DIR`` takes further ones: NAME.onnx, and NAME.npz with ``images`` and ``labels``, and
perhaps ``about`` and ``fit``, how many images to fit to.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

import normswap
from normswap.groupnorm.calibrate import CalibrationOptions
from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.policy import GroupPolicy
from normswap.groupnorm.refit import walk
from normswap.workflows.swap import swap

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "RESULTS-GN-REFIT.md"
GROUPS = (1, 2, 4, 8, 16, None)
WAYS = {
    "without data": (None, walk.TIMES),
    "calibrated": (CalibrationOptions(), walk.TIMES),
    "layer by layer": (CalibrationOptions(refit=True), 0),
    "refitted": (CalibrationOptions(refit=True), walk.TIMES),
}
"""What is fitted, and how often all of it is fitted to the outputs at once."""


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
    """

    name: str
    about: str
    model: Path
    images: np.ndarray
    labels: np.ndarray
    fit: int = 256


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
        tasks.append(Task(path.stem, about, path, data["images"], data["labels"], fit))
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


def measured(task: Task, groups: int | None, splits: int, folder: Path) -> dict[str, list[float]]:
    """Return accuracy and SNR of every way, the mean over the splits."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(task.images))
        fit, test = order[: task.fit], order[task.fit :]
        wanted = scores(task.model, task.images[test])
        found.setdefault("original", []).append(figures(task.model, task, test, wanted))
        name = ort.InferenceSession(str(task.model)).get_inputs()[0].name
        for way, (how, times) in WAYS.items():
            target = folder / "swapped.onnx"
            walk.TIMES = times
            swap(
                task.model,
                target,
                SwapOptions(GroupPolicy.of(groups or "channels", None, "gcd"), form="primitive"),
                overwrite=True,
                data=None if how is None else {name: task.images[fit]},
                calibration=how,
            )
            found.setdefault(way, []).append(figures(target, task, test, wanted))
    return {way: list(np.mean(values, axis=0)) for way, values in found.items()}


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    ways = list(WAYS)
    """Return the rows as Markdown; what was not measured is left out."""
    lines = ["| groups | original | " + " | ".join(ways) + " |", "|---" * (2 + len(ways)) + "|"]
    for groups, row in rows.items():
        known = {way: f"{row[way][0]:.1f} %, {row[way][1]:.1f} dB" for way in ways if way in row}
        cells = [known.get(way, "") for way in ways]
        lines.append(f"| {groups} | {row['original'][0]:.1f} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


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
    with tempfile.TemporaryDirectory() as name:
        for task in tasks:
            if given.only not in (None, task.name):
                continue
            rows = results.setdefault(task.name, {"about": task.about, "rows": {}})["rows"]
            for groups in GROUPS:
                key = "one channel each" if groups is None else str(groups)
                if key in rows:
                    continue
                rows[key] = measured(task, groups, given.splits, Path(name))
                print(task.name, key, rows[key], flush=True)
                if given.results:
                    given.results.write_text(json.dumps(results, indent=1))
    parts = [f"## {result['about']}\n\n{table(result['rows'])}" for result in results.values()]
    text = OUTPUT.read_text(encoding="utf-8") if OUTPUT.exists() else "<!-- tables -->\n"
    head, _, rest = text.partition("<!-- tables -->")
    tail = rest.partition("<!-- end -->")[2]
    tables = "<!-- tables -->\n\n" + "\n\n".join(parts) + "\n\n<!-- end -->"
    OUTPUT.write_text(head + tables + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
