"""How long a command takes on many small models, and that none is lost or worked on twice.

    python -m benchmarks.fleet [--models 200] [--jobs 2] > benchmarks/RESULTS-FLEET.md

The same models are linted, and folded without and with their check: by a loop in the shell, which
starts Python for each; by one process that imports once; and by ``--jobs``. Then a fold is killed
in the middle and run again, and the same is done on a Dask cluster of two workers here, of which
one is killed. Seconds of the processor are told beside those of the clock, which a busy machine
stretches.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NORMSWAP = [sys.executable, "-m", "normswap"]

WARM = """
import sys
from pathlib import Path
import normswap
how, source, target = sys.argv[1:]
for path in sorted(Path(source).rglob("*.onnx")):
    if how == "lint":
        normswap.lint(path)
    else:
        out = Path(target, path.relative_to(source))
        out.parent.mkdir(parents=True, exist_ok=True)
        normswap.fold(path, out, **({"check": None} if how == "fold" else {}))
"""

COMMANDS = {
    "lint": ["lint", "--exit-zero"],
    "fold": ["fold", "--no-check"],
    "checked": ["fold"],
}
NAMES = {"lint": "lint", "fold": "fold --no-check", "checked": "fold"}

SAMPLE = 20
"""Models that the shell's loop is timed on; the rest would take the same."""

FLEET = 100_000
WORKERS = (16, 64, 256)


def network(seed: int, blocks: int = 6, width: int = 16) -> onnx.ModelProto:
    """Return a small residual network with a normalization behind each convolution."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []

    def constant(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    x, channels = "x", 3
    for block in range(blocks):
        kernel = rng.normal(size=(width, channels, 3, 3)) / (3 * channels**0.5)
        w = constant(f"w{block}", kernel)
        nodes.append(helper.make_node("Conv", [x, w], [f"c{block}"], f"conv{block}", pads=[1] * 4))
        statistics = [
            constant(f"{name}{block}", value)
            for name, value in (
                ("scale", rng.uniform(0.5, 1.5, width)),
                ("bias", rng.normal(size=width)),
                ("mean", rng.normal(size=width)),
                ("var", rng.uniform(0.5, 1.5, width)),
            )
        ]
        inputs = [f"c{block}", *statistics]
        nodes.append(helper.make_node("BatchNormalization", inputs, [f"n{block}"], f"bn{block}"))
        nodes.append(helper.make_node("Relu", [f"n{block}"], [f"r{block}"]))
        x, channels = f"r{block}", width
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["y"]))
    ports = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width, 1, 1]),
    )
    graph = helper.make_graph(nodes, "small", [ports[0]], [ports[1]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def timed(command: list[str]) -> tuple[float, float]:
    """Return how long a process takes by the clock, and of the processor, its children's too."""
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-500:]} {done.stderr[-2000:]}")
    after = os.times()
    spent = after.children_user + after.children_system
    return time.perf_counter() - began, spent - before.children_user - before.children_system


def times(folder: Path, out: Path, how: str, jobs: int) -> dict[str, tuple[float, float]]:
    """Return the seconds of a command on all models of a folder, by who works on them."""
    models = sorted(folder.rglob("*.onnx"))

    def target(name: str) -> list[str]:
        return [] if how == "lint" else ["-o", str(out / how / name)]

    loop = [0.0, 0.0]
    for model in models[:SAMPLE]:
        (out / how).mkdir(parents=True, exist_ok=True)
        spent = timed([*NORMSWAP, *COMMANDS[how], str(model), *target(f"loop-{model.name}")])
        loop = [one + other for one, other in zip(loop, spent, strict=True)]
    share = len(models) / min(SAMPLE, len(models))
    warm = timed([sys.executable, "-c", WARM, how, str(folder), str(out / how / "warm")])
    fleet = timed([*NORMSWAP, *COMMANDS[how], str(folder), *target("fleet"), "--jobs", str(jobs)])
    return {"loop": (loop[0] * share, loop[1] * share), "warm": warm, "fleet": fleet}


