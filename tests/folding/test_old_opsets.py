"""Models of old operator sets: what their attributes said, and what newer ones say otherwise."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.build import Builder
from support.folding import assert_same_function, check_folds, check_kept, count, fold_model

from normswap.graph.build import build_network
from normswap.graph.opset6 import modern_operand
from normswap.graph.reasons import Reason
from normswap.model import load

C = 6


def old(opset=6, **options):
    return Builder(opset, **options)


def bn(b, x, channels=C, **attrs):
    """A BatchNormalization as Caffe2 wrote it."""
    attrs.setdefault("is_test", 1)
    parameters = [b.const(v) for v in b.statistics(channels)]
    return b.node("BatchNormalization", x, *parameters, epsilon=1e-3, **attrs)


def model_of(b, y, shape):
    b.output(y, shape)
    for info in b.inputs:
        constant = {tensor.name for tensor in b.initializers}
        assert info.name not in constant
    graph = helper.make_graph(
        b.nodes,
        "graph",
        [
            *b.inputs,
            *(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in b.initializers),
        ],
        b.outputs,
        b.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", b.opset)], ir_version=3)


def modern(model):
    """The same model in opset 7, with every broadcast written out as a Reshape."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    sizes = {t.name: list(t.dims) for t in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant":
                sizes[node.output[0]] = list(attribute.t.dims)
    result = onnx.ModelProto.FromString(model.SerializeToString())
    result.opset_import[0].version = 7
    del result.graph.node[:]
    for node in model.graph.node:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        copy = result.graph.node.add()
        copy.CopyFrom(node)
        old_ones = ("broadcast", "axis", "is_test", "consumed_inputs")
        kept = [a for a in node.attribute if a.name not in old_ones]
        del copy.attribute[:]
        copy.attribute.extend(kept)
        if attrs.get("broadcast") and node.op_type != "Gemm":
            rank, dims = ranks[node.input[0]], sizes[node.input[1]]
            axis = attrs.get("axis", rank - len(dims)) % rank
            name = f"{node.output[0]}_operand"
            shape = numpy_helper.from_array(
                np.array(dims + [1] * (rank - axis - len(dims))), f"{name}_shape"
            )
            if np.prod(dims) > 1:
                result.graph.initializer.append(shape)
                copy.input[1] = name
                reshape = helper.make_node("Reshape", [node.input[1], shape.name], [name])
                result.graph.node.insert(len(result.graph.node) - 1, reshape)
    result.ir_version = 4
    return result


def folds(model, *, left=0):
    onnx.checker.check_model(model)
    folded, plan = fold_model(model)
    onnx.checker.check_model(folded, full_check=True)
    assert count(folded) == left
    assert_same_function(modern(model), modern(folded))
    again, second = fold_model(folded)
    assert not second.folded
    assert again == folded
    return folded, plan


def ops(model):
    return [node.op_type for node in model.graph.node]


def attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def test_conv_and_batchnorm_of_opset_6():
    b = old()
    folded, _ = folds(model_of(b, bn(b, b.conv(b.input(2, 4, 7, 7), 4, C)), (2, C, 5, 5)))
    assert ops(folded) == ["Conv"]


def test_consumed_inputs_of_opset_1():
    b = old(5)
    y = bn(b, b.conv(b.input(2, 4, 7, 7), 4, C), consumed_inputs=[0, 0, 0, 1, 1])
    model = model_of(b, y, (2, C, 5, 5))
    folded, plan = fold_model(model)
    assert ops(folded) == ["Conv"]
    assert len(plan.folded) == 1


@pytest.mark.parametrize("opset", [5, 6])
def test_training_is_the_default(opset):
    b = old(opset)
    y = b.conv(b.input(2, 4, 7, 7), 4, C)
    parameters = [b.const(v) for v in b.statistics(C)]
    y = b.node(
        "BatchNormalization", y, *parameters, **({"consumed_inputs": [0] * 5} if opset < 6 else {})
    )
    check_kept(model_of(b, y, (2, C, 5, 5)), Reason.TRAINING_MODE)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(C,), (1,), (C, 5, 5)], ids=str)
