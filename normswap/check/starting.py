"""The process that both models run in, started before what it takes to ask it is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.runtime.lending import lent

if TYPE_CHECKING:
    from contextlib import ExitStack

    from normswap.check.options import CheckOptions
    from normswap.runtime.child import Child


def is_enough(options: CheckOptions) -> bool:
    """Whether a proof and one run of each model answer all that was asked for."""
    asked = (
        options.full,
        options.proves_only,
        options.data is not None,
        options.against_provider is not None,
        options.batch_invariant,
        options.self_test,
        options.iterations,
        options.tolerances,
        not options.arbiter,
    )
    return options.proof and not any(asked)


def start(options: CheckOptions, stack: ExitStack) -> Child:
    """Start the process in which both models will run; an error is not kept waiting by it."""
    return stack.enter_context(
        lent(
            "a model",
            timeout=options.timeout,
            memory_limit=options.memory_limit,
            provider_options=options.provider_options,
        )
    )
