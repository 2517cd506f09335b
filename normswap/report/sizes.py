"""Sizes of models, as people read them."""

from __future__ import annotations


def human_size(size: int) -> str:
    """Return a number of bytes in the unit that suits it, such as ``"102.5 MB"``."""
    value, unit = float(size), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
