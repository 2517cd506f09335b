"""What a swap is worth as a start: training goes on in torch, from it and from scratch.

    python -m benchmarks.gn_finetune --output benchmarks/RESULTS-GN-FINETUNE.md

Needs torch, scikit-learn and opacus. The digits network of models/ is swapped by ``bn-to-gn``, with
and without data, and its weights are loaded into the torch module (docs/bn-to-gn.md has that
recipe). Then the module is trained with one and two images a step, for which no BatchNorm is
trained, and by opacus, which refuses BatchNorm: its gradients are of single samples, clipped, with
noise. Whatever is learned, is learned from the 1,257 training images; accuracy is on the other 540.
"""

# ruff: noqa: D101, D102 - the recipe is that of the docs, word by word

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

import normswap
from models.make import DigitsResNet, accuracy, digits

MODEL = Path(__file__).resolve().parents[1] / "models" / "digits_resnet.onnx"
GROUPS = (8,)
SEEDS = (0, 1, 2)
FITTED = 256
BATCHES = (1, 2)
STARTS = {"from scratch": 1e-3, "swapped": 1e-4, "swapped, refitted": 1e-4}
"""With the learning rate for each image of a batch."""


class NormalizedFirst(nn.GroupNorm):
    def __init__(self, groups, channels, eps):
        super().__init__(groups, channels, eps)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        x = F.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)
        return super().forward(x)


def load_swapped(network, path, groups):
    state = {key: torch.from_numpy(array) for key, array in np.load(path).items()}
    for name, old in list(network.named_modules()):
        if isinstance(old, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
            kind = NormalizedFirst if f"{name}.running_mean" in state else nn.GroupNorm
            parent, _, child = name.rpartition(".")
            new = kind(groups, old.num_features, old.eps)
            setattr(network.get_submodule(parent), child, new)
    for key, value in state.items():
        owner, _, last = key.rpartition(".")
        if last == "bias" and network.get_submodule(owner).bias is None:
            network.get_submodule(owner).bias = nn.Parameter(torch.empty_like(value))
    network.load_state_dict(state)
    return network


def started(start: str, groups: int, images: torch.Tensor, folder: Path) -> nn.Module:
    """Return a network to train; that from scratch has the same biases."""
    refit = "refitted" in start
    path = folder / f"digits-{groups}-{refit}.npz"
    if not path.exists():
        fitting = {"calibrate": {"image": images[:FITTED].numpy()}, "refit": True} if refit else {}
        normswap.bn_to_gn(MODEL, groups=groups, state_dict=path, **fitting)
    network = load_swapped(DigitsResNet(), path, groups)
    if start == "from scratch":
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.GroupNorm):
                module.reset_parameters()
    return network


def epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    batch: int,
) -> None:
    """Train on every image once, shifted by up to a pixel."""
    network.train()
    for index in torch.randperm(len(images)).split(batch):
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        loss = F.cross_entropy(network(images[index].roll((dy, dx), (-2, -1))), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()


def course(
    network: nn.Module, batch: int, rate: float, data: tuple, goal: float, limit: int
) -> list[float]:
    """Train until the goal is reached; return the accuracy before and after each epoch."""
    train_x, test_x, train_y, test_y = data
    optimizer = torch.optim.SGD(network.parameters(), rate * batch, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, limit)
    found = [accuracy(network.eval(), test_x, test_y)]
    while found[-1] < goal and len(found) <= limit:
        epoch(network, optimizer, train_x, train_y, batch)
        schedule.step()
        found.append(accuracy(network, test_x, test_y))
    return found


def in_private(network: nn.Module, data: tuple, epochs: int, seed: int) -> tuple[float, float]:
    """Train by DP-SGD; return the accuracy and the privacy that was spent."""
    from opacus import PrivacyEngine
    from opacus.validators import ModuleValidator

    train_x, test_x, train_y, test_y = data
    assert ModuleValidator.validate(DigitsResNet().train(), strict=False)
    assert ModuleValidator.validate(network.train(), strict=False) == []
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.5)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(train_x, train_y),
        batch_size=64,
        generator=torch.Generator().manual_seed(seed),
    )
    engine = PrivacyEngine()
    private, optimizer, loader = engine.make_private(
        module=network,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(private(images), labels).backward()
            optimizer.step()
    return accuracy(private.eval(), test_x, test_y), engine.get_epsilon(delta=1e-4)


HEAD = """# A swap as a start for training

Made by `python -m benchmarks.gn_finetune` (torch {}, one thread): the digits network of models/,
which is right on {:.1%} of the 540 test images with its BatchNorms. It is swapped to GroupNorm
without data, or refitted to {} training images without their labels, brought into torch by
`--map torch`, and trained there with one and two images a step; or it begins from scratch. SGD with
momentum 0.9, a learning rate of {} from scratch and {} from a swap for each image of a step, which
falls to 0 over {} epochs by a cosine; medians of {} seeds. **epochs** are those over the 1,257
images until the test accuracy is the original's, or more.

| groups | images a step | start | accuracy before | epochs | and then |
|---|---|---|---|---|---|
"""

PRIVATE = """
## By opacus

`ModuleValidator` refuses the network with BatchNorms, and takes the swapped one. {} epochs of
DP-SGD (64 images a step on average, noise 1.0, gradients clipped to 1.0, epsilon {:.1f} at a delta
of 1e-4), test accuracy, medians of {} seeds. (It shows what the start is worth. The privacy of a
start is that of the data that it was trained on, which here is the same.)

| groups | start | accuracy before | after |
|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=20, help="of epochs")
    parser.add_argument("--private", type=int, default=10, help="epochs by opacus")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    data = digits()
    labels = np.load(MODEL.with_name("digits_test.npz"))["labels"]
    assert (labels == data[3].numpy()).all()
    limit = arguments.limit
    with tempfile.TemporaryDirectory() as folder:
        original = original_accuracy(data)
        rates = list(STARTS.values())[:2]
        text = HEAD.format(torch.__version__, original, FITTED, *rates, limit, len(SEEDS))
        private = []
        for groups in GROUPS:
            for batch in BATCHES:
                for start, rate in STARTS.items():
                    runs = []
                    for seed in SEEDS:
                        torch.manual_seed(seed)
                        network = started(start, groups, data[0], Path(folder))
                        runs.append(course(network, batch, rate, data, original, limit))
                    row = told(groups, batch, start, runs, original)
                    print(row, flush=True)
                    text += f"{row}\n"
            for start in STARTS:
                before, after, spent = [], [], 0.0
                for seed in SEEDS:
                    torch.manual_seed(seed)
                    network = started(start, groups, data[0], Path(folder)).eval()
                    before.append(accuracy(network, data[1], data[3]))
                    reached, spent = in_private(network, data, arguments.private, seed)
                    after.append(reached)
                was, now = median(before), median(after)
                private.append(f"| {groups} | {start} | {was:.1%} | {now:.1%} |")
                print(private[-1], flush=True)
        text += PRIVATE.format(arguments.private, spent, len(SEEDS)) + "\n".join(private) + "\n"
    arguments.output.write_text(text, encoding="utf-8")


def original_accuracy(data: tuple) -> float:
    """Return how often the network is right with its BatchNorms."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": data[1].numpy()})
    return accuracy(lambda _: torch.from_numpy(logits), data[1], data[3])


def told(groups: int, batch: int, start: str, runs: list[list[float]], goal: float) -> str:
    """Return a row of the table."""
    counts = [len(run) - 1 if run[-1] >= goal else np.inf for run in runs]
    middle = median(counts)
    cells = (
        groups,
        batch,
        start,
        f"{median(run[0] for run in runs):.1%}",
        "not reached" if middle == np.inf else f"{middle:.0f}",
        f"{median(run[-1] for run in runs):.1%}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
