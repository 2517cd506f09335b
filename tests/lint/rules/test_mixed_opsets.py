import pytest
from onnx import helper
from support.build import Builder
from support.linting import found


@pytest.mark.parametrize(
    ("own", "told"), [(17, []), (13, ["f is of opset 13, but the model is of opset 17"])]
)
def test_a_function_of_another_opset(own, told):
    b = Builder(17)
    node = helper.make_node("Relu", ["a"], ["b"])
    opsets = [helper.make_opsetid("", 17)]
    b.functions.append(helper.make_function("own", "f", ["a"], ["b"], [node], opsets))
    b.extra_opsets.append(helper.make_opsetid("own", 1))
    b.output(b.node("f", b.input(1, 3), domain="own", out="y"), (1, 3))
    model = b.model()
    model.functions[0].opset_import[0].version = own
    assert list(found(model, "NS402").values()) == [f"function own:{line}" for line in told]


def test_a_domain_that_is_imported_twice():
    b = Builder(17)
    b.output(b.node("Relu", b.input(1, 3), out="y"))
    model = b.model()
    model.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    assert found(model, "NS402") == {"": "ai.onnx is imported as 13 and 17"}
