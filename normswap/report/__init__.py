"""What a command tells: {fold, swap, check, ...} as text, json, markdown, ...: one door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.report.formats import find

if TYPE_CHECKING:
    from typing import TextIO

    from normswap.report.envelope import Envelope, Report


def tell(
    report: Report,
    format: str,  # noqa: A002 - as the option is called
    stream: TextIO,
    *,
    verbose: int = 0,
    envelope: Envelope | None = None,
) -> None:
    """Write a report to a stream.

    Parameters
    ----------
    format : str
        One of :func:`normswap.report.formats.names`.
    stream : text stream
        Gets colours, and lines of its width, only if it is a terminal.
    verbose : int
        From 1 on everything is listed one by one; -1 is the verdict only, where there is one.
    envelope : Envelope, optional
        What was run, on which inputs; of the report alone if it is left out.

    Raises
    ------
    ValueError
        There is no such format.

    Examples
    --------
    >>> import sys
    >>> from normswap.report.envelope import Error, Failure
    >>> tell(Failure(Error("ModelError", "m.onnx is empty."), 3), "markdown", sys.stdout)
    ## error
    <BLANKLINE>
    m.onnx is empty.
    """
    find(format).tell(report, stream, verbose=verbose, envelope=envelope)
