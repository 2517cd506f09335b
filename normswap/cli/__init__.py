"""The command line: arguments in, report out. No algebra here.

Commands are imported when they are called, so that ``normswap --help`` does not wait for onnx.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from normswap import __version__
from normswap.errors import ExitCode, NormswapError

INTERRUPTED = 130  # what shells expect of a program that Ctrl-C ended

COMMANDS: dict[str, tuple[str, str]] = {
    "fold": (
        "normswap.cli.fold:fold_command",
        "Fold BatchNormalization into the linear operators around it.",
    ),
    "bn-to-gn": (
        "normswap.cli.bn_to_gn:bn_to_gn_command",
        "Replace BatchNormalization by GroupNormalization.",
    ),
    "bn-to-ln": (
        "normswap.cli.bn_to_gn:bn_to_ln_command",
        "Replace it by LayerNormalization over channels and space: one group.",
    ),
    "bn-to-in": (
        "normswap.cli.bn_to_gn:bn_to_in_command",
        "Replace it by InstanceNormalization: a group for every channel.",
    ),
    "recalibrate": (
        "normswap.cli.recalibrate:recalibrate_command",
        "Estimate the statistics of BatchNormalization anew on data.",
    ),
    "check": (
        "normswap.cli.check:check_command",
        "Say whether two models are the same function.",
    ),
    "providers": (
        "normswap.cli.providers:providers_command",
        "Say which execution providers run here, and why others don't.",
    ),
}
"""Where each command is, and what the list of commands says of it."""


class LazyGroup(click.Group):
    """A group that imports a command only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; an EOFError of its own is none of the person's, as click takes it for."""
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise RuntimeError(f"a file or pipe ended too early: {error}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, importing none of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine, 1 findings (not equivalent), 2 usage, 3 model or data unreadable, "
    "invalid or unsupported, 4 runtime or provider unavailable, crashed or timed out, "
    "5 inconclusive.",
)
@click.version_option(__version__, prog_name="normswap")
def cli() -> None:
    """Rewrite the normalization layers of ONNX models, and prove that the rewrite is right."""


def run(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: the one place where errors become text.

    Parameters
    ----------
    arguments : list of str, optional
        Without the program's name; those of the process if left out.
    """
    try:
        code = cli.main(args=arguments, prog_name="normswap", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing was written", err=True)
        return INTERRUPTED
    except NormswapError as error:
        _tell(str(error), error.tip)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; that is their business, and no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        if os.environ.get("NORMSWAP_TRACEBACK"):
            raise
        _tell(
            f"internal error: {type(error).__name__}: {error}",
            "This is a bug in normswap; please report it. NORMSWAP_TRACEBACK=1 shows where.",
        )
        return ExitCode.RUN
    return int(code or ExitCode.OK)


def _tell(message: str, tip: str | None) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
    if tip:
        click.echo(f"{click.style('tip:', fg='cyan')} {tip}", err=True)


def main() -> NoReturn:
    """Entry point of the ``normswap`` program."""
    sys.exit(run())
