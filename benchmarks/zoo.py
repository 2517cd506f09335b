"""Build real architectures with every BatchNormalization in the export.

    python -m benchmarks.zoo --dir /somewhere [NAME ...]

Needs torch, timm and torchvision (``benchmarks/README.md`` tells how to install them beside a CPU
build of torch). The weights are random; the statistics of the BNs are those of random images under
random scales, a tenth of them negative and some zero, so that a wrong fold shows in the outputs.
"""

# ruff: noqa: D102 - forward() is what its class describes

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import operator
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from benchmarks.runtime import run_unoptimized
from models.make import batch_norms, export, give_statistics

if TYPE_CHECKING:
    from collections.abc import Callable


@functools.cache
def missing_operators() -> torch.library.Library:
    """Define the two compiled operators that torchvision expects; a CPU wheel has none of them.

    They are never run. The definitions live as long as the object, hence the cache.
    """
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def timm_model(name: str, **options: Any) -> nn.Module:
    missing_operators()
    timm = importlib.import_module("timm")
    return timm.create_model(name, pretrained=False, exportable=True, **options)


def torchvision_model(path: str, **options: Any) -> nn.Module:
    missing_operators()
    build = operator.attrgetter(path)(importlib.import_module("torchvision.models"))
    return build(weights=None, **options)


class PointNet(nn.Module):
    """Point-cloud classifier (Qi et al. 2017, without its transform nets): Conv1d, max, Linear."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 64, 128, 1024)
        self.points = nn.ModuleList(
            nn.Sequential(nn.Conv1d(i, o, 1), nn.BatchNorm1d(o))
            for i, o in itertools.pairwise(widths)
        )
        self.head = nn.Sequential(
            nn.Linear(1024, 512),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Linear(512, 256),
            nn.Dropout(0.3),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Linear(256, 40),
        )

    def forward(self, cloud: torch.Tensor) -> torch.Tensor:
        first, second, third = self.points
        y = third(F.relu(second(F.relu(first(cloud)))))
        return self.head(y.max(2)[0])


def dcgan(channels: int = 64) -> nn.Module:
    """Return the generator of DCGAN (Radford et al. 2016) for 64x64 images."""
    widths = (100, channels * 8, channels * 4, channels * 2, channels)
    layers: list[nn.Module] = []
    for i, (channels_in, channels_out) in enumerate(itertools.pairwise(widths)):
        stride, padding = (1, 0) if i == 0 else (2, 1)
        layers += [
            nn.ConvTranspose2d(channels_in, channels_out, 4, stride, padding, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Tanh())


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with BN, four steps down and four up."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(5)]
        self.down = nn.ModuleList(
            self.block(i, o) for i, o in zip([3, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(o * 2, o, 2, 2, bias=False), nn.BatchNorm2d(o))
            for o in reversed(widths[:-1])
        )
        self.merge = nn.ModuleList(self.block(o * 2, o) for o in reversed(widths[:-1]))
        self.leave = nn.Conv2d(width, 2, 1)

    @staticmethod
    def block(channels: int, out: int) -> nn.Sequential:
        return nn.Sequential(
            *(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()),
            *(nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skips: list[torch.Tensor] = []
        for i, block in enumerate(self.down):
            image = block(F.max_pool2d(image, 2) if i else image)
            skips.append(image)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            image = merge(torch.cat([skips.pop(), up(image)], 1))
        return self.leave(image)


class OnlyOutput(nn.Module):
    """The tensor out of a model that returns a dictionary."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image)["out"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """One model of the zoo.

    Attributes
    ----------
    build : callable
        Returns the module with random weights.
    shape : tuple of int
        Of one sample, without the batch axis.
    batch : int
        Of the random batches that give the BNs their statistics.
    negative, zero : float
        Fractions of the BNs' scales.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 224, 224)
    batch: int = 4
    negative: float = 0.1
    zero: float = 0.03


