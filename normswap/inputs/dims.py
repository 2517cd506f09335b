"""Sizes for the dimensions that a model leaves open, the same symbol everywhere the same size."""

from __future__ import annotations

import ast
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from normswap.errors import UsageError
from normswap.inputs.agreement import agreeing
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from normswap.graph.sizes import Dim
    from normswap.inputs.signature import Port, Signature

_SEQUENCE = 16
# Tried in this order until the original accepts one: large enough for five halvings, the size
# most classifiers were made for, small ones, and Inception's.
SPATIAL_SIZES = (64, 224, 32, 299, 128, 256, 512, 16, 8)
EMPTY = 0
UNEVEN = (3, 6, 12, 24, 48, 96)
"""What makes a size one that little divides, tried in this order: 3 times 1, 2, 4, ..."""

_VOLUME = 16  # a side of a five-dimensional input, whose cost grows with the third power

LONGEST = 200
"""Characters of an expression of sizes; a longer name is a symbol, however deep Python recurses."""

_OPERATORS: Mapping[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}


@dataclass(frozen=True, slots=True)
class RequestedSizes:
    """Sizes that a person asked for.

    Attributes
    ----------
    shapes : Mapping of str to tuple of int
        Whole shapes by input name; the name ``""`` stands for the only input of a model.
    symbols : Mapping of str to int
        Sizes by symbolic dimension.
    """

    shapes: Mapping[str, tuple[int, ...]]
    symbols: Mapping[str, int]


def batch_is_free(signature: Signature, requested: RequestedSizes) -> bool:
    """Whether the model takes any batch size, and nobody asked for one."""
    ports = _tensors(signature, requested)
    if not ports or "" in requested.shapes or any(port.name in requested.shapes for port in ports):
        return False
    firsts = {port.shape[0] for port in ports if port.shape}
    return all(
        not isinstance(first, int) and first not in requested.symbols for first in firsts
    ) and bool(firsts)


def solve(
    signature: Signature, requested: RequestedSizes, *, batch: int, spatial: int = SPATIAL_SIZES[0]
) -> dict[str, tuple[int, ...]]:
    """Give every input a shape.

    Parameters
    ----------
    signature : Signature
    requested : RequestedSizes
    batch : int
        Size of an open first axis.
    spatial : int
        Size of an open axis of an image or signal. `EMPTY` takes the axes for empty that are so in
        the file.

    Returns
    -------
    dict of str to tuple of int
        Shapes by input name; of the elements, where it is a sequence. An input of unknown rank has
        that of the weights of its readers, and is a scalar where they don't tell.

    Raises
    ------
    UsageError
        A wish names no input or symbol of the model, or contradicts its shape.
    """
    requested = _named(signature, requested)
    ports = _tensors(signature, requested)
    _refuse_unknown(ports, requested, {port.name for port in signature.inputs})
    sizes = dict(requested.symbols)
    for port in ports:
        _bind_shape(port, requested, sizes)
    if spatial == EMPTY:
        spatial = SPATIAL_SIZES[0]
        for port in ports:
            for axis in signature.empty_axes.get(port.name, ()):
                sizes.setdefault(str(_key(port, axis, None)), EMPTY)
    for port in ports:
        _bind_demands(port, signature, sizes)
    free: list[str] = []  # symbols that habit decides
    for port in ports:
        for axis, dim in enumerate(port.shape or ()):
            key = _key(port, axis, dim)
            if isinstance(key, str) and key not in sizes and _parsed(key) is None:
                sizes[key] = _habit(port, axis, batch, spatial)
                if len(ports) > 1 or sizes[key] != spatial:
                    free.append(key)

    def conclude(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        return {
            port.name: requested.shapes.get(port.name)
            or tuple(_size(_key(port, i, dim), sizes) for i, dim in enumerate(port.shape or ()))
            for port in ports
        }

    # Sizes that all inputs share fit each other.
    own = {frozenset(_key(p, i, d) for i, d in enumerate(p.shape or ())) & set(free) for p in ports}
    if free and (len(ports) == 1 or len(own) > 1):
        return conclude(agreeing(signature.structure, conclude, sizes, free))
    return conclude(sizes)


def _tensors(signature: Signature, requested: RequestedSizes) -> list[Port]:
    """Return the inputs that are tensors or made of them; their readers may tell the rank."""
    ports = [port for port in signature.inputs if port.kind.endswith("tensor")]
    return [
        port
        if port.shape is not None or port.name in requested.shapes
        else replace(port, shape=_by_readers(signature, port))
        for port in ports
    ]


def _by_readers(signature: Signature, port: Port) -> tuple[Dim, ...] | None:
    rank = signature.semantics[port.name].demands.rank
    return None if rank is None else (None,) * rank


def _key(port: Port, axis: int, dim: Dim) -> int | str:
    """Return the size or symbol of a dimension; an unknown one is a symbol of its own.

    A first axis without a name is the batch, which is one for all inputs.
    """
    if dim is not None:
        return dim
    return "\0batch" if axis == 0 else f"{port.name}\0{axis}"


def _named(signature: Signature, requested: RequestedSizes) -> RequestedSizes:
    """Return requested in which the shape of an only input has its name."""
    if "" not in requested.shapes:
        return requested
    names = [port.name for port in signature.inputs]
    if len(names) != 1:
        raise UsageError(
            f"The model has {len(names)} inputs, so --input-shape needs the name of one.",
            tip=f"For example: --input-shape {names[0]}:1,3,224,224" if names else None,
        )
    shapes = dict(requested.shapes)
    return RequestedSizes({names[0]: shapes.pop(""), **shapes}, requested.symbols)


def _refuse_unknown(ports: list[Port], requested: RequestedSizes, names: set[str]) -> None:
    for name in requested.shapes:
        if name not in names:
            raise UsageError(
                f"A shape is given for input {name!r}, but the model has no such input.",
                tip=did_you_mean(name, names)
                or f"Its inputs are {', '.join(sorted(names)) or 'none'}.",
            )
    symbols = {dim for port in ports for dim in port.shape or () if isinstance(dim, str)}
    for symbol in requested.symbols:
        if symbol not in symbols:
            raise UsageError(
                f"The model has no symbolic dimension {symbol!r}.",
                tip=did_you_mean(symbol, symbols)
                or f"Its symbolic dimensions are {', '.join(sorted(symbols)) or 'none'}.",
            )


def _bind_shape(port: Port, requested: RequestedSizes, sizes: dict[str, int]) -> None:
    shape = requested.shapes.get(port.name)
    if shape is None or port.shape is None:
        return
    if len(shape) != len(port.shape):
        raise UsageError(
            f"Input {port.name!r} has rank {len(port.shape)}, but the shape {list(shape)} "
            "has another rank."
        )
    for axis, (dim, size) in enumerate(zip(port.shape, shape, strict=True)):
        if isinstance(dim, int) and dim != size:
            raise UsageError(
                f"Axis {axis} of input {port.name!r} is fixed at {dim}, and can't be {size}."
            )
        key = _key(port, axis, dim)
        if isinstance(key, str) and sizes.setdefault(key, size) != size:
            raise UsageError(
                f"The given shapes require two sizes for the dimension {key!r}: "
                f"{sizes[key]} and {size}."
            )


def _bind_demands(port: Port, signature: Signature, sizes: dict[str, int]) -> None:
    shape = port.shape or ()
    for axis, size in signature.semantics[port.name].demands.sizes.items():
        if -len(shape) <= axis < len(shape) and size > 0:
            key = _key(port, axis % len(shape), shape[axis])
            if isinstance(key, str):
                sizes.setdefault(key, size)


def _habit(port: Port, axis: int, batch: int, spatial: int) -> int:
    rank = len(port.shape or ())
    if axis == 0:
        return batch
    if rank == 5 and axis >= 2:
        return min(spatial, _VOLUME)
    if rank in {3, 4} and axis >= 2 and port.dtype.startswith(("float", "bfloat", "uint8")):
        return spatial
    if axis == 1 and rank in {4, 5}:
        return 3
    return _SEQUENCE


def _size(key: int | str, sizes: Mapping[str, int]) -> int:
    if isinstance(key, int):
        return key
    if key in sizes:
        return sizes[key]
    tree = _parsed(key)
    if tree is None:
        return _SEQUENCE
    try:
        return max(_evaluate(tree, sizes), 0)
    except ZeroDivisionError:
        return _SEQUENCE


def _parsed(text: str) -> ast.BinOp | None:
    """Return the syntax tree of an expression such as ``past + sequence``, or None of a symbol."""
    if len(text) > LONGEST:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError):  # the last of many parentheses
        return None
    return tree if isinstance(tree, ast.BinOp) else None


