"""What an edit changes, and what it leaves alone."""

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.small_models import (
    OPSETS,
    array,
    edited,
    graph_of,
    initializer,
    model_of,
    value,
    written,
)

from normswap.model import ArrayTensor, load, make_constant, source_of
from normswap.order import in_topological_order


def chain(**fields):
    """x -> Mul(a) -> Add(b) -> Relu -> y, with something said about everything."""
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["m"], name="mul", doc_string="a product"),
        helper.make_node("Add", ["m", "b"], ["s"], name="add"),
        helper.make_node("Relu", ["s"], ["y"], name="relu"),
    ]
    for node in nodes:
        node.metadata_props.add(key="from", value=node.op_type)
    graph = graph_of(
        nodes,
        initializers=[initializer("a", 4), initializer("b", 4), initializer("unused", 4)],
        value_info=[value("m", "N", 4), value("s", "N", 4), value("nowhere", 1)],
    )
    for name, parameter in (("m", "a"), ("s", "b"), ("nowhere", "unused")):
        annotation = graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=parameter)
    model = model_of(graph, producer_name="tests", **fields)
    onnx.checker.check_model(model, full_check=True)
    return model


def remove_add(graph):
    """Make the Relu read the product."""
    mul, add, relu = graph.nodes
    relu.inputs = [mul.outputs[0]]
    add.inputs.clear()
    add.outputs.clear()
    graph.nodes.remove(add)


def names(items):
    return [item.name for item in items]


def test_only_what_was_edited_changes():
    model = chain()
    after = edited(model, remove_add)
    onnx.checker.check_model(after, full_check=True)
    expected = onnx.ModelProto()
    expected.CopyFrom(model)
    del expected.graph.node[1]
    expected.graph.node[1].input[0] = "m"
    del expected.graph.initializer[1]
    del expected.graph.value_info[1]
    del expected.graph.quantization_annotation[1]
    assert after == expected


def test_an_initializer_that_never_was_read_stays():
    assert names(edited(chain(), remove_add).graph.initializer) == ["a", "unused"]


def test_an_initializer_that_an_annotation_names_stays():
    model = chain()
    model.graph.quantization_annotation[0].quant_parameter_tensor_names[0].value = "b"
    assert "b" in names(edited(model, remove_add).graph.initializer)


def test_an_initializer_that_a_caller_may_override_stays():
    model = chain()
    model.graph.input.append(value("b", 4))
    after = edited(model, remove_add)
    assert "b" in names(after.graph.initializer)
    assert names(after.graph.input) == ["x", "b"]


def test_an_initializer_that_is_a_graph_output_stays():
    model = chain()
    model.graph.output.append(value("b", 4))
    assert "b" in names(edited(model, remove_add).graph.initializer)


def test_an_initializer_that_training_may_read_stays():
    model = chain()
    model.training_info.add()
    assert "b" in names(edited(model, remove_add).graph.initializer)


def test_an_initializer_that_a_subgraph_captures_stays():
    body = graph_of([helper.make_node("Neg", ["b"], ["z"])], inputs=(), outputs=("z",), shape=(4,))
    branch = helper.make_node("If", ["c"], ["k"], name="if", then_branch=body, else_branch=body)
    model = chain()
    model.graph.node.append(branch)
    model.graph.input.append(value("c", data_type=TensorProto.BOOL))
    model.graph.output.append(value("k", 4))

    def remove(graph):
        if_node = graph.nodes.pop()
        remove_add(graph)
        graph.nodes.append(if_node)

    assert "b" in names(edited(model, remove).graph.initializer)


