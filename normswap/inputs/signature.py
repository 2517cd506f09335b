"""What a model takes and gives, read without its weights, and how two models differ in it."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from normswap.bodies import bodies
from normswap.errors import ModelError
from normswap.graph.inference import infer_shapes
from normswap.inputs.semantics import Semantics, input_semantics
from normswap.model.bounds import require_bounded
from normswap.model.lookalikes import not_a_model
from normswap.model.outlined import outlined
from normswap.model.scopes import require_made
from normswap.runtime.arrays import dtype_of
from normswap.runtime.randomness import RandomNode, draws, paired_seeds, seeds
from normswap.semantics.families import RANDOM_LIKE
from normswap.spelling import no_such_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from normswap.graph.sizes import Dim

# What these give depends on sizes, or on what is there at all, or on nothing.
_OF_SHAPES = RANDOM_LIKE | {
    "ConstantOfShape", "EyeLike", "OptionalHasElement", "SequenceLength", "Shape", "Size",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model.

    Attributes
    ----------
    name : str
    kind : str
        ``tensor``, ``sequence``, ``optional``, ``map`` or ``sparse_tensor``, and for the nested
        ones the element's kind after a colon, as in ``sequence:tensor``.
    dtype : str
        Name of the (innermost) element type: NumPy's, or ml_dtypes', or ``string``.
    shape : tuple of (int, str or None), or None
        None where the rank is unknown.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[Dim, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype}[...]"
        return f"{self.dtype}[{','.join('?' if d is None else str(d) for d in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """What can be known of a model without running it.

    Attributes
    ----------
    path : Path
    inputs, outputs : tuple of Port
        In the model's order; inputs that have an initializer are left out, since they need not
        be fed.
    semantics : dict of str to Semantics
        What each input feeds.
    opset : int
        Version of the default domain, 0 where the model does not import it.
    random : tuple of RandomNode
        The operators that draw random numbers.
    seeds : tuple of (float or None)
        What each of them gets for a seed, so that all runs draw the same; None leaves its own.
    varying : frozenset of str
        The outputs that depend on the values of inputs, not only on their shapes.
    structure : bytes
        The model without its weights, its functions inlined.
    empty_axes : dict of str to tuple of int
        The axes of inputs whose size is 0 in the file, which may mean any size.
    called : str
        What people know the model as, where `path` is a temporary one.
    home : Path or None
        The folder of its external data, where that is not its own.
    """

    path: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    semantics: dict[str, Semantics]
    opset: int
    random: tuple[RandomNode, ...]
    seeds: tuple[float | None, ...]
    varying: frozenset[str]
    structure: bytes
    empty_axes: dict[str, tuple[int, ...]]
    called: str = ""
    home: Path | None = None

    @property
    def folder(self) -> Path:
        """Where its external data is."""
        return self.home or self.path.resolve().parent

    @property
    def title(self) -> str:
        """What to call the model in a report: its path, or that of which it becomes the model."""
        return self.called or str(self.path)

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return Path(self.title).name

    def varying_output(self, leaf: str) -> str | None:
        """Return the output that tensor `leaf` is (an element of), None if it does not vary."""
        for name in (leaf, leaf.split("[", 1)[0]):
            if name in self.varying:
                return name
        return None


def read_signature(path: Path) -> Signature:
    """Read a model's signature; the data of external tensors is not touched.

    Raises
    ------
    ModelError
        The file does not exist, or is no ONNX model.
    """
    if not path.is_file():
        raise ModelError(f"{path} doesn't exist.", tip=no_such_file(path))
    try:
        model = outlined(path.resolve())
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}.") from error
    except (DecodeError, ValueError) as error:
        raise not_a_model(_head(path), str(path), str(error)) from error
    if not model.HasField("graph") or not model.opset_import:
        raise not_a_model(_head(path), str(path), "it has no graph or no opset import")
    require_bounded(model, path.name)
    require_made(model, path.name)
    graph = model.graph
    random = draws(model)
    inputs, outputs = ports_of(graph)
    structure = structure_of(model)
    inlined = onnx.load_from_string(structure).graph
    return Signature(
        path=path,
        inputs=inputs,
        outputs=outputs,
        semantics=input_semantics(inlined, [port.name for port in inputs]),
        opset=next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0),
        random=random,
        seeds=seeds(random),
        varying=_varying(inlined, {port.name for port in inputs}),
        structure=structure,
        empty_axes={value.name: axes for value in graph.input if (axes := _empty_axes(value))},
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def drawing_alike(original: Signature, rewritten: Signature) -> tuple[Signature, Signature]:
    """Return two models' signatures with seeds by which they draw the same random numbers."""
    first, second = paired_seeds(original.random, rewritten.random)
    return replace(original, seeds=first), replace(rewritten, seeds=second)


