"""``normswap check``: whether one model is the same function as another."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from normswap.cli.examples import for_example
from normswap.cli.many import pairs_arguments
from normswap.cli.options import (
    DEPTHS,
    MIB,
    CheckedCommand,
    certificate_option,
    comparison_options,
    provider_options_of_command,
    save_failing_inputs,
)
from normswap.cli.progress import progress
from normswap.cli.source_and_target import STDIO, source_of_command
from normswap.cli.telling import format_options, telling
from normswap.cli.values import SavedFile
from normswap.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from normswap.check.options import CheckOptions
    from normswap.check.report import CheckReport

FilePath = click.Path(dir_okay=False, path_type=Path)
AnyPath = click.Path(path_type=Path)
MODELS = ("original", "rewritten")

EXAMPLES = """\
Exit codes: 0 equivalent, 1 different, 2 wrong usage, 3 model or data unreadable, invalid or
unsupported, 4 runtime or provider unavailable, crashed or timed out, 5 inconclusive.

\b
Examples:
  normswap check model.onnx model.folded.onnx
  normswap check model.onnx model.folded.onnx --load-inputs images.npz
  normswap check model.onnx --module nets:make
  git show HEAD:model.onnx | normswap check - model.onnx
"""


@click.command(
    "check",
    cls=CheckedCommand,
    epilog=EXAMPLES,
)
@pairs_arguments(*MODELS)
@click.option(
    "--check",
    "depth",
    type=click.Choice(DEPTHS[:-1]),
    default=DEPTHS[0],
    show_default=True,
    help="How thoroughly to compare the models; proof runs nothing. --check without a value "
    "means quick.",
)
@comparison_options
@click.option(
    "--against-provider",
    metavar="PROVIDER",
    help="Run REWRITTEN on this execution provider. Without REWRITTEN, compare ORIGINAL on "
    "both providers.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of random inputs for each distribution.",
)
@click.option(
    "--symbolic-dim",
    "symbolic_dims",
    multiple=True,
    metavar="SYMBOL=SIZE[,...]",
    help="Size of a symbolic dimension. Can be given several times.",
)
@click.option(
    "--val-range",
    "ranges",
    multiple=True,
    metavar="[NAME:]LOW,HIGH",
    help="Range of the random values of an input, or of all. Can be given several times.",
)
@click.option(
    "--load-inputs",
    type=AnyPath,
    metavar="PATH",
    help="Inputs to compare the models on: an .npz with an array for each input, an .npy or "
    ".pb file, or a folder of these or of test_data_set_*.",
)
@click.option(
    "--save-inputs",
    type=SavedFile(),
    metavar="FILE.npz",
    help="Save the inputs that the models were run on.",
)
@click.option(
    "--load-outputs",
    type=AnyPath,
    metavar="PATH",
    help="Compare ORIGINAL with these saved outputs, in place of REWRITTEN. Needs --load-inputs.",
)
@click.option(
    "--save-outputs", type=SavedFile(), metavar="FILE.npz", help="Save the outputs of ORIGINAL."
)
@click.option(
    "--rtol",
    "rtols",
    multiple=True,
    metavar="[OUTPUT:]VALUE",
    help="Judge an output, or all, by this relative tolerance. Can be given several times.",
)
@click.option(
    "--atol",
    "atols",
    multiple=True,
    metavar="[OUTPUT:]VALUE",
    help="Judge an output, or all, by this absolute tolerance. Can be given several times.",
)
@click.option(
    "--arbiter/--no-arbiter",
    default=True,
    help="Evaluate the models in float64 too, to separate rounding errors from real differences.",
)
@click.option(
    "--self-test",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Plant N faults in the rewritten model, and report how many of them this check detects.",
)
@click.option(
    "--module",
    metavar="PKG.FILE:FACTORY",
    help="Compare ORIGINAL with the torch module that it was exported from, in place of "
    "REWRITTEN. FACTORY is a function that returns the module, or the module and the "
    "arguments of its forward.",
)
@click.option(
    "--batch-invariant",
    is_flag=True,
    help="Also test whether a sample gets the same result alone and in a batch.",
)
@click.option(
    "--memory-limit",
    type=click.IntRange(min=1),
    metavar="MIB",
    help="Limit the memory of each process that runs a model.",
)
@click.option(
    "--rejudge",
    type=FilePath,
    metavar="REPORT.json",
    help="Judge a saved JSON report with other tolerances, without running the models.",
)
@certificate_option
@click.option(
    "--require",
    "required",
    type=click.Choice(["proved"]),
    help="End with exit code 1 if the models are equivalent but this is not completely proved.",
)
@format_options
@click.option("-q", "--quiet", is_flag=True, help="Print the verdict line only.")
@click.option("-v", "--verbose", is_flag=True, help="Print every output on every input.")
@click.pass_context
def check_command(context: click.Context, /, **given: Any) -> None:
    """Check whether REWRITTEN computes the same function as ORIGINAL.

    There is no tolerance to choose: how far the outputs may differ is derived from the rounding
    errors of the models themselves. One of the models can be -, for standard input.

    With --module, one file is compared with the torch module that it was exported from, which is
    run in float64.
    """
    if all(given[name] == STDIO for name in MODELS):
        raise UsageError("Only one of the two models can be read from standard input.")
    for name in MODELS:
        if given[name] is not None:
            given[name] = source_of_command(given[name])
    for name in ("load_inputs", "load_outputs", "rejudge"):
        if given[name] is not None:
            telling().reads(given[name])
    with progress(quiet=given["quiet"]) as say:
        report = _report(given, say)
    report = replace(report, required=given["required"] or "")
    save_failing_inputs(given, report)
    if given["save_inputs"]:
        report.save_inputs(given["save_inputs"])
    if given["save_outputs"]:
        report.save_outputs(given["save_outputs"])
    telling().tell(report, verbose=-1 if given["quiet"] else int(given["verbose"]))
    context.exit(int(report.exit_code))


def _report(given: dict[str, Any], say: Callable[[str], None]) -> CheckReport:
    if given["rejudge"] is not None:
        if given["original"] is not None:
            raise UsageError("--rejudge reads a saved report and can't be given a model.")
        _refuse_certificate(given)
        from normswap.check.report import load_report

        return load_report(given["rejudge"]).rejudged(_tolerances(given))
    original, rewritten = given["original"], given["rewritten"]
    if original is None:
        raise UsageError(
            "No model was given to check.", tip=for_example(click.get_current_context())
        )
    from normswap.workflows.check import check, check_outputs

    options = _options(given)
    if given["module"] is not None:
        return _of_module(given, options, say)
    if given["load_outputs"] is not None:
        if rewritten is not None:
            raise UsageError(
                "--load-outputs takes the place of the second model: give one model only."
            )
        _refuse_certificate(given)
        return check_outputs(original, options, progress=say)
    if rewritten is None and options.against_provider is None and not options.batch_invariant:
        raise UsageError(
            "There is nothing to compare the model with.",
            tip="Add a second model, --module, --against-provider, --batch-invariant or "
            "--load-outputs.",
        )
    certificate = given["certificate"]
    report = check(original, rewritten or original, options, certificate=certificate, progress=say)
    converted = report.proof is not None and report.proof.precision
    if certificate is not None and (report.exit_code or converted):
        why = f"the models are {report.verdict.value}"
        if not report.exit_code:
            why = (
                f"one is the other converted to {converted}, and there is no certificate of a "
                "conversion"
            )
        click.echo(f"No certificate was written: {why}.", err=True)
    return report


def _of_module(
    given: dict[str, Any], options: CheckOptions, say: Callable[[str], None]
) -> CheckReport:
    if given["rewritten"] is not None:
        raise UsageError("--module takes the place of the second model: give one model only.")
    if given["required"] or given["certificate"]:
        raise UsageError(
            "A module has no graph to prove equality with, so --module can't be used with "
            "--require or --certificate."
        )
    from normswap.source.factory import made_by
    from normswap.workflows.check_module import check_module

    say("building the module")
    module, args, kwargs = made_by(given["module"])
    return check_module(
        module, given["original"], args, kwargs, options, title=given["module"], progress=say
    )


def _refuse_certificate(given: dict[str, Any]) -> None:
    if given["certificate"] is not None:
        raise UsageError(
            "--certificate needs two models to compare.",
            tip="Give both models, or leave out --certificate.",
        )


def _options(given: dict[str, Any]) -> CheckOptions:
    from normswap.check.options import CheckOptions

    memory = given["memory_limit"]
    return CheckOptions(
        provider=given["provider"],
        provider_options=provider_options_of_command(given),
        against_provider=given["against_provider"],
        seed=given["seed"],
        depth=given["depth"],
        input_shapes=dict(given["input_shapes"]),
        symbolic_dims=_symbolic_dims(given["symbolic_dims"]),
        iterations=given["iterations"],
        value_ranges=_ranges(given["ranges"]),
        tolerances=_tolerances(given),
        data=given["load_inputs"],
        load_outputs=given["load_outputs"],
        arbiter=given["arbiter"],
        batch_invariant=given["batch_invariant"],
        proof=not (given["save_inputs"] or given["save_outputs"]),  # these are of a test
        self_test=given["self_test"],
        timeout=given["timeout"],
        memory_limit=None if memory is None else memory * MIB,
    )


def _symbolic_dims(texts: Sequence[str]) -> dict[str, int]:
    dims = {}
    for text in texts:
        for part in text.split(","):
            name, found, size = part.strip().rpartition("=")
            if not found:
                raise UsageError(f"{part.strip()!r} is not of the form NAME=VALUE.")
            if not size.strip().isdecimal():
                raise UsageError(f"{size!r} is not a valid size for {name!r}.")
            dims[name] = int(size)
    return dims


def _ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    ranges = {}
    for text in texts:
        name, _, bounds = text.rpartition(":")
        try:
            low, high = map(float, bounds.split(","))
        except ValueError:
            low, high = 1.0, 0.0
        if not -math.inf < low <= high < math.inf:
            raise UsageError(f"{bounds!r} is not a range of the form LOW,HIGH.")
        ranges[name] = (low, high)
    return ranges


def _tolerances(given: dict[str, Any]) -> dict[str, Any]:
    from normswap.check.options import Tolerance

    found: dict[str, dict[str, float]] = {}
    for kind in ("rtol", "atol"):
        for text in given[f"{kind}s"]:
            name, _, number = text.rpartition(":")
            try:
                value = float(number)
            except ValueError:
                raise UsageError(f"--{kind} {text!r} is not a number.") from None
            if not value >= 0:
                raise UsageError(f"--{kind} {text!r} is not valid: a tolerance is 0 or more.")
            found.setdefault(name, {})[kind] = value
    general = found.get("", {})
    return {name: Tolerance(**{**general, **values}) for name, values in found.items()}
