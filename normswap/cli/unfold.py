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
    report_of,
    report_options,
    rewrite_options_of_command,
    samples_option,
    save_failing_inputs,
    source_of_command,
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
@samples_option
@batch_option
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
    quiet: bool,
    verbose: int,
    **values: Any,
) -> ExitCode:
    """Put BatchNormalizations back behind the linear layers of MODEL, whose exporter folded them.

    Each has the statistics that its layer's output has on DATA, and is the identity: the result is
    the same function as MODEL, which is checked before it is saved, and can be swapped (bn-to-gn),
    recalibrated or trained. `normswap fold` takes them away again.
    """
    source = source_of_command(model)
    if values["certificate"] is not None and dry_run:
        raise UsageError(
            "There is no certificate of an unfold that is not made: --dry-run makes none."
        )
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
