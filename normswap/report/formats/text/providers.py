"""Which execution providers run here, and what is in the way of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from normswap.runtime.providers import short_name

if TYPE_CHECKING:
    from normswap.runtime.survey import Survey


def tell(report: Survey, stream: TextIO, *, verbose: int = 0) -> None:
    """Print a survey, a line a provider."""
    del verbose
    built_for = f", built for CUDA {report.cuda}" if report.cuda else ""
    lines = [f"{report.runs} {report.version}{built_for}"]
    for status in report.providers:
        name = short_name(status.name)
        word = "yes" if status.usable else "no"
        lines.append(f"  {name:<12}{word:<5}{status.device or status.why or ''}".rstrip())
        if status.tip:
            lines.append(f"{'':19}{status.tip}")
    lines.append(f"auto is {short_name(report.auto)}")
    if report.conflict:
        lines += [report.conflict["message"], report.conflict["tip"]]
    stream.writelines(f"{line}\n" for line in lines)
