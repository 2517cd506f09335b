"""``normswap bn-to-gn``, and its special cases ``bn-to-ln`` and ``bn-to-in``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from normswap.cli.options import (
    CheckedCommand,
    Decorator,
    check_options,
    is_checked,
    model_argument,
    output_options,
    report_options,
    report_stream,
    save_failing_inputs,
    source_of_command,
    target_of_command,
)
from normswap.cli.progress import progress
from normswap.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from normswap.errors import ExitCode
    from normswap.groupnorm.options import SwapOptions, VerifyOptions
    from normswap.workflows.swap import SwapReport

SETTINGS = {"help_option_names": ["-h", "--help"]}
CHANNELS = "channels"


class Groups(click.ParamType):  # type: ignore[type-arg, unused-ignore] # generic from click 8.2
    """A number of groups, or ``channels``."""

    name = "number of groups"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Parse the option."""
        if value == CHANNELS:
            return CHANNELS
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor {CHANNELS!r}", param, ctx)


def group_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how many groups there are."""
    decorators: tuple[Decorator, ...] = (
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
            help="Channels in a group, in place of --groups.",
        ),
        click.option(
            "--on-indivisible",
            type=click.Choice(["error", "gcd", "nearest", "keep"]),
            default="error",
            show_default=True,
            help="What to do with layers whose channels are not a multiple of that: refuse the "
            "model; take the greatest common divisor, or the nearest divisor; keep their "
            "BatchNormalization.",
        ),
        click.option(
            "--search-groups",
            is_flag=True,
            help="With --calibrate: give each layer the number of groups that fits best.",
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def swap_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of all three commands."""
    decorators: tuple[Decorator, ...] = (
        click.option(
            "--form",
            type=click.Choice(
                [
                    "auto",
                    "fastest",
                    "native",
                    "layernorm",
                    "instancenorm",
                    "centred",
                    "primitive",
                    "contrib",
                ]
            ),
            default="auto",
            show_default=True,
            help="Operators that the normalization is written in. auto knows the fastest for the "
            "opset, shape and provider; fastest times them all here; primitive is the most "
            "precise; native is one GroupNormalization node (opset 21); contrib is onnxruntime's "
            "CUDA kernel.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            metavar="N",
            help="Threads that the model will run on, for --form auto and fastest.  [default: as "
            "many as here]",
        ),
        click.option(
            "--epsilon", type=float, metavar="X", help="In place of each layer's own epsilon."
        ),
        click.option("--no-scale", is_flag=True, help="Drop the layers' scale."),
        click.option("--no-center", is_flag=True, help="Drop the layers' bias B."),
        click.option(
            "--include",
            multiple=True,
            metavar="PATTERN",
            help="Swap only nodes whose name, input or output fits, such as 'layer3.*'; may be "
            "given several times.",
        ),
        click.option(
            "--exclude", multiple=True, metavar="PATTERN", help="Don't swap nodes that fit."
        ),
        click.option(
            "--only-kept",
            is_flag=True,
            help="Swap only what `normswap fold` can't remove.",
        ),
        click.option(
            "--calibrate",
            "calibrate_on",
            type=click.Path(),
            metavar="DATA",
            help="Refit every layer's scale and bias on data, so that the network follows the "
            "original. DATA: an .npz with an array for each input, an .npy or .pb, or a folder of "
            "these or of test_data_set_*.",
        ),
        click.option(
            "--one-pass",
            is_flag=True,
            help="Calibrate all layers in one pass: faster, and less exact.",
        ),
        click.option(
            "--samples",
            type=click.IntRange(min=1),
            metavar="N",
            help="Use only the first N samples of DATA.",
        ),
        click.option("--dry-run", is_flag=True, help="Only say what would be swapped."),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


EXAMPLES = """\b
Examples:
  normswap bn-to-gn --groups 32 model.onnx           writes model.gn.onnx
  normswap bn-to-gn --groups 8 --calibrate images.npz model.onnx
  normswap bn-to-gn --groups 32 --form fastest model.onnx
  cat model.onnx | normswap bn-to-gn --groups 32 > out.onnx
"""


@click.command("bn-to-gn", cls=CheckedCommand, context_settings=SETTINGS, epilog=EXAMPLES)
@model_argument
@group_options
@swap_options
@output_options
@check_options
@report_options
def bn_to_gn_command(
    groups: int | str | None,
    group_size: int | None,
    on_indivisible: str,
    search_groups: bool,
    **rest: Any,
) -> ExitCode:
    """Swap BatchNormalization for GroupNormalization.

    The result is another network, which no longer depends on batch statistics. It is checked to be
    exactly the group normalization network, and its drift from MODEL is reported. --calibrate wins
    back most of what the swap costs.
    """
    if groups is not None and group_size is not None:
        raise UsageError("--groups and --group-size exclude each other.")
    if search_groups and rest["calibrate_on"] is None:
        raise UsageError("--search-groups needs data.", tip="Give it with --calibrate DATA.")
    return _run("gn", groups, group_size, on_indivisible, search_groups=search_groups, **rest)


@click.command("bn-to-ln", cls=CheckedCommand, context_settings=SETTINGS)
@model_argument
@swap_options
@output_options
@check_options
@report_options
def bn_to_ln_command(**rest: Any) -> ExitCode:
    """Swap BatchNormalization for layer normalization over channels and space.

    The same as bn-to-gn --groups 1.
    """
    return _run("ln", 1, None, "error", search_groups=False, **rest)


@click.command("bn-to-in", cls=CheckedCommand, context_settings=SETTINGS)
@model_argument
@swap_options
@output_options
@check_options
@report_options
def bn_to_in_command(**rest: Any) -> ExitCode:
    """Swap BatchNormalization for instance normalization.

    The same as bn-to-gn --groups channels.
    """
    return _run("in", CHANNELS, None, "error", search_groups=False, **rest)


def _run(
    suffix: str,
    groups: int | str | None,
    group_size: int | None,
    on_indivisible: str,
    *,
    search_groups: bool,
    model: str | None,
    calibrate_on: str | None,
    one_pass: bool,
    samples: int | None,
    dry_run: bool,
    output: str | None,
    force: bool,
    in_place: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **values: Any,
) -> ExitCode:
    source = source_of_command(model)
    for name, given in (("--one-pass", one_pass), ("--samples", samples is not None)):
        if given and calibrate_on is None:
            raise UsageError(f"{name} needs data.", tip="Give it with --calibrate DATA.")
    from normswap.groupnorm.calibrate import CalibrationOptions
    from normswap.workflows.swap import plan_report, swap

    options = _swap_options(groups, group_size, on_indivisible, values)
    how = _verify_options(values)
    with progress(quiet=quiet) as say:
        if dry_run:
            report = plan_report(source, options, how=how, progress=say)
            to_stdout = False
        else:
            target = target_of_command(
                source, output, suffix=suffix, force=force, in_place=in_place
            )
            to_stdout = target.is_stdout
            calibration = None
            if calibrate_on is not None:
                calibration = CalibrationOptions(one_pass, search_groups, values["timeout"])
            report = swap(
                source,
                target.output,
                options,
                overwrite=target.overwrite,
                check=how if is_checked(values) else None,
                how=how,
                data=calibrate_on,
                samples=samples,
                calibration=calibration,
                progress=say,
            )
    save_failing_inputs(values, report.check)
    _tell(report, as_json=as_json, quiet=quiet, verbose=verbose, to_stdout=to_stdout)
    return report.exit_code


def _swap_options(
    groups: int | str | None, group_size: int | None, on_indivisible: str, values: dict[str, Any]
) -> SwapOptions:
    from normswap.groupnorm.options import SwapOptions
    from normswap.groupnorm.policy import DEFAULT_GROUPS, GroupPolicy, OnIndivisible

    if groups is None:
        groups = DEFAULT_GROUPS
    return SwapOptions(
        policy=GroupPolicy(
            groups=groups if isinstance(groups, int) else None,
            group_size=group_size,
            on_indivisible=OnIndivisible(on_indivisible),
        ),
        form=values["form"],
        provider=values["provider"],
        threads=values["threads"],
        epsilon=values["epsilon"],
        keep_scale=not values["no_scale"],
        keep_bias=not values["no_center"],
        include=values["include"],
        exclude=values["exclude"],
        only_kept=values["only_kept"],
    )


def _verify_options(values: dict[str, Any]) -> VerifyOptions:
    from normswap.cli.options import check_options_of_command
    from normswap.groupnorm.options import VerifyOptions

    check = check_options_of_command(values)
    return VerifyOptions(
        depth=check.depth,
        provider=check.provider,
        provider_options=check.provider_options,
        seed=check.seed,
        input_shapes=check.input_shapes,
        timeout=check.timeout,
    )


def _tell(
    report: SwapReport,
    *,
    as_json: bool,
    quiet: bool,
    verbose: int,
    to_stdout: bool,
) -> None:
    stream = report_stream(to_stdout=to_stdout)
    if as_json:
        from normswap.report.json import render_json

        click.echo(render_json(report), file=stream)
    elif not quiet or report.exit_code:
        from normswap.report.swap import render_swap

        render_swap(report, stream, verbose=verbose)
