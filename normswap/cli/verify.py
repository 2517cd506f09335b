"""``normswap verify``."""

from __future__ import annotations

from pathlib import Path
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
  normswap verify proof.json model.onnx model.folded.onnx
  normswap verify proof.json model.onnx - < model.folded.onnx
"""


@click.command("verify", context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.argument("certificate", type=click.Path(path_type=Path))
@click.argument("original", shell_complete=files)
@click.argument("rewritten", shell_complete=files)
@report_options
def verify_command(
    certificate: Path, original: str, rewritten: str, quiet: bool, verbose: int
) -> ExitCode:
    """Verify every claim of CERTIFICATE again, from ORIGINAL and REWRITTEN alone.

    Nothing in the certificate is trusted: hashes, regions, outputs and the plan of a fold are
    recomputed, and outputs that are claimed as tested are tested again. Exit code 0 means that
    every claim holds, 1 that one does not. One of the models can be -, for standard input.
    """
    if original == rewritten == STDIO:
        raise UsageError("Only one of the two models can be read from standard input.")
    from normswap.workflows.verify import verify

    telling().reads(certificate)
    sources = [source_of_command(name) for name in (original, rewritten)]
    with progress(quiet=quiet) as say:
        report = verify(certificate, *sources, progress=say)
    telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code
