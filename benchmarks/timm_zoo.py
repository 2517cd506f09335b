"""Architectures of timm as both of torch's exporters write them, and what a fold leaves of each.

    python -m benchmarks.timm_zoo export --dir ZOO [NAME ...]
    python -m benchmarks.timm_zoo fold --dir ZOO [NAME ...]
    python -m benchmarks.timm_zoo table --dir ZOO --output benchmarks/RESULTS-FOLD.md

The first needs torch and timm (``benchmarks/README.md``), the others normswap. Small variants on
small images: how many BNs are left depends on neither. Each is exported three times:

========== =====================================================================================
script     the TorchScript exporter with ``TrainingMode.PRESERVE`` and without constant folding
dynamo     the newer exporter with ``optimize=False``
optimized  the newer exporter as it is by default, which folds Conv and BN by itself
========== =====================================================================================

The second folds what was exported and keeps what came of it in ``ZOO/folded.jsonl``, a line a
model; it goes on where it was stopped. The third makes the last part of the report of that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

NAMES = """
botnet26t_256 coatnet_nano_rw_224 convmixer_768_32 cs3darknet_focus_s densenet121 dla46x_c dpn48b
eca_halonext26ts ecaresnet26t efficientformer_l1 efficientformerv2_s0 efficientnet_b0
efficientvim_m1 efficientvit_b0 efficientvit_m0 ese_vovnet19b_slim_dw fasternet_t0 fastvit_sa12
fastvit_t8 fbnetc_100 gernet_s ghostnet_050 ghostnetv2_100 ghostnetv3_050 halonet26t hardcorenas_a
hgnet_tiny hgnetv2_b0 hrnet_w18_small lambda_resnet26rpt_256 lambda_resnet26t lcnet_050
lcnetv2_small levit_128s levit_conv_128s lowformer_b0 mixnet_s mnasnet_small mobilenetv2_035
mobilenetv3_small_050 mobilenetv4_conv_small_050 mobilenetv4_hybrid_medium_075 mobileone_s0
mobilevit_xxs mobilevitv2_050 nextvit_small regnetx_002 regnety_002 repghostnet_050 repvgg_a0
repvit_m0_9 res2net50_14w_8s resnest14d resnet18 resnet26t rexnet_100 sebotnet33ts_256 selecsls42
semnasnet_050 seresnext26t_32x4d shvit_s1 skresnet18 spnasnet_100 starnet_s050 swiftformer_xs
tf_efficientnet_lite0 tiny_vit_5m_224 tinynet_e vgg11_bn visformer_tiny volo_d1_224
xcit_nano_12_p16_224
"""
"""Small variants, of which most have a fold of their own."""

SIDE = 128
"""Pixels a side of an image, where an architecture does not say itself."""

KINDS = ("script", "dynamo", "optimized")

TIMM = "\n## Architectures of timm, by both exporters\n"
"""Heading of the last part of the report, which :mod:`benchmarks.zoo_table` leaves alone."""


def export(name: str, folder: Path) -> str:
    """Write an architecture three times; return a line that tells about it."""
    import torch

    from benchmarks.zoo import shake, timm_model
    from models.make import batch_norms, give_statistics

    start = time.perf_counter()
    torch.manual_seed(sum(name.encode()))
    module = timm_model(name)
    config = module.pretrained_cfg
    side = config["input_size"][-1]
    if not config.get("fixed_input_size") and "halo" not in name:  # whose blocks must fit
        side = min(side, SIDE)
    shake(module)
    batches = [(torch.randn(4, 3, side, side),) for _ in range(2)]
    give_statistics(module, *batches, seed=1)
    sample = batches[0][0][:1]
    told = [f"{name}: {len(batch_norms(module))} BNs"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in KINDS:
            path = folder / f"{name}.{kind}.onnx"
            if path.exists():
                continue
            try:
                if kind == "script":
                    torch.onnx.export(
                        module,
                        (sample,),
                        str(path),
                        opset_version=17,
                        training=torch.onnx.TrainingMode.PRESERVE,
                        do_constant_folding=False,
                        dynamo=False,
                    )
                elif kind == "dynamo":
                    program = torch.onnx.export(
                        module, (sample,), dynamo=True, optimize=False, verbose=False
                    )
                    program.save(str(path))
                else:
                    program.optimize()
                    program.save(str(path))
            except Exception as error:  # noqa: BLE001 - what an exporter can't do is a result
                told.append(f"no {kind}: {type(error).__name__} {str(error)[:80]!r}")
                if kind == "dynamo":
                    break
    return ", ".join(told) + f", {time.perf_counter() - start:.0f} s"


def fold(path: Path) -> dict[str, object]:
    """Fold a model, and compare the result with it."""
    import normswap
    from benchmarks.runtime import inputs, run_unoptimized
    from benchmarks.suite.evaluate import deviation

    with tempfile.TemporaryDirectory(prefix="normswap-zoo-") as folder:
        target = Path(folder) / "folded.onnx"
        start = time.perf_counter()
        plan = normswap.fold(path, target, check=None).report.plan
        seconds = time.perf_counter() - start
        feeds = inputs(path)
        error = deviation(run_unoptimized(path, feeds), run_unoptimized(target, feeds))
    kept = [entry for entry in plan.kept if entry.site.op == "BatchNormalization"]
    gone = [entry for entry in plan.folded if entry.site.op == "BatchNormalization"]
    return {
        "model": path.stem,
        "before": len(kept) + len(gone),
        "left": len(kept),
        "reasons": Counter(entry.reason.value for entry in kept),
        "error": error,
        "seconds": round(seconds, 2),
    }


def fold_all(folder: Path, names: list[str]) -> None:
    """Fold what has not been folded yet."""
    results = folder / "folded.jsonl"
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    done = {json.loads(line)["model"] for line in lines}
    for name in names:
        for kind in KINDS:
            path = folder / f"{name}.{kind}.onnx"
            if path.exists() and path.stem not in done:
                with results.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(fold(path)) + "\n")
                print(path.stem, flush=True)


WORDS = """
Made by `python -m benchmarks.timm_zoo`: {} architectures with random weights, each as the
TorchScript exporter of torch 2.13 writes it (script), as the newer one does (dynamo), and as that
does by default, when it folds Conv and BN by itself (optimized). Each cell: BNs, how many are left,
and the largest deviation from the original relative to the largest output (onnxruntime, all
optimizations off). Why some stay:
[docs/operators.md](../docs/operators.md#what-is-kept-in-real-architectures).
"""


def table(folder: Path) -> str:
    """Return the results as Markdown: for each export its BNs, those left, and the deviation."""
    lines = (folder / "folded.jsonl").read_text(encoding="utf-8").splitlines()
    found = {row["model"]: row for row in map(json.loads, lines)}
    names = sorted({model.rpartition(".")[0] for model in found})
    totals = [
        f"{sum(found[f'{n}.{kind}'][what] for n in names if f'{n}.{kind}' in found)}"
        for kind in KINDS
        for what in ("before", "left")
    ]
    rows = [
        WORDS.format(len(names)),
        f"| architecture | {' | '.join(KINDS)} | kept as |",
        "|---" * (2 + len(KINDS)) + "|",
    ]
    for name in names:
        own = [found.get(f"{name}.{kind}") for kind in KINDS]
        cells = [
            f"{row['before']} → {row['left']} ({row['error']:.0e})" if row else "not exported"
            for row in own
        ]
        reasons = dict.fromkeys(reason for row in own if row for reason in row["reasons"])
        rows.append(f"| {name} | {' | '.join(cells)} | {', '.join(reasons)} |")
    pairs = zip(totals[::2], totals[1::2], strict=True)
    rows.append(f"| **all** | {' | '.join(f'{a} → {b}' for a, b in pairs)} | |")
    return "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("export", "fold", "table"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--dir", type=Path, required=True, help="where the models are (4 GB)")
    parser.add_argument("--output", type=Path, help="the report whose last part the table is")
    arguments = parser.parse_intermixed_args()
    arguments.dir.mkdir(parents=True, exist_ok=True)
    names = arguments.names or NAMES.split()
    if arguments.task == "fold":
        fold_all(arguments.dir, names)
    if arguments.task == "table":
        made = TIMM + table(arguments.dir)
        if arguments.output:
            present = arguments.output.read_text(encoding="utf-8")
            arguments.output.write_text(present.partition(TIMM)[0] + made, encoding="utf-8")
        else:
            print(made)
    if arguments.task == "export":
        for name in names:
            print(export(name, arguments.dir), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
