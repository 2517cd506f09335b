"""The child's side of onnxruntime: sessions at several levels, on the same inputs."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from normswap.check import providers
from normswap.check.protocol import Stage, WorkerError
from normswap.check.wire import Feeds, Packer, Value, dtype_of, to_bits, unpack_all

_LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "default": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_SILENT = 4  # onnxruntime's "fatal": everything else comes to us as an exception

# Types that onnxruntime cannot hand to NumPy: onnx's number, and the dtype in ml_dtypes.
_FOREIGN = {
    "tensor(bfloat16)": (16, "bfloat16"),
    "tensor(float8e4m3fn)": (17, "float8_e4m3fn"),
    "tensor(float8e4m3fnuz)": (18, "float8_e4m3fnuz"),
    "tensor(float8e5m2)": (19, "float8_e5m2"),
    "tensor(float8e5m2fnuz)": (20, "float8_e5m2fnuz"),
}


def execute(request: dict[str, Any], folder: Path, stage: Stage) -> dict[str, Any]:
    """Run one model in one or more ways; the task ``ort`` of the worker.

    The request holds ``model``, ``executions`` (each a ``level``, ``threads``, and ``feeds``:
    descriptions of inputs), ``provider``, ``provider_options`` and ``pin_random``.
    """
    ort.set_default_logger_severity(_SILENT)
    available = ort.get_available_providers()
    provider = providers.full_name(request["provider"], available)
    if provider not in available:
        raise WorkerError("provider", f"{provider};{', '.join(available)}")
    model = request["model"]
    if request["pin_random"]:
        from normswap.check.randomness import pinned

        model = pinned(model), str(Path(model).parent)
    packer = Packer(folder, "result")
    executions = []
    for wanted in request["executions"]:
        what = f"at optimization level {wanted['level']!r}"
        stage(f"loading it {what}")
        began = time.perf_counter()
        session = _session(model, wanted, request, provider)
        loaded = time.perf_counter()
        stage(f"running it {what}")
        results = []
        seconds = []
        for feeds in wanted["feeds"]:
            inputs = unpack_all(feeds, folder)
            started = time.perf_counter()
            outputs = _run(session, inputs)
            seconds.append(time.perf_counter() - started)
            results.append(packer.pack_all(outputs))
        executions.append(
            {
                "load_seconds": loaded - began,
                "seconds": seconds,
                "results": results,
                "providers": session.get_providers(),
                "assignment": _assignment(session),
            }
        )
        del session
    return {"executions": executions, "version": ort.__version__, "provider": provider}


def _session(
    model: str | tuple[bytes, str], wanted: dict[str, Any], request: dict[str, Any], provider: str
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.graph_optimization_level = _LEVELS[wanted["level"]]
    options.intra_op_num_threads = wanted["threads"]
    # A check is in no hurry: threads that wait should not take the cores from what they wait for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Unknown entries are ignored by a runtime that is older than they are.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    source: str | bytes
    if isinstance(model, tuple):
        source, home = model
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", home
        )
    else:
        source = model
    wanted_providers: list[Any] = [
        (provider, providers.settings(provider, request["provider_options"]))
    ]
    if provider != "CPUExecutionProvider":
        wanted_providers.append("CPUExecutionProvider")
    try:
        session = ort.InferenceSession(source, options, providers=wanted_providers)
    except Exception as error:
        raise _translated(error, loading=True) from error
    if provider not in session.get_providers():
        raise WorkerError("provider", f"{provider};{', '.join(session.get_providers())}")
    return session


def _run(session: ort.InferenceSession, inputs: Feeds) -> Feeds:
    names = [output.name for output in session.get_outputs()]
    foreign = {
        value.name
        for value in (*session.get_inputs(), *session.get_outputs())
        if value.type in _FOREIGN
    }
    # Since IR 4 an input with an initializer may be left out; onnxruntime lists it apart.
    try:
        if not foreign:
            return dict(zip(names, session.run(names, inputs), strict=True))
        values = {name: _to_ort(value) for name, value in inputs.items()}
        results = session.run_with_ort_values(names, values)
        return {name: _from_ort(value) for name, value in zip(names, results, strict=True)}
    except Exception as error:
        raise _translated(error, loading=False) from error


def _to_ort(value: Value) -> ort.OrtValue:
    for number, name in _FOREIGN.values():
        if value.dtype.name == name:
            return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(to_bits(value), number)
    return ort.OrtValue.ortvalue_from_numpy(value)


def _from_ort(value: ort.OrtValue) -> Value:
    kind = value.data_type()
    if kind not in _FOREIGN:
        return value.numpy()
    bits = (ctypes.c_ubyte * value.tensor_size_in_bytes()).from_address(value.data_ptr())
    dtype = dtype_of(_FOREIGN[kind][1])
    return np.frombuffer(bytes(bits), dtype=dtype).reshape(value.shape())


def _assignment(session: ort.InferenceSession) -> dict[str, list[str]] | None:
    """Return the operators each provider got, or None where the runtime does not tell."""
    try:
        groups = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError, ort_errors.Fail):
        return None
    found: dict[str, list[str]] = {}
    for group in groups:
        nodes = (f"{node.op_type} {node.name}".strip() for node in group.get_nodes())
        found.setdefault(group.ep_name, []).extend(nodes)
    return found


def _translated(error: Exception, *, loading: bool) -> WorkerError:
    message = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(
        sign in message for sign in ("bad_alloc", "Failed to allocate memory", "out of memory")
    ):
        return WorkerError("memory", message)
    if isinstance(error, ort_errors.NotImplemented) or "is not a registered function" in message:
        return WorkerError("unsupported", message)
    if loading and isinstance(
        error, (ort_errors.InvalidGraph, ort_errors.InvalidProtobuf, ort_errors.NoSuchFile)
    ):
        return WorkerError("invalid", message)
    return WorkerError("run", message)
