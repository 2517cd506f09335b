"""Arguments and options that several commands share, and what they mean."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from normswap.cli.completing import files
from normswap.cli.source_and_target import target_of_command
from normswap.cli.telling import format_options
from normswap.cli.values import InputShape, SavedFile, Seconds
from normswap.errors import UnprovenError, UsageError
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from normswap.check.options import CheckOptions
    from normswap.check.report import CheckReport
    from normswap.workflows.result import Result, RewriteReport

Report = TypeVar("Report", bound="RewriteReport")

MIB = 1 << 20

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


DEPTHS = ("quick", "full", "proof", "off")
"""How thorough the check of a rewrite is."""

TESTED = tuple(depth for depth in DEPTHS if depth != "proof")
"""That of a rewrite of which the report says how it behaves, which needs runs."""


class CheckedCommand(click.Command):
    """A command whose ``--check`` may stand alone: ``--check``, ``--check full``, ``--check=full``.

    click would take whatever follows it for its value, also the model.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, with its value given to every ``--check``.

        Raises
        ------
        UsageError
            What follows one is neither, and close to a value.
        """
        for option, word in itertools.pairwise(args):
            if option == "--check" and word not in DEPTHS and not Path(word).exists():
                tip = did_you_mean(word, DEPTHS)
                if tip is not None:
                    raise UsageError(
                        f"{word!r} is neither a value of --check nor an existing model.", tip=tip
                    )
        given = [
            f"--check={DEPTHS[0]}"
            if argument == "--check" and args[at + 1 : at + 2] not in ([depth] for depth in DEPTHS)
            else argument
            for at, argument in enumerate(args)
        ]
        return super().parse_args(ctx, given)


def together(*decorators: Decorator) -> Decorator:
    """Return what adds several options, the first of which stands first in the help."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return add


model_argument = click.argument("model", required=False, metavar="[MODEL]", shell_complete=files)
"""The MODEL argument: a path, ``-`` or nothing for a pipe."""


output_options = together(
    click.option(
        "-o",
        "output",
        metavar="FILE",
        shell_complete=files,
        help="Output file; - is standard output.  [default: a new name beside MODEL; "
        "standard output if MODEL is piped in]",
    ),
    click.option("--force", is_flag=True, help="Replace the output file if it exists."),
    click.option("--in-place", is_flag=True, help="Replace MODEL with the result."),
)
"""The options that say where the result goes."""


device_options = together(
    click.option(
        "--provider",
        default="cpu",
        show_default=True,
        metavar="NAME",
        help="Execution provider to run the models on: cpu, cuda, tensorrt, another one "
        "of onnxruntime's, or auto for the best one that runs here.",
    ),
    click.option(
        "--device-id",
        type=click.IntRange(min=0),
        metavar="N",
        help="Device to use, if there are several.  [default: 0]",
    ),
    click.option(
        "--gpu-mem-limit",
        type=click.IntRange(min=1),
        metavar="MIB",
        help="Device memory that a model may use.  [default: all]",
    ),
    click.option(
        "--provider-option",
        "provider_options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any onnxruntime option of the provider, such as use_tf32=1.",
    ),
)
"""The options that say what models are run on."""


def provider_options_of_command(values: dict[str, Any]) -> dict[str, str]:
    """Return the provider's options, from the values of :func:`device_options`.

    Raises
    ------
    UsageError
        An option is none, or there is no device that it could be for.
    """
    options = {}
    for text in values["provider_options"]:
        key, found, value = text.partition("=")
        if not found or not key:
            raise UsageError(f"--provider-option {text!r} is not of the form KEY=VALUE.")
        options[key] = value
    names = [name for name in (values["provider"], values.get("against_provider")) if name]
    for key, unit in (("device_id", 1), ("gpu_mem_limit", MIB)):
        if values[key] is None:
            continue
        if all(name.lower().startswith("cpu") for name in names):
            raise UsageError(
                f"--{key.replace('_', '-')} needs a device, and the cpu provider has none.",
                tip="Choose a provider that has one, for example --provider cuda.",
            )
        options[key] = str(values[key] * unit)
    return options


def include_options(verb: str) -> Decorator:
    """Return the options that select normalizations by their names."""
    return together(
        click.option(
            "--include",
            multiple=True,
            metavar="PATTERN",
            help=f"{verb} only nodes whose name, input or output matches, such as "
            "'layer3.*'. Can be given several times.",
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="PATTERN",
            help=f"Don't {verb.lower()} nodes that match.",
        ),
    )


samples_option = click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use only the first N samples of DATA.",
)


batch_option = click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="Number of samples per batch, if MODEL leaves it open.",
)


timeout_option = click.option(
    "--timeout",
    type=Seconds(),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit for one run of a model.",
)


