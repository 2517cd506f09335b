"""Models larger than memory: how long a fold and its proof take, and how much memory.

    python -m benchmarks.large FOLDER [--layers 100] [--channels 1024]

A chain of layers, each a Conv of 3 x 3 with a BatchNormalization and a Relu behind it, is written
to FOLDER with its weights beside it, and taken away again. Measured are whole processes, in turn:
`cp` of the weights, `fold --no-check`, `fold --check proof` and `check --check proof` of the two.
Of each the seconds, the time of the processor, and the most memory that is its own: of files that
are mapped, what is in the page cache is not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

if TYPE_CHECKING:
    from typing import BinaryIO

MIB = 1 << 20


def write(folder: Path, layers: int, channels: int) -> Path:
    """Write the model, a layer at a time; return its path."""
    rng = np.random.default_rng(0)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.GraphProto(name="large")
    graph.input.append(value("x", onnx.TensorProto.FLOAT, ["N", channels, 16, 16]))
    graph.output.append(value("y", onnx.TensorProto.FLOAT, ["N", channels, 16, 16]))
    scale = np.float32(np.sqrt(2 / (9 * channels)))
    path, read = folder / "large.onnx", "x"
    with (folder / "large.bin").open("wb") as file:
        for layer in range(layers):
            weight = scale * rng.standard_normal((channels, channels, 3, 3), np.float32)
            parameters = {
                "scale": rng.uniform(0.5, 1.5, channels).astype(np.float32),
                "bias": rng.normal(0, 0.1, channels).astype(np.float32),
                "mean": rng.normal(0, 0.1, channels).astype(np.float32),
                "var": rng.uniform(0.5, 1.5, channels).astype(np.float32),
            }
            graph.initializer.append(_stored(f"w{layer}", weight, file))
            names = [f"{name}{layer}" for name in parameters]
            for name, array in zip(names, parameters.values(), strict=True):
                graph.initializer.append(_stored(name, array, file))
            made = "y" if layer == layers - 1 else f"r{layer}"
            graph.node.extend(
                [
                    onnx.helper.make_node(
                        "Conv", [read, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]
                    ),
                    onnx.helper.make_node(
                        "BatchNormalization", [f"c{layer}", *names], [f"b{layer}"]
                    ),
                    onnx.helper.make_node("Relu", [f"b{layer}"], [made]),
                ]
            )
            read = made
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def _stored(name: str, array: np.ndarray, file: BinaryIO) -> onnx.TensorProto:
    """Return an external constant, its bytes written behind those of the others."""
    tensor = onnx.TensorProto(name=name, dims=array.shape, data_type=onnx.TensorProto.FLOAT)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {"location": "large.bin", "offset": file.tell(), "length": array.nbytes}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    file.write(array.data)
    return tensor


def measured(command: list[str], path: Path) -> str:
    """Run a process; return a row of the table: seconds, of the processor too, and memory.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=path.parent, stdout=subprocess.DEVNULL)
    own = 0
    while process.poll() is None:
        own = max(own, _own_memory(process.pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    usage = os.times()
    return f"{seconds:.1f} | {usage.children_user + usage.children_system:.1f} | {own // MIB}"


def _own_memory(pid: int) -> int:
    """Return the bytes that a process and those it started hold and no file does."""
    total = 0
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        started = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            total += int(line.split()[1]) * 1024
    return total + sum(_own_memory(int(child)) for child in started.split())


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--channels", type=int, default=1024)
    given = parser.parse_args()
    normswap = [sys.executable, "-m", "normswap"]
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        path = write(Path(name), given.layers, given.channels)
        size = (path.parent / "large.bin").stat().st_size
        print(f"{given.layers} layers, {size / 1e9:.1f} GB of weights\n")
        print("| process | seconds | of the processor | own memory, MiB |\n|---|---:|---:|---:|")
        fold = [*normswap, "fold", str(path), "-o", "folded.onnx", "--force", "-q"]
        check = [*normswap, "check", str(path), "folded.onnx", "-q"]
        commands = {
            "cp": ["cp", "large.bin", "copy.bin"],
            "fold --no-check": [*fold, "--no-check"],
            "fold --check proof": [*fold, "--check", "proof"],
            "check --check proof": [*check, "--check", "proof"],
        }
        before = 0.0
        for title, command in commands.items():
            row = measured(command, path)
            seconds, spent, own = row.split(" | ")
            print(f"| {title} | {seconds} | {float(spent) - before:.1f} | {own} |", flush=True)
            before = float(spent)
            (path.parent / "copy.bin").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
