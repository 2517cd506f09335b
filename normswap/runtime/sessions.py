"""The child's side: sessions that run on the provider that was asked for, or say why not.

Left to itself onnxruntime's Python package replaces a provider that fails by the CPU, when a
session is made and once more when it is run, and says so on standard output. Here that is off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from normswap.runtime import diagnosis, providers
from normswap.runtime.failures import WorkerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.runtime.worker import Channel

LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "default": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_AZURE = "AzureExecutionProvider"  # sends models away; it runs nothing here
SILENT = 4  # onnxruntime's "fatal": everything else comes to us as an exception


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider that was chosen.

    Attributes
    ----------
    name : str
        Full name.
    chain : tuple of (str, dict)
        What a session is given: the provider, and those that take what it leaves.
    options : Mapping of str to object
        A person's.
    remarks : tuple of str
        What a person should know of the choice and of the installation, one sentence each.
    """

    name: str
    chain: tuple[tuple[str, dict[str, str]], ...]
    options: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


def choose_provider(name: str, options: Mapping[str, Any]) -> Provider:
    """Return the provider of a name that a person gave.

    Parameters
    ----------
    name : str
        As in `providers.full_name`; ``auto`` takes the first of `providers.PREFERENCE` that runs.
    options : Mapping of str to object

    Raises
    ------
    WorkerError
        This onnxruntime was built without it, or, of ``auto``, has none that runs.
    """
    ort.set_default_logger_severity(SILENT)
    available = ort.get_available_providers()
    clash = diagnosis.conflict()
    remarks = [f"{clash.message} {clash.tip}"] if clash is not None else []
    if name.lower() == providers.AUTO:
        full, passed = _first_that_runs(options)
        remarks += passed
    else:
        full = providers.full_name(name, available)
    if full not in available:
        raise _error(diagnosis.diagnose(full, options))
    diagnosis.preload(full)
    chain = tuple(providers.chain(full, options, available))
    return Provider(full, chain, options, tuple(remarks))


def _first_that_runs(options: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the provider that ``auto`` stands for, and why those before it are not it."""
    passed: list[str] = []
    for full in providers.PREFERENCE:
        if full in ort.get_available_providers():
            obstacle = try_out(full, options)
            if obstacle is None:
                if passed:
                    passed.append(f"so auto selects {full}")
                return full, passed
            passed.append(obstacle.message)
    raise WorkerError("provider", f"No execution provider works here: {' '.join(passed)}")


def try_out(full: str, options: Mapping[str, Any]) -> diagnosis.Obstacle | None:
    """Run one addition on a provider, with no other to take its place; return what went wrong."""
    from onnx import TensorProto, helper

    if full not in ort.get_available_providers():
        return diagnosis.diagnose(full, options)
    diagnosis.preload(full)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "add", [x], [y])
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=7).SerializeToString()
    settings = ort.SessionOptions()
    settings.log_severity_level = SILENT
    chain = providers.chain(full, options, ())[:1]
    try:
        session = ort.InferenceSession(model, settings, providers=chain, enable_fallback=0)
        if full not in session.get_providers():
            return diagnosis.diagnose(full, options)
        session.disable_fallback()
        session.run(["y"], {"x": np.ones(1, np.float32)})
    except Exception as error:  # noqa: BLE001 - each provider raises what it likes
        return diagnosis.diagnose(full, options, error)
    return None


def open_session(
    model: str | bytes,
    provider: Provider,
    *,
    level: str,
    threads: int,
    home: str | None = None,
    in_a_hurry: bool = False,
) -> ort.InferenceSession:
    """Return a session of a model on a provider.

    Parameters
    ----------
    model : str or bytes
        A path, or a serialized model.
    provider : Provider
    level : str
        One of `LEVELS`.
    threads : int
        0 for as many as there are cores.
    home : str, optional
        Folder of the external data of a serialized model.
    in_a_hurry : bool
        Whether its time is taken: then its threads wait for work as they would in deployment.

    Raises
    ------
    WorkerError
        The provider can't be used, or the model can't be loaded.
    """
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    options.graph_optimization_level = LEVELS[level]
    # Of two tensors in one place, some releases get the sizes wrong; what others are held to errs
    # on the safe side.
    options.enable_mem_reuse = level != "disabled"
    options.intra_op_num_threads = threads
    # Unknown entries are ignored by a runtime that is older than they are.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if in_a_hurry:
        # Between runs they must not wait for more, beside those of the session whose turn it is.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    else:
        # A check has time: threads that wait should not take the cores from what they wait for.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider.name != providers.CPU and not in_a_hurry:
        # Kernels that sum by atomic additions give way to those that don't, where there are any;
        # convolutions are not among them, which is what cudnn_conv_algo_search is for.
        options.use_deterministic_compute = True
    if home is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", home
        )
    try:
        session = ort.InferenceSession(
            model, options, providers=list(provider.chain), enable_fallback=0
        )
    except Exception as error:
        raise translated(error, provider, loading=True) from error
    if provider.name not in session.get_providers():
        raise _error(diagnosis.diagnose(provider.name, provider.options))
    session.disable_fallback()
    return session


def options_in_effect(session: ort.InferenceSession, provider: Provider) -> dict[str, str]:
    """Return the options of the session's provider, as the runtime tells them."""
    told = session.get_provider_options().get(provider.name, {})
    return {str(key): str(value) for key, value in told.items()}


def assignment(session: ort.InferenceSession) -> dict[str, list[str]] | None:
    """Return the operators that each provider got, or None where the runtime does not tell."""
    try:
        groups = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError, ort_errors.Fail):
        return None
    found: dict[str, list[str]] = {}
    for group in groups:
        nodes = (f"{node.op_type} {node.name}".strip() for node in group.get_nodes())
        found.setdefault(group.ep_name, []).extend(nodes)
    return found


