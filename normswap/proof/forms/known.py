"""What is known in a region while it is read: its maps so far, constants, shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.dtypes import is_floating
from normswap.proof.evaluate import widened
from normswap.proof.flat import NONE
from normswap.proof.maps import LinearOperator, Map, MapBlock, NoMapError, Trail

if TYPE_CHECKING:
    from normswap.proof.flat import FlatNode
    from normswap.proof.numbering import Side
    from normswap.proof.regions import Cone

ZERO = np.zeros(())


class _Constants(dict[int, np.ndarray]):
    """Constants by number, in float64, each read when it is asked for.

    They are apart from what reads a region: a circle of references would keep them, which may be
    gigabytes, until Python looks for some.
    """

    def __init__(self, side: Side) -> None:
        super().__init__()
        self._side = side

    def __missing__(self, number: int) -> np.ndarray:
        value = self._side.value(number)
        if value is None and number in self._side.constants:
            value = self._side.constants.load(number)
        if value is None:
            raise NoMapError("it reads what is neither constant nor known")
        found: np.ndarray = widened(value)
        self[number] = found
        return found


class Known:
    """What the form of an operator is read from.

    Attributes
    ----------
    maps : dict of int to Map
        By tensor; one of the frontier is the map of itself.
    constants : dict of int to ndarray
        In float64.
    """

    def __init__(self, side: Side, cone: Cone) -> None:
        self._side = side
        self.maps: dict[int, Map] = {}
        self.constants = _Constants(side)
        one = np.ones(())
        for number, kind in cone.frontier.items():
            self.shapes(number)
            self.maps[number] = Map(None, (MapBlock(kind, LinearOperator(), 0, one),), ZERO, ZERO)

    def constant(self, number: int) -> np.ndarray:
        """Return a constant in float64."""
        return self.constants[number]

    def weight(self, node: FlatNode) -> np.ndarray:
        """Return what an operator multiplies by, in the type that it is stored in.

        Of large ones there is no other copy.
        """
        number = node.inputs[1]
        if number in self.constants or number not in self._side.constants:
            found = self.vector(node, 1)
            if found is None:
                raise NoMapError("it has no weight")
            return found
        if number in self.maps:
            raise NoMapError(f"input 1 of {node.op} is no constant")
        stored = self._side.constants.load(number)
        return stored if stored.dtype.kind == "f" else widened(stored)

    def shapes(self, number: int) -> Trail:
        """Return the shapes of a tensor, at each of the model's sizes."""
        found = tuple(sizes.shapes.get(number) for sizes in self._side.sizes)
        if None in found:
            raise NoMapError("a shape is not known")
        return found

    def rank(self, number: int) -> int:
        """Return the number of axes of a tensor."""
        return len(self.shapes(number)[0])

    def length(self, number: int, axis: int) -> int:
        """Return the length of an axis, the same at all sizes."""
        lengths = {shape[axis] for shape in self.shapes(number)}
        if len(lengths) != 1:
            raise NoMapError("the number of channels is not fixed")
        return int(lengths.pop())

    def map(self, node: FlatNode, slot: int = 0) -> Map:
        """Return the map that makes an input."""
        found = self.maps.get(node.inputs[slot])
        if found is None:
            raise NoMapError(f"input {slot} of {node.op} is constant")
        return found

    def vector(self, node: FlatNode, slot: int) -> np.ndarray | None:
        """Return a constant input, None where it is left out."""
        if slot >= len(node.inputs) or node.inputs[slot] == NONE:
            return None
        if node.inputs[slot] in self.maps:
            raise NoMapError(f"input {slot} of {node.op} is no constant")
        return self.constant(node.inputs[slot])

    def require_no_growth(self, node: FlatNode) -> None:
        """Refuse a node that broadcasts what varies."""
        made = self.shapes(node.outputs[0])
        if any(self.shapes(n) != made for n in node.inputs if n in self.maps):
            raise NoMapError(f"{node.op} broadcasts")


def varying(value: np.ndarray, rank: int) -> tuple[np.ndarray, int | None]:
    """Return a constant that varies along one axis at most as a vector."""
    if not is_floating(value.dtype) or value.ndim > rank:
        raise NoMapError("a constant is of another kind")
    long = [axis for axis, size in enumerate(value.shape) if size != 1]
    if not long:
        return value.reshape(()), None
    if len(long) > 1:
        raise NoMapError("a constant varies along two axes")
    return value.reshape(-1), long[0] + rank - value.ndim


def plain(value: Any) -> Any:
    """Return what an attribute says as what can be compared and hashed."""
    return tuple(value) if isinstance(value, list) else value
