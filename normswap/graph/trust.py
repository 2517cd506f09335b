"""What of a model's sizes is believed, before ONNX infers the others from it.

The sizes of the graph's inputs are, since a runtime refuses others. What a file notes about the
tensors between (``value_info``, outputs, inputs of bodies) is what some exporter or some earlier
inference thought, and runtimes run the model whatever it says. So it is believed of a tensor only

- where no rule of ONNX reaches, as behind an operator of another domain, and
- where nothing upstream is in doubt: neither a size that ONNX infers otherwise than runtimes make
  it (:mod:`normswap.graph.sizes`), nor a note that the inference contradicts.

Where a size is in doubt, the inference is kept from it: a node is put before the operator whose
result has the same element type and sizes, but for those in doubt, which nobody knows.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import onnx

from normswap.bodies import bodies
from normswap.graph.inference import UNKNOWN
from normswap.graph.sizes import DOUBTFUL, WHOLE, TensorType, doubtful_axes
from normswap.model.external import is_external
from normswap.order import set_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from normswap.graph.sizes import Dim

LARGEST = 64
"""Elements of a constant that a rule looks at."""


class Doubtless:
    """A model prepared for the inference.

    Parameters
    ----------
    model : onnx.ModelProto
        Is changed: notes are taken out of it.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._count = 0
        self._notes: dict[int, dict[str, onnx.ValueInfoProto]] = {}  # by id of the graph
        self._taken: dict[int, dict[str, list[onnx.ValueInfoProto]]] = {}  # from where
        self._graphs: list[onnx.GraphProto] = []  # which keeps the ids theirs
        for info in model.graph.input:
            _open(info, lambda size: size > 0)  # some write -1 or 0 where they mean any
        if any(bodies(node) for node in model.graph.node):
            overridable = {info.name for info in model.graph.input}
            self._hand_in(
                model.graph, [t for t in model.graph.initializer if t.name not in overridable]
            )
        self._take_notes(model.graph)
        self._functions: set[tuple[str, str, str]] = set()
        self._cut_functions()

    def resolve(self, inferred: onnx.ModelProto) -> bool:
        """Cut off what is in doubt, and put back what notes say where nothing is.

        Parameters
        ----------
        inferred : onnx.ModelProto
            The model, with what ONNX has inferred.

        Returns
        -------
        bool
            Whether there was any, so that the model is to be inferred anew.
        """
        imports = {item.domain: item.version for item in self.model.opset_import}
        walk = _Walk(self, imports.get("", imports.get("ai.onnx", 1)))
        walk.graph(self.model.graph, inferred.graph, _Scope())
        if walk.has_cut and UNKNOWN not in imports:
            self.model.opset_import.append(onnx.helper.make_opsetid(UNKNOWN, 1))
        return walk.has_cut or walk.has_noted

    def note(self, graph: onnx.GraphProto, name: str) -> onnx.ValueInfoProto | None:
        """Return what the file says about a tensor."""
        return self._notes.get(id(graph), {}).get(name)

    def restore(self, graph: onnx.GraphProto, note: onnx.ValueInfoProto) -> None:
        """Put back what the file says about a tensor."""
        for info in self._taken[id(graph)][note.name]:
            info.CopyFrom(note)

    def is_doubtful_call(self, node: onnx.NodeProto) -> bool:
        """Whether a node calls a function in which there is doubt."""
        return (node.domain, node.op_type, node.overload) in self._functions

    def cut(self, node: onnx.NodeProto, axes: tuple[int, ...], rank: int) -> list[onnx.NodeProto]:
        """Let a node read its first input without the sizes of some axes.

        Returns
        -------
        list of onnx.NodeProto
            What stands before it.
        """
        make = onnx.helper.make_node
        whole = node.input[0]
        unknown = self._fresh()
        nodes = [make("Unknown", [], [unknown], domain=UNKNOWN)]
        if WHOLE in axes:
            nodes.append(make("Reshape", [whole, unknown], [self._fresh()]))
            node.input[0] = nodes[-1].output[0]
            return nodes
        nodes.append(make("Tile", [whole, unknown], [self._fresh()]))  # of the same rank
        tiled = nodes[-1].output[0]
        for axis in axes:
            if axis < rank:
                nodes.append(make("Concat", [whole, tiled], [self._fresh()], axis=axis))
                whole = nodes[-1].output[0]
        node.input[0] = whole
        return nodes

    def _fresh(self) -> str:
        self._count += 1
        return f"{UNKNOWN}/{self._count}"

    def _hand_in(self, graph: onnx.GraphProto, around: list[onnx.TensorProto]) -> None:
        """Give bodies the sizes, axes and the like that they read from around; ONNX does not."""
        small = {
            tensor.name: tensor
            for tensor in around
            if tensor.data_type in _INTEGERS and is_at_hand(tensor)
        }
        for node in graph.node:
            for body in bodies(node):
                own = {tensor.name for tensor in body.initializer}
                own.update(info.name for info in body.input)
                own.update(name for inner in body.node for name in inner.output)
                self._hand_in(body, [*small.values(), *body.initializer])
                read = {name for inner in body.node for name in inner.input} - own
                body.initializer.extend(small[name] for name in sorted(read & small.keys()))

    def _take_notes(self, graph: onnx.GraphProto) -> None:
        """Take what is said about sizes out of a graph and its bodies, but for the main inputs."""
        notes = self._notes[id(graph)] = {}
        taken = self._taken[id(graph)] = {}
        self._graphs.append(graph)
        stored = {tensor.name: tensor.dims for tensor in graph.initializer}
        for info in (*graph.value_info, *graph.output):
            if not info.type.HasField("tensor_type"):
                continue
            kind = info.type.tensor_type
            if info.name in stored:  # torch's newer exporter notes these too, and ONNX goes by it
                kind.shape.CopyFrom(onnx.TensorShapeProto())
                for size in stored[info.name]:
                    kind.shape.dim.add(dim_value=size)
                continue
            notes[info.name] = onnx.ValueInfoProto.FromString(info.SerializeToString())
            taken.setdefault(info.name, []).append(info)
            kind.ClearField("shape")
        for node in graph.node:
            for body in bodies(node):
                for info in body.input:
                    _open(info, lambda _size: False)
                self._take_notes(body)

    def _cut_functions(self) -> None:
        """Cut off in functions what may be in doubt at some call."""
        pending = list(self.model.functions)
        while pending:
            before = len(pending)
            for function in list(pending):
                imports = {item.domain: item.version for item in function.opset_import}
                walk = _Walk(self, imports.get("", imports.get("ai.onnx", 1)))
                walk.function(function)
                if walk.has_cut:
                    if UNKNOWN not in imports:
                        function.opset_import.append(onnx.helper.make_opsetid(UNKNOWN, 1))
                    self._functions.add((function.domain, function.name, function.overload))
                    pending.remove(function)
            if len(pending) == before:
                return