def test_broadcast_from_an_axis(op, shape):
    b = old(seed=len(shape))
    y = b.conv(b.input(2, 4, 7, 7), 4, C)
    k = b.const(b.rng.uniform(0.5, 2, shape))
    y = b.node(op, y, k, broadcast=1, **({} if shape == (1,) else {"axis": 1}))
    folds(model_of(b, bn(b, y), (2, C, 5, 5)))


@pytest.mark.parametrize("shifted", [True, False])
def test_what_stays_is_laid_back(shifted):
    """Nothing linear comes before: the constants themselves take the affine."""
    b = old()
    y = b.node("Mul", b.input(2, C, 5, 5), b.normal(C), broadcast=1, axis=1)
    if shifted:
        y = b.node("Add", y, b.normal(C), broadcast=1, axis=1)
    folded, _ = folds(model_of(b, bn(b, y), (2, C, 5, 5)))
    assert ops(folded) == ["Mul", "Add"]
    constants = {t.name: t for t in folded.graph.initializer}
    for node in folded.graph.node:
        assert attributes(node) == {"broadcast": 1, "axis": 1}
        assert list(constants[node.input[1]].dims) == [C]


def test_broadcast_without_an_axis_is_from_the_right():
    b = old()
    y = b.node("MatMul", b.input(2, 5), b.normal(5, C))
    y = b.node("Add", y, b.normal(C), broadcast=1)
    folds(model_of(b, bn(b, y), (2, C)))


def test_negative_axis():
    b = old()
    y = b.conv(b.input(2, 4, 7, 7), 4, C)
    y = b.node("Add", y, b.normal(C), broadcast=1, axis=-3)
    b.nodes.append(b.nodes.pop())
    model = model_of(b, bn(b, y), (2, C, 5, 5))
    folded, _ = fold_model(model)
    assert count(folded) == 0


def test_width_as_long_as_the_channels():
    b = old()
    y = b.conv(b.input(2, 4, C + 2, C + 2), 4, C)
    y = b.node("Mul", y, b.normal(C), broadcast=1, axis=3)
    # Its constant and the scale vary along two axes that are not neighbours: what is between them
    # must be written out, for opset 6 repeats nothing there.
    folded, _ = folds(model_of(b, bn(b, y), (2, C, C, C)))
    assert (C, C, C) in {tuple(t.dims) for t in folded.graph.initializer}


def test_sizes_that_are_not_known_can_not_be_written_out():
    b = old()
    y = b.conv(b.input(2, 4, "H", C + 2), 4, C)
    y = b.node("Mul", y, b.normal(C), broadcast=1, axis=3)
    check_kept(model_of(b, bn(b, y), (2, C, None, C)), Reason.SHAPE_UNKNOWN)


def test_equal_shapes_need_no_broadcast():
    b = old()
    y = b.node("Add", b.conv(b.input(2, 4, 7, 7), 4, C), b.normal(2, C, 5, 5))
    folds(model_of(b, bn(b, y), (2, C, 5, 5)))


def test_matmul_gets_an_add_that_broadcasts():
    b = old()
    y = b.node("MatMul", b.input(2, 5), b.normal(5, C))
    folded, _ = folds(model_of(b, bn(b, y), (2, C)))
    assert ops(folded) == ["MatMul", "Add"]
    assert attributes(folded.graph.node[1]) == {"broadcast": 1, "axis": 1}


@pytest.mark.parametrize("shape", [(C,), (2, C), (1,)], ids=str)
def test_gemm(shape):
    b = old()
    attrs = {} if shape == (2, C) else {"broadcast": 1}
    y = b.node("Gemm", b.input(2, 5), b.normal(5, C), b.normal(*shape), beta=0.5, **attrs)
    folded, _ = folds(model_of(b, bn(b, y), (2, C)))
    assert ops(folded) == ["Gemm"]
    assert attributes(folded.graph.node[0])["broadcast"] == 1