def _varying(graph: Any, inputs: set[str]) -> frozenset[str]:
    reached = set(inputs)
    for node in graph.node:  # sorted topologically, as the specification asks
        if node.op_type not in _OF_SHAPES and not reached.isdisjoint(_reads(node)):
            inference = node.op_type == "Dropout" and len(node.input) < 3
            reached.update(node.output[:1] if inference else node.output)  # the mask is all true
    return frozenset(value.name for value in graph.output if value.name in reached)


def _reads(node: Any) -> Iterator[str]:
    """Yield what the values hang on that a node makes: of one, CastLike takes only the type."""
    yield from node.input[:1] if node.op_type == "CastLike" else node.input
    for body in bodies(node):
        for inner in body.node:
            yield from _reads(inner)
        yield from (value.name for value in body.output)


def _port(value: Any) -> Port:
    kinds: list[str] = []
    kind_proto = value.type
    while True:
        kind = kind_proto.WhichOneof("value")
        if kind is None:
            return Port(value.name, ":".join(kinds) or "unknown", "unknown", None)
        kinds.append(kind.removesuffix("_type"))
        inner = getattr(kind_proto, kind)
        if kind in {"tensor_type", "sparse_tensor_type"}:
            shape = tuple(_dim(dim) for dim in inner.shape.dim) if inner.HasField("shape") else None
            return Port(value.name, ":".join(kinds), dtype_name(inner.elem_type), shape)
        kind_proto = inner.value_type if kind == "map_type" else inner.elem_type


