"""A model in a process of its own."""

from __future__ import annotations

import signal

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from support.build import Builder

from normswap.errors import RunError, RunTimeoutError
from normswap.runtime.partial import PartialModel
from normswap.runtime.session import Session
from normswap.runtime.sessions import Provider, translated

pytestmark = pytest.mark.usefixtures("own_processes")


@pytest.fixture
def chain(tmp_path):
    """Relu, Neg, Add of an initializer: x -> r -> n -> y."""
    b = Builder(17)
    x = b.node("Relu", b.input("N", 2), out="r")
    y = b.node("Add", b.node("Neg", x, out="n"), b.const(np.array([1.0, 2.0])), out="y")
    b.output(y, None)
    path = tmp_path / "chain.onnx"
    onnx.save(b.model(), path)
    return path


X = np.array([[-1.0, 3.0]], np.float32)


def test_outputs_and_taps(chain):
    taps = dict.fromkeys("rn", TensorProto.FLOAT)
    with Session(chain, label="it", taps=taps) as session:
        assert session.run({"x": X})["y"].tolist() == [[1, -1]]
        tapped = session.run({"x": X}, ["r", "n"])
        assert tapped["r"].tolist() == [[0, 3]]
        assert tapped["n"].tolist() == [[0, -3]]


def test_a_tensor_that_is_fed_is_not_computed(chain):
    with Session(chain, label="it", level="disabled") as session:
        assert session.run({"n": X})["y"].tolist() == [[0, 5]]
        assert session.run({"n": X, "x": np.zeros((9, 9), np.float32)})["y"].tolist() == [[0, 5]]


def test_what_is_held_is_fed_in_every_run(chain):
    with Session(chain, label="it", level="disabled") as session:
        session.hold({"x": X})
        assert session.run({})["y"].tolist() == [[1, -1]]
        assert session.run({"x": -X})["y"].tolist() == [[0, 2]]
        session.hold({"x": -X})
        assert session.run({})["y"].tolist() == [[0, 2]]


def partial(path, remembered):
    return PartialModel(
        {
            "model": str(path),
            "taps": dict.fromkeys("rn", TensorProto.FLOAT),
            "provider": "cpu",
            "provider_options": {},
            "level": "default",
            "alike": False,
            "threads": 0,
            "remembered": remembered,
        }
    )


@pytest.fixture
def loaded(monkeypatch):
    found = []
    load = PartialModel._load
    monkeypatch.setattr(PartialModel, "_load", lambda *args: found.append(1) or load(*args))
    return found


@pytest.mark.parametrize(("remembered", "made"), [(1, 4), (2, 2)])
def test_parts_that_are_remembered_are_not_made_again(chain, loaded, remembered, made):
    model = partial(chain, remembered)
    for name in "rnrn":
        model.run([name], {"x": X})
    assert len(loaded) == made


def test_a_part_that_does_for_several_runs_is_made_once(chain, loaded):
    model = partial(chain, 4)
    together = model.run([], {"x": X}, ["r", "n"])
    assert together.keys() == {"y"}
    found = model.run(["r", "n"], {"x": X}, ["r"])
    assert len(loaded) == 1
    assert {name: value.tolist() for name, value in found.items()} == {
        name: model.run([name], {"x": X})[name].tolist() for name in "rn"
    }
    assert len(loaded) == 3  # each alone needs less


def test_a_runtime_error_is_told_and_survived(chain):
    with Session(chain, label="the model") as session:
        with pytest.raises(RunError, match="could not run the model"):
            session.run({"x": np.zeros((1, 7), np.float32)})
        assert session.run({"x": X})["y"].shape == (1, 2)


def test_a_model_that_cannot_be_loaded(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(RunError, match="could not run it"):
        Session(path, label="it")


def test_a_missing_provider(chain):
    with pytest.raises(RunError, match="is not available here"):
        Session(chain, label="it", provider="nosuch")


def test_a_process_that_dies(chain):
    with Session(chain, label="the model") as session:
        session.run({"x": X})
        session._process.kill()
        with pytest.raises(RunError, match=r"crashed its process .* while running it"):
            session.run({"x": X})


def test_a_process_that_takes_too_long(chain):
    with Session(chain, label="the model") as session:
        session._process.send_signal(signal.SIGSTOP)  # or it may have begun to run
        session._timeout = 0.1
        with pytest.raises(RunTimeoutError, match=r"took longer than .* while loading it"):
            session.run({"x": X})


@pytest.mark.parametrize(
    "said",
    [
        "std::bad_alloc",
        "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9",
        "Available memory of 16777216 is smaller than requested bytes of 268435456",
        "CUDA failure 2: out of memory",
    ],
)
def test_what_the_runtime_says_where_memory_is_short(said):
    provider = Provider("CPUExecutionProvider", (), {})
    assert translated(RuntimeError(said), provider, loading=False).kind == "memory"
    assert translated(RuntimeError("a wrong shape"), provider, loading=False).kind == "run"
