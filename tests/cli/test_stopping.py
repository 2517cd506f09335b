"""What asks a command to end: it does so at once, leaves nothing behind, and says what it wrote."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.broken_saves import model, save
from support.cli import invoke

import normswap.workflows.ending
import normswap.workflows.fold
import normswap.workflows.result
from normswap.cli.stopping import stoppable
from normswap.cli.supervised import Note
from normswap.files.scratch import scratch_folder, sweep_scratch
from normswap.runtime import child
from normswap.runtime.session import Session

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals"),
    pytest.mark.usefixtures("own_processes"),
]

ENDED = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


@pytest.fixture
def path(tmp_path):
    save(model(0), tmp_path / "model.onnx", "inline")
    return tmp_path / "model.onnx"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def send(name):
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize("name", ENDED)
def test_a_signal_before_the_save(path, monkeypatch, name):
    monkeypatch.setattr(normswap.workflows.ending.Ending, "checked", lambda *_: send(name))
    result = invoke("fold", path)
    assert result.code == ENDED[name]
    assert "Interrupted; nothing was written." in result.err
    assert names(path.parent) == ["model.onnx"]


@pytest.mark.parametrize("name", ENDED)
def test_a_signal_after_the_save(path, monkeypatch, name):
    real = normswap.model.staging.output_name

    def output_name(output):
        send(name)
        return real(output)

    monkeypatch.setattr(normswap.workflows.result, "output_name", output_name)
    result = invoke("fold", path, "--no-check")
    assert result.code == ENDED[name]
    assert f"Interrupted; {path.with_name('model.folded.onnx')} was written" in result.err
    assert names(path.parent) == ["model.folded.onnx", "model.onnx"]
    assert invoke("fold", path, "--in-place", "--no-check").err.strip() == (
        f"Interrupted; {path} was written."
    )


@pytest.mark.parametrize("command", [["recalibrate"], ["bn-to-gn", "--groups", "2", "--no-check"]])
def test_all_commands_tell(path, monkeypatch, command, tmp_path):
    import numpy as np

    def output_name(output):
        del output
        raise KeyboardInterrupt

    monkeypatch.setattr(normswap.workflows.result, "output_name", output_name)
    name, *options = command
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((4, 8, 9, 9), np.float32))
    data = [tmp_path / "data.npz"] if name == "recalibrate" else []
    result = invoke(name, *options, path, *data, "-o", tmp_path / "new.onnx")
    assert result.code == 130, result.err
    assert f"Interrupted; {tmp_path / 'new.onnx'} was written" in result.err


def test_a_model_on_standard_output(path, monkeypatch):
    def output_name(output):
        del output
        raise KeyboardInterrupt

    monkeypatch.setattr(normswap.workflows.result, "output_name", output_name)
    result = invoke("fold", path, "--no-check", "-o", "-")
    assert result.code == 130
    assert "Interrupted; all of the model was written" in result.err

    def broken(source, stream, *_):
        stream.write(source.read(100))
        raise KeyboardInterrupt

    monkeypatch.setattr(normswap.model.staging.shutil, "copyfileobj", broken)
    result = invoke("fold", path, "--no-check", "-o", "-")
    assert len(result.out) == 100
    assert "Interrupted; only a part of the model was written" in result.err


def test_an_error_that_an_interrupt_turned_into_is_an_interrupt(path, monkeypatch):
    def broken(*_, **__):
        try:
            send("SIGTERM")
        except KeyboardInterrupt as error:
            raise ImportError("numpy failed to import") from error

    monkeypatch.setattr(normswap.workflows.fold, "make_plan", broken)
    result = invoke("fold", path)
    assert result.code == 143
    assert "Interrupted; nothing was written." in result.err


def test_a_file_that_ends_too_early_is_no_interrupt(path, monkeypatch):
    def broken(*_, **__):
        raise EOFError("no data left")

    monkeypatch.setattr(normswap.workflows.fold, "make_plan", broken)
    result = invoke("fold", path)
    assert result.code == 4
    assert "interrupted" not in result.err


def test_an_error_of_the_operating_system_is_no_bug(path, monkeypatch):
    def broken(*_, **__):
        raise OSError(5, "Input/output error", "model.onnx")

    monkeypatch.setattr(normswap.workflows.fold, "make_plan", broken)
    result = invoke("fold", path)
    assert result.code == 3
    assert "model.onnx: Input/output error" in result.err


def test_the_handlers_of_others_stay():
    mine = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stoppable() as stop:
            send("SIGTERM")
        assert stop.number is None
    finally:
        signal.signal(signal.SIGTERM, mine)
    with stoppable():
        assert signal.getsignal(signal.SIGTERM) is not mine
    assert signal.getsignal(signal.SIGTERM) is mine
    code = (
        "import signal; before = [signal.getsignal(s) for s in signal.valid_signals()]\n"
        "import normswap, normswap.cli, normswap.workflows.fold, normswap.check\n"
        "assert before == [signal.getsignal(s) for s in signal.valid_signals()]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Children and temporary folders


def alive(pid):
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (ProcessLookupError, FileNotFoundError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


PARENTS = {
    "check": (
        "from normswap.runtime.child import run_task\n"
        "with scratch_folder('check') as folder:\n"
        "    say(folder)\n"
        "    run_task('a:task', {}, label='m', timeout=60)\n"
    ),
    "session": (
        "import pathlib\n"
        "from normswap.runtime.session import Session\n"
        "with scratch_folder() as folder:\n"
        "    say(folder)\n"
        "    Session(pathlib.Path('m.onnx'), label='m')\n"
    ),
}
"""Programs that start a child, which does nothing for a minute and ignores polite signals."""

CHILD = (
    "import os, pathlib, signal, time\n"
    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "pathlib.Path(os.environ['SAYS'], 'child').write_text(str(os.getpid()))\n"
    "time.sleep(60)\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
@pytest.mark.parametrize("parent", PARENTS)
def test_a_child_ends_with_its_parent_and_its_folder_goes(tmp_path, parent, name):
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "temporary").mkdir()
    code = (
        "import pathlib, sys\n"
        "from normswap.runtime import lifetime\n"
        "from normswap.runtime import child\n"
        "from normswap.cli.stopping import stoppable\n"
        "from normswap.files.scratch import scratch_folder\n"
        "child.command = lambda *_: lifetime.command('child')\n"
        "say = lambda folder: pathlib.Path('folder').write_text(str(folder))\n"
        "with stoppable():\n" + "".join(f"    {line}\n" for line in PARENTS[parent].splitlines())
    )
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path / "temporary"),
        "SAYS": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child = int((tmp_path / "child").read_text())
        assert alive(child)
        process.send_signal(getattr(signal, name))
        process.wait()
        while alive(child):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    left = names(tmp_path / "temporary")
    assert len(left) == (name == "SIGKILL")
    again = "from normswap.files.scratch import sweep_scratch; sweep_scratch()"
    subprocess.run([sys.executable, "-c", again], env=environment, check=True)
    assert names(tmp_path / "temporary") == []


def test_only_folders_of_the_dead_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "normswap-0123456789abcdef").mkdir()  # its process died before it had a lock
    (tmp_path / "normswap-checkout").mkdir()
    full = tmp_path / "normswap-fedcba9876543210"
    full.mkdir()
    (full / "precious").touch()
    with scratch_folder() as folder, scratch_folder("check"):
        sweep_scratch()
        assert folder.is_dir()
        assert len(names(tmp_path)) == 4
    assert names(tmp_path) == ["normswap-checkout", full.name]


def test_an_interrupted_session_is_not_waited_for(path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with Session(path, label="the model") as opened:
        monkeypatch.setattr(child, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened.run({})
        assert opened._process.wait(timeout=30) == -signal.SIGKILL


# Whatever a command is doing


STUCK = {
    "a long call": (
        "from collections import deque\n"
        "from itertools import repeat\n"
        "deque(repeat(0, 10**12), maxlen=0)\n"  # one step of Python, in which none has a turn
    ),
    "what waits for a child": (
        "from normswap.runtime.session import Session\n"
        "with scratch_folder('check'):\n"
        "    Session(pathlib.Path('m.onnx'), label='m')\n"
    ),
    "a save": (
        "from collections import deque\n"
        "from itertools import repeat\n"
        "from normswap.model import load, stage\n"
        "with stage(load('model.onnx'), 'new.onnx'):\n"
        "    pathlib.Path('stuck').touch()\n"
        "    deque(repeat(0, 10**12), maxlen=0)\n"
    ),
    "what heeds nobody": (
        "while True:\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
    ),
}
"""What a command does when it is asked to end."""

COMMAND = """
import os, pathlib, sys, time
import normswap.cli
from normswap.cli.written import Written
from normswap.runtime import child, lifetime

