"""A process that does tasks: what comes back from it, and how its end is told."""

import sys
from pathlib import Path

import numpy as np
import pytest

from normswap.errors import ModelError, RunError, RunTimeoutError
from normswap.runtime import child as module
from normswap.runtime.child import Child, run_task
from normswap.runtime.failures import ArbiterError, ProviderError, UnsupportedByRuntimeError

pytestmark = pytest.mark.usefixtures("own_processes")


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Return a function that runs some code in place of the worker."""

    def run(code, *, timeout=30.0):
        script = tmp_path / "script.py"
        script.write_text(
            "import json, os, signal, struct, sys, time\n"
            "def send(message):\n"
            "    text = json.dumps(message).encode()\n"
            "    sys.stdout.buffer.write(struct.pack('<Q', len(text)) + text)\n"
            "    sys.stdout.flush()\n"
            "send({'stage': 'doing its work'})\n" + code
        )
        monkeypatch.setattr(module, "command", lambda *_: [sys.executable, str(script)])
        return run_task("its:work", {}, label="the original model (a.onnx)", timeout=timeout)

    return run


def respond(response):
    return f"send({{'answer': {response!r}}})"


def test_a_response_comes_back_with_its_time(child):
    response = child(respond({"fine": 1, "peak_memory": 5}))
    assert response["fine"] == 1
    assert response["wall_seconds"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
@pytest.mark.parametrize(
    ("name", "word", "tip"),
    [
        ("SIGSEGV", "SIGSEGV", "another version"),
        ("SIGKILL", "ran out of memory", "smaller batches"),
        ("SIGABRT", "ABRT", "another version"),
    ],
)
def test_a_killed_child_is_told_with_its_stage(child, name, word, tip):
    with pytest.raises(RunError, match=word) as info:
        child(f"os.kill(os.getpid(), signal.{name})")
    assert "the original model (a.onnx)" in str(info.value)
    assert "while doing its work" in str(info.value)
    assert tip in info.value.tip


def test_a_hanging_child_is_ended(child):
    with pytest.raises(RunTimeoutError, match="while doing its work"):
        child("time.sleep(60)", timeout=2.0)


def test_a_child_that_ends_without_a_word(child):
    with pytest.raises(RunError, match="exit code 3"):
        child("os._exit(3)")
    with pytest.raises(RunError, match="ValueError: oh"):
        child("raise ValueError('oh')")
    with pytest.raises(RunError, match="ran out of memory"):
        child("raise MemoryError('1 TB')")


@pytest.mark.parametrize(
    ("kind", "message", "error", "word"),
    [
        ("provider", "there is no CUDA here", ProviderError, "no CUDA here"),
        ("memory", "", RunError, "ran out of memory"),
        ("invalid", "no graph", ModelError, "invalid: no graph"),
        ("unsupported", "Relu(14)", UnsupportedByRuntimeError, r"Relu\(14\)"),
        ("arbiter", "no such op", ArbiterError, "no such op"),
        ("run", "bad shape", RunError, "bad shape"),
    ],
)
def test_what_went_wrong_in_the_child_is_told_in_the_parents_words(
    child, kind, message, error, word
):
    with pytest.raises(error, match=word) as info:
        child(respond({"error": {"kind": kind, "message": message, "tip": "do this"}}))
    if kind == "provider":
        assert info.value.tip == "do this"


# Tasks of the tests, done by the real worker


def keep(request, job):
    """Hold a value, send what was held before, and raise what is asked for."""
    job.stage("keeping it")
    numbers = [job.send(value) for value in job.held.get("values", [])]
    job.held.setdefault("values", []).append(request["value"])
    if "raised" in request:
        raise {"memory": MemoryError("1 TB"), "bug": KeyError("a bug")}[request["raised"]]
    return {"numbers": numbers}


KEEP = f"{__name__}:keep"


@pytest.fixture
def here(monkeypatch):
    """Let children find this module."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_a_child_does_one_task_after_the_other(here):
    with Child("it", timeout=30.0) as one, Child("other", timeout=30.0) as other:
        assert one.call(KEEP, {"value": np.arange(3)})["numbers"] == []
        assert other.call(KEEP, {"value": 2})["sent"] == []
        answer = one.call(KEEP, {"value": None})
        assert answer["numbers"] == [0]
        assert answer["sent"][0].tolist() == [0, 1, 2]
        assert other.call(KEEP, {"value": None})["sent"] == [2]


def test_what_is_told_is_survived_and_what_is_a_bug_is_not(here):
    with Child("it", timeout=30.0) as one:
        with pytest.raises(RunError, match="it ran out of memory: 1 TB"):
            one.call(KEEP, {"value": 1, "raised": "memory"})
        assert one.call(KEEP, {"value": 2})["sent"] == [1]
        with pytest.raises(RunError, match="ended while keeping it: KeyError: 'a bug'"):
            one.call(KEEP, {"value": 3, "raised": "bug"})
        with pytest.raises(RunError, match="the process ended while keeping it"):
            one.call(KEEP, {"value": 4})


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_child_may_not_take_more_than_its_memory(here):
    with pytest.raises(RunError, match="ran out of memory"):
        run_task(
            KEEP, {"value": np.zeros(1 << 29, bool)}, label="it", timeout=60, memory_limit=1 << 29
        )


def test_nothing_is_imported_from_the_working_directory(here, tmp_path, monkeypatch):
    for name in ("numpy", "signal", "normswap"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    with Child("it", timeout=30.0) as one:
        assert one.call(KEEP, {"value": 1})["sent"] == []
