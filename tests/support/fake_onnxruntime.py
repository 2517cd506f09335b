"""Takes the place of onnxruntime in a child process, and then lets the real one do the work.

`support.runtimes` copies this file to where a child finds it first, with ``behaviour.json`` beside
it, which says what goes wrong. What is pretended to be a GPU computes on the CPU.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).parent
BEHAVIOUR = json.loads((HERE / "behaviour.json").read_text(encoding="utf-8"))
CPU = "CPUExecutionProvider"


def note(key, value):
    """Add a line to what the test will read of this process and of others beside it."""
    line = json.dumps([key, value]) + "\n"
    with (HERE / "seen.jsonl").open("ab", buffering=0) as file:  # as a whole, or not at all
        file.write(line.encode())


def driver():
    """Return a driver with the devices that the test asked for."""
    names = BEHAVIOUR["devices"]

    def set_to(pointer, value):
        pointer._obj.value = value
        return 0

    def name_of(buffer, _size, device):
        buffer.value = names[device.value].encode()
        return 0

    return SimpleNamespace(
        cuInit=lambda _flags: BEHAVIOUR.get("driver_error", 0 if names else 100),
        cuDeviceGetCount=lambda pointer: set_to(pointer, len(names)),
        cuDeviceGet=set_to,
        cuDeviceGetName=name_of,
    )


def fake_loader(real):
    """Return a CDLL to which the libraries are missing that the test wants to be."""

    def load(name, *args, **kwargs):
        stem = Path(str(name)).name
        if stem in ("libcuda.so.1", "nvcuda.dll"):
            if BEHAVIOUR.get("devices") is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return driver()
        if "onnxruntime_providers" in stem:
            missing = BEHAVIOUR.get("missing_library")
            if missing and "shared" not in stem:
                raise OSError(f"{missing}: cannot open shared object file: No such file")
            return None
        return real(name, *args, **kwargs)

    return load


def become_real():
    """Put the real module in this one's place, with what the test wants to be different."""
    home = str(HERE.parent)
    sys.path.remove(home)
    del sys.modules["onnxruntime"]
    real = importlib.import_module("onnxruntime")
    sys.path.insert(0, home)  # for the packages that are said to be installed
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    class Session(real.InferenceSession):
        def __init__(self, model, options=None, providers=(), **kwargs):
            self.names = [name for name, _ in providers]
            self.options = dict(providers)
            note("sessions", {"providers": self.options, "arguments": kwargs})
            note("environment", {key: os.environ[key] for key in os.environ if "_TF32_" in key})
            raised = BEHAVIOUR.get("raises")
            if raised and self.names[0] != CPU:
                raise RuntimeError(raised)
            super().__init__(model, options, providers=[CPU], **kwargs)

        def get_providers(self):
            return [name for name in self.names if name not in BEHAVIOUR.get("dropped", [])]

        def get_provider_options(self):
            return self.options

        def get_provider_graph_assignment_info(self):
            if BEHAVIOUR.get("silent_about_nodes"):
                raise AttributeError("it does not tell")
            return [
                SimpleNamespace(
                    ep_name=name,
                    get_nodes=lambda name=name: [
                        SimpleNamespace(op_type=op, name=op.lower())
                        for op in BEHAVIOUR.get("nodes", {}).get(name, [])
                    ],
                )
                for name in self.names
            ]

        def run(self, *args, **kwargs):
            note("runs", "plain")
            self._fail()
            return super().run(*args, **kwargs)

        def run_with_iobinding(self, *args, **kwargs):
            note("runs", "bound")
            self._fail()
            return super().run_with_iobinding(*args, **kwargs)

        def _fail(self):
            if "run_raises" in BEHAVIOUR and self.names[0] != CPU:
                raise state.EPFail(BEHAVIOUR["run_raises"])

    def to_device(array, kind="cpu", number=0):
        note("copies", [kind, number, list(array.shape)])
        return put(array)

    put = real.OrtValue.ortvalue_from_numpy
    real.OrtValue.ortvalue_from_numpy = staticmethod(to_device)
    real.InferenceSession = Session
    real.get_available_providers = lambda: BEHAVIOUR["providers"]
    real.preload_dlls = lambda: note("preloads", 1)
    real.package_name = BEHAVIOUR.get("package", "onnxruntime-gpu")
    real.cuda_version = "13.0"
    real.__version__ = "1.31.1"
    real.__file__ = __file__
    ctypes.CDLL = fake_loader(ctypes.CDLL)


if BEHAVIOUR.get("missing"):
    raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
if not BEHAVIOUR.get("broken"):
    become_real()
