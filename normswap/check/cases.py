"""Which inputs a check uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.check.dims import Wishes, batch_is_free, solve
from normswap.check.inputs import Case, Distribution, make_case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normswap.check.options import CheckOptions
    from normswap.check.signature import Signature

_QUICK = ((Distribution.NORMAL, 1), (Distribution.UNIFORM, 2))
_SWEEP = (1, 2, 7)


def random_cases(signature: Signature, options: CheckOptions, *, spatial: int) -> list[Case]:
    """Draw the inputs of a check.

    At depth QUICK one sample of a normal distribution and a batch of two of a uniform one; at depth FULL every distribution at every batch size of a sweep. A batch size that the
    model or the options fix is used throughout. A model without inputs has one case.

    Parameters
    ----------
    signature : Signature
    options : CheckOptions
    spatial : int
        Size of open spatial axes (`normswap.check.dims`).
    """
    wishes = Wishes(options.input_shapes, options.symbolic_dims)
    free = batch_is_free(signature, wishes)
    cases: dict[str, Case] = {}
    for distribution, batch, seed in _plan(options, free=free):
        shapes = solve(signature, wishes, batch=batch, spatial=spatial)
        case = make_case(signature, shapes, distribution, seed=seed, ranges=options.value_ranges)
        cases.setdefault(case.name, case)
        if not signature.inputs:
            break
    return list(cases.values())


def _plan(options: CheckOptions, *, free: bool) -> Iterator[tuple[Distribution, int, int]]:
    iterations = options.iterations or 1
    for seed in range(options.seed, options.seed + iterations):
        if not options.full:
            yield from ((distribution, batch, seed) for distribution, batch in _QUICK)
            continue
        for batch in _SWEEP if free else (1,):
            for distribution in Distribution:
                if distribution is not Distribution.USER:
                    yield distribution, batch, seed
