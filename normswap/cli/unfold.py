"""``normswap unfold``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from normswap.cli.options import (
    DEPTHS,
    CheckedCommand,
    batch_option,
    certificate_option,
    check_options,
    model_argument,
    output_options,
    refuse_certificate,
    report_of,
    report_options,
    rewrite_options_of_command,
    samples_option,
    save_failing_inputs,
)
from normswap.cli.progress import progress
from normswap.cli.source_and_target import source_of_command
from normswap.cli.telling import telling

if TYPE_CHECKING:
    from normswap.errors import ExitCode


EXAMPLES = """\b
Examples:
  normswap unfold model.onnx --calibrate images.npz  writes model.unfolded.onnx
  normswap unfold model.onnx --calibrate images.npz --include 'head.*'
  normswap unfold model.onnx --dry-run -v            shows where, and why not elsewhere
"""


@click.command("unfold", cls=CheckedCommand, epilog=EXAMPLES)
@model_argument
@click.option(
    "--calibrate",
    type=click.Path(),
    metavar="DATA",
    help="Inputs of the model, on which the statistics are measured: an .npz with an array "
    "for each input, an .npy or .pb file, or a folder of these or of test_data_set_*.",
)
@samples_option
@batch_option
@click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help="Also put one after layers that the rule leaves out, if their name, input or output "
    "matches, such as 'head.*'. Can be given several times.",
)
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Put none after layers that match."
)
@click.option("--dry-run", is_flag=True, help="Show where they would be put; needs no DATA.")
@output_options
@check_options(*DEPTHS)
@certificate_option
@report_options
def unfold_command(
    model: str | None,
    calibrate: str | None,
    samples: int | None,
    batch: int,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
    verbose: int,
    **values: Any,
) -> ExitCode:
    """Restore BatchNormalizations after linear layers of MODEL, whose exporter folded them.

    Each gets the statistics that the output of its layer has on DATA, and is the identity. So the
    result is the same function as MODEL, which is checked before it is saved, and it can be swapped
    (bn-to-gn), recalibrated or trained. `normswap fold` removes them again.
    """
    source = source_of_command(model)
    if dry_run:
        refuse_certificate(values, "--dry-run", "makes")
    from normswap.workflows.unfold import plan_report, unfold

    which: dict[str, Any] = {"include": include, "exclude": exclude}
    with progress(quiet=quiet) as say:
        if dry_run:
            report = plan_report(source, **which, progress=say)
        else:
            if calibrate is not None:
                telling().reads(Path(calibrate))
            data: dict[str, Any] = {"calibrate": calibrate, "samples": samples, "batch": batch}
            how = rewrite_options_of_command(source, values, suffix="unfolded")
            report = report_of(lambda: unfold(source, **how, **which, **data, progress=say))
    save_failing_inputs(values, report.check)
    telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code
