"""Completion: what the shell's own script offers, and where it is put."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import invoke

ASK = """
. "$HOME/.bashrc"
COMP_WORDS=(normswap {0}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_normswap_completion normswap
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/bash")
    return tmp_path


def test_bash_completes_commands_and_options_once_it_is_installed(home):
    (home / ".bashrc").write_text("alias ll='ls -l'")
    done = invoke("completion", "--install")
    assert done.code == 0, done.err
    script = home / ".local/share/normswap/completion.bash"
    assert done.text.splitlines()[0] == f"wrote {script}"
    again = invoke("completion", "bash", "--install")
    assert again.text.splitlines()[:2] == [
        f"{script} is up to date",
        f"{home / '.bashrc'} loads it already",
    ]
    first, line = (home / ".bashrc").read_text().splitlines()
    assert first == "alias ll='ls -l'"
    assert str(script) in line
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    offered = [
        subprocess.run(
            [shutil.which("bash"), "--norc", "-c", ASK.format(words)],
            env={**os.environ, "PATH": path},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for words in ("bn-to", "check --sav")
    ]
    assert offered[0] == ["bn-to-gn", "bn-to-ln", "bn-to-in"]
    assert offered[1] == ["--save-failing-inputs", "--save-inputs", "--save-outputs"]


def test_zsh_and_fish_have_it_where_they_look(home, monkeypatch):
    assert invoke("completion", "fish", "--install").code == 0
    script = home / ".config/fish/completions/normswap.fish"
    assert "_NORMSWAP_COMPLETE=fish_complete" in script.read_text()
    monkeypatch.setenv("ZDOTDIR", str(home))
    assert invoke("completion", "zsh", "--install").code == 0
    script = home / ".local/share/normswap/completion.zsh"
    assert script.read_text().startswith("(( $+functions[compdef] ))")
    assert str(script) in (home / ".zshrc").read_text()


def test_an_unknown_shell_has_to_be_named(home, monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    done = invoke("completion", "--install")
    assert done.code == 2
    assert "The shell is tcsh" in done.err
    assert not list(home.iterdir())


def test_models_complete_as_files(home):
    from click.shell_completion import ShellComplete

    from normswap.cli import cli

    for command in ("fold", "inspect", "lint", "diff", "check", "bn-to-gn"):
        (offered,) = ShellComplete(cli, {}, "normswap", "").get_completions([command], "a")
        assert offered.type == "file", command
    offered = ShellComplete(cli, {}, "normswap", "").get_completions(["fold", "--output"], "m")
    assert [each.value for each in offered] == ["markdown"]


def test_a_terminal_is_told_how_to_install_it():
    assert "--install` installs it" in invoke("completion", "zsh", terminal=True).err
    assert invoke("completion", "zsh").err == ""
