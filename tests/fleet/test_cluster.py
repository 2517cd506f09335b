"""Many models on a Dask cluster: nothing is lost with a worker, and nothing is written twice."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from support.cli import invoke
from support.fleet import save_models

from normswap.errors import RunError
from normswap.fleet import cluster
from normswap.fleet.work import Job, Outcome

NAMED = ("a", "kills", "large", "b")
MODELS = [f"{number}.onnx" for number in range(8)]


@pytest.fixture(scope="module")
def local():
    from distributed import LocalCluster  # which takes half a second

    os.environ["PYTHONPATH"], before = str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")
    try:
        with LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit="2GB"
        ) as made:
            yield made
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def failed(job, error):
    return Outcome(job.name, 4, f"{error} {error.tip}")


def test_a_model_that_dies_or_is_too_large_costs_no_worker(local, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "size_of", lambda models: ("large" in models[0]) << 30)
    jobs = [Job("lint", (), (str(tmp_path / name),), (name,)) for name in NAMED]
    found = {
        each.model: each
        for each in cluster.run(jobs, "support.fleet:work", local.scheduler_address, failed)
    }
    codes = {name: each.exit_code for name, each in found.items()}
    assert codes == {"a": 0, "b": 0, "kills": 4, "large": 4}
    assert "SIGKILL" in found["kills"].line
    assert "about 4.8 GB of memory, but no worker has more than 2.0 GB" in found["large"].line


def test_a_worker_is_killed_in_the_middle(local, tmp_path, monkeypatch):
    from distributed import Client

    monkeypatch.chdir(tmp_path)
    save_models(tmp_path / "m", *MODELS)
    with Client(local.scheduler_address, set_as_default=False) as client:
        pids = client.run(os.getpid)
    seen = {name: set() for name in MODELS}
    is_over = threading.Event()

    def watch():
        """Note what is at the outputs, again and again; kill a worker once there is one."""
        victim = next(iter(pids.values()))
        while not is_over.is_set():
            for name in MODELS:
                try:
                    seen[name].add(Path("out", name).stat().st_mtime_ns)
                except FileNotFoundError:  # noqa: PERF203 - it is waited for
                    continue
            if victim and any(seen.values()):
                os.kill(victim, signal.SIGKILL)
                victim = None
            time.sleep(0.002)
        assert victim is None

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = invoke(
            *("fold", "m", "-o", "out", "--no-check", "--resume", "done"),
            *("--scheduler", local.scheduler_address),
        )
    finally:
        is_over.set()
        watcher.join()
    assert (result.code, result.err.strip().splitlines()[-1]) == (0, "8 models; no failures")
    assert [line.split()[0] for line in sorted(result.text.splitlines())] == [
        f"m/{name}" for name in MODELS
    ]
    for name in MODELS:
        seen[name].add(Path("out", name).stat().st_mtime_ns)
    assert {name: len(times) for name, times in seen.items()} == dict.fromkeys(MODELS, 1)


def test_external_data_counts_as_memory(tmp_path):
    save_models(tmp_path, "m.onnx", external=True)
    there = sum((tmp_path / name).stat().st_size for name in ("m.onnx", "m.onnx.data"))
    assert cluster.size_of([str(tmp_path / "m.onnx"), str(tmp_path / "absent.onnx")]) == there


def test_no_scheduler_is_said(monkeypatch):
    monkeypatch.setattr(cluster, "_PATIENCE", 0.2)
    with pytest.raises(RunError, match="No Dask scheduler could be reached at"):
        list(cluster.run([], "", "tcp://127.0.0.1:9", failed))
