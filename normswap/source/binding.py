"""Which tensor among the arguments of a module is which input of a file, and what does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from normswap.runtime.arrays import dtype_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.inputs.signature import Port, Signature
    from normswap.runtime.arrays import Feeds


class NotTakenError(Exception):
    """The module does not take some inputs; the message says what it raised."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A tensor among the arguments of a module.

    Attributes
    ----------
    name : str
        Of the parameter of ``forward``, and what leads to the tensor in it: ``state.0``.
    example : numpy.ndarray or None
        None where nobody gave arguments.
    """

    name: str
    example: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Binding:
    """How inputs of a file become arguments of a module.

    Attributes
    ----------
    ports : tuple of (str or None)
        For each argument the input that it is; None where the file has none, and the argument is
        always that of the example.
    """

    ports: tuple[str | None, ...]
    arguments: tuple[Argument, ...]

    def arrays(self, feeds: Feeds) -> list[np.ndarray]:
        """Return the arguments of the module that are some inputs of the file."""
        found = []
        for name, argument in zip(self.ports, self.arguments, strict=True):
            value = argument.example if name is None else feeds[name]
            found.append(np.asarray(value))
        return found

    def example(self, signature: Signature) -> Feeds | None:
        """Return the example as inputs of the file; None where there is none."""
        feeds: Feeds = {}
        kinds = {port.name: port for port in signature.inputs}
        for name, argument in zip(self.ports, self.arguments, strict=True):
            if argument.example is None:
                return None
            if name is not None:
                feeds[name] = argument.example.astype(dtype_of(kinds[name].dtype))
        return feeds or None


def bind(
    signature: Signature, arguments: Sequence[Argument]
) -> tuple[Binding | None, dict[str, str]]:
    """Say which argument is which input: by their names, else in their order.

    Returns
    -------
    (Binding or None, dict of str to str)
        And what does not fit, a sentence for each input; None where nothing can be run.
    """
    ports = {port.name: port for port in signature.inputs}
    by_name = {argument.name for argument in arguments} >= ports.keys()
    if by_name:
        names = [a.name if a.name in ports else None for a in arguments]
    elif len(arguments) < len(ports) or (
        len(arguments) > len(ports) and arguments[0].example is not None
    ):
        own, files = _listed([a.name for a in arguments]), _listed(list(ports))
        return None, {"": f"the module takes {own}, but the file takes {files}"}
    else:
        names = list(ports)
        arguments = arguments[: len(ports)]
    used = [(n, a) for n, a in zip(names, arguments, strict=True) if n or a.example is not None]
    binding = Binding(tuple(n for n, _ in used), tuple(a for _, a in used))
    wrong = {
        name: what
        for name, argument in used
        if name is not None
        and argument.example is not None
        and (what := _misfit(ports[name], argument.example))
    }
    return binding, wrong


def _misfit(port: Port, example: np.ndarray) -> str:
    """Return why an example is no input of the file, but for its type's width and its batch."""
    shape = example.shape if port.shape is None else port.shape
    # Of the first axis an example may well have another size than the file was made for.
    fits = len(shape) == example.ndim and all(
        not isinstance(dim, int) or dim == size
        for dim, size in zip(shape[1:], example.shape[1:], strict=True)
    )
    is_float = example.dtype.kind == "f"
    if port.kind == "tensor" and fits and is_float == ("float" in port.dtype):
        return ""
    given = f"{example.dtype.name}[{','.join(map(str, example.shape))}]"
    kind = "" if port.kind == "tensor" else f"a {port.kind} of "
    return f"input {port.name!r} of the file is {kind}{port}, but the module was given {given}"


def _listed(names: Sequence[str]) -> str:
    count = f"{len(names)} tensor{'s' * (len(names) != 1)}"
    return f"{count} ({', '.join(names)})" if names else "nothing"
