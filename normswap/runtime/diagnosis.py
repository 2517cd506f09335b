"""The child's side: why an execution provider can't be used here, told apart case by case.

onnxruntime itself warns on a stream that nobody reads, and goes on with the CPU. What can be
wrong, in the order in which it is asked:

1. no onnxruntime can be imported, or only what an uninstalled one has left behind;
2. its package was built without the provider; most often two packages of onnxruntime are
   installed, which write to the same folder;
3. the provider's library is there and can't be loaded, since CUDA's or cuDNN's are missing;
4. there is no driver;
5. there is no device, or not the one asked for.
"""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normswap.runtime.failures import WorkerError
from normswap.runtime.providers import CPU, CUDA, ON_NVIDIA, PACKAGES, PREFERENCE, short_name
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

_DISTRIBUTIONS = ("onnxruntime", *sorted(set(PACKAGES.values())), "onnxruntime-training")
_ON_WINDOWS = sys.platform == "win32"
_DRIVER = "nvcuda.dll" if _ON_WINDOWS else "libcuda.so.1"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_WITH_PATH = 8  # LOAD_WITH_ALTERED_SEARCH_PATH, as onnxruntime loads its providers
_CUDA_EXTRAS = "[cuda,cudnn]"
_FOR_WHICH_CUDA = " (1.27 and later for CUDA 13; 1.19 to 1.26 for CUDA 12; all for cuDNN 9)"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a provider can't be used.

    Attributes
    ----------
    kind : str
        ``package``, ``libraries``, ``driver``, ``device`` or ``refused``.
    message : str
        A sentence.
    tip : str or None
        What to do about it.
    """

    kind: str
    message: str
    tip: str | None


def import_runtime() -> Any:
    """Return the module ``onnxruntime``.

    Raises
    ------
    WorkerError
        There is none, or not a whole one.
    """
    try:
        import onnxruntime
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime"
        what = "not installed" if missing else f"broken ({error})"
        raise WorkerError("provider", f"onnxruntime is {what}.", _reinstall()) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        # Uninstalling one of two packages takes the files that they had in common.
        raise WorkerError(
            "provider",
            "onnxruntime is broken: its package folder exists, but the runtime is missing.",
            _reinstall(),
        )
    return onnxruntime


def installed() -> dict[str, str]:
    """Return the versions of all packages that bring a module ``onnxruntime``."""
    versions = {name: _version(name) for name in _DISTRIBUTIONS}
    return {name: version for name, version in versions.items() if version is not None}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def conflict() -> Obstacle | None:
    """Tell that several packages of onnxruntime are installed, of which the last one has won."""
    packages = installed()
    if len(packages) < 2:
        return None
    named = " and ".join(f"{name} {version}" for name, version in packages.items())
    try:
        live = getattr(import_runtime(), "package_name", None)
    except WorkerError:
        live = None
    winner = f"; the one in use is {live}" if live else ""
    return Obstacle(
        "package",
        f"{named} are both installed, and overwrite each other's files{winner}.",
        _replace_all(packages),
    )


def diagnose(
    provider: str, options: Mapping[str, Any] | None = None, error: Exception | None = None
) -> Obstacle:
    """Say why a provider can't be used.

    Parameters
    ----------
    provider : str
        Full name.
    options : Mapping of str to object, optional
        Of the provider.
    error : Exception, optional
        What onnxruntime raised, if it did.
    """
    runtime = import_runtime()
    if provider not in runtime.get_available_providers():
        return _not_built_in(provider, runtime)
    found = _unloadable(provider, runtime)
    if found is None and provider in ON_NVIDIA:
        found = _no_device(provider, (options or {}).get("device_id", 0))
    if found is not None:
        return found
    if "cuDNN is not available" in str(error):
        message = f"{provider} is part of this onnxruntime, but cuDNN can't be loaded."
        return Obstacle("libraries", message, _how_to_load(None, runtime))
    said = " ".join(str(error).split()) if error else "onnxruntime gives no reason"
    # The runtime's own sentence comes after its file, line and signature.
    said = said[said.find("CUDA failure") :] if "CUDA failure" in said else said
    return Obstacle("refused", f"{provider} can't be used: {said}", None)


def preload(provider: str) -> None:
    """Load CUDA's and cuDNN's libraries from their packages, where the system doesn't find them."""
    runtime = import_runtime()
    if provider in ON_NVIDIA and hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()


def devices() -> list[str]:
    """Return the names of the devices that NVIDIA's driver shows to this process.

    Raises
    ------
    OSError
        There is no driver, or it fails.
    """
    driver = ctypes.CDLL(_DRIVER)
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code not in (0, _NO_DEVICE):
        raise OSError(f"{_DRIVER} fails with CUDA error {code}")
    names = []
    for number in range(count.value):
        name = ctypes.create_string_buffer(256)
        device = ctypes.c_int(0)
        driver.cuDeviceGet(ctypes.byref(device), number)
        driver.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode(errors="replace"))
    return names


def device_name(provider: str, options: Mapping[str, Any]) -> str:
    """Return what a provider runs on, such as ``0: NVIDIA H100``; empty where nobody knows."""
    if provider not in ON_NVIDIA:
        return ""
    number = int(options.get("device_id", 0))
    try:
        return f"{number}: {devices()[number]}"
    except (OSError, IndexError):
        return str(number)


