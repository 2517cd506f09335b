import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from support.small_models import array, edited, graph_of, initializer, model_of

from normswap.model import ArrayTensor, load, make_constant, source_of

SPARSE = onnx.SparseTensorProto(
    values=initializer("s", 1), indices=numpy_helper.from_array(np.array([2])), dims=[4]
)
TYPE = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["N"]))
GRAPH = graph_of([helper.make_node("Neg", ["x"], ["z"])], inputs=(), outputs=("z",))


def model_with(*attributes):
    node = helper.make_node("F", ["x"], ["y"], domain="test")
    node.attribute.extend(attributes)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("test", 1)]
    return model_of(graph_of([node]), opsets=opsets)


def imported(attribute):
    return load(model_with(attribute).SerializeToString()).graph.nodes[0].attrs[attribute.name]


def exported(attribute, new_value):
    def edit(graph):
        graph.nodes[0].attrs["k"] = new_value

    attributes = [] if attribute is None else [attribute]
    return edited(model_with(*attributes), edit).graph.node[0].attribute[0]


@pytest.mark.parametrize("expected", [2.5, 3, "text", [1.5, 2.0], [1, 2], ["a", "b"]], ids=str)
def test_numbers_and_text_are_python_values(expected):
    actual = imported(helper.make_attribute("k", expected))
    assert actual == expected
    assert type(actual) is type(expected)


@pytest.mark.parametrize("kind", ["FLOATS", "INTS", "STRINGS", "TENSORS", "GRAPHS"])
def test_empty_lists(kind):
    kind = getattr(AttributeProto, kind)
    attribute = helper.make_attribute("k", [], attr_type=kind)
    assert imported(attribute) == []
    assert exported(attribute, []) == attribute


def test_text_that_is_not_utf8_is_bytes():
    assert imported(helper.make_attribute("k", b"\xff\x00")) == b"\xff\x00"
    assert imported(helper.make_attribute("k", [b"\xff", b"a"])) == [b"\xff", "a"]


def test_tensors_are_constants():
    tensor = imported(helper.make_attribute("k", initializer("t", 3)))
    assert isinstance(tensor, gs.Constant)
    assert np.array_equal(source_of(tensor).load(), array("t", 3))
    tensors = imported(helper.make_attribute("k", [initializer("t", 3), initializer("u", 2)]))
    assert [source_of(each).shape for each in tensors] == [(3,), (2,)]


def test_sparse_tensors_are_constants():
    for attribute in (helper.make_attribute("k", SPARSE), helper.make_attribute("k", [SPARSE])):
        value = imported(attribute)
        tensor = value[0] if isinstance(value, list) else value
        assert np.array_equal(source_of(tensor).load(), [0, 0, array("s", 1)[0], 0])


def test_graphs_are_graphs():
    assert isinstance(imported(helper.make_attribute("k", GRAPH)), gs.Graph)
    assert isinstance(imported(helper.make_attribute("k", [GRAPH, GRAPH]))[1], gs.Graph)


def test_types_are_protos():
    assert imported(helper.make_attribute("k", TYPE)) == TYPE
    assert imported(helper.make_attribute("k", [TYPE])) == [TYPE]


def test_references_know_their_type():
    attribute = AttributeProto(name="k", ref_attr_name="alpha", type=AttributeProto.FLOAT)
    assert imported(attribute) == gs.Node.AttributeRef("alpha", float)


@pytest.mark.parametrize("type_", list(AttributeProto.AttributeType.values()))
def test_an_attribute_without_a_value_is_kept_as_it_is(type_):
    attribute = AttributeProto(name="k", type=type_)
    value = imported(attribute)
    assert value in ([], attribute)
    assert edited(model_with(attribute), lambda graph: None) == model_with(attribute)


@pytest.mark.parametrize(("field", "expected"), [("f", 2.5), ("i", 3), ("ints", [1, 2])])
def test_attributes_without_a_type_as_ir_versions_1_and_2_have_them(field, expected):
    assert imported(AttributeProto(name="k", **{field: expected})) == expected