comparison_options = together(
    device_options,
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        metavar="N",
        default=0,
        show_default=True,
        help="Seed of the random inputs.",
    ),
    click.option(
        "--input-shape",
        "input_shapes",
        type=InputShape(),
        multiple=True,
        metavar="[NAME:]1,3,224,224",
        help="Shape of an input. NAME is needed only if the model has several inputs. Can "
        "be given for each of them.",
    ),
    timeout_option,
    click.option(
        "--save-failing-inputs",
        type=SavedFile(),
        metavar="FILE.npz",
        help="If the models differ, save the inputs on which they do to this file.",
    ),
)
"""The options of every comparison of two models."""


def check_options(*depths: str) -> Decorator:
    """Return the options of the check that follows a rewrite, of some depths."""
    return together(
        click.option(
            "--check",
            "depth",
            type=click.Choice(depths),
            default=DEPTHS[0],
            show_default=True,
            help="How thoroughly to compare the result with MODEL. If they differ, nothing is "
            "written. --check without a value means quick.",
        ),
        # A flag of its own: click 8.1 lets one of two options for a parameter reset the other's.
        click.option("--no-check", is_flag=True, help="Same as --check off."),
        comparison_options,
    )


fail_on_option = click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(["foldable", "kept", "training"]),
    help="With --dry-run: end with exit code 1 if a normalization is foldable, or is "
    "kept, or if a BatchNormalization or Dropout is in training mode. Can be given "
    "several times.",
)


def require_dry_run(fail_on: tuple[str, ...], *, dry_run: bool) -> None:
    """Refuse a gate where there is no dry run.

    Raises
    ------
    UsageError
        A rewrite that ends with findings would leave open whether something was written.
    """
    if fail_on and not dry_run:
        raise UsageError(
            "--fail-on needs --dry-run.",
            tip="A dry run writes nothing; to gate a rewrite, run it after the dry run has passed.",
        )


certificate_option = click.option(
    "--certificate",
    type=SavedFile(),
    metavar="FILE.json",
    help="Write what was proved to this file, for `normswap verify`.",
)


def refuse_certificate(values: dict[str, Any], instead: str, does: str) -> None:
    """Refuse a certificate of what is only shown.

    Parameters
    ----------
    values : dict
        Of :func:`certificate_option`.
    instead, does : str
        The options that show it, and what they do to nothing, such as ``"swaps"``.

    Raises
    ------
    UsageError
        One was asked for.
    """
    if values["certificate"] is not None:
        raise UsageError(
            f"--certificate can't be used with {instead}, which {does} nothing that could be "
            "certified."
        )


def is_checked(values: dict[str, Any]) -> bool:
    """Whether the result is to be checked, from the values of :func:`check_options`."""
    return not values["no_check"] and values["depth"] != "off"


def check_options_of_command(values: dict[str, Any]) -> CheckOptions:
    """Return how to check, from the values of :func:`check_options`."""
    from normswap.check.options import CheckOptions

    return CheckOptions(
        depth=values["depth"] if is_checked(values) else DEPTHS[0],
        provider=values["provider"],
        provider_options=provider_options_of_command(values),
        seed=values["seed"],
        input_shapes=dict(values["input_shapes"]),
        timeout=values["timeout"],
    )


def rewrite_options_of_command(
    source: Path | BinaryIO, values: dict[str, Any], *, suffix: str
) -> dict[str, Any]:
    """Return what a rewrite is told of its output and its check.

    Parameters
    ----------
    source : Path or binary stream
        What the command reads.
    values : dict
        Of :func:`output_options`, :func:`check_options` and :func:`certificate_option`.
    suffix : str
        See :func:`target_of_command`, also for the error.
    """
    place = {key: values[key] for key in ("output", "force", "in_place")}
    target = target_of_command(source, suffix=suffix, **place)
    return {
        "output": target.output,
        "overwrite": target.overwrite,
        "copy": target.copy,
        "check": check_options_of_command(values) if is_checked(values) else None,
        "certificate": values["certificate"],
    }


def save_failing_inputs(values: dict[str, Any], check: CheckReport | None) -> None:
    """Save the inputs on which a check failed, where :func:`comparison_options` say so."""
    if values["save_failing_inputs"] is not None and check is not None:
        for file in check.save_failing_inputs(values["save_failing_inputs"]):
            click.echo(f"Inputs on which the models differ: {file}", err=True)


def report_of(rewrite: Callable[[], Result[Report]]) -> Report:
    """Return the report on a rewrite, also of one that its check does not vouch for."""
    try:
        return rewrite().report
    except UnprovenError as error:
        report: Report = error.report
        return report


report_options = together(
    format_options,
    click.option("-q", "--quiet", is_flag=True, help="Print only errors and failed checks."),
    click.option("-v", "--verbose", count=True, help="Print every node."),
)
"""The options that say how a command reports."""
