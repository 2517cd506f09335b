from onnx import helper
from support.small_models import graph_of, initializer, model_of, value, written

from normswap.model import load
from normswap.model.imported import ImportedGraph, ImportedNode


def twins():
    """Two nodes that graphsurgeon would call equal."""
    nodes = [
        helper.make_node("Add", ["x", "w"], ["m"], doc_string="first"),
        helper.make_node("Neg", ["m"], ["y"]),
        helper.make_node("Neg", ["m"], ["y"]),
    ]
    return model_of(graph_of(nodes, initializers=[initializer("w", 4)]))


def test_nodes_are_equal_to_themselves_only():
    _, first, second = load(twins().SerializeToString()).graph.nodes
    assert first != second
    assert first == first  # noqa: PLR0124
    assert len({first, second}) == 2


def test_removing_a_node_removes_that_node():
    graph = load(twins().SerializeToString()).graph
    add, first, second = graph.nodes
    second.inputs.clear()
    graph.nodes.remove(second)
    assert graph.nodes == [add, first]
    assert add.outputs[0].outputs == [first]


def test_a_copy_of_a_graph_remembers_its_source():
    model = load(twins().SerializeToString())
    copied = model.graph.copy()
    assert isinstance(copied, ImportedGraph)
    assert all(isinstance(node, ImportedNode) for node in copied.nodes)
    assert copied.nodes[0] is not model.graph.nodes[0]
    model.graph.nodes = copied.nodes
    model.graph.outputs = copied.outputs
    model.graph.inputs = copied.inputs
    assert written(model) == twins()


def test_a_copied_subgraph_keeps_what_the_original_had():
    body = graph_of(
        [helper.make_node("Neg", ["x"], ["z"], doc_string="inside")],
        inputs=(),
        outputs=("z",),
        doc_string="a body",
    )
    branch = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    proto = model_of(graph_of([branch], inputs=["x", value("c")]))
    model = load(proto.SerializeToString())
    node = model.graph.nodes[0]
    node.attrs["then_branch"] = node.attrs["then_branch"].copy()
    assert written(model) == proto


def test_messages_are_never_changed():
    proto = twins()
    model = load(proto.SerializeToString())
    model.graph.nodes[0].op = "Sub"
    model.graph.nodes[0].attrs["k"] = 1
    written(model)
    assert model.proto == proto