@pytest.mark.parametrize(
    ("new_value", "expected"),
    [
        (1, helper.make_attribute("k", 1)),
        (True, helper.make_attribute("k", 1)),
        (np.int32(7), helper.make_attribute("k", 7)),
        (1.0, helper.make_attribute("k", 1.0)),
        (np.float32(0.5), helper.make_attribute("k", 0.5)),
        ("a", helper.make_attribute("k", "a")),
        (b"\xff", helper.make_attribute("k", b"\xff")),
        ([1, 2], helper.make_attribute("k", [1, 2])),
        ((1, 2), helper.make_attribute("k", [1, 2])),
        ([1.0, 2.0], helper.make_attribute("k", [1.0, 2.0])),
        ([np.int64(1), np.int64(2)], helper.make_attribute("k", [1, 2])),
        ([], helper.make_attribute("k", [], attr_type=AttributeProto.INTS)),
        (["a", "b"], helper.make_attribute("k", ["a", "b"])),
        (np.float32, helper.make_attribute("k", TensorProto.FLOAT)),
        (np.dtype("int8"), helper.make_attribute("k", TensorProto.INT8)),
        (TYPE, helper.make_attribute("k", TYPE)),
        ([TYPE], helper.make_attribute("k", [TYPE])),
        (
            gs.Node.AttributeRef("alpha", float),
            AttributeProto(name="k", ref_attr_name="alpha", type=AttributeProto.FLOAT),
        ),
        (
            np.ones((2, 2)),
            helper.make_attribute(
                "k",
                TensorProto(name="", data_type=11, dims=[2, 2], raw_data=np.ones(4).tobytes()),
            ),
        ),
        (helper.make_attribute("other", 1), helper.make_attribute("k", 1)),
        (
            make_constant("t", ArrayTensor(array("t", 2))),
            helper.make_attribute("k", initializer("t", 2)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_new_values(new_value, expected):
    written = exported(None, new_value)
    assert written == expected


@pytest.mark.parametrize(
    ("old", "new_value", "expected"),
    [
        (helper.make_attribute("k", 0.5), 1, helper.make_attribute("k", 1.0)),
        (
            helper.make_attribute("k", [0.5]),
            [1, 2],
            helper.make_attribute("k", [1.0, 2.0]),
        ),
        (
            helper.make_attribute("k", [0.5]),
            [],
            helper.make_attribute("k", [], attr_type=AttributeProto.FLOATS),
        ),
    ],
)
def test_a_changed_attribute_keeps_its_type(old, new_value, expected):
    assert exported(old, new_value) == expected


def test_a_changed_attribute_keeps_its_doc_string():
    old = helper.make_attribute("k", 0.5, doc_string="why")
    assert exported(old, 0.25) == helper.make_attribute("k", 0.25, doc_string="why")


@pytest.mark.parametrize("new_value", [None, object(), [None]])
def test_values_that_onnx_has_no_attribute_for_are_refused(new_value):
    with pytest.raises((TypeError, ValueError)):
        exported(None, new_value)


def test_a_value_of_the_wrong_type_is_refused():
    with pytest.raises(TypeError, match="mismatched"):
        exported(helper.make_attribute("k", 3), "text")


def test_the_operator_decides_the_type_of_a_new_attribute():
    def edit(graph):
        graph.nodes[0].attrs["alpha"] = 1

    model = model_of(graph_of([helper.make_node("Elu", ["x"], ["y"])]))
    assert edited(model, edit).graph.node[0].attribute[0] == helper.make_attribute("alpha", 1.0)


@pytest.mark.parametrize(
    ("old", "edit"),
    [
        (helper.make_attribute("k", [1, 2]), lambda attrs: attrs["k"].append(3)),
        (helper.make_attribute("k", [1, 2]), lambda attrs: attrs["k"].__setitem__(0, 5)),
        (helper.make_attribute("k", [1, 2]), lambda attrs: attrs.pop("k")),
        (helper.make_attribute("k", [1, 2]), lambda attrs: attrs.update(k=[4])),
        (
            helper.make_attribute("k", initializer("t", 2)),
            lambda attrs: setattr(attrs["k"], "_values", np.zeros(2)),
        ),
    ],
)
def test_edits_in_place_are_noticed(old, edit):
    before = model_with(old)
    after = edited(before, lambda graph: edit(graph.nodes[0].attrs))
    assert after.graph.node[0].attribute != before.graph.node[0].attribute


def test_attributes_that_were_not_touched_are_copied_as_they_are():
    odd = AttributeProto(name="odd", type=AttributeProto.INT, i=1, f=2.0, doc_string="both")
    model = model_with(odd, helper.make_attribute("k", 1))

    def edit(graph):
        graph.nodes[0].attrs["k"] = 2

    expected = model_with(odd, helper.make_attribute("k", 2))
    assert edited(model, edit) == expected


def test_attributes_of_one_name_survive_until_one_is_changed():
    model = model_with(helper.make_attribute("k", 1), helper.make_attribute("k", 2))
    assert edited(model, lambda graph: None) == model

    def edit(graph):
        graph.nodes[0].attrs["k"] = 3

    assert edited(model, edit) == model_with(helper.make_attribute("k", 3))


def test_a_graph_in_an_attribute_captures_the_tensors_around_it():
    graph = load(model_with(helper.make_attribute("k", GRAPH)).SerializeToString()).graph
    assert graph.nodes[0].attrs["k"].nodes[0].inputs[0] is graph.inputs[0]
