"""The child's side of onnxruntime: sessions at several levels, on the same inputs."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from normswap.runtime.arrays import Feeds, Value, dtype_of, to_bits
from normswap.runtime.binding import Device, bindable, run_bound
from normswap.runtime.diagnosis import device_name
from normswap.runtime.providers import arithmetic
from normswap.runtime.sessions import (
    Provider,
    assignment,
    choose_provider,
    open_session,
    options_in_effect,
    translated,
)

if TYPE_CHECKING:
    from normswap.runtime.worker import Channel

# Types that onnxruntime cannot hand to NumPy: onnx's number, and the dtype in ml_dtypes.
_FOREIGN = {
    "tensor(bfloat16)": (16, "bfloat16"),
    "tensor(float8e4m3fn)": (17, "float8_e4m3fn"),
    "tensor(float8e4m3fnuz)": (18, "float8_e4m3fnuz"),
    "tensor(float8e5m2)": (19, "float8_e5m2"),
    "tensor(float8e5m2fnuz)": (20, "float8_e5m2fnuz"),
}


_FLOAT_MAP = ("tensor(float))", "tensor(float)))")


def execute(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Run one model in one or more ways.

    The request holds ``model``, ``home`` (the folder of its external data), ``feeds`` (inputs, one
    set a case), ``executions`` (each a ``level`` and ``threads``), ``provider``,
    ``provider_options``, ``seeds`` (`normswap.runtime.randomness`) and ``opened``, whether sizes of
    0 are any sizes. The ``results`` of an execution are numbers of what was sent.
    """
    job.stage(f"choosing the execution provider {request['provider']!r}")
    provider = choose_provider(request["provider"], request["provider_options"])
    device = Device.of(provider)
    model: str | bytes = request["model"]
    home: str | None = None
    path = Path(request["model"])
    if request["seeds"] or request["opened"] or request["home"] != str(path.parent):
        from normswap.runtime.opening import open_sizes
        from normswap.runtime.randomness import pinned

        copy = pinned(str(path), request["seeds"])
        if request["opened"]:
            open_sizes(copy)
        model = copy.SerializeToString()
        home = request["home"]
    executions = []
    options: dict[str, str] = {}
    for wanted in request["executions"]:
        what = f"at optimization level {wanted['level']!r}"
        job.stage(f"loading it {what}")
        began = time.perf_counter()
        session = open_session(
            model, provider, level=wanted["level"], threads=wanted["threads"], home=home
        )
        loaded = time.perf_counter()
        options = options_in_effect(session, provider)
        job.stage(f"running it {what}")
        results = []
        seconds = []
        for case, feeds in enumerate(request["feeds"]):
            started = time.perf_counter()
            outputs = outputs_of(session, feeds, provider, device, case)
            seconds.append(time.perf_counter() - started)
            results.append(job.send(outputs))
        executions.append(
            {
                "load_seconds": loaded - began,
                "seconds": seconds,
                "results": results,
                "providers": session.get_providers(),
                "assignment": assignment(session),
            }
        )
        del session
    return {
        "executions": executions,
        "version": ort.__version__,
        "provider": provider.name,
        "options": options,
        "device": device_name(provider.name, options),
        "arithmetic": arithmetic(provider.name, options, os.environ),
        "remarks": list(provider.remarks),
    }


def outputs_of(
    session: ort.InferenceSession,
    inputs: Feeds,
    provider: Provider,
    device: Device | None = None,
    case: int = 0,
) -> Feeds:
    """Run a session.

    Parameters
    ----------
    session : InferenceSession
    inputs : dict of str to Value
    provider : Provider
    device : Device, optional
        Where inputs stay between runs.
    case : int
        Which inputs they are, of all that the process knows.

    Raises
    ------
    WorkerError
        The runtime could not run it.
    """
    names = [output.name for output in session.get_outputs()]
    foreign = {
        value.name
        for value in (*session.get_inputs(), *session.get_outputs())
        if value.type in _FOREIGN
    }
    # Since IR 4 an input with an initializer may be left out; onnxruntime lists it apart.
    try:
        if device is not None and bindable(session, inputs):
            keys = {name: f"{case}/{name}" for name in inputs}
            return dict(zip(names, run_bound(session, inputs, device, keys), strict=True))
        if not foreign:
            types = [output.type for output in session.get_outputs()]
            values = map(_typed, session.run(names, inputs), types)
            return dict(zip(names, values, strict=True))
        wrapped = {name: _to_ort(value) for name, value in inputs.items()}
        results = session.run_with_ort_values(names, wrapped)
        return {name: _from_ort(value) for name, value in zip(names, results, strict=True)}
    except Exception as error:
        raise translated(error, provider, loading=False) from error


def _typed(value: Value, kind: str) -> Value:
    """Return a value whose maps hold numbers of their type, not Python's.

    `kind` is the runtime's name of the type, such as ``seq(map(int64,tensor(float)))``.
    """
    if isinstance(value, list):
        return [_typed(item, kind) for item in value]
    if isinstance(value, dict):
        dtype = np.float32 if kind.endswith(_FLOAT_MAP) else None
        return {key: np.asarray(item, dtype) for key, item in value.items()}
    return value


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
