"""Functions and graphs without an end that can be waited for."""

import itertools

import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.cli import invoke
from support.folding import check_folds

import normswap
from normswap.errors import ModelError
from normswap.model.bounds import MOST_CALLS, MOST_GRAPHS, require_bounded

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def function(name, *calls, overload=""):
    """A function that is a chain of calls, or of standard operators."""
    names = ["X", *(f"y{step}" for step in range(len(calls)))]
    nodes = [
        helper.make_node(op, [x], [y], domain="own" if op[0] == "f" else "")
        for op, (x, y) in zip(calls, itertools.pairwise(names), strict=True)
    ]
    return helper.make_function("own", name, ["X"], [names[-1]], nodes, OPSETS)


def calling(*functions, calls="f0"):
    b = Builder()
    y = b.bn(b.conv(b.input(1, 3, 4, 4), 3, 4), 4)
    b.functions += functions
    b.extra_opsets.append(OPSETS[1])
    out = b.node(calls, y, domain="own")
    b.nodes[-1].domain = "own" if calls[0] == "f" else ""
    graph = helper.make_graph(
        b.nodes,
        "g",
        b.inputs,
        [helper.make_tensor_value_info(out, 1, [1, 4, 2, 2])],
        b.initializers,
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8, functions=b.functions)


def bomb(levels, times=2):
    doubling = (function(f"f{i}", *[f"f{i + 1}"] * times) for i in range(levels))
    return calling(*doubling, function(f"f{levels}", "Neg"))


def chain(length):
    links = (function(f"f{i}", f"f{i + 1}") for i in range(length - 1))
    return calling(*links, function(f"f{length - 1}", "Neg"))


def nested(depth):
    """Graphs in graphs: an If in a branch of an If, and so on."""
    b = Builder()
    x, flag = b.input(1, 3, 4, 4), b.input(name="flag", elem_type=TensorProto.BOOL)
    leaf = [helper.make_node("Neg", [x], ["leaf"])]
    other = [helper.make_node("Abs", [x], ["other"])]
    out = [helper.make_tensor_value_info(name, 1, None) for name in ("leaf", "other")]
    inner = helper.make_graph(leaf, "leaf", [], out[:1])
    no = helper.make_graph(other, "no", [], out[1:])
    for level in range(depth):
        name = f"if{level}"
        node = helper.make_node("If", [flag], [name], then_branch=inner, else_branch=no)
        value = helper.make_tensor_value_info(name, 1, None)
        inner = helper.make_graph([node], name, [], [value])
    b.output(b.bn(b.conv(x, 3, 4), 4))
    b.nodes += inner.node
    b.outputs += inner.output
    graph = helper.make_graph(b.nodes, "g", b.inputs, b.outputs, b.initializers)
    return helper.make_model(graph, opset_imports=OPSETS[:1], ir_version=8)


CIRCLE = calling(function("f0", "f1"), function("f1", "Neg", "f0"))
REFUSED = {
    "bomb": (bomb(40), "3.3e+12 nodes"),
    "wide bomb": (bomb(3, times=100), "nodes when all calls of its functions are expanded"),
    "uncalled bomb": (
        calling(*bomb(40).functions, function("g", "Neg"), calls="Relu"),
        "nodes when all calls of its functions are expanded",
    ),
    "circle": (CIRCLE, "circle: own.f0 → own.f1 → own.f0"),
    "itself": (calling(function("f0", "f0")), "circle: own.f0 → own.f0"),
    "uncalled circle": (calling(*CIRCLE.functions, calls="Relu"), "circle"),
    "chain": (chain(MOST_CALLS + 1), "more than 100 deep"),
    "long chain": (chain(5000), "more than 100 deep"),
    "nested": (nested(MOST_GRAPHS + 1), "more than 30 deep"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_end_is_refused_in_one_line(name, tmp_path):
    model, says = REFUSED[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    for arguments in (
        ("fold", path),
        ("fold", path, "--dry-run"),
        ("bn-to-gn", "--groups", "2", path),
        ("check", path, path),
    ):
        result = invoke(*arguments)
        assert result.code == 3, result.err
        *progress, told = result.err.splitlines()  # of what takes long on a busy machine
        assert says in told
        assert all(line.endswith(" s)") for line in progress)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        normswap.fold(path)


def test_graphs_that_protobuf_does_not_read(tmp_path):
    content = nested(3).graph.node[-1].SerializeToString()
    for _ in range(60):  # each a node with one attribute, a graph of that node
        for number in (1, 6, 5):  # node of a graph, g of an attribute, attribute of a node
            content = bytes([number << 3 | 2]) + _varint(len(content)) + content
    model = onnx.ModelProto(ir_version=8, opset_import=OPSETS[:1])
    graph = b"\x0a" + _varint(len(content)) + content
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString() + b"\x3a" + _varint(len(graph)) + graph)
    result = invoke("fold", path)
    assert result.code == 3
    assert "more than 30 deep" in result.err
    assert invoke("check", path, path).code == 3


def _varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


@pytest.mark.parametrize("model", [bomb(5), chain(60)], ids=["bomb", "chain"])
def test_functions_within_the_bounds_fold(model):
    check_folds(model)


def test_graphs_at_the_bound_fold_and_are_checked():
    result = normswap.fold(nested(MOST_GRAPHS))
    assert len(result.report.plan.folded) == 1
    assert result.report.check.verdict is normswap.Verdict.EQUIVALENT


def test_the_bound_counts_what_functions_bring_along():
    """Graphs in a function lie in those around its call; nodes outside of functions don't count."""
    branch = nested(20).graph.node[-1]
    body = helper.make_function("own", "f0", ["x", "flag"], ["if19"], [branch], OPSETS)
    model = nested(20)
    model.functions.append(body)
    require_bounded(model, "model")
    node = model.graph.node[-1]
    for _ in range(20):
        node = next(a for a in node.attribute if a.name == "then_branch").g.node[0]
    assert node.op_type == "Neg"
    node.CopyFrom(helper.make_node("f0", ["x", "flag"], ["leaf"], domain="own"))
    with pytest.raises(ModelError, match="more than 30 deep"):
        require_bounded(model, "model")
