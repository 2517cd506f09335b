"""What ``normswap fold`` tells of branches, leftovers, and single nodes."""

import json

import onnx
import pytest
from onnx import helper
from support.build import Builder
from support.cli import invoke
from support.graphs import live_ops

C = 6


@pytest.fixture
def model(tmp_path):
    """A BatchNormalization that folds, one that is merged, and one that stays."""
    b = Builder()
    x = b.node("Softmax", b.input(2, 4, 7, 7), axis=-1)
    y = b.bn(b.conv(x, 4, C, pads=[1] * 4), C, name="first", out="folded_here")
    y = b.node("Relu", y, name="relu")
    z = b.node("Add", b.conv(y, C, C, pads=[1] * 4), b.bn(y, C, name="second"))
    z = b.node("Add", z, b.conv(y, C, C, kernel=(1, 1)))
    z = b.node("Softmax", z, axis=-1, name="softmax")
    b.output(b.node("Sigmoid", b.bn(z, C, name="third", out="kept_here")))
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path)
    return path


@pytest.fixture
def branches(tmp_path):
    """Two Convs of one tensor, without a BatchNormalization."""
    b = Builder()
    x = b.input(2, 4, 7, 7)
    y = b.node("Add", b.conv(x, 4, C, pads=[1] * 4), b.conv(x, 4, C, kernel=(1, 1)))
    b.output(y)
    path = tmp_path / "branches.onnx"
    onnx.save(b.model(), path)
    return path


def folded(path):
    return live_ops(onnx.load(path.with_name(f"{path.stem}.folded.onnx")))


def test_merged_branches_are_reported(model):
    result = invoke("fold", model, "--no-check")
    assert result.code == 0
    assert "merged" in result.text
    assert "second" in result.text
    assert folded(model).count("Conv") == 2


def test_merge_branches(branches):
    report = json.loads(invoke("fold", branches, "--no-check", "--force", "--json").text)
    assert (report["plan"]["merged"], report["written"]) == ([], False)
    result = invoke("fold", branches, "--merge-branches", "--no-check", "--force", "--json")
    assert folded(branches) == ["Conv"]
    (merged,) = json.loads(result.text)["plan"]["merged"]
    assert len(merged["branches"]) == 1


def test_many_merged_branches_are_summed_up(tmp_path):
    b = Builder()
    x = b.input(2, C, 5, 5)
    for _ in range(14):
        y = b.node("Add", b.conv(x, C, C, kernel=(1, 1)), b.conv(x, C, C, kernel=(1, 1)))
        x = b.node("Relu", y)
    b.output(x)
    onnx.save(b.model(), tmp_path / "m.onnx")
    result = invoke("fold", tmp_path / "m.onnx", "--merge-branches", "--dry-run")
    assert "13 other Convs" in result.text
    result = invoke("fold", tmp_path / "m.onnx", "--merge-branches", "--dry-run", "-v")
    assert "other Convs" not in result.text


@pytest.mark.parametrize(
    ("form", "ops"),
    [
        ("keep", ["BatchNormalization"]),
        ("affine", ["Mul", "Add"]),
        ("normalize", ["BatchNormalization"]),
    ],
)
def test_leftover(model, form, ops):
    result = invoke("fold", model, "--leftover", form, "--no-check")
    assert result.code == 0
    assert folded(model)[-len(ops) - 1 : -1] == ops
    assert ("now" in result.text) is (form != "keep")


def test_leftover_in_json(model):
    result = invoke("fold", model, "--leftover", "affine", "--dry-run", "--json")
    (kept,) = json.loads(result.text)["plan"]["kept"]
    assert kept["form"] == "affine"


@pytest.mark.parametrize("name", ["first", "folded_here"])
def test_explain_what_is_folded(model, name):
    result = invoke("fold", model, "--explain", name)
    assert result.code == 0
    assert "first, output folded_here, 6 channels" in result.text
    assert "↑ Conv" in result.text
    assert "W[m] *= s[m]" in result.text
    assert "third" not in result.text
    assert not model.with_name("model.folded.onnx").exists()


@pytest.mark.parametrize("name", ["third", "kept_here"])
def test_explain_what_is_kept(model, name):
    text = invoke("fold", model, "--explain", name).text
    assert "kept, operator" in text
    assert "tried up:" in text
    assert "✗ operator: Softmax softmax" in text
    assert "tried down:" in text


def test_explain_a_tensor_on_the_way(model):
    text = invoke("fold", model, "--explain", "softmax").text
    assert "third" in text


def test_explain_what_merged(model):
    text = invoke("fold", model, "--explain", "second").text
    assert "→ Conv" in text


def test_explain_in_json(model):
    found = json.loads(invoke("fold", model, "--explain", "third", "--json").text)
    assert found["command"] == "explain"
    assert [entry["site"]["node"] for entry in found["kept"]] == ["third"]
    assert found["kept"][0]["attempts"][0]["reason"] == "operator"
    assert found["folded"] == []


def test_explain_a_name_that_is_none(model):
    result = invoke("fold", model, "--explain", "thrid")
    assert result.code == 2
    assert "Did you mean 'third'?" in result.err
    result = invoke("fold", model, "--explain", "@@@@")
    assert result.code == 2
    assert "--dry-run" in result.err


