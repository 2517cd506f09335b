"""The formats of a report: a module, or a package, each.

To add one, add a file to this folder with the function ``tell`` of :class:`Format`, and a test
beside the others. Nothing else has to know: ``--format`` takes the names of the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from typing import TextIO

    from normswap.report.envelope import Envelope, Report


class Format(Protocol):
    """What a module in this folder has.

    One that needs packages which normswap does not, lists them in ``NEEDS`` by what is imported
    of them; they are in the extra ``report``.
    """

    def tell(
        self, report: Report, stream: TextIO, *, verbose: int, envelope: Envelope | None
    ) -> None:
        """Write a report to a stream, see :func:`normswap.report.tell`."""
        ...


def names() -> list[str]:
    """Return the names of all formats, importing none of them."""
    import pkgutil

    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Format:
    """Return a format.

    Raises
    ------
    ValueError
        There is none of this name.
    """
    import importlib

    if name not in names():
        raise ValueError(f"{name!r} is not a report format; the formats are {', '.join(names())}")
    return cast("Format", importlib.import_module(f"{__name__}.{name}"))


def missing(name: str) -> list[str]:
    """Return the packages that a format needs and that are not installed."""
    import importlib.util

    needs = getattr(find(name), "NEEDS", {})
    return [package for module, package in needs.items() if not importlib.util.find_spec(module)]