class _Constants:
    """The values of small constants, read when they are asked for."""

    def __init__(self, around: _Constants | None = None) -> None:
        self._around = around
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._unlisted: list[onnx.GraphProto] = []

    def add(self, name: str, tensor: onnx.TensorProto) -> None:
        """Remember a constant of the graph."""
        self._tensors[name] = tensor

    def add_all(self, graph: onnx.GraphProto) -> None:
        """Remember those of a graph; there are many, and few are ever asked for."""
        self._unlisted.append(graph)

    def values(self, name: str) -> list[float] | None:
        """Return the values of a constant; None where it is none, or not at hand."""
        while self._unlisted:
            graph = self._unlisted.pop()
            self._tensors.update((tensor.name, tensor) for tensor in graph.initializer)
        tensor = self._tensors.get(name)
        if tensor is None:
            return None if self._around is None else self._around.values(name)
        if tensor.data_type not in _LEARNT or not is_at_hand(tensor):
            return None
        found: list[float] = onnx.numpy_helper.to_array(tensor).reshape(-1).tolist()
        return found


class _Scope:
    """What a graph sees: its own tensors and those around it.

    Attributes
    ----------
    doubtful : set of str
        Tensors that hang on a size in doubt.
    """

    def __init__(self, around: _Scope | None = None) -> None:
        self._around = around
        self._graphs: tuple[onnx.GraphProto, ...] = ()
        self.constants: _Constants = _Constants(None if around is None else around.constants)
        self.doubtful: set[str] = set() if around is None else set(around.doubtful)

    def enter(self, graph: onnx.GraphProto, inferred: onnx.GraphProto) -> None:
        """Take up a graph, of which the other one says what ONNX knows."""
        self._graphs = graph, inferred
        self.constants.add_all(graph)

    @functools.cached_property
    def _told(self) -> dict[str, onnx.ValueInfoProto | onnx.TensorProto]:
        """What says which sizes a tensor has: there are many, and few are ever asked for."""
        infos = (i for g in self._graphs[1:] for i in (*g.value_info, *g.input, *g.output))
        told = {info.name: info for info in infos}
        return told | {tensor.name: tensor for g in self._graphs[:1] for tensor in g.initializer}

    def shape(self, name: str) -> tuple[Dim, ...] | None:
        """Return the sizes of a tensor, as far as they are known."""
        told = self._told.get(name)
        if told is None:
            return None if self._around is None else self._around.shape(name)
        return tuple(told.dims) if isinstance(told, onnx.TensorProto) else type_of(told).shape

    def tell(self, note: onnx.ValueInfoProto) -> None:
        """Believe what is said about a tensor."""
        self._told[note.name] = note


