"""The child's side: inputs that are copied to a device once, for all sessions that read them.

A check runs the same inputs at several optimization levels, and once more to see what varies. With
onnxruntime's plain ``run`` each of these copies them to the device again. What is not shared is
anything between the two models of a check: each has a process of its own, so that a crash or an
exhausted memory of one is told as such and takes nothing with it; and every output has to come to
the host anyway, where it is compared in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from normswap.runtime.arrays import is_foreign
from normswap.runtime.providers import CUDA, TENSORRT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.runtime.arrays import Feeds
    from normswap.runtime.sessions import Provider

_KIND = {CUDA: "cuda", TENSORRT: "cuda"}


class Device:
    """Where the inputs of a child live.

    Parameters
    ----------
    kind : str
        onnxruntime's, such as ``cuda``.
    number : int
    """

    def __init__(self, kind: str, number: int = 0) -> None:
        self.kind = kind
        self.number = number
        self._held: dict[str, ort.OrtValue] = {}

    @classmethod
    def of(cls, provider: Provider) -> Device | None:
        """Return the device of a provider, None where its inputs are read from the host."""
        kind = _KIND.get(provider.name)
        return None if kind is None else cls(kind, int(provider.options.get("device_id", 0)))

    def put(self, key: str, array: np.ndarray) -> ort.OrtValue:
        """Return an array on the device, copied there when it is first asked for.

        Parameters
        ----------
        key : str
            Names the array among all that the child reads.
        array : numpy.ndarray
        """
        if key not in self._held:
            contiguous = np.ascontiguousarray(array).reshape(array.shape)
            self._held[key] = ort.OrtValue.ortvalue_from_numpy(contiguous, self.kind, self.number)
        return self._held[key]


def bindable(session: ort.InferenceSession, inputs: Mapping[str, Any]) -> bool:
    """Whether all inputs and outputs are tensors of types that NumPy and the device both know."""
    ports = (*session.get_inputs(), *session.get_outputs())
    numeric = all(
        port.type.startswith("tensor(")
        and port.type not in ("tensor(string)", "tensor(bfloat16)")
        and "float8" not in port.type
        for port in ports
    )
    return numeric and all(
        isinstance(value, np.ndarray) and not is_foreign(value.dtype) for value in inputs.values()
    )


def run_bound(
    session: ort.InferenceSession, inputs: Feeds, device: Device, keys: Mapping[str, str]
) -> list[np.ndarray]:
    """Run a session on inputs that stay on the device, and return its outputs on the host.

    Parameters
    ----------
    session : InferenceSession
    inputs : Feeds
        All `bindable`.
    device : Device
    keys : Mapping of str to str
        By input: what names its array in `Device.put`.
    """
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_ortvalue_input(name, device.put(keys[name], array))
    for output in session.get_outputs():
        binding.bind_output(output.name)  # on the host, once it is complete
    binding.synchronize_inputs()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    return list(binding.copy_outputs_to_cpu())
