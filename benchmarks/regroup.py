"""What the choice of groups is worth: the digits network, swapped without any fit.

    python -m benchmarks.regroup

writes ``benchmarks/RESULTS-REGROUP.md``: accuracy, and signal-to-noise ratio of the logits, of the
network normalized first with its groups as they are, chosen by weights, and chosen on 256 images;
the mean over five divisions of the images into these and 284 others, which judge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.policy import GroupPolicy
from normswap.workflows.swap import swap

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "digits_resnet.onnx"
DATA = ROOT / "models" / "digits_test.npz"
RESULTS = Path(__file__).parent / "RESULTS-REGROUP.md"
SPLITS = 5
FITTED = 256
GROUPS = (2, 4, 8, 16)
WAYS = ("as they are", "by weights", "on 256 images")


def logits(model: bytes, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images})[0], np.float64)


def swapped(way: str, groups: int, images: np.ndarray) -> bytes:
    """Swap the network without a fit."""
    options = SwapOptions(GroupPolicy(groups), regroup=way != WAYS[0])
    data = {"image": images} if way == WAYS[2] else None
    return bytes(swap(MODEL, None, options, data=data).model.SerializeToString())


def main() -> None:
    archive = np.load(DATA)
    images, labels = archive["image"], archive["labels"]
    figures: dict[tuple[int, str], list[tuple[float, float]]] = {}
    original = []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(images))
        fit, judge = order[:FITTED], order[FITTED:]
        want = logits(MODEL.read_bytes(), images[judge])
        original.append((want.argmax(axis=1) == labels[judge]).mean())
        for groups in GROUPS:
            for way in WAYS:
                got = logits(swapped(way, groups, images[fit]), images[judge])
                noise = np.square(got - want).sum()
                snr = 10 * np.log10(np.square(want).sum() / noise)
                right = (got.argmax(axis=1) == labels[judge]).mean()
                figures.setdefault((groups, way), []).append((right, snr))
    told = (
        f"The digits network, swapped without a fit; {np.mean(original):.1%} before. Mean and "
        f"standard deviation over {SPLITS} divisions. Made by `python -m benchmarks.regroup`."
    )
    lines = [
        "# Groups of channels that hold still together",
        "",
        told,
        "",
        "| groups | " + " | ".join(WAYS) + " |",
        "|---|" + "---|" * len(WAYS),
    ]
    for groups in GROUPS:
        cells = []
        for way in WAYS:
            (right, snr), spread = (f(figures[groups, way], axis=0) for f in (np.mean, np.std))
            cells.append(f"{right:.1%} ± {100 * spread[0]:.1f}, {snr:.1f} dB ± {spread[1]:.1f}")
        lines.append(f"| {groups} | " + " | ".join(cells) + " |")
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
