"""``normswap fold``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from normswap.cli.options import (
    check_options,
    check_options_of_command,
    model_argument,
    output_options,
    report_options,
    report_stream,
    source_of_command,
    target_of_command,
)
from normswap.cli.progress import progress

if TYPE_CHECKING:
    from normswap.errors import ExitCode
    from normswap.pipeline import FoldReport


EXAMPLES = """\b
Examples:
  normswap fold model.onnx                      writes model.folded.onnx
  normswap fold model.onnx -o small.onnx
  normswap fold model.onnx --dry-run -v         says what it would do, and why
  cat model.onnx | normswap fold > small.onnx
"""


@click.command("fold", context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@model_argument
@output_options
@click.option("--dry-run", is_flag=True, help="Only say what would be folded; write nothing.")
@click.option(
    "--assume-constant",
    is_flag=True,
    help="Fold initializers that are also graph inputs, which a caller could override.",
)
@check_options
@report_options
def fold_command(
    model: str | None,
    output: str | None,
    force: bool,
    in_place: bool,
    dry_run: bool,
    assume_constant: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **check: object,
) -> ExitCode:
    """Fold BatchNormalization into the linear operators around it.

    Every inference-mode BatchNormalization of MODEL is folded wherever that is exact, and the
    result is compared with MODEL in onnxruntime before it is saved. What can't be folded is kept,
    and the report says why.
    """
    source = source_of_command(model)
    from normswap.pipeline import fold, plan_fold

    with progress(quiet=quiet) as say:
        if dry_run:
            report = plan_fold(source, assume_constant=assume_constant, progress=say)
            to_stdout = False
        else:
            target = target_of_command(
                source, output, suffix="folded", force=force, in_place=in_place
            )
            to_stdout = target.is_stdout
            report = fold(
                source,
                target.output,
                overwrite=target.overwrite,
                assume_constant=assume_constant,
                check=check_options_of_command(check),
                progress=say,
            )
    _save_failing_inputs(report, check)
    stream = report_stream(to_stdout=to_stdout)
    if as_json:
        from normswap.report.json import render_json

        click.echo(render_json(report), file=stream)
    elif not quiet or report.exit_code:
        from normswap.report.text import render_fold

        render_fold(report, stream, verbose=verbose)
    return report.exit_code


def _save_failing_inputs(report: FoldReport, check: dict[str, object]) -> None:
    path = check.get("save_failing_inputs")
    if path is not None and report.check is not None and report.exit_code:
        for file in report.check.save_failing_inputs(Path(str(path))):
            click.echo(f"inputs that failed: {file}", err=True)
