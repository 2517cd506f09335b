"""What a pipeline may refuse in a model: the findings that a dry run is asked to end with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from normswap.errors import require_choice
from normswap.findings import Finding
from normswap.folding.planner import make_plan
from normswap.graph.mode import mode_of
from normswap.inspection.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from normswap.folding.plan import Folded, Kept
    from normswap.groupnorm.plan import Untouched
    from normswap.model import Model


FailOn = Literal["foldable", "kept", "training"]
"""What there must be none of: normalizations that a fold removes; those that a plan leaves as they
are; BatchNormalizations and Dropouts in training mode."""


def gate(
    fail_on: Collection[FailOn],
    model: Model,
    *,
    kept: Iterable[Kept | Untouched],
    folded: Iterable[Folded] | None = None,
) -> tuple[Finding, ...]:
    """Return what a model has that it must not.

    Parameters
    ----------
    fail_on : collection of {"foldable", "kept", "training"}
    model : Model
        As it was loaded.
    kept : iterable of (Kept or Untouched)
        What a plan leaves as it is.
    folded : iterable of Folded, optional
        What a fold removes; it is planned here if it is left out, and needed.

    Raises
    ------
    UsageError
        There is no such word.
    """
    for word in fail_on:
        require_choice("fail_on", word, get_args(FailOn))
    return tuple(_found(frozenset(fail_on), model, kept, folded))


def _found(
    fail_on: frozenset[str],
    model: Model,
    kept: Iterable[Kept | Untouched],
    folded: Iterable[Folded] | None,
) -> Iterator[Finding]:
    if "foldable" in fail_on:
        for entry in make_plan(model).folded if folded is None else folded:
            into = ", ".join(f"{step.op} {step.node}" for step in entry.absorbers)
            told = f"it can be folded{f' into {into}' if into else ''}"
            site = entry.site
            yield Finding(
                "foldable", "foldable-normalization", "error", told, site.node, site.graph, True
            )
    if "kept" in fail_on:
        for stays in kept:
            told = f"{stays.reason.value}: {stays.detail or stays.reason.explanation}"
            yield Finding(
                "kept", "kept-normalization", "error", told, stays.site.node, stays.site.graph
            )
    if "training" in fail_on:
        for node in Subject(model).training:
            mode = mode_of(node) if node.op == "BatchNormalization" else None
            told = (
                f"{node.op} is in training mode: "
                f"{mode.why or mode.usage if mode else 'it drops values at random'}"
            )
            yield Finding("training", "training-mode", "error", told, node.title, node.graph.path)