child.command = lambda *_: lifetime.command("child")

def run(arguments=None, *, note=None):
    written = Written(note)
    written.expect(pathlib.Path("new.onnx"))
    if "written" in sys.argv:
        pathlib.Path("new.onnx").touch()
    from normswap.files.scratch import scratch_folder
    from normswap.cli.stopping import stoppable
    with stoppable(once=True) as stop:
        try:
            with scratch_folder():
                pathlib.Path("begun").write_text(str(os.getpid()))
{work}
        except KeyboardInterrupt:
            return stop.exit_code

normswap.cli.run = run
normswap.cli.main()
"""


def begin(tmp_path, stuck, *arguments):
    """Start a command that is stuck; return the process that waits for it."""
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "temporary").mkdir()
    work = "".join(f"                {line}\n" for line in STUCK[stuck].splitlines())
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.replace("{work}", work), *arguments],
        cwd=tmp_path,
        env={
            **os.environ,
            "TMPDIR": str(tmp_path / "temporary"),
            "SAYS": str(tmp_path),
            "PYTHONPATH": str(tmp_path),
        },
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    awaited = ["begun", *(["child"] if "child" in stuck else [])]
    deadline = time.monotonic() + 60
    while not all((tmp_path / n).exists() and (tmp_path / n).read_text() for n in awaited):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)
    return process, [int((tmp_path / name).read_text()) for name in awaited]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("stuck", [name for name in STUCK if name != "a save"])
def test_a_command_ends_whatever_it_is_doing(tmp_path, stuck, name):
    process, others = begin(tmp_path, stuck)
    try:
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == ENDED[name]
    deadline = time.monotonic() + 30
    while any(map(alive, others)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert names(tmp_path / "temporary") == []
    if "child" not in stuck:
        assert err.strip() == "Interrupted; nothing was written."


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_save_that_is_killed_leaves_nothing(tmp_path, path):
    process, _ = begin(tmp_path, "a save")
    deadline = time.monotonic() + 60
    while not (tmp_path / "stuck").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert any(name.endswith(".tmp") for name in names(tmp_path))
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert err.strip() == "Interrupted; nothing was written."
    assert names(tmp_path) == ["begun", "child.py", "model.onnx", "stuck", "temporary"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_command_that_is_killed_says_what_was_written(tmp_path):
    process, _ = begin(tmp_path, "a long call", "written", "--json")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert err.strip() == "Interrupted; new.onnx was written."
    assert '"Interrupted"' in out


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_command_that_dies_is_an_error(tmp_path, name):
    process, (worker,) = begin(tmp_path, "a long call")
    os.kill(worker, getattr(signal, name))
    _, err = process.communicate(timeout=30)
    assert process.returncode == 4
    assert f"normswap was killed by {name}" in err
    assert "nothing was written" in err
    assert names(tmp_path / "temporary") == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_command_does_not_outlive_what_waits_for_it(tmp_path):
    process, others = begin(tmp_path, "what waits for a child")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(map(alive, others)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_note_that_is_too_long_leaves_the_one_before():
    note = Note()
    assert note.read() == ""
    note.write("Ω")
    note.write("x" * (1 << 20))
    assert note.read() == "Ω"


def test_a_second_signal_does_not_disturb_what_is_put_in_order():
    with stoppable(once=True) as stop:
        with pytest.raises(KeyboardInterrupt):
            send("SIGTERM")
        send("SIGINT")
        assert stop.exit_code == 143


def test_a_signal_while_a_module_is_imported(tmp_path, monkeypatch):
    # Of a KeyboardInterrupt in their midst, extension modules make errors of their own.
    (tmp_path / "sends_itself_a_signal.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with stoppable(once=True) as stop:
        importlib.import_module("sends_itself_a_signal")
        assert stop.number == signal.SIGTERM
    with stoppable(once=True), pytest.raises(KeyboardInterrupt):
        send("SIGTERM")