def _dim(dim: Any) -> Dim:
    """Return a size; some write -1 or 0 where they mean any."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value > 0 else None
    return dim.dim_param or None


def _empty_axes(value: Any) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(i for i, dim in enumerate(dims) if dim.HasField("dim_value") and not dim.dim_value)


def dtype_name(elem_type: int) -> str:
    """Return the name of the dtype of ``TensorProto.DataType`` `elem_type`."""
    if elem_type == onnx.TensorProto.STRING:
        return "string"
    if elem_type == onnx.TensorProto.UNDEFINED:
        return "unknown"
    return str(onnx.helper.tensor_dtype_to_np_dtype(elem_type).name)


def structural_differences(original: Signature, rewritten: Signature) -> list[str]:
    """Return, one sentence each, what makes the rewritten model another function by its looks.

    Names, order, kinds, element types and ranks of inputs and outputs count, and a size that
    the rewritten model fixes where the original took any. A shape of an output that is merely
    known better, or less well, does not count: running the models compares real shapes.
    """
    return [
        *_differences("input", original.inputs, rewritten.inputs),
        *_differences("output", original.outputs, rewritten.outputs),
    ]


def _differences(
    what: str, original: tuple[Port, ...], rewritten: tuple[Port, ...]
) -> Iterator[str]:
    before = {port.name: port for port in original}
    after = {port.name: port for port in rewritten}
    lost = [name for name in before if name not in after]
    new = [name for name in after if name not in before]
    if lost and len(lost) == len(new):
        for old, other in zip(lost, new, strict=True):
            yield f"{what} {old!r} is missing, and {other!r} takes its place"
    else:
        yield from (f"{what} {name!r} is missing" for name in lost)
        yield from (f"{what} {name!r} is new" for name in new)
    if not lost and not new and list(before) != list(after):
        yield f"the {what}s are in another order: {', '.join(after)} instead of {', '.join(before)}"
    for name in before.keys() & after.keys():
        a, b = before[name], after[name]
        if (a.kind, a.dtype) != (b.kind, b.dtype):
            yield f"{what} {name!r} changed from {a.kind} of {a.dtype} to {b.kind} of {b.dtype}"
        elif a.shape is not None and b.shape is not None:
            yield from _shape_differences(what, name, a, b)


def _shape_differences(what: str, name: str, a: Port, b: Port) -> Iterator[str]:
    before, after = a.shape or (), b.shape or ()
    if len(before) != len(after):
        yield f"{what} {name!r} changed from rank {len(before)} to rank {len(after)}"
        return
    for axis, (old, new) in enumerate(zip(before, after, strict=True)):
        if isinstance(new, int) and old != new and (isinstance(old, int) or what == "input"):
            was = "any size" if not isinstance(old, int) else str(old)
            yield f"axis {axis} of {what} {name!r} could be {was}, and is now fixed at {new}"


def dtype_of_port(ports: tuple[Port, ...], leaf: str) -> np.dtype[Any] | None:
    """Return the declared dtype of the output that tensor `leaf` is (an element of), if known."""
    for port in ports:
        if leaf == port.name or leaf.startswith(f"{port.name}["):
            known = port.dtype not in {"string", "unknown"}
            return dtype_of(port.dtype) if known else None
    return None


_SMALL = 256  # elements; larger tensors hold weights, whose values no shape depends on


def ports_of(graph: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return the inputs and outputs of a ``GraphProto``; no inputs that need not be fed."""
    constants = {tensor.name for tensor in graph.initializer}
    constants.update(tensor.values.name for tensor in graph.sparse_initializer)
    inputs = tuple(_port(value) for value in graph.input if value.name not in constants)
    return inputs, tuple(_port(value) for value in graph.output)


Shape = tuple[int, ...]


def structure_of(model: Any) -> bytes:
    """Return the graph of `model` without its weights, for shape inference at any time.

    Parameters
    ----------
    model : onnx.ModelProto
    """
    bare = onnx.ModelProto()
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    bare.ir_version = model.ir_version
    graph = bare.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    given = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL and not tensor.external_data:
            graph.initializer.append(tensor)
        elif tensor.name not in given:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    if bare.functions:
        # Of a function that can't be inlined it isn't known what it does with its inputs.
        with contextlib.suppress(RuntimeError, ValueError):
            bare = onnx.inliner.inline_local_functions(bare)
    content: bytes = bare.SerializeToString()
    return content


def inferred(
    structure: bytes, shapes: Mapping[str, Sequence[int | None]]
) -> tuple[Any, dict[str, Shape]] | None:
    """Return a model's graph, and the shapes of its values on inputs of certain shapes.

    Parameters
    ----------
    structure : bytes
        See :func:`structure_of`.
    shapes : Mapping of str to sequence of (int or None)
        Shapes of the inputs; None leaves a size open.

    Returns
    -------
    (onnx.GraphProto, dict of str to tuple of int) or None
        A size that is unknown is 0. None where shape inference does not get through.
    """
    model = onnx.load_from_string(structure)
    for value in model.graph.input:
        if value.name in shapes and value.type.HasField("tensor_type"):
            tensor = value.type.tensor_type
            del tensor.shape.dim[:]
            for size in shapes[value.name]:
                dim = tensor.shape.dim.add()
                if size is not None:
                    dim.dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        model = infer_shapes(model)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, DecodeError):
        return None
    known: dict[str, Shape] = {t.name: tuple(t.dims) for t in model.graph.initializer}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        if value.type.tensor_type.HasField("shape"):
            known[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return model.graph, known
