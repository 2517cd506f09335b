"""A file against its torch module: right exports, planted mistakes, beside torch's own comparison.

    python -m benchmarks.against_source run --jsonl FOUND.jsonl [NAME ...]
    python -m benchmarks.against_source table --jsonl FOUND.jsonl --output FILE.md

20 architectures with random weights and statistics of their own, each exported as torch does by
default by both exporters, with an open batch axis: 40 files that are right. Three mistakes of an
export are planted for each architecture, of the kinds of `MISTAKES` in turn, 60 in all. Every file
is judged by :func:`normswap.check_module`, and beside it by what torch has for this:

- ``torch.onnx.testing.assert_onnx_program``, as it is (rtol 1.3e-6 and atol 1e-5) and with rtol and
  atol 1e-3, which is what tests of exports write;
- ``torch.onnx.verification.verify_onnx_program``, which measures and does not judge: its largest
  absolute difference is held to 1e-4.

Both compare with the module as it was exported, on the example. Needs torch, timm and torchvision
(``benchmarks/README.md``). The first command goes on where it was stopped.
"""

# ruff: noqa: D102 - forward() is what its class describes

from __future__ import annotations

import argparse
import copy
import functools
import io
import json
import logging
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir
import torch
import torch.onnx.testing
import torch.onnx.verification
from onnx import numpy_helper
from torch import nn

import normswap
from benchmarks.backend_suite import here
from benchmarks.zoo import UNet, shake, timm_model, torchvision_model
from models.make import give_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIDE = 64
KINDS = ("script", "dynamo")
JUDGES = ("normswap", "assert_onnx_program", "assert_onnx_program 1e-3", "verify_onnx_program 1e-4")


