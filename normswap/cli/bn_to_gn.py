"""``normswap bn-to-gn``, and its special cases ``bn-to-ln`` and ``bn-to-in``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click

from normswap.cli.many import models_argument
from normswap.cli.options import (
    TESTED,
    CheckedCommand,
    certificate_option,
    check_options,
    check_options_of_command,
    fail_on_option,
    include_options,
    output_options,
    refuse_certificate,
    report_of,
    report_options,
    require_dry_run,
    rewrite_options_of_command,
    samples_option,
    save_failing_inputs,
    together,
)
from normswap.cli.progress import progress
from normswap.cli.source_and_target import source_of_command
from normswap.cli.telling import telling
from normswap.cli.values import SavedFile
from normswap.cli.written import will_write
from normswap.errors import UsageError
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.forms.base import OLDEST
from normswap.groupnorm.words import AUTO, CHANNELS, DEFAULT_GROUPS, FASTEST, SHARE

if TYPE_CHECKING:
    from normswap.errors import ExitCode
    from normswap.groupnorm.options import SwapOptions
    from normswap.inspection.gate import FailOn


class Groups(click.ParamType):  # type: ignore[type-arg, unused-ignore] # generic from click 8.2
    """A number of groups, or ``channels``."""

    name = "number of groups"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["channels"]:
        """Parse the option."""
        if value == CHANNELS:
            return CHANNELS
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor {CHANNELS!r}", param, ctx)


class MappedFile(SavedFile):
    """``torch``, or ``torch=FILE``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the file; no name where none is given."""
        framework, named, file = value.partition("=")
        if framework != "torch" or (named and not file):
            self.fail(f"{value!r} is neither torch nor torch=FILE", param, ctx)
        return super().convert(file, param, ctx) if file else Path()


class FormOption(click.Option):
    """``--form``, whose help each form writes a part of."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Ask the forms, which import onnx, only when somebody wants to read it."""
        told = "; ".join(
            f"{form.name}: {form.summary}" + f" (opset {form.opset})" * (form.opset > OLDEST)
            for form in FORMS.values()
        )
        self.help = (
            "Operators to write the normalization with. auto picks the fastest for the "
            "opset, shape and provider; fastest times all of them on this machine; "
            f"{told}."
        )
        return super().get_help_record(ctx)


group_options = together(
    click.option(
        "--groups",
        type=Groups(),
        metavar="N|channels",
        help="Number of groups; 1 is layer normalization, channels is instance normalization."
        "  [default: 32]",
    ),
    click.option(
        "--group-size",
        type=int,
        metavar="N",
        help="Number of channels per group; use it in place of --groups.",
    ),
    click.option(
        "--on-indivisible",
        type=click.Choice(["error", "gcd", "nearest", "keep"]),
        default="error",
        show_default=True,
        help="What to do with a layer whose channels can't be divided into that many "
        "groups: end with an error; use the greatest common divisor, or the nearest "
        "divisor of the channels; or keep its BatchNormalization.",
    ),
    click.option(
        "--search-groups",
        is_flag=True,
        help="With --calibrate: choose the number of groups of each layer that fits the data best.",
    ),
    click.option(
        "--regroup",
        is_flag=True,
        help="Permute the channels so that those in one group keep its statistics as "
        "constant as possible, measured on the data of --calibrate, or else "
        "estimated from the weights. The permutation is exact and costs nothing at "
        "run time.",
    ),
)
"""The options that say how many groups there are."""


form_options = together(
    click.option(
        "--form",
        cls=FormOption,
        type=click.Choice([AUTO, FASTEST, *FORMS]),
        default=AUTO,
        show_default=True,
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="Threads that the model will run on, for --form auto and fastest.  [default: as "
        "many as this machine has]",
    ),
    click.option(
        "--epsilon",
        type=float,
        metavar="X",
        help="Epsilon of all new layers.  [default: that of each layer]",
    ),
    click.option(
        "--no-normalize",
        is_flag=True,
        help="Leave out the means and variances of the layers, and normalize each tensor "
        "as it is: for training from scratch.",
    ),
    click.option("--no-scale", is_flag=True, help="Leave out the scale of the layers."),
    click.option("--no-center", is_flag=True, help="Leave out the bias of the layers."),
    include_options("Swap"),
    click.option(
        "--only-kept",
        is_flag=True,
        help="Swap only the layers that `normswap fold` can't remove.",
    ),
)
"""The options that say which layers become what."""


