"""``normswap inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from normswap.cli.many import models_argument
from normswap.cli.options import report_options, source_of_command
from normswap.cli.progress import progress
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
    """Say what MODEL is: its origin, size, operators, and every normalization in it.

    Of each: its channels, epsilon and mode, what it reads and what reads it, whether a fold removes
    it or why not, and how its scale and statistics look. Nothing is run, and nothing is written.
    """
    source = source_of_command(model)
    from normswap.workflows.inspect import inspect

    with progress(quiet=quiet) as say:
        report = inspect(source, progress=say)
    telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code
