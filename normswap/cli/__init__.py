"""The command line: arguments in, report out. No algebra here.

Commands are imported when they are called, so that ``normswap --help`` does not wait for onnx.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from normswap import __version__
from normswap.cli.stopping import STOPPED, stoppable
from normswap.cli.supervised import Note, split, wait
from normswap.cli.telling import Telling
from normswap.cli.written import Written
from normswap.errors import ExitCode, NormswapError
from normswap.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

COMMANDS: dict[str, tuple[str, str]] = {
    "fold": (
        "normswap.cli.fold:fold_command",
        "Fold BatchNormalization into the linear operators around it.",
    ),
    "bn-to-gn": (
        "normswap.cli.bn_to_gn:bn_to_gn_command",
        "Replace BatchNormalization with GroupNormalization.",
    ),
    "bn-to-ln": (
        "normswap.cli.bn_to_gn:bn_to_ln_command",
        "Replace BatchNormalization with LayerNormalization over channels and space: one group.",
    ),
    "bn-to-in": (
        "normswap.cli.bn_to_gn:bn_to_in_command",
        "Replace BatchNormalization with InstanceNormalization: one group per channel.",
    ),
    "recalibrate": (
        "normswap.cli.recalibrate:recalibrate_command",
        "Re-estimate the statistics of BatchNormalization on data.",
    ),
    "unfold": (
        "normswap.cli.unfold:unfold_command",
        "Restore the BatchNormalization that an exporter folded, as an identity.",
    ),
    "check": (
        "normswap.cli.check:check_command",
        "Check whether two models compute the same function.",
    ),
    "inspect": (
        "normswap.cli.inspect:inspect_command",
        "Describe a model: its size, operators and normalizations.",
    ),
    "lint": (
        "normswap.cli.lint:lint_command",
        "Find problems in models, by rules with stable codes.",
    ),
    "diff": (
        "normswap.cli.diff:diff_command",
        "Show what changed between two models, node by node.",
    ),
    "verify": (
        "normswap.cli.verify:verify_command",
        "Verify a certificate, from the two models alone.",
    ),
    "providers": (
        "normswap.cli.providers:providers_command",
        "List the execution providers that run here, and why others don't.",
    ),
    "completion": (
        "normswap.cli.completion:completion_command",
        "Install tab completion for bash, zsh or fish.",
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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return commands and options that begin so, importing no command."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=summary)
            for name, (_, summary) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is typed, or say which may have been meant."""
        tip = None if args[0] in COMMANDS else did_you_mean(args[0], COMMANDS)
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if tip is None or tip in error.message:
                raise
            raise click.UsageError(f"{error.message} {tip}", ctx) from error

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
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 findings (such as models that are not equivalent), 2 wrong "
    "usage, 3 model or data unreadable, invalid or unsupported, 4 runtime or provider "
    "unavailable, crashed or timed out, 5 inconclusive, 128 + N stopped by signal N.",
)
@click.version_option(__version__, prog_name="normswap")
@click.pass_context
def cli(context: click.Context) -> None:
    """Rewrite the normalization layers of ONNX models, and prove that the rewrite is right."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(ExitCode.USAGE)


def run(
    arguments: list[str] | None = None,
    *,
    note: Note | None = None,
    telling: Telling | None = None,
) -> int:
    """Run a command and return its exit code: the one place where errors become text.

    Parameters
    ----------
    arguments : list of str, optional
        Without the program's name; those of the process if left out.
    note : Note, optional
        Where a process that supervises this one finds what was written.
    telling : Telling, optional
        Takes what the command tells, in place of the streams and files.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    written = Written(note)
    telling = telling or Telling(arguments, written)
    with stoppable(once=note is not None) as stop:
        try:
            code = cli.main(
                args=arguments,
                prog_name="normswap",
                standalone_mode=False,
                obj={Written: written, Telling: telling},
            )
            if sys.stdout is not None:
                sys.stdout.flush()  # what can't be written is an error, and not one to be told late
            return int(code or ExitCode.OK)
        except KeyboardInterrupt:
            pass
        except Exception as error:  # noqa: BLE001 - this is where errors become text
            # Not every error that comes of an interrupt says so: an import fails of one, too.
            if stop.number is None and not _is_interrupt(error):
                return _told(error, telling)
        stop.is_over = True
        return _interrupted(telling, written, stop.exit_code)


def _interrupted(telling: Telling, written: Written, exit_code: int) -> int:
    """Say that an end was asked for, and what was written; return the exit code."""
    message = f"Interrupted; {written}."
    with contextlib.suppress(OSError):  # the terminal may be what has gone
        _tell(telling, "Interrupted", message, None, exit_code, lambda: _echo(message))
    return exit_code


def _after(note: Note, killed: int, asked: int | None) -> int:
    """Put things in order after a command that was killed, say so, and return the exit code."""
    written = Written.of(note)
    telling = Telling(sys.argv[1:], written)
    written.clean_up()
    if asked is not None:
        return _interrupted(telling, written, STOPPED + asked)
    how = signal.Signals(killed).name
    if killed == signal.SIGKILL:
        how += ", which usually means that the system ran out of memory"
    message = f"normswap was killed by {how}; {written}."
    return _tell(telling, "RunError", message, None, ExitCode.RUN)


