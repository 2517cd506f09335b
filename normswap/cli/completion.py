"""``normswap completion``: what a shell needs to complete commands, options and files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from normswap.cli.written import will_write
from normswap.errors import UsageError
from normswap.files.beside import placed

SHELLS = ("bash", "zsh", "fish")

BEFORE = {
    # zsh completes nothing before this is called, which many configurations don't.
    "zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n",
}
"""What a script begins with."""

EXAMPLES = """\b
Examples:
  normswap completion --install         for the shell that you use
  normswap completion zsh --install
  normswap completion fish | source     for this session only
"""


@click.command("completion", epilog=EXAMPLES)
@click.argument("shell", required=False, type=click.Choice(SHELLS))
@click.option(
    "--install",
    is_flag=True,
    help="Install the completion where the shell looks for it. Running this again is harmless.",
)
@click.pass_context
def completion_command(context: click.Context, shell: str | None, install: bool) -> None:
    """Print, or install, the script that lets SHELL complete commands, options and files.

    The default is the shell in the environment variable SHELL.
    """
    found = shell or _own_shell()
    root = context.find_root()
    script = _script(found, root.command, root.info_name or "normswap")
    if not install:
        click.echo(script)
        if sys.stdout.isatty():
            click.echo(f"tip: `normswap completion {found} --install` installs it", err=True)
        return
    for line in _installed(found, script):
        click.echo(line)


def _own_shell() -> str:
    path = os.environ.get("SHELL", "")
    name = Path(path).name
    if name not in SHELLS:
        told = f"The shell is {name}" if name else "The shell that you use could not be found"
        raise UsageError(
            f"{told}; completion is available for {', '.join(SHELLS)}.",
            tip="Name the shell, for example: normswap completion bash --install",
        )
    return name


def _script(shell: str, command: click.Command, name: str) -> str:
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError(f"click knows no {shell}")
    complete = kind(command, {}, name, f"_{name.upper()}_COMPLETE")
    # Not the shell's own source(), which starts it to see whether it is new enough.
    return BEFORE.get(shell, "") + ShellComplete.source(complete)


def _installed(shell: str, script: str) -> list[str]:
    """Put a script where a shell looks, and return what was done, a line each."""
    home = Path.home()
    if shell == "fish":  # which reads it when it is first needed
        file = _folder("XDG_CONFIG_HOME", home / ".config") / "fish/completions/normswap.fish"
        return [_put(file, script), "new fish shells will complete normswap"]
    file = _folder("XDG_DATA_HOME", home / ".local/share") / f"normswap/completion.{shell}"
    startup = _folder("ZDOTDIR", home) / ".zshrc" if shell == "zsh" else home / ".bashrc"
    if shell == "bash" and sys.platform == "darwin" and (home / ".bash_profile").exists():
        startup = home / ".bash_profile"  # a terminal of macOS reads that, and not the other
    put = _put(file, script)
    line = f'[ -f "{file}" ] && . "{file}"  # completion of normswap\n'
    before = startup.read_text(encoding="utf-8") if startup.exists() else ""
    if line in before:
        done = f"{startup} loads it already"
    else:
        will_write(startup)
        with startup.open("a", encoding="utf-8") as stream:
            stream.write("\n" * (before[-1:] not in {"", "\n"}) + line)
        done = f"a line was added to the end of {startup}, which loads it"
    return [put, done, f"new {shell} shells will complete normswap; for the current one: . {file}"]


def _folder(variable: str, otherwise: Path) -> Path:
    """Return a folder that an environment variable may name."""
    return Path(os.environ.get(variable) or otherwise)


def _put(file: Path, script: str) -> str:
    if file.exists() and file.read_text(encoding="utf-8") == script:
        return f"{file} is up to date"
    file.parent.mkdir(parents=True, exist_ok=True)
    will_write(file)
    with placed(script, file):
        pass
    return f"wrote {file}"
