"""Fresh names: what a rewrite adds to a model never collides with what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.graph.build import all_graphs

if TYPE_CHECKING:
    from normswap.model import Model

FOLDED = "_folded"


class Names:
    """The names of all tensors and nodes of a model, in all its graphs.

    ONNX scopes allow some of them to be reused; a rewrite reuses none.
    """

    def __init__(self, model: Model) -> None:
        self._taken: set[str] = set(model.overridable)
        self._numbers: dict[str, int] = {}  # the next to try, by hint
        for graph in all_graphs(model):
            self._taken.update(tensor.name for tensor in (*graph.inputs, *graph.outputs))
            for node in graph.nodes:
                self._taken.add(node.name)
                self._taken.update(tensor.name for tensor in (*node.inputs, *node.outputs))
        self._taken.update(function.name for function in model.graph.functions)
        for graph in model.proto.graph, *model.proto.functions:
            self._taken.update(info.name for info in graph.value_info)
        self._taken.update(tensor.name for tensor in model.proto.graph.initializer)

    def fresh(self, hint: str) -> str:
        """Return and reserve a name that nothing has: the hint, numbered if that is taken."""
        name, number = hint, self._numbers.get(hint, 1)
        while name in self._taken:
            name, number = f"{hint}_{number}", number + 1
        self._numbers[hint] = number
        self._taken.add(name)
        return name

    def folded(self, hint: str) -> str:
        """Return a fresh name for a constant that takes the place of another."""
        return self.fresh(hint.removesuffix(FOLDED) + FOLDED)
