import onnx
from onnx import helper
from support.build import Builder
from support.linting import found


def test_in_a_branch_and_outside():
    inner = Builder(17)
    inner.count = 100
    inner.output(inner.bn("x", 3, name="inside"), (1, 3, 5, 5))
    body = helper.make_graph(inner.nodes, "body", [], inner.outputs, inner.initializers)
    b = Builder(17)
    x = b.input(1, 3, 5, 5)
    flag = b.input(name="flag", elem_type=onnx.TensorProto.BOOL)
    x = b.node("If", flag, then_branch=body, else_branch=body, name="if")
    b.output(b.bn(x, 3, name="outside", out="y"))
    assert set(found(b.model(), "NS105")) == {"if.then_branch/inside", "if.else_branch/inside"}
