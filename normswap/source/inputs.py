"""What a module and its file are run on: the example, random numbers, and other sizes.

Where the file leaves an axis open, it says that it takes any size there. A size that was written
into it all the same, in a Reshape or an Expand, shows on another size only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.errors import UsageError
from normswap.inputs.data import load_cases
from normswap.inputs.dims import RequestedSizes, solve
from normswap.inputs.random import Case, Distribution, Draw, make_case

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normswap.check.options import CheckOptions
    from normswap.inputs.signature import Port, Signature
    from normswap.runtime.arrays import Feeds

_BATCHES = (1, 3)
_DRAWS = (Distribution.NORMAL, Distribution.UNIFORM, Distribution.EXTREMES)
_MORE = (Distribution.LARGE_MEAN, Distribution.SPARSE, Distribution.CONSTANT)


def source_cases(
    signature: Signature, options: CheckOptions, example: Feeds | None
) -> tuple[list[Case], list[Case]]:
    """Return inputs of the usual sizes, and those of others.

    Parameters
    ----------
    signature : Signature
        Of the file.
    options : CheckOptions
        Data that it names is all there is.
    example : feeds, optional
        What the module was given.
    """
    if options.data is not None:
        return load_cases(signature, options.data), []
    requested = RequestedSizes(options.input_shapes, options.symbolic_dims)
    usual = _shapes(signature, requested, example)
    seeds = range(options.seed, options.seed + (options.iterations or 1))
    draws = (*_DRAWS, *_MORE) if options.full else _DRAWS
    cases = [_drawn(signature, usual, Draw(draw), options, s) for s in seeds for draw in draws]
    if example is not None and {n: tuple(v.shape) for n, v in example.items()} == usual:
        cases.append(Case("the example", Distribution.USER, example))
    others = [
        _drawn(signature, shapes, Draw(Distribution.NORMAL), options, options.seed)
        for shapes in _others(signature, requested, usual)
    ]
    unlike: dict[str, Case] = {}
    for case in cases:
        unlike.setdefault(case.name, case)
    return list(unlike.values()), others


def _drawn(
    signature: Signature,
    shapes: Mapping[str, tuple[int, ...]],
    draw: Draw,
    options: CheckOptions,
    seed: int,
) -> Case:
    return make_case(signature, shapes, draw, seed=seed, ranges=options.value_ranges)


def _shapes(
    signature: Signature, requested: RequestedSizes, example: Feeds | None
) -> dict[str, tuple[int, ...]]:
    """Return the sizes of the example, as far as the file and the person have no others."""
    shapes = {
        port.name: tuple(
            dim if isinstance(dim, int) else int(example[port.name].shape[axis])
            for axis, dim in enumerate(port.shape)
        )
        for port in signature.inputs
        if example is not None and port.name in example and port.shape is not None
    }
    wanted = RequestedSizes({**shapes, **requested.shapes}, requested.symbols)
    try:
        return solve(signature, wanted, batch=2)
    except UsageError:  # the person's wishes and the example exclude each other
        return solve(signature, requested, batch=2)


def _others(
    signature: Signature, requested: RequestedSizes, usual: Mapping[str, tuple[int, ...]]
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield the shapes of other batches, then those with each other open axis twice as long."""
    open_: dict[str, int] = {}
    for port in signature.inputs:
        for axis, dim in enumerate(port.shape or ()):
            key = _key(port, axis, dim)
            if key is not None and port.name in usual and port.name not in requested.shapes:
                open_.setdefault(key, usual[port.name][axis])
    first = {
        key
        for port in signature.inputs
        for key in [_key(port, 0, port.shape[0]) if port.shape else None]
        if key in open_ and key not in requested.symbols
    }
    sizes = {open_[key] for key in first}
    for batch in _BATCHES:
        if first and sizes != {batch}:
            yield _with(signature, usual, dict.fromkeys(first, batch))
    for key, size in open_.items():
        if key not in first and key not in requested.symbols:
            yield _with(signature, usual, {key: 2 * size})


def _with(
    signature: Signature, usual: Mapping[str, tuple[int, ...]], sizes: Mapping[str | None, int]
) -> dict[str, tuple[int, ...]]:
    return dict(usual) | {
        port.name: tuple(
            sizes.get(_key(port, axis, dim), usual[port.name][axis])
            for axis, dim in enumerate(port.shape)
        )
        for port in signature.inputs
        if port.shape is not None and port.name in usual
    }


def _key(port: Port, axis: int, dim: int | str | None) -> str | None:
    """Return what an open axis is called; None where it is fixed, or reckoned from others."""
    if dim is None:
        return "" if axis == 0 else f"{port.name}\0{axis}"
    return dim if isinstance(dim, str) and dim.isidentifier() else None