ZOO: dict[str, Architecture] = {
    "resnet50": Architecture(lambda: torchvision_model("resnet50")),
    "mobilenetv2": Architecture(lambda: torchvision_model("mobilenet_v2")),
    "repvgg_a0": Architecture(lambda: timm_model("repvgg_a0")),
    "mixnet_s": Architecture(lambda: timm_model("mixnet_s")),
    "levit_128": Architecture(lambda: timm_model("levit_128")),
    "fastvit_t8": Architecture(lambda: timm_model("fastvit_t8"), (3, 256, 256)),
    "pointnet": Architecture(PointNet, (3, 1024), 8),
    # Its scales can only travel up through the ReLU in front where none is negative. Training
    # leaves few such; one would do to keep a BN, and then this model had nothing to show.
    "convmixer_768_32": Architecture(
        lambda: timm_model("convmixer_768_32"), batch=2, negative=0, zero=0
    ),
    "mobileone_s0": Architecture(lambda: timm_model("mobileone_s0")),
    "densenet121": Architecture(lambda: torchvision_model("densenet121")),
    "dpn68": Architecture(lambda: timm_model("dpn68")),
    "dcgan": Architecture(dcgan, (100, 1, 1), 16),
    "unet": Architecture(UNet, (3, 128, 128)),
    "resnet18": Architecture(lambda: torchvision_model("resnet18")),
    "mobilenetv3_small": Architecture(lambda: torchvision_model("mobilenet_v3_small")),
    "efficientnet_b0": Architecture(lambda: timm_model("efficientnet_b0")),
    "mobilevit_xs": Architecture(lambda: timm_model("mobilevit_xs"), (3, 256, 256)),
    "hrnet_w18_small": Architecture(lambda: timm_model("hrnet_w18_small")),
    "inception_v3": Architecture(lambda: timm_model("inception_v3"), (3, 299, 299)),
    "dla34": Architecture(lambda: timm_model("dla34")),
    "ghostnet_100": Architecture(lambda: timm_model("ghostnet_100")),
    "regnetx_002": Architecture(lambda: timm_model("regnetx_002")),
    "r3d_18": Architecture(lambda: torchvision_model("video.r3d_18"), (3, 8, 112, 112), 2),
    "deeplabv3_mobilenet": Architecture(
        lambda: OnlyOutput(
            torchvision_model("segmentation.deeplabv3_mobilenet_v3_large", weights_backbone=None)
        )
    ),
    "xception": Architecture(lambda: timm_model("xception41"), (3, 299, 299), 2),
    "shufflenet": Architecture(lambda: torchvision_model("shufflenet_v2_x1_0")),
}


@torch.no_grad()
def shake(module: nn.Module) -> None:
    """Give layer scales, which start near zero, a size at which their branch matters."""
    for name, parameter in module.named_parameters():
        if "gamma" in name or "layer_scale" in name:
            parameter.uniform_(0.2, 1.0)


def make(name: str, folder: Path) -> str:
    """Build, export and verify one architecture; return a line that tells about it.

    Raises
    ------
    AssertionError
        The export lacks a BN, or its outputs are not finite, constant, or not the module's.
    """
    start = time.perf_counter()
    architecture = ZOO[name]
    torch.manual_seed(sum(name.encode()))
    module = architecture.build()
    shake(module)
    batches = [(torch.randn(architecture.batch, *architecture.shape),) for _ in range(3)]
    fractions = {"negative": architecture.negative, "zero": architecture.zero}
    give_statistics(module, *batches, seed=1, **fractions)
    path = folder / f"{name}.onnx"
    sample = batches[0][0][:2]
    dynamic = {"input": {0: "batch"}, "output": {0: "batch"}}
    export(module, {"input": sample[:1]}, path, outputs=["output"], dynamic=dynamic)
    try:
        outputs = run_unoptimized(path, {"input": sample.numpy()})
        batch = "dynamic batch"
    except RuntimeError:  # the trace has a shape of the example in it
        export(module, {"input": sample[:1]}, path, outputs=["output"], dynamic={})
        halves = [run_unoptimized(path, {"input": half.numpy()}) for half in sample.split(1)]
        outputs = {"output": np.concatenate([half["output"] for half in halves])}
        batch = "batch 1"

    bns = len(batch_norms(module))
    exported = sum(n.op_type == "BatchNormalization" for n in onnx.load(path).graph.node)
    assert exported == bns, f"{name}: {exported} of {bns} BNs were exported"
    with torch.no_grad():
        expected = module(sample).numpy()
    (actual,) = outputs.values()
    assert np.isfinite(actual).all(), f"{name}: an output is not finite"
    assert actual.std(0).max() > 1e-4 * np.abs(actual).max(), f"{name}: the output is constant"
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert error < 1e-3, f"{name}: onnxruntime and torch differ by {error:.1e}"
    return (
        f"{name}: {bns} BNs, {path.stat().st_size / 1e6:.1f} MB, {batch}, "
        f"max |y| {np.abs(actual).max():.2g}, error {error:.0e}, "
        f"{time.perf_counter() - start:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Export real architectures with their BNs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ZOO)}")
    parser.add_argument("--dir", type=Path, required=True, help="where to write them (about 1 GB)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(ZOO):
        parser.error(f"no such architecture: {', '.join(sorted(unknown))}")
    arguments.dir.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or ZOO:
        print(make(name, arguments.dir), flush=True)


if __name__ == "__main__":
    main()
