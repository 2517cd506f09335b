"""The layers of a module among the values of its file, and the first one that is not there.

Both are evaluated once, in float64, on the same inputs. A layer is *found* if some tensor of the
file has its values, to what rounding the weights does there. Not all of them are, in a file that is
right: a Conv with the BatchNormalization behind it folded in makes that one's result. So what a
layer reads is right where it is found itself. The first layer, in the order in which they are done,
that is not right, and reads nothing that is wrong, is where the file begins to be another function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from normswap.proof.budget import Budget
from normswap.proof.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side
    from normswap.proof.simulate import Simulated

ELEMENTS = 4096
"""Of a tensor that are compared: a channel of many may be all that differs."""

_FLOORS = 16.0  # weight-rounding floors that a value may be off
_RESOLUTION = 1e-8  # parts of the largest element
_SAMPLES = 2
_SCOPES = "pkg.torch.onnx.name_scopes"  # in which torch's newer exporter notes where a node is from


@dataclass(frozen=True, slots=True)
class ModuleLayer:
    """What a submodule made of some inputs, in the order in which they were done.

    Attributes
    ----------
    name, kind : str
        Its place in the module, and its class.
    inputs : tuple of bytes
        What it read: the keys of tensors that something in the module made, or that it was given.
    outputs : tuple of (bytes, tuple of int, numpy.ndarray)
        Key, shape and signature (:func:`normswap.proof.simulate.signature_of`).
    """

    name: str
    kind: str
    inputs: tuple[bytes, ...]
    outputs: tuple[tuple[bytes, tuple[int, ...], np.ndarray], ...]


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """Where a file begins to be another function than its module.

    Attributes
    ----------
    layer, kind : str
        Name and class of the submodule.
    node : str
        A node of the file that is of this layer, where names tell.
    """

    layer: str
    kind: str
    node: str

    def __str__(self) -> str:
        """Tell a person where it is."""
        node = f" ({self.node} in the file)" if self.node else ""
        return f"the first layer that differs is {self.layer} ({self.kind}){node}"


@dataclass(frozen=True, slots=True)
class ComparedLayers:
    """How many layers of a module are among the values of a file, and the first that is not."""

    layers: int
    right: int
    first: FirstDifference | None


def compare_layers(
    layers: Sequence[ModuleLayer], side: Side, feeds: Mapping[str, Any], *, patience: float
) -> ComparedLayers:
    """Look for the layers of a module among the values of its file.

    Parameters
    ----------
    layers : sequence of ModuleLayer
        In the order in which they were done, on the same inputs.
    side : Side
        The file.
    patience : float
        Seconds for the file; what it has not made by then is not found.
    """
    budget = Budget(seconds=patience)
    with np.errstate(all="ignore"):
        made, *moved = (
            simulate(side, feeds, budget=budget, sample=n, elements=ELEMENTS)
            for n in range(_SAMPLES + 1)
        )
        values = _Values(made, moved)
        right = {key for each in layers for key, shape, s in each.outputs if values.have(shape, s)}
    outputs = {key for each in layers for key, _, _ in each.outputs}
    for each in reversed(layers):
        if _is_right(each, right):
            right.update(each.inputs)
    wrong = [each for each in layers if each.outputs and not _is_right(each, right)]
    begins = [e for e in wrong if all(k in right or k not in outputs for k in e.inputs)]
    first = next(iter(begins or wrong), None)
    place = (
        None if first is None else FirstDifference(first.name, first.kind, _node(first.name, side))
    )
    return ComparedLayers(len(layers), len(layers) - len(wrong), place)


def _is_right(layer: ModuleLayer, right: set[bytes]) -> bool:
    return all(key in right for key, _, _ in layer.outputs)


class _Values:
    """What a file makes, to be asked whether some values are among it."""

    def __init__(self, made: Simulated, moved: Sequence[Simulated]) -> None:
        self._by_size: dict[int, list[tuple[tuple[int, ...], np.ndarray, np.ndarray]]] = {}
        for number, signature in made.signatures.items():
            floor = np.zeros_like(signature)
            for sample in moved:
                if number in sample.signatures:
                    floor = np.maximum(floor, np.abs(sample.signatures[number] - signature))
            shape = made.shapes[number]
            known = self._by_size.setdefault(int(np.prod(shape)), [])
            known.append((shape, signature, floor))

    def have(self, shape: tuple[int, ...], signature: np.ndarray) -> bool:
        """Whether a tensor has these values, maybe in another layout."""
        for other, values, floor in self._by_size.get(int(np.prod(shape)), ()):
            # In another order of elements only mean and root mean square, the last two, are left.
            kept = slice(None) if other == shape else slice(-2, None)
            largest = float(np.abs(values).max())
            limit = _FLOORS * float(floor[kept].max()) + _RESOLUTION * largest
            if float(np.abs(values[kept] - signature[kept]).max()) <= limit:
                return True
        return False


def _node(layer: str, side: Side) -> str:
    """Return a node of the file that an exporter has made of a layer; empty where none says so."""
    path = "/".join(("", *_scopes(layer), ""))
    for node in side.flat.nodes:
        if path in node.proto.name or _is_scoped(node, layer):
            return node.title
    return ""


def _scopes(layer: str) -> list[str]:
    """Return the names of a layer and what it is in, as torch's older exporter writes them."""
    scopes: list[str] = []
    parent = ""
    for part in layer.split("."):
        scopes.append(f"{parent}.{part}" if part.isdecimal() and parent else part)
        parent = scopes[-1] if part.isdecimal() else part
    return scopes


def _is_scoped(node: FlatNode, layer: str) -> bool:
    return any(
        entry.key == _SCOPES and f"'{layer}'" in entry.value for entry in node.proto.metadata_props
    )
