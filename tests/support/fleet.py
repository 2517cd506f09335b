"""Models for tests of many, and a task for their workers that needs no model."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import onnx

from support.build import Builder

TASK = "support.fleet:work"


def save_models(folder, *names, layers=2, external=False):
    """Write small models whose normalizations fold; each has weights of its own."""
    for seed, name in enumerate(names):
        b = Builder(17, seed=seed)
        x, channels = b.input("N", 3, 8, 8), 3
        width = 32 if external else 4  # what is small is stored in the model itself
        for number in range(layers):
            y = b.conv(x, channels, width, pads=[1] * 4)
            x, channels = b.bn(y, width, name=f"bn{number}", positive=True), width
        b.output(b.node("Relu", x, out="y"), None)
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        how = {"save_as_external_data": True, "location": f"{path.name}.data", "size_threshold": 0}
        onnx.save(b.model(), path, **(how if external else {}))


def work(request, channel):
    """Answer with the process's number; die where the name of the model says so."""
    job = request["job"]
    name = job["names"][0]
    if "kills" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "leaves" in name:
        raise SystemExit(7)
    with Path(f"{job['models'][0]}.tried").open("a", encoding="utf-8") as file:
        file.write("x")
    if "slow" in name:
        channel.stage("sleeping")
        signal.pause()
    return {"outcome": {"model": name, "exit_code": 0, "line": str(os.getpid())}}