def test_ir_version_3_drops_and_adds_inputs_with_their_initializers():
    model = chain(ir_version=10)
    model.ir_version = 3
    model.opset_import[0].version = 8
    del model.graph.quantization_annotation[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    model.graph.input.extend([value("a", 4), value("b", 4), value("unused", 4)])
    onnx.checker.check_model(model)

    def edit(graph):
        remove_add(graph)
        graph.nodes[0].inputs[1] = make_constant("folded", ArrayTensor(array("folded", 4)))

    after = edited(model, edit)
    onnx.checker.check_model(after)
    assert names(after.graph.input) == ["x", "unused", "folded"]
    assert names(after.graph.initializer) == ["unused", "folded"]


@pytest.mark.parametrize(
    "values",
    [
        array("w", 2, 3),
        np.array(2.5, np.float16),
        np.array([[1, 2, 3]], ml_dtypes.bfloat16),
        np.array([1, -2, 3], ml_dtypes.int4),
        np.array(["a", "bc"], object),
        np.zeros((0, 2), np.float32),
        array("large", 5000),
    ],
)
def test_a_new_constant_becomes_an_initializer(values):
    def edit(graph):
        graph.nodes[0].inputs[1] = make_constant("new", ArrayTensor(values))

    tensor = edited(chain(), edit).graph.initializer[-1]
    assert tensor.name == "new"
    read = numpy_helper.to_array(tensor)
    assert read.dtype == values.dtype
    assert np.array_equal(read, values)


def test_a_plain_graphsurgeon_constant_is_written_too():
    def edit(graph):
        graph.nodes[0].inputs[1] = gs.Constant("new", array("new", 4))

    tensor = edited(chain(), edit).graph.initializer[-1]
    assert np.array_equal(numpy_helper.to_array(tensor), array("new", 4))


def test_a_computed_constant_reads_the_old_one_when_it_is_written():
    class Doubled:
        loads = 0
        data_type = TensorProto.FLOAT
        shape = (4,)

        def __init__(self, source):
            self.source = source

        def load(self):
            Doubled.loads += 1
            return self.source.load() * np.float32(2)

    loaded = load(chain().SerializeToString())
    old = loaded.graph.nodes[0].inputs[1]
    source = Doubled(source_of(old))
    new = make_constant("doubled", source)
    assert source_of(new) is source
    loaded.graph.nodes[0].inputs[1] = new
    assert Doubled.loads == 0
    tensor = written(loaded).graph.initializer[-1]
    assert Doubled.loads == 1
    assert np.array_equal(numpy_helper.to_array(tensor), array("a", 4) * np.float32(2))


@pytest.mark.parametrize("announced", [((4,), TensorProto.DOUBLE), ((5,), TensorProto.FLOAT)])
def test_a_constant_that_is_not_what_it_said_is_refused(announced):
    class Wrong:
        shape, data_type = announced

        def load(self):
            return np.zeros(4, np.float32)

    def edit(graph):
        graph.nodes[0].inputs[1] = make_constant("new", Wrong())

    with pytest.raises(ValueError, match="announced"):
        edited(chain(), edit)


def test_new_values_for_an_old_name_replace_the_initializer_in_place():
    model = chain()
    model.graph.initializer[0].doc_string = "the factor"
    model.graph.initializer[0].metadata_props.add(key="from", value="training")

    def edit(graph):
        graph.nodes[0].inputs[1].values = np.ones(4, np.float32)

    after = edited(model, edit).graph.initializer
    assert names(after) == ["a", "b", "unused"]
    assert np.array_equal(numpy_helper.to_array(after[0]), np.ones(4))
    assert after[0].doc_string == "the factor"
    assert after[0].metadata_props == model.graph.initializer[0].metadata_props


def test_two_constants_of_one_name_are_refused():
    def edit(graph):
        graph.nodes[0].inputs[1] = make_constant("new", ArrayTensor(array("p", 4)))
        graph.nodes[1].inputs[1] = make_constant("new", ArrayTensor(array("q", 4)))

    with pytest.raises(ValueError, match="two constants are named 'new'"):
        edited(chain(), edit)


@pytest.mark.parametrize("reader", [0, 1])
def test_a_new_constant_never_takes_the_readers_of_an_old_one_of_its_name(reader):
    model = chain()
    model.graph.node[1].input[1] = "a"

    def edit(graph):
        graph.nodes[reader].inputs[1] = make_constant("a", ArrayTensor(array("p", 4)))

    with pytest.raises(ValueError, match="two constants are named 'a'"):
        edited(model, edit)


def test_a_new_constant_never_takes_the_readers_of_an_outer_one_of_its_name():
    def edit(graph):
        then = graph.nodes[1].attrs["then_branch"]
        then.nodes[1].inputs[1] = make_constant("a", ArrayTensor(array("p", 4)))

    with pytest.raises(ValueError, match="two constants are named 'a'"):
        edited(with_branches(), edit)


@pytest.mark.parametrize("taken", ["x", "s"])
def test_a_constant_with_the_name_of_another_tensor_is_refused(taken):
    def edit(graph):
        graph.nodes[0].inputs[1] = make_constant(taken, ArrayTensor(array("p", 4)))

    with pytest.raises(ValueError, match=f"two tensors are named '{taken}'"):
        edited(chain(), edit)


@pytest.mark.parametrize("taken", ["x", "s", "a"])
def test_a_node_that_makes_a_tensor_of_a_name_in_use_is_refused(taken):
    def edit(graph):
        node = gs.Node("Neg", inputs=[graph.inputs[0]], outputs=[gs.Variable(taken)])
        graph.nodes.append(node)

    with pytest.raises(ValueError, match=f"two tensors are named '{taken}'|cycle"):
        edited(chain(), edit)


def test_a_function_input_with_the_name_of_another_tensor_is_refused():
    def edit(graph):
        graph.functions[0].inputs.append(gs.Variable("q"))

    with pytest.raises(ValueError, match="two tensors are named 'q'"):
        edited(with_function(), edit)


def test_a_shared_constant_is_written_once():
    def edit(graph):
        new = make_constant("new", ArrayTensor(array("p", 4)))
        graph.nodes[0].inputs[1] = new
        graph.nodes[1].inputs[1] = new

    assert names(edited(chain(), edit).graph.initializer) == ["a", "b", "unused", "new"]


def test_a_constant_may_get_another_name():
    def edit(graph):
        mul = graph.nodes[0]
        mul.inputs[1] = make_constant("renamed", source_of(mul.inputs[1]))

    tensor = edited(chain(), edit).graph.initializer[-1]
    assert tensor == numpy_helper.from_array(array("a", 4), "renamed")


def test_a_constant_of_another_model_brings_its_values():
    other_graph = graph_of(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        initializers=[initializer("big", 100, 100), initializer("w", 200, 100)],
    )
    other = load(model_of(other_graph).SerializeToString()).graph.nodes[0].inputs[1]

    def edit(graph):
        graph.nodes[0].inputs[1] = other

    tensor = edited(chain(), edit).graph.initializer[-1]
    assert np.array_equal(numpy_helper.to_array(tensor), array("w", 200, 100))


def test_a_sparse_constant_of_a_function_and_of_another_model():
    sparse = onnx.SparseTensorProto(
        values=initializer("sp", 1), indices=numpy_helper.from_array(np.array([2])), dims=[4]
    )
    model = with_function()
    model.graph.sparse_initializer.append(sparse)
    model.graph.node.add(op_type="Neg", input=["sp"], output=["n"])

    def edit(graph):
        graph.functions[0].nodes[2].inputs[1] = graph.nodes[1].inputs[0]

    node = edited(model, edit).functions[0].node[0]
    assert node.op_type == "Constant"
    assert node.attribute == [helper.make_attribute("sparse_value", sparse)]
    other = load(model.SerializeToString()).graph.nodes[1].inputs[0]

    def edit_dense(graph):
        graph.nodes[0].inputs[1] = other

    tensor = edited(chain(), edit_dense).graph.initializer[-1]
    assert np.array_equal(numpy_helper.to_array(tensor), [0, 0, array("sp", 1)[0], 0])


# Nodes


def test_a_new_node_comes_after_what_it_reads_and_before_its_readers():
    def edit(graph):
        mul, add, _ = graph.nodes
        between = gs.Variable("between", np.float32, ["N", 4])
        node = gs.Node("Clip", "clip", inputs=[mul.outputs[0]], outputs=[between])
        add.inputs[0] = between
        graph.nodes.append(node)

    after = edited(chain(), edit)
    onnx.checker.check_model(after, full_check=True)
    assert names(after.graph.node) == ["mul", "clip", "add", "relu"]
    assert "between" in names(after.graph.value_info)


def test_a_cycle_is_refused():
    def edit(graph):
        graph.nodes[0].inputs[0] = graph.nodes[1].outputs[0]

    with pytest.raises(ValueError, match="cycle around"):
        edited(chain(), edit)


def test_sorting_is_stable_and_leaves_a_valid_order_alone():
    nodes = [helper.make_node("F", [i], [o], o) for i, o in ["xa", "xb", "xc", "bd"]]
    assert in_topological_order(nodes) is nodes
    moved = [nodes[3], nodes[0], nodes[1], nodes[2]]
    assert names(in_topological_order(moved)) == ["a", "b", "d", "c"]


def test_an_order_that_was_invalid_is_repaired_only_by_an_edit():
    model = chain()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert edited(model, lambda graph: None) == model

    def edit(graph):
        graph.nodes[0].attrs["extra"] = 1

    assert names(edited(model, edit).graph.node) == ["mul", "add", "relu"]


def test_operator_name_and_domain_are_patched():
    def edit(graph):
        node = graph.nodes[2]
        node.op, node.name, node.domain = "Swish", "swish", "com.example"

    after = edited(chain(), edit)
    node = after.graph.node[2]
    assert (node.op_type, node.name, node.domain) == ("Swish", "swish", "com.example")
    assert node.metadata_props[0].value == "Relu"
    assert [(item.domain, item.version) for item in after.opset_import] == [
        ("", 20),
        ("com.example", 1),
    ]


def test_the_editor_may_say_which_version_of_a_new_domain():
    def edit(graph):
        graph.nodes[2].domain = "com.example"
        graph.import_domains.append(helper.make_opsetid("com.example", 3))

    assert edited(chain(), edit).opset_import[1] == helper.make_opsetid("com.example", 3)


def test_a_domain_that_is_imported_is_not_imported_again():
    model = chain()
    model.opset_import[0].domain = "ai.onnx"

    def edit(graph):
        graph.nodes.append(gs.Node("Relu", inputs=[graph.nodes[0].outputs[0]]))

    assert len(edited(model, edit).opset_import) == 1


def test_unknown_domains_of_old_nodes_are_not_our_business():
    model = chain()
    model.graph.node[0].domain = "com.nobody.imports"
    assert edited(model, remove_add).opset_import == model.opset_import


def test_device_annotations_follow_renamed_tensors():
    model = chain(ir_version=11)
    configuration = model.graph.node[2].device_configurations.add(configuration_id="c")
    for name in ("s", "y", "elsewhere"):
        configuration.sharding_spec.add(tensor_name=name)
    specs = edited(model, remove_add).graph.node[1].device_configurations[0].sharding_spec
    assert [spec.tensor_name for spec in specs] == ["m", "y", "elsewhere"]

    def add_input(graph):
        graph.nodes[2].inputs = [graph.nodes[0].outputs[0], graph.nodes[1].inputs[1]]

    specs = edited(model, add_input).graph.node[2].device_configurations[0].sharding_spec
    assert [spec.tensor_name for spec in specs] == ["y", "elsewhere"]


def test_empty_optional_inputs_keep_their_place():
    model = chain()
    model.graph.node[2].op_type = "Clip"
    model.graph.node[2].input.extend(["", "b"])

    def edit(graph):
        graph.nodes[2].name = "clip"

    assert list(edited(model, edit).graph.node[2].input) == ["s", "", "b"]


# Inputs and outputs


def test_outputs_can_be_added_and_reordered():
    model = chain()
    model.graph.output[0].doc_string = "the result"

    def edit(graph):
        extra = graph.nodes[0].outputs[0]
        graph.outputs = [extra, graph.outputs[0]]

    after = edited(model, edit)
    onnx.checker.check_model(after, full_check=True)
    assert names(after.graph.output) == ["m", "y"]
    assert after.graph.output[1].doc_string == "the result"
    assert after.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_inputs_can_be_added_and_removed():
    def edit(graph):
        new = gs.Variable("z", TensorProto.BFLOAT16, ["N", None])
        graph.nodes[0].inputs[0] = new
        graph.inputs = [new, gs.Variable("anything")]

    inputs = edited(chain(), edit).graph.input
    assert names(inputs) == ["z", "anything"]
    assert inputs[0].type.tensor_type.elem_type == TensorProto.BFLOAT16


def test_a_constant_may_become_an_output():
    def edit(graph):
        graph.outputs.append(make_constant("new", ArrayTensor(array("new", 4))))

    after = edited(chain(), edit)
    onnx.checker.check_model(after, full_check=True)
    assert names(after.graph.output) == ["y", "new"]
    assert "new" in names(after.graph.initializer)


# Subgraphs


def with_branches():
    """An If whose branches read the outer `m`, `a`, and initializers of their own."""

    def branch(name):
        return graph_of(
            [
                helper.make_node("Mul", ["m", f"{name}.w"], [f"{name}.p"], doc_string=name),
                helper.make_node("Add", [f"{name}.p", "a"], [f"{name}.y"]),
            ],
            inputs=(),
            outputs=(f"{name}.y",),
            initializers=[initializer(f"{name}.w", 4)],
            doc_string=name,
        )

    nodes = [
        helper.make_node("Neg", ["x"], ["m"]),
        helper.make_node("If", ["c"], ["y"]),
    ]
    nodes[1].attribute.append(helper.make_attribute("then_branch", branch("then"), "a branch"))
    nodes[1].attribute.append(helper.make_attribute("else_branch", branch("else")))
    graph = graph_of(
        nodes,
        inputs=("x", value("c", data_type=TensorProto.BOOL)),
        initializers=[initializer("a", 4)],
    )
    model = model_of(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def test_a_subgraph_is_edited_in_place():
    model = with_branches()

    def edit(graph):
        then = graph.nodes[1].attrs["then_branch"]
        then.nodes[0].inputs[1] = make_constant("then.v", ArrayTensor(array("v", 4)))

    after = edited(model, edit)
    onnx.checker.check_model(after, full_check=True)
    expected = with_branches()
    then = expected.graph.node[1].attribute[0].g
    assert after.graph.node[1].attribute[0].name == "then_branch"
    then.node[0].input[1] = "then.v"
    then.initializer[0].CopyFrom(numpy_helper.from_array(array("v", 4), "then.v"))
    assert after == expected


def test_a_constant_of_the_outer_graph_is_not_copied_into_a_subgraph():
    def edit(graph):
        new = make_constant("new", ArrayTensor(array("v", 4)))
        neg, branch = graph.nodes
        neg.op = "Mul"
        neg.inputs.append(new)
        branch.attrs["then_branch"].nodes[0].inputs[1] = new

    after = edited(with_branches(), edit)
    onnx.checker.check_model(after, full_check=True)
    assert names(after.graph.initializer) == ["a", "new"]
    assert names(after.graph.node[1].attribute[0].g.initializer) == []


def test_what_subgraphs_capture_is_shared_with_the_outer_graph():
    graph = load(with_branches().SerializeToString()).graph
    neg, branch = graph.nodes
    then = branch.attrs["then_branch"]
    assert then.nodes[0].inputs[0] is neg.outputs[0]
    assert then.nodes[0] in neg.outputs[0].outputs


def test_ir_version_3_subgraphs_get_constant_nodes():
    model = with_branches()
    model.ir_version = 3
    for attribute in model.graph.node[1].attribute:
        del attribute.g.initializer[:]
        attribute.g.node[0].input[1] = "a"
    model.graph.input.append(value("a", 4))
    model.opset_import[0].version = 8

    def edit(graph):
        then = graph.nodes[1].attrs["then_branch"]
        then.nodes[0].inputs[1] = make_constant("new", ArrayTensor(array("v", 4)))

    after = edited(model, edit)
    onnx.checker.check_model(after)
    then = after.graph.node[1].attribute[0].g
    assert [node.op_type for node in then.node] == ["Constant", "Mul", "Add"]
    assert names(then.initializer) == []


def test_a_new_subgraph_is_written():
    def edit(graph):
        branch = graph.nodes[1]
        out = gs.Variable("new.y", np.float32, ["N", 4])
        node = gs.Node("Abs", inputs=[graph.nodes[0].outputs[0]], outputs=[out])
        branch.attrs["then_branch"] = gs.Graph([node], outputs=[out], name="new", opset=20)

    after = edited(with_branches(), edit)
    onnx.checker.check_model(after, full_check=True)
    attribute = after.graph.node[1].attribute[0]
    assert attribute.doc_string == "a branch"
    assert attribute.g.name == "new"
    assert names(attribute.g.output) == ["new.y"]


def test_a_list_of_graphs_is_edited_in_place():
    model = with_branches()
    branches = [item.g for item in model.graph.node[1].attribute]
    node = model.graph.node[1]
    node.op_type, node.domain = "Switch", "com.example"
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("branches", branches))
    model.opset_import.add(domain="com.example", version=1)

    def edit(graph):
        graph.nodes[1].attrs["branches"][1].nodes[0].op = "Sub"

    after = edited(model, edit)
    model.graph.node[1].attribute[0].graphs[1].node[0].op_type = "Sub"
    assert after == model


def test_a_sparse_initializer_moves_with_its_constant():
    sparse = onnx.SparseTensorProto(
        values=initializer("sp", 1), indices=numpy_helper.from_array(np.array([2])), dims=[4]
    )
    model = with_branches()
    model.graph.node[1].attribute[0].g.sparse_initializer.append(sparse)
    model.graph.node[1].attribute[0].g.node[1].input[1] = "sp"

    def edit(graph):
        then = graph.nodes[1].attrs["then_branch"]
        graph.nodes[0].inputs.append(then.nodes[1].inputs[1])

    after = edited(model, edit)
    assert after.graph.sparse_initializer == [sparse]


# Functions


def with_function():
    body = [
        helper.make_node("Constant", [], ["k"], value=initializer("", 4)),
        helper.make_node("LeakyRelu", ["p"], ["q"], doc_string="inside"),
        helper.make_node("Mul", ["q", "k"], ["r"]),
    ]
    body[1].attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function(
        "com.example",
        "Scaled",
        ["p"],
        ["r"],
        body,
        OPSETS,
        attributes=["unused"],
        attribute_protos=[helper.make_attribute("slope", 0.25)],
        doc_string="a function",
        value_info=[value("q", "N", 4)],
    )
    function.metadata_props.add(key="k", value="v")
    node = helper.make_node("Scaled", ["x"], ["y"], domain="com.example", unused=1)
    opsets = [*OPSETS, helper.make_opsetid("com.example", 1)]
    model = model_of(graph_of([node]), opsets=opsets, functions=[function])
    onnx.checker.check_model(model, full_check=True)
    return model


def test_a_new_constant_in_a_function_becomes_a_constant_node():
    def edit(graph):
        graph.functions[0].nodes[2].inputs[1] = make_constant("c", ArrayTensor(array("c", 4)))

    after = edited(with_function(), edit)
    onnx.checker.check_model(after, full_check=True)
    function = after.functions[0]
    assert [node.op_type for node in function.node] == ["Constant", "Constant", "LeakyRelu", "Mul"]
    assert function.node[0].output == ["c"]
    assert np.array_equal(numpy_helper.to_array(function.node[0].attribute[0].t), array("c", 4))
    assert function.doc_string == "a function"
    assert function.metadata_props[0].key == "k"


def test_a_copied_function_keeps_what_the_original_had():
    def edit(graph):
        special = graph.functions[0].copy()
        special.name = "Scaled_1"
        del special.attrs["slope"]
        special.nodes[1].attrs["alpha"] = 1
        graph.functions.append(special)
        graph.nodes[0].op = "Scaled_1"

    model = with_function()
    after = edited(model, edit)
    onnx.checker.check_model(after, full_check=True)
    assert after.functions[0] == model.functions[0]
    expected = onnx.FunctionProto()
    expected.CopyFrom(model.functions[0])
    expected.name = "Scaled_1"
    del expected.attribute_proto[:]
    expected.node[1].attribute[0].CopyFrom(helper.make_attribute("alpha", 1.0))
    assert after.functions[1] == expected


def test_a_removed_function_vanishes():
    def edit(graph):
        graph.functions.clear()
        node = graph.nodes[0]
        node.op, node.domain = "Relu", None
        node.attrs.clear()

    after = edited(with_function(), edit)
    onnx.checker.check_model(after, full_check=True)
    assert len(after.functions) == 0


def test_a_new_function_is_written():
    def edit(graph):
        p, q = gs.Variable("p"), gs.Variable("q")
        function = gs.Function(
            "New",
            "com.example",
            nodes=[gs.Node("Elu", attrs={"alpha": 2}, inputs=[p], outputs=[q], domain="")],
            inputs=[p],
            outputs=[q],
            attrs={"needed": None, "given": [1.5]},
        )
        function.import_domains = [helper.make_opsetid("", 20)]
        graph.functions.append(function)

    after = edited(with_function(), edit)
    function = after.functions[1]
    assert (function.name, function.domain) == ("New", "com.example")
    assert (function.input, function.output) == (["p"], ["q"])
    assert function.attribute == ["needed"]
    assert function.attribute_proto == [helper.make_attribute("given", [1.5])]
    assert function.node[0].attribute == [helper.make_attribute("alpha", 2.0)]
    assert function.opset_import == OPSETS


def test_value_info_of_a_function_goes_with_its_tensor():
    def edit(graph):
        function = graph.functions[0]
        _constant, relu, mul = function.nodes
        mul.inputs[0] = function.inputs[0]
        relu.inputs.clear()
        relu.outputs.clear()
        function.nodes.remove(relu)

    after = edited(with_function(), edit)
    assert len(after.functions[0].value_info) == 0


def test_inputs_of_a_function_can_change():
    def edit(graph):
        function = graph.functions[0]
        function.inputs.append(gs.Variable("extra"))

    assert edited(with_function(), edit).functions[0].input == ["p", "extra"]
