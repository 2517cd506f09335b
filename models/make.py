"""Make the models of this folder: ``python models/make.py`` (needs the extra ``models``).

Every model is exported with its BatchNormalizations intact: torch's exporter folds Conv + BN by
itself unless it is told to preserve the modules as they are and not to fold constants.
"""

# ruff: noqa: D102 - forward() is what its class describes

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
OPSET = 17

Axes = dict[int, str]


def export(
    module: nn.Module,
    examples: Mapping[str, torch.Tensor],
    path: Path,
    *,
    outputs: Sequence[str],
    dynamic: Mapping[str, Axes],
    training: torch.onnx.TrainingMode = torch.onnx.TrainingMode.PRESERVE,
    opset: int = OPSET,
) -> None:
    """Write `module` to `path` with one ONNX node for each of its modules, BN included.

    Parameters
    ----------
    examples : mapping of str to torch.Tensor
        One example for each input, by the name that the input gets.
    outputs : sequence of str
        The names of the outputs.
    dynamic : mapping of str to dict of int to str
        The symbolic dimensions of inputs and outputs, by axis.
    """
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated; its successor folds Conv + BN unasked.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(examples.values()),
            str(path),
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in dynamic.items()},
            opset_version=opset,
            training=training,
            do_constant_folding=False,
            dynamo=False,
        )
    model = onnx.load(path)
    # Source locations of the machine that exported: noise in a committed file.
    for node in model.graph.node:
        node.ClearField("doc_string")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 - the only common base


@torch.no_grad()
def give_statistics(
    module: nn.Module,
    *batches: tuple[torch.Tensor, ...],
    seed: int,
    negative: float = 0.1,
    zero: float = 0.03,
) -> None:
    """Give every BN of an untrained `module` statistics that a wrong fold can't survive.

    The scale lies around one, a fraction `negative` of it below zero and a fraction `zero` of it
    exactly zero; mean and variance are then those of the activations over `batches`, so that the
    signal keeps its size through any depth.
    """
    generator = torch.Generator().manual_seed(seed)
    for bn in batch_norms(module):
        channels = bn.num_features
        scale = torch.empty(channels).uniform_(0.6, 1.4, generator=generator)
        draw = torch.rand(channels, generator=generator)
        scale[draw < negative] *= -1
        scale[draw > 1 - zero] = 0
        if channels > 2 and (scale < 0).all():
            scale[0] *= -1
        bn.weight.copy_(scale)
        bn.bias.copy_(torch.empty(channels).uniform_(-0.3, 0.3, generator=generator))
        bn.momentum = None  # a cumulative average: the true statistics of the batches
        bn.reset_running_stats()
    module.train()
    for batch in batches:
        module(*batch)
    for bn in batch_norms(module):
        # A dead channel has no variance: dividing by sqrt(epsilon) would only amplify rounding.
        bn.running_var.clamp_(min=0.05 * bn.running_var.mean().item())
    module.eval()


class ResidualBlock(nn.Module):
    """Conv, BN, ReLU, Conv, BN, added to the (projected) input."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DigitsResNet(nn.Module):
    """A residual CNN for 8x8 images of digits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            ResidualBlock(16, 16, 1), ResidualBlock(16, 32, 2), ResidualBlock(32, 32, 1)
        )
        self.classifier = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        y = self.blocks(self.stem(image))
        return self.classifier(y.mean((2, 3)))


class DigitsMLP(nn.Module):
    """The same digits as a sequence of eight rows: Linear + BatchNorm1d in every position.

    A Linear over a sequence is MatMul + Add, its BatchNorm1d stands between two Transposes; a
    Linear over vectors is a Gemm, or Transpose + MatMul when it has no bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 64)
        self.embed_bn = nn.BatchNorm1d(64)
        self.mix = nn.Linear(64, 24, bias=False)
        self.mix_bn = nn.BatchNorm1d(24)
        self.hidden = nn.Linear(8 * 24, 64)
        self.hidden_bn = nn.BatchNorm1d(64)
        self.narrow = nn.Linear(64, 32, bias=False)
        self.narrow_bn = nn.BatchNorm1d(32)
        self.classifier = nn.Linear(32, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.embed_bn(self.embed(rows).transpose(1, 2)).transpose(1, 2))
        y = F.relu(self.mix_bn(self.mix(y).transpose(1, 2)).transpose(1, 2))
        y = F.relu(self.hidden_bn(self.hidden(y.flatten(1))))
        return self.classifier(self.narrow_bn(self.narrow(y)))


def double_conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
        nn.Conv2d(out, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Two steps down, two steps up; every ConvTranspose has its BN."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = double_conv(3, 6)
        self.down1 = double_conv(6, 12)
        self.down2 = double_conv(12, 24)
        self.up1 = nn.Sequential(
            nn.ConvTranspose2d(24, 12, 2, stride=2, bias=False), nn.BatchNorm2d(12), nn.ReLU()
        )
        self.merge1 = double_conv(24, 12)
        self.up2 = nn.Sequential(
            nn.ConvTranspose2d(12, 6, 4, stride=2, padding=1, groups=2), nn.BatchNorm2d(6)
        )
        self.merge2 = double_conv(12, 6)
        self.leave = nn.Conv2d(6, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x1 = self.enter(image)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        y = self.merge1(torch.cat([x2, self.up1(x3)], 1))
        return self.leave(self.merge2(torch.cat([x1, self.up2(y)], 1)))


def separable(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
    )


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 Convs, and a dilated grouped one, with a residual Add."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()
        )
        self.first = separable(16, 24, 1)
        self.second = separable(24, 24, 1)
        self.third = separable(24, 48, 2)
        self.context = nn.Sequential(
            nn.Conv2d(48, 48, 3, padding=2, dilation=2, groups=4), nn.BatchNorm2d(48), nn.SiLU()
        )
        self.classifier = nn.Linear(48, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        y = self.first(self.stem(image))
        y = y + self.second(F.relu6(y))
        y = self.context(self.third(F.relu6(y)))
        return self.classifier(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Partial(nn.Module):
    """Ten BNs of which five must stay, each for another reason.

    ``norm_image``   its shift would meet the zero padding of the Conv behind it
    ``dense.0``      the Conv in front is read by the later Concat too, and a ReLU follows
    ``dense.1``      Concat of tensors that others read, and a ReLU follows
    ``norm_signed``  between two nonlinearities, with negative scales
    ``norm_feature`` its input is an output of the model
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm_image = nn.BatchNorm2d(3)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU()
        )
        self.enter = nn.Conv2d(12, 16, 1)
        self.dense = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(16 + 8 * i),
                nn.ReLU(),
                nn.Conv2d(16 + 8 * i, 12, 1, bias=False),
                nn.BatchNorm2d(12),
                nn.ReLU(),
                nn.Conv2d(12, 8, 3, padding=1, bias=False),
            )
            for i in range(2)
        )
        self.transition = nn.Sequential(nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.norm_signed = nn.BatchNorm2d(16)
        self.feature = nn.Conv2d(16, 16, 3, padding=1)
        self.norm_feature = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 12)
        self.norm_head = nn.BatchNorm1d(12)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.enter(self.stem(self.norm_image(image)))
        for layer in self.dense:
            y = torch.cat([y, layer(y)], 1)
        y = torch.tanh(self.norm_signed(self.transition(y)))
        feature = self.feature(y)
        y = F.relu(self.norm_feature(feature)).mean((2, 3))
        return self.norm_head(self.head(y)), feature


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Train and test images (N, 1, 8, 8) in [0, 1], then train and test labels (N,)."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, test_size=0.3, random_state=0, stratify=labels)
    train_x, test_x, train_y, test_y = split
    return (
        torch.tensor(train_x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8),
        torch.tensor(test_x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8),
        torch.tensor(train_y),
        torch.tensor(test_y),
    )


