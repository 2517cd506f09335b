"""``normswap recalibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from normswap.cli.options import (
    batch_option,
    include_options,
    model_argument,
    output_options,
    report_options,
    samples_option,
    timeout_option,
)
from normswap.cli.progress import progress
from normswap.cli.source_and_target import source_of_command, target_of_command
from normswap.cli.telling import telling

if TYPE_CHECKING:
    from normswap.errors import ExitCode


EXAMPLES = """\b
Examples:
  normswap recalibrate model.onnx images.npz         writes model.recalibrated.onnx
  normswap recalibrate training.onnx images.npz --freeze -o inference.onnx
  normswap recalibrate training.onnx --freeze        keeps its statistics
"""


@click.command("recalibrate", epilog=EXAMPLES)
@model_argument
@click.argument("data", required=False, type=click.Path())
@click.option(
    "--momentum",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="M",
    help="Update a running estimate, batch after batch: M * running + (1 - M) * batch, "
    "starting from the statistics in MODEL.  [default: the statistics of all of DATA as "
    "one batch]",
)
@click.option(
    "--freeze",
    is_flag=True,
    help="Turn a training-mode export into an inference model. Without DATA, it keeps the "
    "statistics in MODEL.",
)
@samples_option
@batch_option
@include_options("Recalibrate")
@click.option(
    "--assume-constant",
    is_flag=True,
    help="Also recalibrate statistics that are graph inputs, which a caller could override.",
)
@timeout_option
@output_options
@report_options
def recalibrate_command(
    model: str | None,
    data: str | None,
    momentum: float | None,
    freeze: bool,
    samples: int | None,
    batch: int,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    assume_constant: bool,
    timeout: float,
    output: str | None,
    force: bool,
    in_place: bool,
    quiet: bool,
    verbose: int,
) -> ExitCode:
    """Re-estimate the mean and variance of every BatchNormalization of MODEL on DATA.

    This is for models whose statistics are stale, or come from small batches. The new ones are
    those of all of DATA as one batch, layer by layer, whatever --batch is. MODEL can be -, for
    standard input. DATA is an .npz with an array for each input, an .npy or .pb file, or a folder
    of these or of test_data_set_*; other arrays, such as labels, are ignored.
    """
    from normswap.workflows.recalibrate import recalibrate

    source = source_of_command(model)
    if data is not None:
        telling().reads(Path(data))
    target = target_of_command(
        source, output, suffix="recalibrated", force=force, in_place=in_place
    )
    with progress(quiet=quiet) as say:
        report = recalibrate(
            source,
            data,
            target.output,
            momentum=momentum,
            freeze=freeze,
            samples=samples,
            batch=batch,
            include=include,
            exclude=exclude,
            assume_constant=assume_constant,
            timeout=timeout,
            overwrite=target.overwrite,
            copy=target.copy,
            progress=say,
        ).report
    telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code