def _is_interrupt(error: Exception) -> bool:
    """Return whether click means Ctrl-C, and not a file that ends too early."""
    return isinstance(error, click.Abort) and not isinstance(error.__cause__, EOFError)


def _told(error: Exception, telling: Telling) -> int:
    """Tell an error, and return the exit code that it stands for."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.ClickException):
        return _tell(telling, "UsageError", *_in_words(error), ExitCode.USAGE)
    if isinstance(error, NormswapError):
        return _tell(telling, type(error).__name__, str(error), error.tip, error.exit_code)
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has gone; that is their business, and no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    if os.environ.get("NORMSWAP_TRACEBACK"):
        raise error
    if isinstance(error, MemoryError):
        message = f"Out of memory: {error}." if str(error) else "Out of memory."
        tip = (
            "Smaller inputs (--input-shape) need less memory; so does a rewrite without a "
            "check (--no-check)."
        )
        return _tell(telling, "MemoryError", message, tip, ExitCode.RUN)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}."
        tip = (
            "The operating system reported this error: check the file permissions and the "
            "free disk space."
        )
        return _tell(telling, "OSError", message, tip, ExitCode.MODEL)
    if isinstance(error, click.Abort) and error.__cause__ is not None:
        error = cast("EOFError", error.__cause__)
    return _tell(
        telling,
        "InternalError",
        f"Internal error: {type(error).__name__}: {error}",
        "This is a bug in normswap; please report it. Set NORMSWAP_TRACEBACK=1 to see the "
        "traceback.",
        ExitCode.RUN,
    )


def _in_words(error: click.ClickException) -> tuple[str, str | None]:
    """Return what is wrong with the arguments, and a tip."""
    message = error.format_message()
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return message, None
    if isinstance(error, click.MissingParameter):
        from normswap.cli.examples import for_example

        arguments = [p for p in context.command.params if isinstance(p, click.Argument)]
        *names, last = [p.human_readable_name for p in arguments]
        needed = f"{context.command_path} needs {', '.join(names)} and {last}"
        return f"{message.rstrip('.')}: {needed}.", for_example(context)
    return message, f"`{context.command_path} --help` shows how to use it."


def _tell(
    telling: Telling,
    kind: str,
    message: str,
    tip: str | None,
    exit_code: int,
    show: Callable[[], None] | None = None,
) -> int:
    """Tell an error to a person, or to a program that asked for JSON; return its exit code."""
    telling.fail(kind, message, tip, exit_code, show or (lambda: _show(message, tip)))
    return exit_code


def _show(message: str, tip: str | None) -> None:
    _echo(_styled("error:", message, fg="red", bold=True))
    if tip:
        _echo(_styled("tip:", tip, fg="cyan"))


def _styled(label: str, sentence: str, **style: Any) -> str:
    """Return a sentence behind a label, in lines that a terminal has room for."""
    text = f"{label} {sentence}"
    if sys.stderr.isatty():
        from shutil import get_terminal_size

        from normswap.report.wrapping import hanging

        try:
            here = os.get_terminal_size(sys.stderr.fileno())
        except OSError:
            here = os.terminal_size((80, 24))
        width = get_terminal_size(here).columns  # where standard output is no terminal
        text = "\n".join(hanging(line, width) for line in text.split("\n"))
    return click.style(label, **style) + text.removeprefix(label)


def _echo(line: str) -> None:
    plain = os.environ.get("NO_COLOR") or not sys.stderr.isatty()  # click knows the latter only
    click.echo(line, err=True, color=not plain)


def main() -> NoReturn:
    """Entry point of the ``normswap`` program."""
    if not os.environ.get("NORMSWAP_TRACEBACK"):
        warnings.simplefilter("ignore")  # NumPy's are for whoever writes the arithmetic
    # The nodes of a model live to the end. To look among them for garbage after every 700 that are
    # made takes a third of the time of a large one.
    gc.set_threshold(100_000, 50, 50)
    note = Note()
    is_alone = sys.platform == "win32" or _only_tells(sys.argv[1:])
    child = 0 if is_alone else split()
    if child:
        code, killed, asked = wait(child)
        if killed is not None:
            code = _after(note, killed, asked)
    else:
        code = run(note=None if is_alone else note)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # None, where it was closed
            stream.flush()
    # All is in order. To take modules and a model apart object by object, as Python does at its
    # end, takes a third of the time that importing onnx does, and of a large model a second.
    os._exit(code)


def _only_tells(arguments: list[str]) -> bool:
    """Whether a command is only asked for its help, or a shell asks what may follow.

    Nothing takes long then, and nothing is written: there is nothing to supervise.
    """
    asked = {"-h", "--help", "--version"}.intersection(arguments)
    return bool(asked) or "_NORMSWAP_COMPLETE" in os.environ