# The third is of an arena that has a limit: "Available memory of 16777216 is smaller than requested
# bytes of 268435456".
_OUT_OF_MEMORY = (
    "bad_alloc",
    "failed to allocate memory",
    "is smaller than requested bytes",
    "out of memory",
)


def translated(error: Exception, provider: Provider, *, loading: bool) -> WorkerError:
    """Return what onnxruntime raised, by what it means."""
    message = " ".join(str(error).split())
    if provider.name in providers.ON_NVIDIA and _is_of_device(message, loading=loading):
        return _error(diagnosis.diagnose(provider.name, provider.options, error))
    if isinstance(error, MemoryError) or any(sign in message.lower() for sign in _OUT_OF_MEMORY):
        return WorkerError("memory", message)
    if isinstance(error, ort_errors.NotImplemented) or "is not a registered function" in message:
        return WorkerError("unsupported", message)
    if "No corresponding Numpy type" in message or "can't be converted to MLDataType" in message:
        return WorkerError("type", message)
    if loading and isinstance(
        error, (ort_errors.InvalidGraph, ort_errors.InvalidProtobuf, ort_errors.NoSuchFile)
    ):
        return WorkerError("invalid", message)
    return WorkerError("run", message)


# CUDA errors of a device or driver, and not of a model: cudaErrorInsufficientDriver, NoDevice,
# InvalidDevice, SystemDriverMismatch, NoKernelImageForDevice, CompatNotSupportedOnDevice.
_OF_DEVICE = tuple(f"CUDA failure {code}:" for code in (35, 100, 101, 803, 209, 804))


def _is_of_device(message: str, *, loading: bool) -> bool:
    signs = (*_OF_DEVICE, "Invalid device ID", "cuDNN is not available")
    if loading:
        signs = (*signs, "install TensorRT libraries", "failed to load library")
    return any(sign.lower() in message.lower() for sign in signs)


def _error(obstacle: diagnosis.Obstacle) -> WorkerError:
    return WorkerError("provider", obstacle.message, obstacle.tip)


def survey(request: dict[str, Any], job: Channel) -> dict[str, Any]:
    """Try all providers that this onnxruntime has, and some that it might.

    The request holds ``provider_options``.
    """
    ort.set_default_logger_severity(SILENT)
    built_in = [name for name in ort.get_available_providers() if name != _AZURE]
    entries = []
    for full in dict.fromkeys((*built_in, providers.CUDA, providers.TENSORRT)):
        job.stage(f"trying {full}")
        options = request["provider_options"]
        obstacle = try_out(full, options)
        entries.append(
            {
                "name": full,
                "usable": obstacle is None,
                "device": "" if obstacle else diagnosis.device_name(full, options),
                "obstacle": obstacle and obstacle.kind,
                "why": obstacle and obstacle.message,
                "tip": obstacle and obstacle.tip,
            }
        )
    clash = diagnosis.conflict()
    return {
        "packages": diagnosis.installed(),
        "runs": getattr(ort, "package_name", None) or "onnxruntime",
        "version": ort.__version__,
        "cuda": getattr(ort, "cuda_version", None) or None,
        "conflict": clash and {"message": clash.message, "tip": clash.tip},
        "providers": entries,
    }
