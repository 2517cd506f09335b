"""``normswap check``: whether one model is the same function as another."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from normswap.cli.many import pairs_arguments
from normswap.cli.options import (
    DEPTHS,
    MIB,
    STDIO,
    CheckedCommand,
    SavedFile,
    certificate_option,
    comparison_options,
    provider_options_of_command,
    save_failing_inputs,
    source_of_command,
)
from normswap.cli.progress import progress
from normswap.cli.telling import format_options, telling
from normswap.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from normswap.check.options import CheckOptions
    from normswap.check.report import CheckReport

FilePath = click.Path(dir_okay=False, path_type=Path)
AnyPath = click.Path(path_type=Path)
MODELS = ("original", "rewritten")


@click.command(
    "check",
    cls=CheckedCommand,
    epilog="Exit codes: 0 equivalent, 1 different, 2 wrong usage, 3 unreadable model or data, "
    "4 the runtime failed, 5 inconclusive.",
)
@pairs_arguments(*MODELS)
@click.option(
    "--check",
    "depth",
    type=click.Choice(DEPTHS[:-1]),
    default=DEPTHS[0],
    show_default=True,
    help="How thoroughly to compare them. Alone it means quick.",
)
@comparison_options
@click.option(
    "--against-provider",
    metavar="PROVIDER",
    help="Run REWRITTEN (or ORIGINAL once more) on another provider.",
)
@click.option("--iterations", type=click.IntRange(min=1), help="Random inputs a distribution.")
@click.option(
    "--symbolic-dim",
    "symbolic_dims",
    multiple=True,
    metavar="SYMBOL=SIZE[,...]",
    help="Size of a symbolic dimension; may be repeated.",
)
@click.option("--val-range", "ranges", multiple=True, metavar="[NAME:]LOW,HIGH")
@click.option(
    "--load-inputs",
    type=AnyPath,
    metavar="PATH",
    help="Real inputs: an .npz with an array for each, an .npy or .pb, or a folder of these or of "
    "test_data_set_*.",
)
@click.option("--save-inputs", type=SavedFile(), metavar="FILE.npz")
@click.option(
    "--load-outputs",
    type=AnyPath,
    metavar="PATH",
    help="Hold ORIGINAL to outputs that were saved earlier; no REWRITTEN then.",
)
@click.option(
    "--save-outputs", type=SavedFile(), metavar="FILE.npz", help="Save ORIGINAL's outputs."
)
@click.option("--rtol", "rtols", multiple=True, metavar="[OUTPUT:]VALUE")
@click.option("--atol", "atols", multiple=True, metavar="[OUTPUT:]VALUE")
@click.option("--arbiter/--no-arbiter", default=True, help="Evaluate in float64 too.")
@click.option(
    "--self-test",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Plant N faults, and tell how many this check catches.",
)
@click.option(
    "--module",
    metavar="PKG.FILE:FACTORY",
    help="Hold ORIGINAL, and no REWRITTEN then, to the torch module that it was exported from; "
    "FACTORY is a function that returns it, or it and the arguments that it takes.",
)
@click.option("--batch-invariant", is_flag=True, help="Also test samples alone and in a batch.")
@click.option("--memory-limit", type=click.IntRange(min=1), metavar="MIB")
@click.option(
    "--rejudge",
    type=FilePath,
    metavar="REPORT.json",
    help="Judge a saved report with other tolerances; nothing is run.",
)
@certificate_option
@click.option(
    "--require",
    "required",
    type=click.Choice(["proved"]),
    help="End with exit code 1 where the models are equivalent, but not all of that is proved.",
)
@format_options
@click.option("-q", "--quiet", is_flag=True, help="The verdict line only.")
@click.option("-v", "--verbose", is_flag=True, help="Every output on every input.")
@click.pass_context
def check_command(context: click.Context, /, **given: Any) -> None:
    """Tell whether REWRITTEN is the same function as ORIGINAL.

    No tolerance has to be chosen: it comes from the models themselves, from what rounding does
    to them in the runtime and in float64. One of the models may be -, for standard input.

    With --module there is one file, and the torch module that it was exported from, in float64, is
    what it should be.
    """
    if all(given[name] == STDIO for name in MODELS):
        raise UsageError("Only one of the two models can come from standard input.")
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
            raise UsageError("--rejudge reads a report; it takes no model.")
        _refuse_certificate(given)
        from normswap.check.report import load_report

        return load_report(given["rejudge"]).rejudged(_tolerances(given))
    original, rewritten = given["original"], given["rewritten"]
    if original is None:
        raise UsageError(
            "There is no model to check.", tip="For example: normswap check a.onnx b.onnx"
        )
    from normswap.workflows.check import check, check_outputs

    options = _options(given)
    if given["module"] is not None:
        return _of_module(given, options, say)
    if given["load_outputs"] is not None:
        if rewritten is not None:
            raise UsageError("--load-outputs stands for the other model; give one model only.")
        _refuse_certificate(given)
        return check_outputs(original, options, progress=say)
    if rewritten is None and options.against_provider is None and not options.batch_invariant:
        raise UsageError(
            "There is nothing to compare the model with.",
            tip="Give a second model, --module, --against-provider, --batch-invariant or "
            "--load-outputs.",
        )
    certificate = given["certificate"]
    report = check(original, rewritten or original, options, certificate=certificate, progress=say)
    converted = report.proof is not None and report.proof.precision
    if certificate is not None and (report.exit_code or converted):
        why = f"the models are {report.verdict.value}"
        if not report.exit_code:
            why = f"one of the models is the other in {converted}"
        click.echo(f"no certificate: {why}", err=True)
    return report


def _of_module(
    given: dict[str, Any], options: CheckOptions, say: Callable[[str], None]
) -> CheckReport:
    if given["rewritten"] is not None:
        raise UsageError("--module stands for the other model; give one file only.")
    if given["required"] or given["certificate"]:
        raise UsageError("Of a module nothing is proved, so that --require and a certificate fail.")
    from normswap.source.factory import made_by
    from normswap.workflows.check_module import check_module

    say("making the module")
    module, args, kwargs = made_by(given["module"])
    return check_module(
        module, given["original"], args, kwargs, options, title=given["module"], progress=say
    )


def _refuse_certificate(given: dict[str, Any]) -> None:
    if given["certificate"] is not None:
        raise UsageError("A certificate is about two models.", tip="Give both, or leave it out.")


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


def _pair(text: str, separator: str) -> tuple[str, str]:
    name, found, value = text.rpartition(separator)
    if not found:
        raise UsageError(f"{text!r} is not of the form NAME{separator}VALUE.")
    return name, value


def _symbolic_dims(texts: Sequence[str]) -> dict[str, int]:
    dims = {}
    for text in texts:
        for part in text.split(","):
            name, size = _pair(part.strip(), "=")
            if not size.strip().isdecimal():
                raise UsageError(f"{size!r} is not a size for {name!r}.")
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
            raise UsageError(f"{bounds!r} is not a range LOW,HIGH.")
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
                raise UsageError(f"--{kind} {text!r} is not a tolerance.")
            found.setdefault(name, {})[kind] = value
    general = found.get("", {})
    return {name: Tolerance(**{**general, **values}) for name, values in found.items()}
