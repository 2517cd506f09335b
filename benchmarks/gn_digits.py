"""What a swap without data costs and what it buys, on the trained digits network of models/.

    python benchmarks/gn_digits.py

writes ``benchmarks/RESULTS-GN-DIGITS.md`` and ``docs/batch-size.svg``: the accuracy of the network
swapped as it is and normalized first, and how far its outputs move when the batch shrinks. What
data brings is told by ``gn_refit``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort

from normswap.check.options import CheckOptions
from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.policy import GroupPolicy
from normswap.workflows.swap import swap

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "digits_resnet.onnx"
TRAINING = ROOT / "models" / "digits_resnet_training.onnx"
DATA = ROOT / "models" / "digits_test.npz"
JUDGED = 256
"""Images for the SNR; the others are for the accuracy."""

BATCHES = (64, 32, 16, 8, 4, 2, 1)
GROUPS = (1, 2, 4, 8, 16, None)


def logits(path: Path, images: np.ndarray, batch: int = 64) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [images[at : at + batch] for at in range(0, len(images), batch)]
    return np.concatenate([session.run(None, {name: part})[0] for part in parts])


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    return float((logits(path, images).argmax(axis=1) == labels).mean())


def swapped(target: Path, groups: int | None, images: np.ndarray, *, normalize: bool) -> str:
    report = swap(
        MODEL,
        target,
        SwapOptions(GroupPolicy(groups=groups), normalize=normalize),
        overwrite=True,
        check=CheckOptions(),
        data={"image": images},
    ).report
    assert report.check is not None
    assert report.check.exit_code == 0
    return f"{report.check.drift.outputs['logits'].snr:.1f}"


def accuracies(folder: Path) -> list[list[str]]:
    data = np.load(DATA)
    images, labels = data["image"], data["labels"]
    judged, test, truth = images[:JUDGED], images[JUDGED:], labels[JUDGED:]
    target = folder / "swapped.onnx"
    rows = [["BatchNormalization", f"{accuracy(MODEL, test, truth):.1%}", *[""] * 3]]
    for groups in GROUPS:
        row = [str(groups or "channels")]
        for normalize in (False, True):
            snr = swapped(target, groups, judged, normalize=normalize)
            row += [f"{accuracy(target, test, truth):.1%}", snr]
        rows.append(row)
        print(row, flush=True)
    return rows


def movement(path: Path, images: np.ndarray) -> dict[int, float]:
    """Return, by batch size, the RMS distance of the logits from those at the largest one."""
    whole = logits(path, images, BATCHES[0])
    size = np.sqrt(np.square(whole).mean())
    return {
        batch: float(np.sqrt(np.square(logits(path, images, batch) - whole).mean()) / size)
        for batch in BATCHES
    }


def plot(curves: dict[str, dict[int, float]], path: Path) -> None:
    """Draw the curves as SVG: batch size from large to small, distance in percent."""
    width, height, left, bottom = 560, 320, 60, 50
    top = max(max(curve.values()) for curve in curves.values()) * 1.1

    def at(index: int, value: float) -> tuple[float, float]:
        x = left + 20 + index * (width - left - 150) / (len(BATCHES) - 1)
        return x, height - bottom - value / top * (height - bottom - 30)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        (
            f'<text x="{left}" y="18" font-size="13">Change of the logits against batches of '
            f"{BATCHES[0]} (RMS, relative)</text>"
        ),
    ]
    for number in range(5):
        share = top * number / 4
        _, y = at(0, share)
        parts.append(
            f'<line x1="{left}" x2="{width - 120}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    for index, batch in enumerate(BATCHES):
        x, _ = at(index, 0)
        parts.append(
            f'<text x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">{batch}</text>'
        )
    parts.append(f'<text x="{width / 2 - 60}" y="{height - 12}">images in a batch</text>')
    for (name, curve), colour in zip(curves.items(), ("#c0392b", "#2471a3"), strict=True):
        points = [at(index, curve[batch]) for index, batch in enumerate(BATCHES)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        x, y = points[-1]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = accuracies(folder)
        images = np.load(DATA)["image"][:512]
        network = folder / "gn.onnx"
        swapped(network, 8, images[:JUDGED], normalize=True)
        curves = {
            "BN, training mode": movement(TRAINING, images),
            "GN, 8 groups": movement(network, images),
        }
    plot(curves, ROOT / "docs" / "batch-size.svg")
    ways = ("not normalized", "normalized first")
    header = ["groups", *(cell for way in ways for cell in (way, "SNR (dB)"))]
    parts = [
        "# The digits network, swapped",
        (
            f"Without data: accuracy on {540 - JUDGED} test images, and the SNR of the logits "
            f"beside the original's on {JUDGED} others. Made by `python benchmarks/gn_digits.py`; "
            "what data brings is in [RESULTS-GN-REFIT.md](RESULTS-GN-REFIT.md)."
        ),
        table(header, rows),
        "## Dependence on the batch",
        (
            "How far the logits of 512 images move, relative to their size, when they are run in "
            f"smaller batches than {BATCHES[0]}."
        ),
        table(
            ["images in a batch", *map(str, BATCHES)],
            [[name, *(f"{curve[b]:.2g}" for b in BATCHES)] for name, curve in curves.items()],
        ),
        "![plot](../docs/batch-size.svg)",
    ]
    output = ROOT / "benchmarks" / "RESULTS-GN-DIGITS.md"
    output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
