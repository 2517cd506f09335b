"""Which operators of a model are joined by which tensors: all that a picture of it needs.

A report outlives the models that it is about, and a model may be replaced before it is told. So
this is noted when a model is read, where a report with pictures was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.errors import NormswapError
from normswap.graph.build import function_path, gs_nodes_with_paths
from normswap.model import load

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from normswap.model.sources import Source

Tensor = tuple[str, str]
"""The function that a tensor is in, empty outside of functions, and its name."""


@dataclass(frozen=True, slots=True)
class Wired:
    """An operator and its tensors.

    Attributes
    ----------
    op, name : str
        The name is that of its first output where it has none.
    graph : str
        Where it is, see :class:`normswap.graph.network.Graph`.
    inputs, outputs : tuple of Tensor
        Without constants.
    """

    op: str
    name: str
    graph: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def title(self) -> tuple[str, str]:
        """What tells it from other nodes of the model."""
        return self.graph, self.name


@dataclass(frozen=True, slots=True)
class Wiring:
    """The operators of a model that compute something, and where they are joined.

    Attributes
    ----------
    nodes : tuple of Wired
        In the order of the file, all graphs one after another.
    makers, readers : dict of Tensor to int and to list of int
        Numbers of nodes.
    outputs : frozenset of Tensor
        Of the model and of its functions.
    """

    nodes: tuple[Wired, ...]
    makers: dict[Tensor, int]
    readers: dict[Tensor, list[int]]
    outputs: frozenset[Tensor]


def wiring_of(source: Source) -> Wiring | None:
    """Return the wiring of a model; None where it can't be read, which others will tell."""
    import onnx_graphsurgeon as gs

    try:
        model = load(source)
    except NormswapError:
        return None
    functions = {function_path(function): function for function in model.graph.functions}

    def scope(path: str) -> str:
        root = path.partition("/")[0]
        return root if root in functions else ""

    def tensors(found: list[gs.Tensor], within: str) -> tuple[Tensor, ...]:
        changing = (t for t in found if t.name and not isinstance(t, gs.Constant))
        return tuple((within, tensor.name) for tensor in changing)

    nodes: list[Wired] = []
    makers: dict[Tensor, int] = {}
    readers: dict[Tensor, list[int]] = {}
    constant: set[Tensor] = set()
    for path, node in gs_nodes_with_paths(model):
        within = scope(path)
        outputs = tensors(node.outputs, within)
        inputs = tuple(t for t in tensors(node.inputs, within) if t not in constant)
        bodies = any(isinstance(value, gs.Graph) for value in node.attrs.values())
        if not (inputs or bodies or node.op.startswith("Random")):
            constant.update(outputs)  # and so is all that is computed of it
            continue
        name = node.name or next((tensor for _, tensor in outputs), "")
        for tensor in inputs:
            readers.setdefault(tensor, []).append(len(nodes))
        makers.update(dict.fromkeys(outputs, len(nodes)))
        nodes.append(Wired(node.op, name, path, inputs, outputs))
    roots = [("", model.graph), *functions.items()]
    ends = frozenset((within, tensor.name) for within, g in roots for tensor in g.outputs)
    return Wiring(tuple(nodes), makers, readers, ends)
