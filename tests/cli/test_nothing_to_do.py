"""A model to which there is nothing to do: told at once, not run, and copied if that was asked."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper
from support.build import Builder
from support.cli import invoke

import normswap

COMMANDS = {
    "fold": ("fold",),
    "bn-to-gn": ("bn-to-gn", "--groups", "2"),
    "bn-to-ln": ("bn-to-ln",),
    "bn-to-in": ("bn-to-in",),
    "unfold": ("unfold", "--calibrate", "data.npz"),
    "freeze": ("recalibrate", "--freeze"),
}


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def custom(*, batchnorm):
    """A model that no runtime has kernels for, with a layer at its input that stays, or none."""
    b = Builder()
    x = b.input("N", 4, 3, 3)
    if batchnorm:
        x = b.bn(x, 4, name="norm")
    b.nodes.append(helper.make_node("Secret", [x], ["y"], domain="example"))
    b.extra_opsets.append(helper.make_opsetid("example", 1))
    graph = helper.make_graph(
        b.nodes, "g", b.inputs, [helper.make_tensor_value_info("y", 1, None)], b.initializers
    )
    opsets = [helper.make_opsetid("", 17), *b.extra_opsets]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, doc_string="mine")
    # In this order no serializer writes it: only a copy is the same bytes.
    return bytes(reversed_fields(model))


def reversed_fields(model):
    """Return a serialized model whose fields come the wrong way round."""
    content = b""
    for field, value in reversed(model.ListFields()):
        part = onnx.ModelProto()
        if isinstance(value, (str, int)):
            setattr(part, field.name, value)
        elif hasattr(value, "extend"):
            getattr(part, field.name).extend(value)
        else:
            getattr(part, field.name).CopyFrom(value)
        content += part.SerializeToString()
    assert onnx.ModelProto.FromString(content) == model
    assert content != model.SerializeToString()
    return content


def idle(command, tmp_path):
    """Write a model to which a command has nothing to do."""
    path = tmp_path / "model.onnx"
    path.write_bytes(custom(batchnorm=command == "fold"))
    return path


CHECKS = (("--check", "full"), ("--no-check",))
WAYS = [(c, how) for c in COMMANDS for how in ((), ("-v",), *(CHECKS if c != "freeze" else ()))]


@pytest.mark.parametrize(("command", "how"), WAYS)
def test_nothing_is_written_unasked(command, how, tmp_path):
    path = idle(command, tmp_path)
    result = invoke(*COMMANDS[command], *how, path)
    assert result.code == 0, result.err
    what = "swap" if command.startswith("bn") else command
    assert f"nothing to {what}, so nothing was written" in result.text
    assert "equivalent" not in result.text
    assert "not checked" not in result.text
    assert files(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_copy_is_byte_for_byte(command, tmp_path):
    path = idle(command, tmp_path)
    target = tmp_path / "new.onnx"
    result = invoke(*COMMANDS[command], path, "-o", target)
    assert result.code == 0, result.err
    assert target.read_bytes() == path.read_bytes()
    assert "so it is a copy of the model" in result.text
    assert files(tmp_path) == ["model.onnx", "new.onnx"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_gets_its_model(command, tmp_path):
    content = idle(command, tmp_path).read_bytes()
    result = invoke(*COMMANDS[command], stdin=content)
    assert (result.code, result.out) == (0, content)


@pytest.mark.parametrize("command", COMMANDS)
def test_in_place_the_model_stays_what_it_is(command, tmp_path):
    path = idle(command, tmp_path)
    before = path.stat()
    assert invoke(*COMMANDS[command], path, "--in-place").code == 0
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("output", [False, True])
def test_other_formats_say_so_too(command, output, tmp_path):
    path = idle(command, tmp_path)
    arguments = (*COMMANDS[command], path, *(("-o", tmp_path / "new.onnx") if output else ()))
    result = invoke(*arguments, "--json", "--force")
    report = json.loads(result.text)
    assert (result.code, report["exit_code"], report["output"] is not None) == (0, 0, output)
    markdown = invoke(*arguments, "--format", "markdown", "--force")
    assert markdown.code == 0
    told = "so it is a copy of the model" if output else "so nothing was written"
    assert told in markdown.text


def test_no_runtime_is_imported(tmp_path):
    path = idle("fold", tmp_path)
    for command in COMMANDS.values():
        code = (
            "import sys; from normswap.cli import run\n"
            f"code = run({[*command, str(path), '-o', str(tmp_path / 'out.onnx'), '--force']!r})\n"
            "assert not code, code\n"
            "assert 'onnxruntime' not in sys.modules\n"
        )
        if command[0] != "fold":
            path.write_bytes(custom(batchnorm=False))
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_external_data_is_copied_with_it(tmp_path):
    b = Builder()
    b.output(b.node("Relu", b.node("Mul", b.input(2, 800), b.normal(800))))
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path, save_as_external_data=True, location="w", size_threshold=0)
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "new.onnx"
    assert invoke("fold", path, "-o", target).code == 0
    assert onnx.load(target) == onnx.load(path)


def test_functions_give_the_model_back(tmp_path):
    path = idle("fold", tmp_path)
    content = path.read_bytes()
    for result in (normswap.fold(path), normswap.fold(content), normswap.fold(path, copy=False)):
        assert result.report.output is None
        assert result.report.check is None
        assert result.model == onnx.load(path)
    copied = normswap.fold(path, tmp_path / "new.onnx")
    assert copied.report.output == str(tmp_path / "new.onnx")
    assert copied.save(tmp_path / "newer.onnx").read_bytes() == content
    skipped = normswap.fold(path, tmp_path / "newest.onnx", copy=False)
    assert skipped.report.output is None
    assert files(tmp_path) == ["model.onnx", "new.onnx", "newer.onnx"]


def test_what_is_merged_or_rewritten_is_something(tmp_path):
    path = tmp_path / "model.onnx"
    b = Builder()
    b.output(b.node("Relu", b.bn(b.input("N", 4, 3, 3), 4)))
    onnx.save(b.model(), path)
    result = invoke("fold", path, "--leftover", "affine")
    assert result.code == 0
    assert "equivalent" in result.text
    assert files(tmp_path) == ["model.folded.onnx", "model.onnx"]


def test_data_for_a_calibration_of_nothing_is_not_run(tmp_path):
    path = idle("bn-to-gn", tmp_path)
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 4, 3, 3), np.float32))
    result = invoke("bn-to-gn", path, "--calibrate", tmp_path / "data.npz")
    assert result.code == 0
    assert "nothing to swap" in result.text
