"""``normswap inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from normswap.cli.many import models_argument
from normswap.cli.options import report_options
from normswap.cli.progress import progress
from normswap.cli.source_and_target import source_of_command
from normswap.cli.telling import telling

if TYPE_CHECKING:
    from normswap.errors import ExitCode

EXAMPLES = """\b
Examples:
  normswap inspect model.onnx
  normswap inspect model.onnx -v                every operator and normalization
  normswap inspect model.onnx --json | jq .parameters
"""


@click.command("inspect", epilog=EXAMPLES)
@models_argument()
@report_options
def inspect_command(model: str | None, quiet: bool, verbose: int) -> ExitCode:
    """Describe MODEL: its origin, size, operators, and every normalization in it.

    For each normalization: its channels, epsilon and mode, the nodes before and after it, whether
    it can be folded or why not, and problems with its scale and statistics. Nothing is run, and
    nothing is written.
    """
    source = source_of_command(model)
    from normswap.workflows.inspect import inspect

    with progress(quiet=quiet) as say:
        report = inspect(source, progress=say)
    telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code