def _evaluate(tree: ast.expr, sizes: Mapping[str, int]) -> int:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return tree.value
    if isinstance(tree, ast.Name):
        return sizes.get(tree.id, _SEQUENCE)
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        right = _evaluate(tree.right, sizes)
        return _OPERATORS[type(tree.op)](_evaluate(tree.left, sizes), right)
    return _SEQUENCE


def larger(
    signature: Signature,
    requested: RequestedSizes,
    shapes: Mapping[str, tuple[int, ...]],
    more: int,
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of inputs with every size larger that is open, but for that of the batch.

    Parameters
    ----------
    signature : Signature
    requested : RequestedSizes
    shapes : Mapping of str to tuple of int
        That were solved.
    more : int
    """
    requested = _named(signature, requested)
    found = dict(shapes)
    for port in _tensors(signature, requested):
        if port.name in requested.shapes or port.name not in shapes or not port.shape:
            continue
        rank = len(port.shape)
        demanded = {axis % rank for axis in signature.semantics[port.name].demands.sizes}
        is_open = [
            axis > 0
            and axis not in demanded
            and not isinstance(dim, int)
            and dim not in requested.symbols
            for axis, dim in enumerate(port.shape)
        ]
        sizes = zip(shapes[port.name], is_open, strict=True)
        found[port.name] = tuple(size + more if free else size for size, free in sizes)
    return found


def spatial_sizes(signature: Signature, requested: RequestedSizes) -> Iterator[int]:
    """Yield the spatial sizes worth trying: one, where model and request leave no choice."""
    shapes = [solve(signature, requested, batch=1, spatial=size) for size in (SPATIAL_SIZES[0], 7)]
    yield from SPATIAL_SIZES if shapes[0] != shapes[1] else SPATIAL_SIZES[:1]
    if signature.empty_axes:
        yield EMPTY


def tip(signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return what to do where a model does not take inputs of some shapes that were tried.

    Returns
    -------
    str or None
        None where the model leaves no size open.
    """
    tensors = [port for port in signature.inputs if port.name in shapes]
    if all(port.shape and all(isinstance(d, int) for d in port.shape) for port in tensors):
        return None
    tried = " ".join(
        f"--input-shape {name}:{','.join(map(str, shape))}" for name, shape in shapes.items()
    )
    return (
        f"The model leaves sizes of its inputs open, and {tried} did not work; choose sizes "
        "with --input-shape."
    )
