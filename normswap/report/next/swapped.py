"""A swapped model is a different function than the original, on purpose."""

from __future__ import annotations

from typing import Any

_NORMALIZATIONS = frozenset(
    {"GroupNorm", "GroupNormalization", "InstanceNormalization", "LayerNormalization"}
)
_WRITTEN_OUT = frozenset({"ReduceMean", "Sqrt"})


def tip(report: Any, model: str) -> str | None:
    """Say that a swap is checked by the command that makes it, if that is all that differs."""
    apart = () if report.proof is None else report.proof.apart
    swapped = sum(_is_swap(region) for region in apart)
    if not swapped or swapped < len(apart):
        return None
    places = "the place" if swapped == 1 else f"all {swapped} places"
    return (
        f"a BatchNormalization became another normalization in {places} where the models differ: "
        "a swap is a different function on purpose, and the command that makes it checks it; "
        f"`normswap bn-to-gn --groups GROUPS {model} --certificate swap.json` also records that "
        "check"
    )


def _is_swap(region: Any) -> bool:
    before, after = ({title.split()[0] for title in s} for s in (region.before, region.after))
    is_normalized = bool(after & _NORMALIZATIONS) or after >= _WRITTEN_OUT
    gone = "BatchNormalization" in before and "BatchNormalization" not in after
    return gone and is_normalized and not before & _NORMALIZATIONS
