"""Legal models on which graphsurgeon's own importer warns, fails, or loses something."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper
from support.small_models import graph_of, initializer, model_of, value

from normswap.model import load

TENSOR = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 3, None])


def load_graph(model):
    return load(model.SerializeToString()).graph


@pytest.fixture(autouse=True)
def silence(capsys):
    """Nothing may be printed."""
    yield
    assert capsys.readouterr() == ("", "")


def opaque():
    return onnx.TypeProto(opaque_type=onnx.TypeProto.Opaque(domain="d", name="n"))


@pytest.mark.parametrize(
    ("type_proto", "kind", "dtype", "shape"),
    [
        (TENSOR, "tensor_type", np.float32, ["N", 3, None]),
        (helper.make_tensor_type_proto(TensorProto.INT4, []), "tensor_type", "int4", []),
        (helper.make_tensor_type_proto(99, None), "tensor_type", 99, None),
        (helper.make_sparse_tensor_type_proto(1, [2]), "sparse_tensor_type", np.float32, [2]),
        (helper.make_sequence_type_proto(TENSOR), "sequence_type", None, None),
        (
            helper.make_sequence_type_proto(helper.make_sequence_type_proto(TENSOR)),
            "sequence_type",
            None,
            None,
        ),
        (helper.make_optional_type_proto(TENSOR), "optional_type", None, None),
        (helper.make_map_type_proto(TensorProto.INT64, TENSOR), "map_type", None, None),
        (opaque(), "opaque_type", None, None),
        (onnx.TypeProto(), "tensor_type", None, None),
    ],
)
def test_every_kind_of_type(type_proto, kind, dtype, shape):
    info = helper.make_value_info("x", type_proto)
    model = model_of(graph_of([helper.make_node("F", ["x"], ["y"], domain="t")], inputs=[info]))
    (tensor,) = load_graph(model).inputs
    assert tensor.type == kind
    assert tensor.shape == shape
    assert (tensor.dtype is None) == (dtype is None)
    if dtype is not None:
        assert tensor.dtype == dtype


def test_graph_inputs_with_an_initializer_are_constants():
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = graph_of([node], inputs=["x", value("w", 4)], initializers=[initializer("w", 4)])
    model = load(model_of(graph).SerializeToString())
    assert [tensor.name for tensor in model.graph.inputs] == ["x"]
    assert isinstance(model.graph.nodes[0].inputs[1], gs.Constant)
    assert model.overridable == {"w"}


def test_a_subgraph_may_hide_names_of_the_outer_graph():
    inner = graph_of(
        [
            helper.make_node("Neg", ["w"], ["h"]),  # the subgraph's own w
            helper.make_node("Abs", ["t"], ["s"]),  # the outer t
            helper.make_node("Add", ["h", "s"], ["m"]),  # hides the outer m
        ],
        inputs=(),
        outputs=("m",),
        initializers=[initializer("w", 4)],
    )
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["m"]),
        helper.make_node("Neg", ["m"], ["t"]),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    graph = load_graph(
        model_of(
            graph_of(
                nodes,
                inputs=["x", value("c", data_type=TensorProto.BOOL)],
                initializers=[initializer("w", 4)],
            )
        )
    )
    mul, neg, branch = graph.nodes
    then = branch.attrs["then_branch"]
    assert then.nodes[0].inputs[0] is not mul.inputs[1]
    assert then.nodes[1].inputs[0] is neg.outputs[0]
    assert then.nodes[2].outputs[0] is not mul.outputs[0]
    assert then.outputs == then.nodes[2].outputs
    assert mul.outputs[0].outputs == [neg]


def test_a_subgraph_may_give_out_a_tensor_of_the_outer_graph():
    inner = graph_of([], inputs=(), outputs=("m",))
    nodes = [
        helper.make_node("Neg", ["x"], ["m"]),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    graph = load_graph(model_of(graph_of(nodes, inputs=["x", value("c")])))
    assert graph.nodes[1].attrs["then_branch"].outputs[0] is graph.nodes[0].outputs[0]


def test_value_info_describes_the_tensors_of_nodes():
    nodes = [helper.make_node("Neg", ["x"], ["m"]), helper.make_node("Neg", ["m"], ["y"])]
    model = model_of(graph_of(nodes, value_info=[value("m", 2, data_type=TensorProto.INT8)]))
    tensor = load_graph(model).nodes[0].outputs[0]
    assert (tensor.dtype, tensor.shape) == (np.int8, [2])


def test_functions():
    body = [helper.make_node("Neg", ["p"], ["q"])]
    function = helper.make_function(
        "d", "F", ["p"], ["q"], body, [helper.make_opsetid("", 13)], ["needed"]
    )
    function.attribute_proto.append(helper.make_attribute("given", 2))
    model = model_of(
        graph_of([helper.make_node("F", ["x"], ["y"], domain="d")]), functions=[function]
    )
    graph = load_graph(model)
    (imported,) = graph.functions
    assert imported.unique_id == ("d", "F")
    assert imported.opset == 13
    assert imported.attrs == {"needed": None, "given": 2}
    assert imported.inputs == imported.nodes[0].inputs
    assert graph.opset == 20


def test_overloads_of_a_function_are_all_there():
    body = [helper.make_node("Neg", ["p"], ["q"])]
    opsets = [helper.make_opsetid("", 13)]
    functions = [
        helper.make_function("d", "F", ["p"], ["q"], body, opsets, overload=name) for name in "ab"
    ]
    model = model_of(graph_of([]), functions=functions)
    assert len(load_graph(model).functions) == 2


def test_sparse_initializers_are_constants():
    sparse = onnx.SparseTensorProto(
        values=initializer("s", 1), indices=initializer("i", 1), dims=[2, 3]
    )
    graph = graph_of([helper.make_node("Add", ["x", "s"], ["y"])])
    graph.sparse_initializer.append(sparse)
    constant = load_graph(model_of(graph)).nodes[0].inputs[1]
    assert isinstance(constant, gs.Constant)
    assert constant.shape == (2, 3)
