"""Processes that work on many models: warm, and none takes others' models with it."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from support.fleet import TASK

from normswap.fleet.pool import run
from normswap.fleet.work import Job, Outcome


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def job(tmp_path, name):
    return Job("lint", (), (str(tmp_path / name),), (name,))


def failed(job, error):
    return Outcome(job.name, 4, f"{error} {error.tip}")


def test_a_process_that_dies_takes_only_its_model(tmp_path):
    names = ["a", "kills", "b", "leaves", "c", "d"]
    began = []
    jobs = [job(tmp_path, name) for name in names]
    found = {each.model: each for each in run(jobs, TASK, 2, failed, began.append)}
    assert sorted(found) == sorted(names)
    assert {name for name, each in found.items() if each.exit_code} == {"kills", "leaves"}
    assert "SIGKILL" in found["kills"].line
    assert "other models are processed in a new process" in found["kills"].line
    assert sorted(each.name for each in began) == sorted(names)
    # Warm: as many processes as there were deaths, and those that they began with.
    assert len({found[name].line for name in "abcd"}) <= 4
    assert {len(Path(tmp_path, f"{name}.tried").read_text()) for name in "abcd"} == {1}


def test_one_worker_does_all_in_one_process(tmp_path):
    found = list(run([job(tmp_path, name) for name in "abc"], TASK, 1, failed, lambda job: None))
    assert [each.model for each in found] == ["a", "b", "c"]
    assert len({each.line for each in found}) == 1


def test_an_end_ends_the_workers(tmp_path):
    outcomes = run(
        [job(tmp_path, name) for name in ("a", "slow1", "slow2", "b")], TASK, 2, failed, print
    )
    pid = int(next(outcomes).line)
    deadline = time.monotonic() + 20
    while not Path(tmp_path, "slow2.tried").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(KeyboardInterrupt):
        outcomes.throw(KeyboardInterrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)
    assert not Path(tmp_path, "b.tried").exists()
    assert threading.active_count() < 10
