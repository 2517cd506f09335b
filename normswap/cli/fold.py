"""``normswap fold``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from normswap.cli.many import models_argument
from normswap.cli.options import (
    DEPTHS,
    CheckedCommand,
    certificate_option,
    check_options,
    fail_on_option,
    output_options,
    refuse_certificate,
    report_of,
    report_options,
    require_dry_run,
    rewrite_options_of_command,
    save_failing_inputs,
)
from normswap.cli.progress import progress
from normswap.cli.source_and_target import source_of_command
from normswap.cli.telling import telling
from normswap.errors import UsageError
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from normswap.errors import ExitCode
    from normswap.folding.passes.leftovers import Form
    from normswap.inspection.gate import FailOn
    from normswap.workflows.fold import FoldReport


EXAMPLES = """\b
Examples:
  normswap fold model.onnx                      writes model.folded.onnx
  normswap fold model.onnx -o small.onnx
  normswap fold model.onnx --dry-run -v         shows what it would do, and why
  cat model.onnx | normswap fold > small.onnx
"""


@click.command(
    "fold",
    cls=CheckedCommand,
    epilog=EXAMPLES,
)
@models_argument(makes="folded")
@output_options
@click.option("--dry-run", is_flag=True, help="Show what would be folded; write nothing.")
@fail_on_option
@click.option(
    "--assume-constant",
    is_flag=True,
    help="Also fold initializers that are graph inputs, which a caller could override.",
)
@click.option(
    "--merge-branches",
    is_flag=True,
    help="Merge parallel branches into one Conv everywhere, not only where that removes a "
    "BatchNormalization.",
)
@click.option(
    "--leftover",
    type=click.Choice(["keep", "affine", "normalize"]),
    default="keep",
    show_default=True,
    help="What a BatchNormalization that can't be folded becomes: it stays as it is, or "
    "becomes one Mul and one Add, or a BatchNormalization with mean 0, var 1 and epsilon "
    "0.",
)
@click.option(
    "--max-growth",
    type=click.FloatRange(min=1),
    metavar="FACTOR",
    help="Keep a BatchNormalization if folding it would make the model larger than FACTOR "
    "times its size, such as 1.2.",
)
@click.option(
    "--explain",
    metavar="NAME",
    help="Show which routes were tried, step by step, for a BatchNormalization; write "
    "nothing. NAME is the node, its output, or any node or tensor on a route.",
)
@check_options(*DEPTHS)
@certificate_option
@report_options
def fold_command(
    model: str | None,
    dry_run: bool,
    fail_on: tuple[FailOn, ...],
    assume_constant: bool,
    merge_branches: bool,
    leftover: Form,
    max_growth: float | None,
    explain: str | None,
    quiet: bool,
    verbose: int,
    **values: Any,
) -> ExitCode:
    """Fold BatchNormalization into the linear operators around it.

    Every inference-mode BatchNormalization of MODEL is folded where that is exact. Before the
    result is saved, it is proved or tested to be equivalent to MODEL. What can't be folded is kept,
    and the report says why.
    """
    source = source_of_command(model)
    require_dry_run(fail_on, dry_run=dry_run and explain is None)
    if dry_run or explain is not None:
        refuse_certificate(values, "--dry-run or --explain", "fold")
    from normswap.workflows.fold import fold, plan

    which: dict[str, Any] = {
        "assume_constant": assume_constant,
        "merge_branches": merge_branches,
        "leftover": leftover,
        "max_growth": max_growth,
    }
    with progress(quiet=quiet) as say:
        if dry_run or explain is not None:
            report = plan(source, **which, fail_on=fail_on, progress=say)
        else:
            how = rewrite_options_of_command(source, values, suffix="folded")
            report = report_of(lambda: fold(source, **how, **which, progress=say))
    save_failing_inputs(values, report.check)
    if explain is not None:
        _explain(report, explain)
    else:
        telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code


def _explain(report: FoldReport, name: str) -> None:

    from normswap.report.explanation import Explanation

    entries = report.plan.about(name)
    if not entries:
        raise UsageError(
            f"{report.source} has no normalization named {name!r}, and no normalization "
            "whose routes pass a node or tensor of that name.",
            tip=did_you_mean(name, report.plan.names(), most=3)
            or "`--dry-run -v` lists all normalizations.",
        )
    telling().tell(Explanation.of(name, entries), command="explain")
