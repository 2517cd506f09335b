"""What a shell completes where it is no command or option: files, and formats of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem


def files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete what may be a file, and may be ``-``."""
    from click.shell_completion import CompletionItem

    del context, parameter
    return [CompletionItem(incomplete, type="file")]


def formats(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the formats that begin so, or let the shell complete a file."""
    from click.shell_completion import CompletionItem

    from normswap.report.formats import names

    found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
    return found or files(context, parameter, incomplete)
