import onnx
from onnx import helper
from support.build import Builder
from support.linting import found


def test_what_folds_and_what_does_not():
    b = Builder(17)
    x = b.bn(b.conv(b.input(1, 3, 5, 5), 3, 4, name="c"), 4, name="folds")
    b.output(b.bn(b.node("Sigmoid", x), 4, name="stays", out="y"))
    assert found(b.model(), "NS101") == {
        "folds": "BatchNormalization can be folded exactly into Conv c",
    }


def test_training_in_either_way_of_saying_so():
    b = Builder(17)
    x = b.bn(b.input(2, 3, 5, 5), 3, name="trains", training_mode=1)
    b.output(b.bn(x, 3, name="infers", training_mode=0, out="y"), (2, 3, 5, 5))
    assert found(b.model(), "NS102") == {"trains": "training_mode=1"}


def test_a_weight_that_is_standardized_does_not_train():
    b = Builder(17)
    rows = b.bn(b.normal(1, 4, 27), 4, name="standardizes", training_mode=1)
    weight = b.node("Reshape", rows, b.const([4, 3, 3, 3]))
    b.output(b.node("Conv", b.input(1, 3, 5, 5), weight, out="y"), (1, 4, 3, 3))
    assert found(b.model(), "NS102") == {}


def test_what_draws_and_what_only_may():
    b = Builder(17)
    x = b.node("Dropout", b.input(2, 3), b.const(0.5), b.const(True), name="drops")
    x = b.node("Dropout", x, b.const(0.5), name="passes")
    b.output(b.node("Add", x, b.node("RandomNormal", shape=[2, 3], name="noise"), out="y"))
    assert found(b.model(), "NS103") == {
        "drops": "Dropout in training mode drops values at random",
        "noise": "RandomNormal draws random numbers",
    }


def model(ir_version):
    b = Builder(17)
    b.output(b.conv(b.input(1, 3, 5, 5), 3, 4, bias=False, out="y"))
    (weight,) = b.initializers
    if ir_version >= 4:
        b.input(*weight.dims, name=weight.name)
    return b.model(ir_version=ir_version)


def test_weights_that_a_caller_may_replace():
    assert found(model(8), "NS104") == {"": "1 weight is a graph input too: k_1"}


def test_in_ir_version_3_they_are_constants():
    assert found(model(3), "NS104") == {}


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