def _not_built_in(provider: str, runtime: Any) -> Obstacle:
    clash = conflict()
    package = PACKAGES.get(provider)
    own = runtime.get_available_providers()
    message = f"The execution provider {short_name(provider)!r} is not available here: "
    if clash is not None and package in installed():
        return Obstacle("package", message + clash.message, clash.tip)
    named = getattr(runtime, "package_name", None) or "onnxruntime"
    has = ", ".join(short_name(name) for name in own if name != "AzureExecutionProvider")
    message += f"{named} {runtime.__version__} has {has}."
    if package is not None:
        return Obstacle("package", message, _replace_all(installed(), package))
    names = ", ".join(short_name(name) for name in (CPU, *PACKAGES))
    tip = None
    if provider not in PREFERENCE:
        known = [short_name(name) for name in PREFERENCE]
        tip = did_you_mean(short_name(provider), known)
        tip = tip or f"Available names are {names}, and others of onnxruntime's."
    return Obstacle("package", message, tip)


def _unloadable(provider: str, runtime: Any) -> Obstacle | None:
    """Load the library of a provider as onnxruntime does, to hear what is missing."""
    folder = Path(runtime.__file__).parent / "capi"
    path = _library(folder, short_name(provider))
    if not path.exists():
        return None  # it is part of the runtime
    preload(provider)
    mode: dict[str, Any] = {"winmode": _WITH_PATH} if _ON_WINDOWS else {}
    try:
        shared = _library(folder, "shared")
        if shared.exists():
            ctypes.CDLL(str(shared), ctypes.RTLD_GLOBAL, **mode)
        ctypes.CDLL(str(path), **mode)
    except OSError as error:
        return _missing(provider, runtime, str(error))
    return None


def _library(folder: Path, name: str) -> Path:
    stem = f"onnxruntime_providers_{name}"
    return folder / (f"{stem}.dll" if _ON_WINDOWS else f"lib{stem}.so")


def _missing(provider: str, runtime: Any, said: str) -> Obstacle:
    found = re.match(r"(\S+): cannot open shared object file", said)
    library = found[1] if found else None
    has_driver = provider not in ON_NVIDIA or _driver_is_there()
    if library == _DRIVER or (library is None and not has_driver):
        return _no_driver(provider)
    message = f"{provider} is part of this onnxruntime, but its libraries can't be loaded: "
    message += f"{library} is missing" if library else said
    if not has_driver:
        message += f", and there is no NVIDIA driver ({_DRIVER})"
    tip = _how_to_load(library, runtime) if provider in ON_NVIDIA else None
    return Obstacle("libraries", f"{message}.", tip)


def _how_to_load(library: str | None, runtime: Any) -> str:
    tensorrt = re.match(r"libnvinfer\w*\.so\.(\d+)", library or "")
    if tensorrt:
        return f"Install TensorRT {tensorrt[1]}, and add its folder to LD_LIBRARY_PATH."
    package = getattr(runtime, "package_name", None) or PACKAGES[CUDA]
    cuda = getattr(runtime, "cuda_version", None)
    return (
        f"Install {f'CUDA {cuda}' if cuda else 'CUDA'} and cuDNN 9: "
        f"pip install '{package}{_CUDA_EXTRAS}=={runtime.__version__}'"
    )


def _driver_is_there() -> bool:
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True


def _no_driver(provider: str) -> Obstacle:
    return Obstacle(
        "driver",
        f"{provider} can't be used: this machine has no NVIDIA driver ({_DRIVER} is missing).",
        "In a container, pass the driver of the host with --gpus all; on a host, install "
        "the driver.",
    )


def _no_device(provider: str, wanted: Any) -> Obstacle | None:
    try:
        names = devices()
    except OSError as error:
        if not _driver_is_there():
            return _no_driver(provider)
        return Obstacle(
            "driver", f"{provider} can't be used: {error}.", "Run nvidia-smi to see more."
        )
    if not names:
        return Obstacle(
            "device",
            f"{provider} can't be used: the NVIDIA driver lists no device.",
            "Run nvidia-smi to list the devices; CUDA_VISIBLE_DEVICES may hide them.",
        )
    if not 0 <= int(wanted) < len(names):
        listed = ", ".join(f"{number}: {name}" for number, name in enumerate(names))
        return Obstacle("device", f"There is no device {wanted}.", f"The devices are {listed}.")
    return None


def _reinstall() -> str:
    """Return commands that repair what is installed, or install it."""
    packages = installed()
    return _replace_all(packages, next(reversed(packages), "onnxruntime"), lead="Reinstall it")


def _replace_all(
    packages: Mapping[str, str], wanted: str | None = None, lead: str | None = None
) -> str:
    """Return commands that leave exactly one package of onnxruntime."""
    others = [name for name in packages if name != "onnxruntime"]
    wanted = wanted or others[0]
    install = f"pip install '{wanted}{_CUDA_EXTRAS}'{_FOR_WHICH_CUDA}"
    if wanted != PACKAGES[CUDA]:
        install = f"pip install {wanted}"
    if not packages:
        return install
    lead = lead or ("Keep only one" if len(packages) > 1 else "Replace it")
    return f"{lead}: pip uninstall -y {' '.join(packages)} && {install}"