class Both(nn.Module):
    """Scores and probabilities, as classifiers are deployed: two outputs of one shape."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.model(image)
        return scores, torch.softmax(scores, 1)


class Tokens(nn.Module):
    """A small transformer of token ids, with a dropout."""

    def __init__(self, words: int = 50, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.place = nn.Parameter(torch.randn(16, width) * 0.1)
        self.drop = nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, words)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.drop(self.embed(ids) + self.place)).mean(1))


TIMM = """
starnet_s050 lcnet_050 mobilenetv3_small_050 tinynet_e mobilevit_xxs edgenext_xx_small dla46x_c
mobilenetv2_035 regnetx_002 ghostnet_050 mnasnet_small
test_resnet test_convnext test_efficientnet_gn test_nfnet
"""
"""Small ones of timm; the last four are ResNet, ConvNeXt, EfficientNet with GN and NFNet, tiny."""

ZOO: dict[str, Callable[[], nn.Module]] = {
    "tokens": Tokens,
    "vit": lambda: timm_model("test_vit", img_size=SIDE),
    **{name: functools.partial(timm_model, name) for name in TIMM.split()},
    "shufflenet_v2": lambda: torchvision_model("shufflenet_v2_x0_5"),
    "squeezenet": lambda: torchvision_model("squeezenet1_1"),
    "unet": lambda: UNet(8),
}


def example_of(name: str, batch: int = 2) -> torch.Tensor:
    """Return an input of an architecture."""
    if name == "tokens":
        return torch.randint(0, 50, (batch, 16))
    return torch.randn(batch, 3, SIDE, SIDE)


def module_of(name: str, *, seed: int = 0) -> nn.Module:
    """Return an architecture with random weights, in eval mode."""
    torch.manual_seed(sum(name.encode()) + seed)
    module = ZOO[name]()
    shake(module)
    with torch.no_grad():
        for parameter, value in module.named_parameters():
            if parameter.endswith("skipinit_gain"):  # NFNet's branches, which begin with 0
                value.fill_(0.5)
    if name != "tokens":
        give_statistics(module, *[(example_of(name, 4),) for _ in range(2)], seed=1)
        module = Both(module)
    return module.eval()


def exported(
    module: nn.Module, example: torch.Tensor, kind: str, **options: Any
) -> onnx.ModelProto:
    """Return what an exporter writes of a module."""
    parameter = "ids" if example.dtype == torch.int64 else "image"
    if kind == "dynamo":
        shapes = ({0: torch.export.Dim("n", max=64)},)
        program = torch.onnx.export(
            module, (example,), dynamo=True, verbose=False, dynamic_shapes=shapes, **options
        )
        return program.model_proto
    stream = io.BytesIO()
    torch.onnx.export(
        module,
        (example,),
        stream,
        dynamo=False,
        input_names=[parameter],
        dynamic_axes={parameter: {0: "n"}},
        **options,
    )
    return onnx.load_from_string(stream.getvalue())


@dataclass(frozen=True, slots=True)
class Right:
    """A file that is right, and what it was exported from."""

    module: nn.Module
    example: torch.Tensor
    kind: str
    model: onnx.ModelProto

    def again(self, module: nn.Module, **options: Any) -> onnx.ModelProto:
        """Export another module by the same exporter."""
        return exported(module, self.example, self.kind, **options)

    def edited(self, which: int, edit: Callable[[np.ndarray], None]) -> onnx.ModelProto:
        """Return the file with a weight edited, by its place among them from the largest on."""
        model = copy.deepcopy(self.model)
        kernels = [t for t in model.graph.initializer if len(t.dims) >= 2 and t.data_type == 1]
        # NFNet's are standardized as the weights of a BatchNormalization that nobody reads, too.
        idle = {n for node in model.graph.node if node.op_type == "ReduceMean" for n in node.input}
        kernels = [tensor for tensor in kernels if tensor.name not in idle]
        kernels.sort(key=lambda t: -int(np.prod(t.dims)))
        tensor = kernels[which % len(kernels)]
        values = numpy_helper.to_array(tensor).copy()
        edit(values)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return model


def one_element(right: Right) -> onnx.ModelProto:
    """Scale one element of a weight, the largest, by 1.01."""

    def edit(values: np.ndarray) -> None:
        values.reshape(-1)[np.abs(values).argmax()] *= 1.01

    return right.edited(3, edit)


def one_channel(right: Right) -> onnx.ModelProto:
    """Scale one output channel of a weight by 1.001."""

    def edit(values: np.ndarray) -> None:
        strongest = np.abs(values.reshape(len(values), -1)).sum(1).argmax()
        values[strongest] *= 1.001

    return right.edited(1, edit)


def narrow_weights(right: Right) -> onnx.ModelProto:
    """Round a weight to bfloat16, in a float32 file."""

    def edit(values: np.ndarray) -> None:
        values[...] = torch.from_numpy(values).bfloat16().float().numpy()

    return right.edited(2, edit)


def older_checkpoint(right: Right) -> onnx.ModelProto:
    """Export the weights of a step of training before: all off by a thousandth."""
    before = copy.deepcopy(right.module)
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.abs().mean() * 1e-3)
    return right.again(before)


def training_mode(right: Right) -> onnx.ModelProto:
    """Export without eval()."""
    training = copy.deepcopy(right.module).train()
    if right.kind == "dynamo":
        return right.again(training)
    mode = torch.onnx.TrainingMode.PRESERVE
    return right.again(training, training=mode, do_constant_folding=False)


def preprocessing(right: Right) -> onnx.ModelProto:
    """Write the normalization of images into the file, which the caller does as well."""

    class Baked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = right.module

        def forward(self, image: torch.Tensor) -> Any:
            return self.model((image - 0.449) / 0.226)

    return right.again(Baked().eval())


def swapped(right: Right) -> onnx.ModelProto:
    """Put the outputs into another order."""
    model = copy.deepcopy(right.model)
    outputs = list(model.graph.output)[::-1]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model


def another_file(right: Right) -> onnx.ModelProto:
    """Export another network of the same architecture."""
    other = copy.deepcopy(right.module)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter[torch.randperm(len(parameter))])
    return right.again(other)


def another_epsilon(right: Right) -> onnx.ModelProto:
    """Export with one normalization's epsilon 1e-3, as another framework has it."""
    other = copy.deepcopy(right.module)
    norms = [m for m in other.modules() if hasattr(m, "eps")]
    if not norms:  # SqueezeNet has none
        return one_channel(right)
    norms[len(norms) // 2].eps = 1e-3
    return right.again(other)


def another_activation(right: Right) -> onnx.ModelProto:
    """Export with the last activation another one that is nearly the same."""
    other = copy.deepcopy(right.module)
    near = {
        nn.GELU: lambda: nn.GELU("tanh"),
        nn.ReLU: lambda: nn.LeakyReLU(0.001),
        nn.ReLU6: nn.ReLU,
        nn.SiLU: nn.Hardswish,
        nn.Hardswish: nn.SiLU,
    }
    for parent in reversed(list(other.modules())):
        for name, child in reversed(list(parent.named_children())):
            if type(child) in near:
                setattr(parent, name, near[type(child)]())
                return right.again(other)
    return one_element(right)


def fixed_batch(right: Right) -> onnx.ModelProto:
    """Write the batch size into the file, whose batch axis is said to be open."""
    model = copy.deepcopy(right.model)
    graph = model.graph
    first = graph.output[0].name
    with torch.no_grad():
        given = right.module(right.example)
    shape = np.array((given[0] if isinstance(given, tuple) else given).shape, np.int64)
    graph.initializer.append(numpy_helper.from_array(shape, "written_in"))
    for node in graph.node:
        node.output[:] = ["before" if name == first else name for name in node.output]
        node.input[:] = ["before" if name == first else name for name in node.input]
    graph.node.append(onnx.helper.make_node("Reshape", ["before", "written_in"], [first]))
    return model


def lost_bias(right: Right) -> onnx.ModelProto:
    """Zero the bias of one layer."""
    model = copy.deepcopy(right.model)
    vectors = [t for t in model.graph.initializer if len(t.dims) == 1 and t.data_type == 1]
    large = [t for t in vectors if t.dims[0] > 3 and np.abs(numpy_helper.to_array(t)).max() > 1e-3]
    tensor = large[len(large) // 3]
    zero = np.zeros(tuple(tensor.dims), np.float32)
    tensor.CopyFrom(numpy_helper.from_array(zero, tensor.name))
    return model


MISTAKES = (
    one_element,
    one_channel,
    narrow_weights,
    older_checkpoint,
    training_mode,
    preprocessing,
    swapped,
    another_file,
    another_epsilon,
    another_activation,
    fixed_batch,
    lost_bias,
)


_MODELESS = frozenset({"vit", "test_convnext", "test_efficientnet_gn", "test_nfnet"})
"""Without a BatchNormalization or a Dropout that drops: training mode is the same function."""


def planted(name: str) -> Iterator[tuple[str, Callable[[Right], onnx.ModelProto]]]:
    """Yield three mistakes of an architecture, each with the exporter whose file has it."""
    start = 3 * list(ZOO).index(name)
    for number in range(start, start + 3):
        mistake = MISTAKES[number % len(MISTAKES)]
        kind = KINDS[number // len(MISTAKES) % 2]
        if name in {"tokens", "unet"} and mistake in {preprocessing, swapped}:
            mistake = one_element if mistake is preprocessing else one_channel
        if mistake is training_mode:
            kind = "script"  # the other exporter refuses some, and writes BN's running statistics
            if name in _MODELESS:
                mistake = one_channel
        yield kind, mistake


def judged(
    module: nn.Module, example: torch.Tensor, model: onnx.ModelProto, source: Any
) -> dict[str, Any]:
    """Return whether each judge takes a file for the module, and what normswap names.

    `source` is the module as torch.export has it.
    """
    began, cpu = time.perf_counter(), time.process_time()
    with mock.patch("normswap.check.runner.run_task", here):  # starting processes is no part of it
        report = normswap.check_module(module, model, (example,))
    found: dict[str, Any] = {
        "normswap": report.verdict.value == "equivalent",
        "verdict": report.verdict.value,
        "named": [f"{f.code} {f.place}".strip() for f in report.source.findings],
        "reasons": [reason[:300] for reason in report.reasons[:3]],
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
    }
    # What torch compares is a file with the program that it was exported from.
    program = torch.onnx.ONNXProgram(onnx_ir.serde.deserialize_model(model), source)
    for judge, tolerance in (("assert_onnx_program", {}), ("assert_onnx_program 1e-3", _LOOSE)):
        found[judge], found[f"{judge}: error"] = _holds(
            lambda tolerance=tolerance: torch.onnx.testing.assert_onnx_program(
                program, args=(example,), strategy=None, **tolerance
            )
        )

    def verify() -> None:
        infos = torch.onnx.verification.verify_onnx_program(program, args=(example,))
        if not all(info.max_abs_diff <= 1e-4 for info in infos):
            raise AssertionError

    found["verify_onnx_program 1e-4"], found["verify: error"] = _holds(verify)
    return found


_LOOSE = {"rtol": 1e-3, "atol": 1e-3}


def _holds(check: Callable[[], None]) -> tuple[bool, str]:
    """Return whether a comparison takes a file, and what it raised but for that it does not."""
    try:
        check()
    except AssertionError:
        return False, ""
    except Exception as error:  # noqa: BLE001 - whatever it raises, it does not take the file
        return False, repr(error)[:200]
    return True, ""


def run(names: list[str], path: Path) -> None:
    """Judge what is not in the file yet."""
    known = set()
    if path.exists():
        entries = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        known = {(entry["name"], entry["kind"], entry["mistake"]) for entry in entries}
    for name in names or list(ZOO):
        module = module_of(name)
        torch.manual_seed(7)
        example = example_of(name)
        source = torch.export.export(module, (example,), strict=False)
        right = {k: Right(module, example, k, exported(module, example, k)) for k in KINDS}
        wanted = [(kind, None) for kind in KINDS] + list(planted(name))
        for kind, mistake in wanted:
            title = "" if mistake is None else mistake.__name__
            if (name, kind, title) in known:
                continue
            torch.manual_seed(3)
            model = right[kind].model if mistake is None else mistake(right[kind])
            module.eval()  # which the older exporter takes back from what it has wrapped
            entry = {"name": name, "kind": kind, "mistake": title}
            entry |= judged(module, example, model, source)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            print(json.dumps(entry), flush=True)


def table(path: Path) -> str:
    """Return the report."""
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    right = [entry for entry in entries if not entry["mistake"]]
    wrong = [entry for entry in entries if entry["mistake"]]
    names = list(dict.fromkeys(entry["name"] for entry in entries))
    seconds = sorted(entry["seconds"] for entry in right)
    head = f"""# A file against the module that it was exported from

{len(right)} files that are right, of {len(names)} architectures by both exporters, and {len(wrong)}
with a mistake of an export, torch {torch.__version__} [`python -m benchmarks.against_source`]. A
false alarm is a right file that is refused, a miss a wrong one that is taken.

"""
    tolerances = ("none to choose", "rtol 1.3e-6, atol 1e-5 (default)", "rtol and atol 1e-3")
    rows = [("judge", "tolerance", "false alarms", "misses")]
    for judge, tolerance in zip(JUDGES, (*tolerances, "largest difference 1e-4"), strict=True):
        title = "normswap.check_module" if judge == "normswap" else judge.split()[0]
        alarms, misses = _count(right, judge, holds=False), _count(wrong, judge, holds=True)
        own = (f"{alarms} of {len(right)}", f"{misses} of {len(wrong)}")
        rows.append((f"`{title}`", tolerance, *own))
    kinds = [("mistake", "files", *(f"missed by {judge}" for judge in JUDGES), "named first")]
    for mistake in MISTAKES:
        found = [entry for entry in wrong if entry["mistake"] == mistake.__name__]
        codes = Counter(each.split()[0] for entry in found for each in entry["named"][:1])
        said = ", ".join(f"{count} {code}" for code, count in codes.most_common())
        misses = [str(_count(found, judge, holds=True)) for judge in JUDGES]
        what = (mistake.__doc__ or "").split("\n")[0].rstrip(".")
        if found:
            kinds.append((what, str(len(found)), *misses, said))
    each = [("architecture", "false alarms, by judge", "misses, by judge")]
    for name in names:
        ours = [[e for e in group if e["name"] == name] for group in (right, wrong)]
        alarms = [str(_count(ours[0], judge, holds=False)) for judge in JUDGES]
        each.append((name, ", ".join(alarms), ", ".join(_misses(ours[1]))))
    named = sum(bool(entry["named"]) for entry in wrong)
    left = [name for name in ZOO if name not in names]
    median = seconds[len(seconds) // 2]
    missing = f" Not run: {', '.join(left)}." if left else ""
    told = f"""
Of {named} of the mistakes normswap names a mode, weight, layer, output, size or interface. A check
of a right file took {median:.1f} s (median, 64 x 64 images, in one process, on two cores with much
other work beside it).{missing}

"""
    return head + _rows(rows) + told + _rows(kinds) + "\n" + _rows(each)


def _count(entries: list[dict[str, Any]], judge: str, *, holds: bool) -> int:
    return sum(entry[judge] == holds for entry in entries)


def _misses(entries: list[dict[str, Any]]) -> list[str]:
    return [str(_count(entries, judge, holds=True)) for judge in JUDGES]


def _rows(rows: list[tuple[str, ...]]) -> str:
    ruled = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(row)} |\n" for row in ruled)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jsonl", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if given.command == "run":
        run(given.names, given.jsonl)
    elif given.output is not None:
        given.output.write_text(table(given.jsonl), encoding="utf-8")
    else:
        print(table(given.jsonl), end="")


if __name__ == "__main__":
    main()
