"""``normswap diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from normswap.cli.completing import files
from normswap.cli.options import report_options
from normswap.cli.progress import progress
from normswap.cli.source_and_target import STDIO, source_of_command
from normswap.cli.telling import telling
from normswap.errors import UsageError

if TYPE_CHECKING:
    from normswap.errors import ExitCode

EXAMPLES = """\b
Examples:
  normswap diff old.onnx new.onnx
  git show HEAD:model.onnx | normswap diff - model.onnx
"""


@click.command("diff", epilog=EXAMPLES)
@click.argument("before", shell_complete=files)
@click.argument("after", shell_complete=files)
@report_options
def diff_command(before: str, after: str, quiet: bool, verbose: int) -> ExitCode:
    """Show what changed from BEFORE to AFTER, node by node.

    Nodes that compute the same function of the inputs are the same, whatever their names. Exit code
    1 means that more than names differs. One of the models can be -, for standard input.
    """
    if before == after == STDIO:
        raise UsageError("Only one of the two models can be read from standard input.")
    sources = [source_of_command(name) for name in (before, after)]
    from normswap.workflows.diff import diff

    with progress(quiet=quiet) as say:
        report = diff(*sources, progress=say)
    telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code