data_options = together(
    click.option(
        "--calibrate",
        "calibrate_on",
        type=click.Path(),
        metavar="DATA",
        help="Fit the scale and bias of every layer to data, so that the outputs stay "
        "close to the original's. A fit is kept only if it also helps on held-out "
        "samples. DATA is an .npz with an array for each input, an .npy or .pb file, "
        "or a folder of these or of test_data_set_*.",
    ),
    click.option(
        "--refit",
        is_flag=True,
        help="With --calibrate: also fit the weights of the linear layers, by least "
        "squares. Needs no labels.",
    ),
    click.option(
        "--holdout",
        default=str(SHARE),
        show_default=True,
        metavar="SHARE|NAME",
        help="Share of the samples to hold out, on which every step of the fit is judged; "
        "or the name of an array in DATA that says which group (such as a patient) "
        "each sample belongs to, so that no group is split.",
    ),
    click.option(
        "--one-pass",
        is_flag=True,
        help="Calibrate all layers in one pass, which is faster but less accurate.",
    ),
    click.option(
        "--evaluate",
        "evaluate_on",
        type=click.Path(),
        metavar="DATA",
        help="Check the result, and measure how far it drifts from MODEL, on other data "
        "than that of --calibrate.",
    ),
    click.option(
        "--labels",
        metavar="NAME|FILE",
        help="Report the accuracy of MODEL and of the result. The labels are an array in "
        "that data, or a file with one array: the class number of each sample or "
        "pixel.",
    ),
    samples_option,
    click.option(
        "--unfold",
        is_flag=True,
        help="First restore the BatchNormalizations that an exporter folded, with the "
        "statistics of DATA; see `normswap unfold`.",
    ),
)
"""The options of what is learned from data, and measured on it."""