def test_explain_what_has_no_route(tmp_path):
    b = Builder(15)
    parameters = [b.const(v) for v in b.statistics(C)]
    x = b.input(2, C, 5, 5)
    y = b.node("BatchNormalization", x, *parameters, outputs=3, training_mode=1, name="bn")[0]
    b.output(y)
    onnx.save(b.model(), tmp_path / "m.onnx")
    text = invoke("fold", tmp_path / "m.onnx", "--explain", "bn").text
    assert "kept, training-mode" in text
    assert "training_mode=1" in text


def test_explain_says_where(tmp_path):
    b = Builder()
    x = b.input(2, C, 5, 5)
    condition = b.input(name="condition", elem_type=onnx.TensorProto.BOOL)
    outer, b.nodes = b.nodes, []
    y = b.bn(b.conv(x, C, C, kernel=(1, 1)), C, name="inside")
    info = helper.make_tensor_value_info
    then = helper.make_graph(b.nodes, "then", [], [info(y, 1, None)])
    b.nodes = outer
    node = helper.make_node("Neg", [x], ["e"])
    other = helper.make_graph([node], "else", [], [info("e", 1, None)])
    b.output(b.node("If", condition, name="choice", then_branch=then, else_branch=other))
    onnx.save(b.model(), tmp_path / "m.onnx")
    text = invoke("fold", tmp_path / "m.onnx", "--explain", "inside").text
    assert "in choice.then_branch" in text


def test_arithmetic_is_counted_as_a_normalization(tmp_path):
    b = Builder()
    y = b.node("Mul", b.conv(b.input(2, 4, 7, 7), 4, C), b.normal(C, 1, 1))
    b.output(b.node("Add", y, b.normal(C, 1, 1)))
    onnx.save(b.model(), tmp_path / "m.onnx")
    assert "1 normalizations: 1 folded" in invoke("fold", tmp_path / "m.onnx", "--dry-run").text


@pytest.fixture
def listed(tmp_path):
    """A model whose weights are all on the list of its inputs, as of tools before IR version 4."""
    b = Builder(13)
    b.output(b.node("Sigmoid", b.bn(b.conv(b.input("N", 4, 7, 7), 4, C), C)))
    made = b.model()
    for tensor in made.graph.initializer:
        made.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    path = tmp_path / "listed.onnx"
    onnx.save(made, path)
    return path


@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_weights_that_are_inputs_are_told_of_with_the_option_that_folds_them(listed, form):
    told = invoke("fold", listed, "--dry-run", "--format", form)
    assert told.code == 0
    tips = json.loads(told.text)["tips"] if form == "json" else [told.text]
    assert "--assume-constant" in "".join(tips).replace("\n", " ")
    again = invoke("fold", listed, "--dry-run", "--assume-constant", "--json")
    report = json.loads(again.text)
    assert (len(report["plan"]["folded"]), report["tips"]) == (1, [])


@pytest.fixture
def heads(tmp_path):
    """Five Convs of one weight, with a BatchNormalization behind each."""
    b = Builder()
    x, weight = b.input(1, C, 5, 5), b.normal(C, C, 3, 3)
    for _ in range(5):
        b.output(b.bn(b.node("Conv", x, weight), C))
    path = tmp_path / "heads.onnx"
    onnx.save(b.model(), path)
    return path, weight


@pytest.mark.parametrize("dry", [True, False])
def test_what_a_fold_adds_to_the_file_is_told(heads, dry):
    path, weight = heads
    options = ["--dry-run"] if dry else ["--no-check"]
    result = invoke("fold", path, *options)
    assert f"{weight} becomes 5 constants" in " ".join(result.text.split())
    assert "--max-growth" in result.text
    plan = json.loads(invoke("fold", path, *options, "--force", "--json").text)["plan"]
    (copied,) = plan["copied"]
    assert copied == {"tensor": weight, "copies": 5, "added_bytes": 4 * C * C * 9 * 4}
    if not dry:
        added = path.with_name("heads.folded.onnx").stat().st_size - path.stat().st_size
        assert added == pytest.approx(plan["added_bytes"], abs=1000)


def test_max_growth(heads):
    path, _ = heads
    result = invoke("fold", path, "--max-growth", "1.2", "--no-check", "--json")
    plan = json.loads(result.text)["plan"]
    assert [kept["reason"] for kept in plan["kept"]] == ["growth"] * 5
    assert (plan["added_bytes"], plan["copied"]) == (0, [])
    assert invoke("fold", path, "--max-growth", "0.9").code == 2


def test_inputs_taken_for_constants_go(heads):
    path, weight = heads
    model = onnx.load(path)
    values = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info(weight, values.data_type, values.dims))
    onnx.save(model, path)
    assert invoke("fold", path, "--assume-constant").code == 0
    graph = onnx.load(path.with_name("heads.folded.onnx")).graph
    assert [info.name for info in graph.input] == ["x"]
    assert weight not in {tensor.name for tensor in graph.initializer}