def test_decomposed():
    b = old()
    y = b.node("Mul", b.conv(b.input(2, 4, 7, 7), 4, C), b.normal(C), broadcast=1, axis=1)
    y = b.node("Add", y, b.normal(C), broadcast=1, axis=1)
    folded, plan = folds(model_of(b, y, (2, C, 5, 5)))
    assert ops(folded) == ["Conv"]
    assert plan.folded[0].site.op == "Mul+Add"


def test_tensors_that_broadcast_by_attribute_are_a_closed_book():
    b = old()
    y = b.conv(b.input(2, 4, 7, 7), 4, C)
    y = b.node("Add", y, b.input(C, name="k"), broadcast=1, axis=1)
    check_kept(model_of(b, bn(b, y), (2, C, 5, 5)), Reason.OPERATOR)


def test_constant_nodes_broadcast_too():
    b = old()
    value = numpy_helper.from_array(b.rng.normal(size=C).astype(np.float32))
    k = b.node("Constant", value=value)
    y = b.node("Add", b.conv(b.input(2, 4, 7, 7), 4, C), k, broadcast=1, axis=1)
    folds(model_of(b, bn(b, y), (2, C, 5, 5)))


def test_unknown_rank_is_a_closed_book():
    b = old()
    x = b.node("Custom", b.input(2, 4), domain="com.example")
    y = b.node("Add", x, b.normal(C), broadcast=1, axis=1)
    model = model_of(b, y, (2, C, 5, 5))
    model.opset_import.add(domain="com.example", version=1)
    network = build_network(load(model.SerializeToString()))
    node = network.graphs[0].nodes[1]
    assert node.opaque
    assert modern_operand(node) is None


# Opsets 7 and 8


def per_activation(b, y, space=(5, 5)):
    shape = (C, *space)
    parameters = [b.normal(*shape), b.normal(*shape), b.normal(*shape)]
    parameters.append(b.const(b.rng.uniform(1, 2, shape)))
    return b.node("BatchNormalization", y, *parameters, spatial=0)


@pytest.mark.parametrize("opset", [7, 8])
def test_statistics_per_activation_go_where_activations_are_scaled(opset):
    b = Builder(opset)
    x = b.input(2, C, 5, 5)
    y = b.node("Add", b.node("Mul", x, b.normal(C, 5, 5)), b.normal(C, 5, 5))
    b.output(per_activation(b, y))
    folded, _ = check_folds(b.model())
    assert ops(folded) == ["Mul", "Add"]


@pytest.mark.parametrize("opset", [7, 8])
def test_statistics_per_activation_do_not_go_into_a_conv(opset):
    b = Builder(opset)
    b.output(per_activation(b, b.conv(b.input(2, 4, 7, 7), 4, C)))
    plan = check_kept(b.model(), Reason.PER_ACTIVATION)
    assert "Conv" in plan.kept[0].detail


@pytest.mark.parametrize("first", ["per activation", "per channel"])
def test_statistics_per_activation_beside_others(first):
    b = Builder(8)
    y = b.conv(b.input(2, 4, 7, 7), 4, C)
    y = per_activation(b, y) if first == "per activation" else b.bn(y, C)
    y = b.bn(y, C) if first == "per activation" else per_activation(b, y)
    b.output(y)
    model = b.model()
    folded, _ = fold_model(model)
    assert_same_function(model, folded)


def test_vectors_have_no_space():
    b = Builder(8)
    y = b.node("Gemm", b.input(2, 5), b.normal(5, C), b.normal(C))
    b.output(per_activation(b, y, ()))
    check_folds(b.model())


def test_spatial_is_no_attribute_from_opset_9_on():
    b = Builder(9)
    y = b.bn(b.conv(b.input(2, 4, 7, 7), 4, C), C)
    b.output(y)
    check_folds(b.model())