swap_options = together(
    form_options,
    data_options,
    click.option(
        "--map",
        "mapped",
        type=MappedFile(),
        metavar="torch[=FILE]",
        help="Write the weights for the torch module in which each BatchNorm is replaced "
        "by a GroupNorm, under the names that torch's exporter gave them, as .npz or "
        ".safetensors.  [default: beside the result, with the suffix .npz]",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be swapped; write nothing."),
    fail_on_option,
    output_options,
    check_options(*TESTED),
    certificate_option,
    report_options,
)
"""The options of all three commands."""


EXAMPLES = """\b
Examples:
  normswap bn-to-gn --groups 32 model.onnx           writes model.gn.onnx
  normswap bn-to-gn --groups 8 --calibrate images.npz --refit model.onnx
  normswap bn-to-gn --groups 8 --unfold --calibrate images.npz folded.onnx
  normswap bn-to-gn --groups 32 --form fastest model.onnx
  normswap bn-to-gn --groups 8 --map torch=weights.npz model.onnx
  cat model.onnx | normswap bn-to-gn --groups 32 > out.onnx
"""

EXAMPLES_LN = """\b
Examples:
  normswap bn-to-ln model.onnx                       writes model.ln.onnx
  normswap bn-to-ln --calibrate images.npz --refit model.onnx
"""

EXAMPLES_IN = """\b
Examples:
  normswap bn-to-in model.onnx                       writes model.in.onnx
  normswap bn-to-in --calibrate images.npz --refit model.onnx
"""


@click.command("bn-to-gn", cls=CheckedCommand, epilog=EXAMPLES)
@models_argument(makes="gn")
@group_options
@swap_options
def bn_to_gn_command(
    groups: int | Literal["channels"] | None,
    group_size: int | None,
    on_indivisible: str,
    search_groups: bool,
    **rest: Any,
) -> ExitCode:
    """Replace BatchNormalization with GroupNormalization.

    The result is a different network, which no longer depends on batch statistics. The mean and
    variance of each layer are moved into the operators before it, which keeps most of the accuracy.
    The swap is proved or tested to be what was asked for, and the drift from MODEL is reported.
    """
    if groups is not None and group_size is not None:
        raise UsageError("--groups and --group-size can't be used together.")
    if search_groups and rest["calibrate_on"] is None:
        raise UsageError("--search-groups needs data.", tip="Add --calibrate DATA.")
    return _run("gn", groups, group_size, on_indivisible, search_groups=search_groups, **rest)


@click.command("bn-to-ln", cls=CheckedCommand, epilog=EXAMPLES_LN)
@models_argument(makes="ln")
@swap_options
def bn_to_ln_command(**rest: Any) -> ExitCode:
    """Replace BatchNormalization with layer normalization over channels and space.

    The same as bn-to-gn --groups 1.
    """
    return _run("ln", 1, None, "error", search_groups=False, **rest)


@click.command("bn-to-in", cls=CheckedCommand, epilog=EXAMPLES_IN)
@models_argument(makes="in")
@swap_options
def bn_to_in_command(**rest: Any) -> ExitCode:
    """Replace BatchNormalization with instance normalization.

    The same as bn-to-gn --groups channels.
    """
    return _run("in", CHANNELS, None, "error", search_groups=False, **rest)


def _run(
    suffix: str,
    groups: int | Literal["channels"] | None,
    group_size: int | None,
    on_indivisible: str,
    *,
    search_groups: bool,
    model: str | None,
    dry_run: bool,
    fail_on: tuple[FailOn, ...],
    quiet: bool,
    verbose: int,
    **values: Any,
) -> ExitCode:
    source = source_of_command(model)
    if dry_run:
        refuse_certificate(values, "--dry-run", "swaps")
        if values["mapped"] is not None:
            raise UsageError("--map can't be used with --dry-run, which makes no weights.")
    require_dry_run(fail_on, dry_run=dry_run)
    _require_data(values)
    if values["unfold"] and dry_run:
        tip = "`normswap unfold --dry-run` shows where BatchNormalizations would be put back."
        raise UsageError(
            "--dry-run can't be used with --unfold: what would be swapped is known only "
            "after unfolding.",
            tip=tip,
        )
    from normswap.workflows.swap import plan_report, swap

    options = _swap_options(groups, group_size, on_indivisible, values)
    how = check_options_of_command(values)
    with progress(quiet=quiet) as say:
        if dry_run:
            report = plan_report(source, options, how=how, fail_on=fail_on, progress=say)
        else:
            rewrite = rewrite_options_of_command(source, values, suffix=suffix)
            if values["mapped"] is not None:
                rewrite["state_dict"] = _state_file(values["mapped"], rewrite["output"])
            data = _data_options(values, search_groups=search_groups)
            report = report_of(
                lambda: swap(source, options=options, **rewrite, how=how, **data, progress=say)
            )
    save_failing_inputs(values, report.check)
    telling().tell(report, quiet=quiet, verbose=verbose)
    return report.exit_code


def _require_data(values: dict[str, Any]) -> None:
    """Refuse options that are about data where there is none."""
    calibrates = values["calibrate_on"] is not None
    fitting = {
        "--refit": values["refit"],
        "--holdout": values["holdout"] != str(SHARE),
        "--one-pass": values["one_pass"],
        "--unfold": values["unfold"],
    }
    for name, given in fitting.items():
        if given and not calibrates:
            raise UsageError(f"{name} needs data.", tip="Add --calibrate DATA.")
    for name in ("samples", "labels"):
        if values[name] is not None and not calibrates and values["evaluate_on"] is None:
            tip = "Add --calibrate DATA or --evaluate DATA."
            raise UsageError(f"--{name} needs data.", tip=tip)


def _data_options(values: dict[str, Any], *, search_groups: bool) -> dict[str, Any]:
    """Return what a swap is told of data, and of a fit to it."""
    from normswap.groupnorm.calibrate import CalibrationOptions

    for path in (values["calibrate_on"], values["evaluate_on"]):
        if path is not None:
            telling().reads(Path(path))
    calibration = None
    if values["calibrate_on"] is not None:
        calibration = CalibrationOptions(
            values["one_pass"],
            search_groups,
            values["timeout"],
            values["refit"],
            _holdout(values["holdout"]),
        )
    return {
        "data": values["calibrate_on"],
        "evaluate": values["evaluate_on"],
        "labels": values["labels"],
        "samples": values["samples"],
        "unfold": values["unfold"],
        "calibration": calibration,
    }


def _state_file(named: Path, output: Path | BinaryIO) -> Path:
    """Return where the weights for torch go: beside the result, if nothing else is said."""
    if named != Path():
        return named
    if not isinstance(output, Path):
        raise UsageError(
            "--map needs a file name, because the model is written to a pipe.",
            tip="For example: --map torch=weights.npz",
        )
    path = output.with_suffix(".npz")
    will_write(path)
    return path


def _holdout(text: str) -> float | str:
    """Return a share, or the name of an array."""
    try:
        return float(text)
    except ValueError:
        return text


def _swap_options(
    groups: int | Literal["channels"] | None,
    group_size: int | None,
    on_indivisible: str,
    values: dict[str, Any],
) -> SwapOptions:
    from normswap.groupnorm.options import SwapOptions
    from normswap.groupnorm.policy import GroupPolicy

    return SwapOptions(
        policy=GroupPolicy.of(
            DEFAULT_GROUPS if groups is None else groups, group_size, on_indivisible
        ),
        form=values["form"],
        provider=values["provider"],
        threads=values["threads"],
        epsilon=values["epsilon"],
        normalize=not values["no_normalize"],
        regroup=values.get("regroup", False),
        keep_scale=not values["no_scale"],
        keep_bias=not values["no_center"],
        include=values["include"],
        exclude=values["exclude"],
        only_kept=values["only_kept"],
    )
