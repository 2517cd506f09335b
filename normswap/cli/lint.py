"""``normswap lint``."""

from __future__ import annotations

from pathlib import Path

import click

from normswap.cli.many import models_argument
from normswap.cli.options import report_options
from normswap.cli.progress import progress
from normswap.cli.source_and_target import STDIO, source_of_command
from normswap.cli.telling import telling
from normswap.cli.written import will_write
from normswap.errors import ExitCode, UsageError

EXAMPLES = """\b
Examples:
  normswap lint model.onnx
  normswap lint exported/*.onnx --select NS1 --ignore NS105
  normswap lint model.onnx --fix                folds in place, with a check
  normswap lint --explain NS101
"""


def _codes(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """Take several options, and several codes in one."""
    del context, parameter
    return tuple(code.strip() for each in value for code in each.split(",") if code.strip())


@click.command("lint", epilog=EXAMPLES)
@models_argument(several=True)
@click.option(
    "--select",
    multiple=True,
    callback=_codes,
    metavar="CODE[,...]",
    help="Check only these rules: their codes, names, or the beginning of codes, such as NS2.",
)
@click.option(
    "--ignore",
    multiple=True,
    callback=_codes,
    metavar="CODE[,...]",
    help="Skip these rules, in addition to those that the configuration ignores.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Configuration file.  [default: the nearest normswap.toml, or pyproject.toml with "
    "[tool.normswap], in the folder of a model or above it]",
)
@click.option(
    "--fix",
    is_flag=True,
    help="Fold what can be folded, in place, checked and proved as `normswap fold` does.",
)
@click.option("--exit-zero", is_flag=True, help="End with exit code 0 even if there are findings.")
@click.option("--list-rules", is_flag=True, help="List the rules, and check nothing.")
@click.option(
    "--explain", metavar="CODE", help="Explain what a rule finds, why it matters and what to do."
)
@report_options
def lint_command(
    models: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    config: Path | None,
    fix: bool,
    exit_zero: bool,
    list_rules: bool,
    explain: str | None,
    quiet: bool,
    verbose: int,
) -> ExitCode:
    """Find problems in each MODEL.

    Every finding has the stable code of its rule. Exit code 1 means that there are warnings or
    errors, and not only notes.
    """
    from normswap.workflows.lint import explain_rules, lint

    if list_rules or explain is not None:
        words = () if explain is None else (explain,)
        telling().tell(explain_rules(*words), verbose=int(explain is not None))
        return ExitCode.OK
    if models.count(STDIO) > 1:
        raise UsageError("Only one model can be read from standard input.")
    if fix and (not models or STDIO in models):
        raise UsageError("--fix needs a model file; standard input can't be changed in place.")
    sources = [source_of_command(model) for model in models or (None,)]
    for source in sources if fix else ():
        will_write(source)  # type: ignore[arg-type] # a path, since no pipe is fixed
    with progress(quiet=quiet) as say:
        report = lint(
            *sources, select=select or None, ignore=ignore, config=config, fix=fix, progress=say
        )
    code = report.exit_code
    if exit_zero and code is ExitCode.FINDINGS:
        code = ExitCode.OK
    telling().tell(report, quiet=quiet, verbose=verbose, exit_code=code)
    return code
