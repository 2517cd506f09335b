"""Break off a save at each of its file-system calls in turn, each time in a process of its own.

``python broken_saves.py FOLDER KIND STEP [WAY FORM]`` works in an empty folder and prints what came
of it, as JSON. The failure is raised, or the signal sent, before and after every call; of all those
places every STEP-th is tried.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from normswap.cli import run

if TYPE_CHECKING:
    from collections.abc import Iterable

CALLS = {
    os: "open close read write lseek replace rename link symlink unlink remove rmdir mkdir chmod"
    " fsync fdatasync truncate ftruncate copy_file_range sendfile listdir scandir stat lstat fstat",
    io: "open",
    builtins: "open",
    fcntl: "flock",
}
WAYS = {
    "in place": ["folder/model.onnx", "--in-place"],
    "beside": ["source/model.onnx", "-o", "folder/new.onnx"],
    "over": ["source/model.onnx", "-o", "folder/model.onnx", "--force"],
    "stream": ["source/model.onnx", "-o", "-"],
}
NOT_REACHED = 99
OURS = "folder"


def model(seed: int) -> onnx.ModelProto:
    """Return Conv, BatchNormalization, Conv, with weights that are large enough to be external."""
    rng = np.random.default_rng(seed)
    constants = {
        "w": rng.normal(size=(8, 8, 3, 3)),
        "scale": rng.normal(size=8),
        "bias": rng.normal(size=8),
        "mean": rng.normal(size=8),
        "var": rng.uniform(0.1, 2, size=8),
        "v": rng.normal(size=(8, 8, 3, 3)),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "var"], ["b"]),
            helper.make_node("Conv", ["b", "v"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(proto: onnx.ModelProto, path: Path, form: str) -> None:
    external = {"save_as_external_data": True, "location": f"{path.name}.data", "size_threshold": 0}
    onnx.save(proto, path, **(external if form == "external" else {}))


def fold(arguments: list[str], kind: str = "", place: int = -1) -> tuple[int, str]:
    """Fold in a child process; return how it ended and what it said."""
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, Path("said").read_text(encoding="utf-8")
    code = NOT_REACHED
    try:
        out, said = Path("out").open("wb"), Path("said").open("wb")  # noqa: SIM115 - closed by _exit
        sys.stdout = io.TextIOWrapper(out, encoding="utf-8")
        sys.stderr = io.TextIOWrapper(said, encoding="utf-8")
        strikes = _strike_at(kind, place)
        code = run(["fold", *arguments, "--no-check", "--quiet"])
        code = NOT_REACHED if place >= 0 and not strikes else code
    except BaseException:  # noqa: BLE001 - the parent is told, and no child goes on
        traceback.print_exc()
        code = 98
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code)


def _strike_at(kind: str, place: int) -> list[int]:
    """Make one of the calls fail; return a list in which it is noted when it has."""
    strikes: list[int] = []
    count = 0

    def strike() -> None:
        strikes.append(count)
        if kind == "OSError":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.kill(os.getpid(), signal.SIGINT if kind == "twice" else getattr(signal, kind))

    def struck(call):
        def wrapper(*arguments, **options):
            nonlocal count
            if "LC_MESSAGES" in str(arguments[:1]):
                return call(*arguments, **options)  # click looks for translations
            at, count = count, count + 1
            second = kind == "twice" and at == place // 2 + 1
            if (at == place // 2 and place % 2 == 0) or second:
                strike()
            try:
                return call(*arguments, **options)
            finally:
                if at == place // 2 and place % 2 == 1:
                    strike()

        return wrapper

    for module, names in CALLS.items():
        for name in names.split():
            setattr(module, name, struck(getattr(module, name)))
    return strikes


def content(path: Path) -> bytes | None:
    """Return all of a model; None if there is none that can be read."""
    try:
        return onnx.load(path).SerializeToString(deterministic=True)
    except Exception:  # noqa: BLE001 - whatever it is, the model is gone
        return None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rest(folder: Path) -> list[str]:
    """Return the files of a folder that no model in it needs."""
    needed = set()
    for path in folder.glob("*.onnx"):
        needed.add(path.name)
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            needed.update(item.value for item in tensor.external_data if item.key == "location")
    return sorted(set(names(folder)) - needed)


def break_off(kind: str, way: str, form: str, places: Iterable[int]) -> tuple[int, list[str]]:
    """Try places; return how many there were, and what went wrong."""
    wrong: list[str] = []
    arguments = WAYS[way]
    target = Path("out" if way == "stream" else arguments[-1 - (way == "over")])
    target = Path("folder/model.onnx") if way == "in place" else target
    shutil.rmtree("source", ignore_errors=True)
    Path("source").mkdir()
    save(model(0), Path("source/model.onnx"), form)

    def prepare() -> None:
        shutil.rmtree(OURS, ignore_errors=True)
        if way == "beside":
            Path(OURS).mkdir()
        elif way == "over":
            Path(OURS).mkdir()
            save(model(1), Path("folder/model.onnx"), form)
        else:
            shutil.copytree("source", OURS)

    # What is imported when it is first used, is here once, and not in each child.
    run(["fold", "source/model.onnx", "-o", "source/warm.onnx", "--no-check", "--quiet"])
    for path in Path("source").glob("warm*"):
        path.unlink()
    prepare()
    old = None if way == "stream" else content(target)
    assert fold(arguments)[0] == 0
    new = content(target)
    assert new is not None
    assert new != old
    tried = 0
    for place in places:
        prepare()
        code, said = fold(arguments, kind, place)
        if code == NOT_REACHED:
            break
        tried += 1
        found = content(target)
        left = rest(Path(OURS)) + names(Path("temporary"))
        report = f"place {place}, exit code {code}, {said.strip()!r}: "
        if found not in (old, new) and way != "stream":  # what has gone into a pipe is gone
            wrong.append(report + "the model is lost")
        if left and kind not in {"OSError", "SIGKILL", "twice"}:
            wrong.append(report + f"left {left}")
        if code == 0 and found != new:
            wrong.append(report + "nothing was written")
        if kind == "OSError" and code not in (0, 3):
            wrong.append(report + "no clear error")
        if code == 3 and found != old and way != "stream":
            wrong.append(report + "it was written")
        if "interrupted" in said and way != "stream":
            truth = f"{target} was written" if found == new else "nothing was written"
            if f"Interrupted; {truth}" not in said:
                wrong.append(report + f"{truth}")
        if not left:
            continue
        # The next save into the folder removes what this one could not.
        fold(["source/model.onnx", "-o", "folder/another.onnx"])
        left = rest(Path(OURS)) + names(Path("temporary"))
        if left:
            wrong.append(report + f"after the next save there is {left}")
        if way != "stream" and content(target) != found:
            wrong.append(report + "the next save has changed the model")
    return tried, [f"{way}, {form}, {line}" for line in wrong]


def main(folder: str, kind: str, step: str, *only: str) -> dict[str, object]:
    """Try every way to save."""
    os.chdir(folder)
    Path("temporary").mkdir()
    tempfile.tempdir = str(Path("temporary").resolve())
    tried: dict[str, int] = {}
    wrong: list[str] = []
    ways = [only] if only else itertools.product(WAYS, ("external", "inline"))
    for start, (way, form) in enumerate(ways):
        places = itertools.count(start % int(step), int(step))
        tried[f"{way}, {form}"], found = break_off(kind, way, form, places)
        wrong += found
    return {"tried": tried, "wrong": wrong}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
