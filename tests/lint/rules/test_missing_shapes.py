from support.build import Builder
from support.linting import found


def test_an_input_without_a_rank():
    b = Builder(17)
    b.output(b.node("Relu", b.input(1, 3), out="y"))
    assert found(b.model(), "NS403") == {}
    model = b.model()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert found(model, "NS403") == {"": "input x has no rank"}