class Watched:
    """Notes what is written to a folder, and when, so that it knows what is written twice."""

    def __init__(self, folder: Path, then: object = None) -> None:
        self.seen: dict[str, set[int]] = {}
        self._folder = folder
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(then,))

    def _look(self) -> None:
        for path in self._folder.rglob("*.onnx"):
            try:
                written = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if not path.name.startswith("."):
                self.seen.setdefault(path.name, set()).add(written)

    def _watch(self, then: object) -> None:
        while not self._is_over.wait(0.01):
            self._look()
            if callable(then) and len(self.seen) >= self.enough:
                then()
                then = None

    enough = 1

    def __enter__(self) -> Watched:  # noqa: PYI034 - typing.Self is there from Python 3.11 on
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()

    @property
    def twice(self) -> int:
        """How many files were written more than once."""
        return sum(len(times) > 1 for times in self.seen.values())


def killed(folder: Path, out: Path, jobs: int) -> str:
    """Kill a fold in the middle, run it again, and say what came of it."""
    count = len(list(folder.rglob("*.onnx")))
    command = [*NORMSWAP, "fold", str(folder), "-o", str(out / "killed"), "--no-check"]
    command += ["--resume", str(out / "killed.done"), "--jobs", str(jobs)]
    with Watched(out / "killed") as watched:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        while len(watched.seen) < count // 2:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        half = len(watched.seen)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    unchanged = sum(line.endswith("unchanged") for line in done.stdout.splitlines())
    return (
        f"Killed with `kill -9` after {half} of {count} were written, and run again: {unchanged} "
        f"were told as unchanged, {len(watched.seen)} are there, {watched.twice} were written "
        "twice."
    )


def clustered(folder: Path, out: Path) -> str:
    """Fold on a cluster of two workers, one of which is killed, and say what came of it."""
    from distributed import Client, LocalCluster

    count = len(list(folder.rglob("*.onnx")))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster.scheduler_address, set_as_default=False) as client:
            victim = next(iter(client.run(os.getpid).values()))
        command = [*NORMSWAP, "fold", str(folder), "-o", str(out / "dask"), "--no-check"]
        command += ["--resume", str(out / "dask.done"), "--scheduler", cluster.scheduler_address]
        watched = Watched(out / "dask", lambda: os.kill(victim, signal.SIGKILL))
        watched.enough = count // 2
        began = time.perf_counter()
        with watched:
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        spent = time.perf_counter() - began
    lines = [line.split()[0] for line in done.stdout.splitlines()]
    return (
        f"On a Dask cluster of two workers, one of them killed in the middle: {len(set(lines))} of "
        f"{count} lines, {len(watched.seen)} models are there, {watched.twice} were written twice, "
        f"{len(lines) - len(set(lines))} were told twice; {spent:.1f} s."
    )


def main() -> None:
    """Measure, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp())
    try:
        folder, out = home / "models", home / "out"
        for seed in range(given.models):
            path = folder / f"{seed % 10}" / f"{seed:05}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            onnx.save(network(seed), path)
        size = path.stat().st_size
        print("# Many models\n")
        print(
            f"{given.models} networks of six convolutions, {size / 1e3:.0f} kB each, on "
            f"{os.cpu_count()} processors ({platform.machine()}, Python "
            f"{platform.python_version()}), load {os.getloadavg()[0]:.0f} at the beginning: "
            f"`python -m benchmarks.fleet --models {given.models} --jobs {given.jobs}`.\n"
        )
        print("| | shell loop | one warm process | `--jobs` | the last by the second |")
        print("|---|---:|---:|---:|---:|", flush=True)
        found = {}
        for how, name in NAMES.items():
            found[how] = times(folder, out, how, given.jobs)
            loop, warm, fleet = found[how].values()
            cells = (f"{clock:.1f} s, {cpu:.1f} s CPU" for clock, cpu in (loop, warm, fleet))
            print(f"| `{name}` | {' | '.join(cells)} | {fleet[1] / warm[1]:.2f} |", flush=True)
        print(f"\nThe loop is timed on {SAMPLE} of them. The last column is of CPU.\n")
        print(killed(folder, out, given.jobs), clustered(folder, out), sep="\n\n", flush=True)
        print(f"\n## What {FLEET:,} such models would take\n")
        print(
            "Reckoned from the CPU seconds of `--jobs` above: models don't wait for one another, "
            "so that N processors take an N-th. Larger models take as much longer as their own "
            "work does.\n"
        )
        print(f"| | {' | '.join(f'{workers} workers' for workers in WORKERS)} |")
        print(f"|---|{'---:|' * len(WORKERS)}")
        for how, name in NAMES.items():
            each = found[how]["fleet"][1] / given.models
            cells = (f"{FLEET * each / workers / 60:.1f} min" for workers in WORKERS)
            print(f"| `{name}` | {' | '.join(cells)} |")
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