class _Walk:
    """Goes through a graph along its tensors."""

    def __init__(self, owner: Doubtless, opset: int) -> None:
        self.owner = owner
        self.opset = opset
        self.has_cut = False
        self.has_noted = False

    def graph(self, graph: onnx.GraphProto, inferred: onnx.GraphProto, scope: _Scope) -> None:
        """Go through a graph; `inferred` is the same one with what ONNX knows."""
        scope.enter(graph, inferred)
        made: list[onnx.NodeProto] = []
        for node, twin in zip(graph.node, inferred.node, strict=True):
            made += self.node(node, twin, scope)
            made.append(node)
            for name in node.output:
                note = self.owner.note(graph, name)
                if note is None:
                    continue
                known, noted = scope.shape(name), type_of(note).shape
                if _contradicts(known, noted):
                    scope.doubtful.add(name)
                elif known is None and noted is not None and name not in scope.doubtful:
                    self.owner.restore(graph, note)
                    self.has_noted = True
                    scope.tell(note)
        if len(made) > len(graph.node):
            set_nodes(graph, made)

    def function(self, function: onnx.FunctionProto) -> None:
        """Go through the body of a function, of which no size is known."""
        scope = _Scope()
        made: list[onnx.NodeProto] = []
        for node in function.node:
            made += self.node(node, node, scope)
            made.append(node)
        if len(made) > len(function.node):
            set_nodes(function, made)

    def node(
        self, node: onnx.NodeProto, twin: onnx.NodeProto, scope: _Scope
    ) -> list[onnx.NodeProto]:
        """Mark what a node makes if it is in doubt; return what is to stand before the node."""
        doubtful = not scope.doubtful.isdisjoint(node.input)
        if node.op_type == "Constant" and not node.domain:
            value = next((item.t for item in node.attribute if item.name == "value"), None)
            if value is not None:
                scope.constants.add(node.output[0], value)
            return []
        before: list[onnx.NodeProto] = []
        if node.op_type in DOUBTFUL and node.domain in ("", "ai.onnx") and node.input:
            shapes = [scope.shape(name) for name in node.input]
            axes = doubtful_axes(node, self.opset, shapes, scope.constants.values)
            if axes:
                shape = shapes[0]
                rank = max(axes) + 1 if shape is None else len(shape)
                before = self.owner.cut(node, axes, rank)
                self.has_cut = doubtful = True
        elif self.owner.is_doubtful_call(node):
            self.has_cut = doubtful = True
        own = bodies(node)
        for body, inferred in zip(own, bodies(twin) if own else (), strict=True):
            inner = _Scope(scope)
            inner.doubtful.update(info.name for info in body.input if doubtful)
            if node.op_type == "Loop":  # whose state may change its size from turn to turn
                inner.doubtful.update(info.name for info in body.input[2:])
            self.graph(body, inferred, inner)
            doubtful = doubtful or any(info.name in inner.doubtful for info in body.output)
        if doubtful:
            scope.doubtful.update(node.output)
        return before


def is_at_hand(tensor: onnx.TensorProto) -> bool:
    """Whether a constant is small, and its values are in the stripped model."""
    return math.prod(tensor.dims) <= LARGEST and not is_external(tensor)


def declared(infos: Iterable[onnx.ValueInfoProto]) -> Iterator[tuple[str, TensorType]]:
    """Yield the names of tensors and what is said about them."""
    for info in infos:
        if info.type.HasField("tensor_type"):
            yield info.name, type_of(info)


def type_of(info: onnx.ValueInfoProto) -> TensorType:
    """Return what is said about a tensor."""
    tensor = info.type.tensor_type
    shape: tuple[Dim, ...] | None = None
    if tensor.HasField("shape"):
        shape = tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in tensor.shape.dim
        )
    return TensorType(tensor.elem_type or None, shape)


def _contradicts(known: tuple[Dim, ...] | None, noted: tuple[Dim, ...] | None) -> bool:
    """Whether a note says otherwise than a rule; a number in place of a name is otherwise too."""
    if known is None or noted is None:
        return False
    return len(known) != len(noted) or any(
        isinstance(said, int) and size is not None and said != size
        for size, said in zip(known, noted, strict=True)
    )


def _open(info: onnx.ValueInfoProto, is_size: Callable[[int], bool]) -> None:
    """Leave sizes open that are none."""
    for dim in info.type.tensor_type.shape.dim:
        if dim.HasField("dim_value") and not is_size(dim.dim_value):
            dim.ClearField("dim_value")


_INTEGERS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32})
_LEARNT = _INTEGERS | {onnx.TensorProto.FLOAT}
