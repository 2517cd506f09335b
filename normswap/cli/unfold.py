"""``normswap unfold``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from normswap.cli.options import (
    DEPTHS,
    CheckedCommand,
    certificate_option,
    check_options,
    check_options_of_command,
    is_checked,
    model_argument,
    output_options,
    report_of,
    report_options,
    save_failing_inputs,
    source_of_command,
    target_of_command,
)
from normswap.cli.progress import progress
from normswap.cli.telling import telling
from normswap.errors import UsageError

if TYPE_CHECKING:
    from normswap.errors import ExitCode


EXAMPLES = """\b
Examples:
  normswap unfold model.onnx --calibrate images.npz  writes model.unfolded.onnx
  normswap unfold model.onnx --calibrate images.npz --include 'head.*'
  normswap unfold model.onnx --dry-run -v            says where, and where not and why
"""


@click.command("unfold", cls=CheckedCommand, epilog=EXAMPLES)
@model_argument
@click.option(
    "--calibrate",
    type=click.Path(),
    metavar="DATA",
    help="Inputs of the model, of which the statistics are: an .npz with an array for each input, "
    "an .npy or .pb, or a folder of these or of test_data_set_*.",
)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Use only the first N.")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="Samples in a batch, if MODEL leaves it open.",
)
@click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help="Put one behind layers whose name, input or output fits, such as 'head.*', also where the "
    "rule puts none; may be given several times.",
)
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Put none behind layers that fit."
)
@click.option("--dry-run", is_flag=True, help="Only say where they would go; needs no DATA.")
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
    output: str | None,
    force: bool,
    in_place: bool,
    certificate: Path | None,
    quiet: bool,
    verbose: int,
    **check: Any,
) -> ExitCode:
    """Put BatchNormalizations back behind the linear layers of MODEL, whose exporter folded them.

    Each has the statistics that its layer's output has on DATA, and is the identity: the result is
    the same function as MODEL, which is checked before it is saved, and can be swapped (bn-to-gn),
    recalibrated or trained. `normswap fold` takes them away again.
    """
    source = source_of_command(model)
    if certificate is not None and dry_run:
        raise UsageError(
            "There is no certificate of an unfold that is not made: --dry-run makes none."
        )
    from normswap.workflows.unfold import plan_report, unfold

    with progress(quiet=quiet) as say:
        if dry_run:
            report = plan_report(source, include=include, exclude=exclude, progress=say)
        else:
            if calibrate is not None:
                telling().reads(Path(calibrate))
            target = target_of_command(
                source, output, suffix="unfolded", force=force, in_place=in_place
            )
            report = report_of(
                lambda: unfold(
                    source,
                    target.output,
                    calibrate=calibrate,
                    samples=samples,
                    batch=batch,
                    include=include,
                    exclude=exclude,
                    check=check_options_of_command(check) if is_checked(check) else None,
                    certificate=certificate,
                    overwrite=target.overwrite,
                    copy=target.copy,
                    progress=say,
                )
            )
    save_failing_inputs(check, report.check)
    telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code