def train(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Fit `module` by AdamW with a one-cycle learning rate; images are shifted by up to a pixel."""
    batch = 64
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    module.train()
    for _ in range(epochs):
        order = torch.randperm(len(images))[: steps // epochs * batch]
        for index in order.split(batch):
            dy, dx = torch.randint(-1, 2, (2,)).tolist()
            shifted = images[index].roll((dy, dx), (-2, -1))
            loss = F.cross_entropy(module(shifted), labels[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    module.eval()


@torch.no_grad()
def accuracy(module: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    return (module(images).argmax(1) == labels).float().mean().item()


def make_digits(folder: Path) -> None:
    """Train the two digit classifiers; write them and the images they were never shown."""
    train_x, test_x, train_y, test_y = digits()
    rows_train, rows_test = train_x[:, 0], test_x[:, 0]
    batch = {0: "batch"}

    torch.manual_seed(0)
    resnet = DigitsResNet()
    train(resnet, train_x, train_y, epochs=30)
    dynamic = {"image": batch, "logits": batch}
    image = {"image": test_x[:2]}
    export(resnet, image, folder / "digits_resnet.onnx", outputs=["logits"], dynamic=dynamic)
    # In training mode the exporter writes training_mode=1, so the batch must vary.
    resnet.train()
    export(
        resnet,
        image,
        folder / "digits_resnet_training.onnx",
        outputs=["logits"],
        dynamic=dynamic,
        training=torch.onnx.TrainingMode.TRAINING,
    )
    resnet.eval()
    print(f"digits_resnet: accuracy {accuracy(resnet, test_x, test_y):.4f}")

    torch.manual_seed(0)
    mlp = DigitsMLP()
    train(mlp, rows_train, train_y, epochs=120)
    export(
        mlp,
        {"rows": rows_test[:2]},
        folder / "mlp.onnx",
        outputs=["logits"],
        dynamic={"rows": batch, "logits": batch},
    )
    print(f"mlp: accuracy {accuracy(mlp, rows_test, test_y):.4f}")

    np.savez_compressed(
        folder / "digits_test.npz", image=test_x.numpy(), labels=test_y.numpy().astype(np.int64)
    )


def make_untrained(folder: Path) -> None:
    """Export the three models whose statistics are made up: harder on a fold than trained ones."""
    torch.manual_seed(0)
    batches = [(torch.randn(4, 3, 32, 32),) for _ in range(3)]
    spatial = {0: "batch", 2: "height", 3: "width"}
    batch = {0: "batch"}
    image = {"image": batches[0][0][:2]}
    unet, net, partial = UNet(), Separable(), Partial()
    for seed, module in enumerate((unet, net, partial)):
        give_statistics(module, *batches, seed=seed, negative=0.2, zero=0.06)

    export(
        unet,
        image,
        folder / "unet.onnx",
        outputs=["mask"],
        dynamic={"image": spatial, "mask": spatial},
    )
    export(
        net,
        image,
        folder / "separable.onnx",
        outputs=["logits"],
        dynamic={"image": batch, "logits": batch},
    )
    export(
        partial,
        image,
        folder / "partial.onnx",
        outputs=["logits", "feature"],
        dynamic={"image": batch, "logits": batch, "feature": batch},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the models of this folder.")
    parser.add_argument("--dir", type=Path, default=HERE, help="where to write them")
    folder = parser.parse_args().dir
    folder.mkdir(parents=True, exist_ok=True)
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)  # a sum in another order is another model
    make_digits(folder)
    make_untrained(folder)


if __name__ == "__main__":
    main()
