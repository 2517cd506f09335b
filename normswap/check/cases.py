"""Which inputs a check uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.check.cost import multiply_adds
from normswap.inputs.agreement import fits
from normswap.inputs.data import load_cases
from normswap.inputs.dims import UNEVEN, RequestedSizes, batch_is_free, larger, solve
from normswap.inputs.random import Case, Distribution, Draw, make_case

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.check.options import CheckOptions
    from normswap.inputs.signature import Signature

_QUICK = ((Distribution.NORMAL, 1), (Distribution.UNIFORM, 2))
_MORE = (Distribution.NORMAL, 8)  # where it is little work: channels dead on few samples live here
_SWEEP = (1, 2, 7)
LITTLE_WORK = 500_000_000  # multiply-adds of all samples together; a tenth of a second or two


def make_cases(
    signature: Signature,
    options: CheckOptions,
    *,
    spatial: int,
    integers: tuple[int, int] | None = None,
) -> list[Case]:
    """Return the inputs of a check: a user's own, where there are any, else random ones.

    At depth QUICK the random ones are a sample of a normal distribution and a batch of two of a
    uniform one, and eight more samples for a model that is little work; at depth FULL there is
    every distribution at every batch size of a sweep. A batch size that the model or the options
    fix is used throughout. A model without inputs has one case.

    Parameters
    ----------
    signature : Signature
    options : CheckOptions
    spatial : int
        Size of open spatial axes (`normswap.inputs.dims`).
    integers : (int, int), optional
        What integers of no known meaning are drawn from.
    """
    if options.data is not None:
        return load_cases(signature, options.data)
    requested = RequestedSizes(options.input_shapes, options.symbolic_dims)
    free = batch_is_free(signature, requested)
    cases: dict[str, Case] = {}
    quick = [*_QUICK, _MORE] if free and _is_little(signature, requested, spatial) else _QUICK
    for distribution, batch, seed in _plan(options, quick, free=free):
        shapes = solve(signature, requested, batch=batch, spatial=spatial)
        draw = Draw(distribution, integers=integers)
        case = make_case(signature, shapes, draw, seed=seed, ranges=options.value_ranges)
        cases.setdefault(case.name, case)
        if not signature.inputs:
            break
    return list(cases.values())


def of_other_sizes(
    signature: Signature,
    options: CheckOptions,
    case: Case,
    integers: tuple[int, int] | None = None,
) -> Iterator[Case]:
    """Yield inputs of sizes that little divides, of which one is enough that a model takes.

    A network that halves what it reads asks for sizes that can be halved. Nothing where no size is
    open but that of the batch, or where a person's own data is all there is.

    Parameters
    ----------
    signature : Signature
    options : CheckOptions
    case : Case
        Inputs that the model takes.
    integers : (int, int), optional
        As of :func:`make_cases`.
    """
    if options.data is not None:
        return
    requested = RequestedSizes(options.input_shapes, options.symbolic_dims)
    shapes = case.shapes()
    draw = Draw(Distribution.NORMAL, integers=integers)
    for more in UNEVEN:
        other = larger(signature, requested, shapes, more)
        if other != shapes and fits(signature.structure, other):
            yield make_case(signature, other, draw, seed=options.seed, ranges=options.value_ranges)


def _is_little(signature: Signature, requested: RequestedSizes, spatial: int) -> bool:
    shapes = solve(signature, requested, batch=_MORE[1], spatial=spatial)
    work = multiply_adds(signature.structure, shapes)
    return work is not None and work <= LITTLE_WORK


def _plan(
    options: CheckOptions, quick: Sequence[tuple[Distribution, int]], *, free: bool
) -> Iterator[tuple[Distribution, int, int]]:
    iterations = options.iterations or 1
    for seed in range(options.seed, options.seed + iterations):
        if not options.full:
            yield from ((distribution, batch, seed) for distribution, batch in quick)
            continue
        for batch in _SWEEP if free else (1,):
            for distribution in Distribution:
                if distribution is not Distribution.USER:
                    yield distribution, batch, seed
