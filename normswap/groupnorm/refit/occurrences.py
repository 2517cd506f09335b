"""Each time that a layer runs: once in the main graph, and in a body (of If, Loop, Scan) by turns.

A body shows its tensors to nobody. So what comes to a layer in one, and what it gives, leaves the
body as a *record*: a vector of its rank, its sizes and its values, of which there is one for each
turn, one behind the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.graph.adding import added
from normswap.graph.build import all_graphs
from normswap.groupnorm.turns import Turns
from normswap.model import ArrayTensor, make_constant

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import onnx_graphsurgeon as gs

    from normswap.graph.names import Names
    from normswap.model import Model


class Recorder:
    """The edits that let tensors of bodies be asked for.

    Parameters
    ----------
    model : Model
        Without calls of functions.
    names : Names
        Of that model.

    Attributes
    ----------
    types : dict of str to int
        Of all records, by name.
    """

    def __init__(self, model: Model, names: Names) -> None:
        self._names = names
        self._turns = Turns(model, names)
        self._homes = {id(node): graph for graph in all_graphs(model) for node in graph.nodes}
        self._main = model.graph
        self.types: dict[str, int] = {}

    def hindrance(self, node: gs.Node) -> str:
        """Say why the tensors at a node can't be shown; empty where they can."""
        return self._turns.hindrance(self._homes[id(node)], varying=True)

    def shown(self, tensor: gs.Tensor, node: gs.Node, data_type: int) -> str:
        """Return the tensor of the main graph that shows one that a node reads or makes.

        That is the tensor itself, or its records where the node is in a body.
        """
        graph = self._homes[id(node)]
        if graph is self._main:
            return str(tensor.name)
        wide = data_type == TensorProto.DOUBLE
        to = TensorProto.DOUBLE if wide else TensorProto.FLOAT
        dtype = np.dtype(np.float64 if wide else np.float32)
        sizes = self._op(graph, "Shape", [tensor], np.dtype(np.int64))
        rank = self._op(graph, "Shape", [sizes], np.dtype(np.int64))
        lead = self._op(graph, "Concat", [rank, sizes], np.dtype(np.int64), axis=0)
        all_ = make_constant(self._names.fresh("record/all"), ArrayTensor(np.array([-1])))
        values = self._op(graph, "Reshape", [tensor, all_], None)
        parts = [self._op(graph, "Cast", [part], dtype, to=to) for part in (lead, values)]
        record = self._turns.hand_out(self._op(graph, "Concat", parts, dtype, axis=0), graph)
        self.types[record.name] = to
        return str(record.name)

    def _op(
        self,
        graph: gs.Graph,
        op: str,
        inputs: list[gs.Tensor],
        dtype: np.dtype | None,
        **attrs: int,
    ) -> gs.Variable:
        return added(graph, self._names, f"record/{op}", inputs, dtype, is_vector=True, **attrs)


def occurrences(
    tensors: tuple[npt.NDArray[np.generic], ...], *, by_turns: bool
) -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
    """Yield tensors that belong together, each time that they were there.

    Parameters
    ----------
    tensors : tuple of ndarray
        What was asked for.
    by_turns : bool
        Whether these are records. Turns that only one network has, as an early end of a Loop or
        another branch of an If leaves them, belong to nothing.
    """
    if not by_turns:
        yield tensors
        return
    split = [list(_unrolled(records)) for records in tensors]
    if len({len(turns) for turns in split}) == 1:
        yield from zip(*split, strict=True)


def _unrolled(records: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.generic]]:
    start = 0
    while start < len(records):
        rank = int(records[start])
        shape = records[start + 1 : start + 1 + rank].astype(np.int64)
        start += 1 + rank
        yield records[start : start + int(shape.prod())].reshape(shape)
        start += int(shape.prod())
