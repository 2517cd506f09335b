import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.check_models import conv_bn, model, one_node, save, tensor, value

from normswap.check.cost import multiply_adds, smaller
from normswap.errors import ModelError, UsageError
from normswap.inputs.dims import SPATIAL_SIZES, RequestedSizes, batch_is_free, solve, spatial_sizes
from normswap.inputs.roles import Known, allowed
from normswap.inputs.signature import dtype_of_port, read_signature, structural_differences

NO_WISHES = RequestedSizes({}, {})


def read(tmp_path, made, name="m.onnx"):
    return read_signature(save(tmp_path / name, made))


def test_what_a_model_takes_and_gives(tmp_path):
    weights = [tensor("w", np.ones((7, 4), np.float32))]
    nodes = [
        helper.make_node("Gather", ["w", "ids"], ["y"]),
        helper.make_node("Shape", ["ids"], ["s"]),
    ]
    made = model(
        nodes,
        [value("ids", ["N", None], TensorProto.INT64), value("w", [7, 4])],
        [value("y", None), value("s", [2], TensorProto.INT64)],
        weights,
    )
    signature = read(tmp_path, made)
    assert [str(p) for p in signature.inputs] == ["int64[N,?]"]
    known = Known.of(signature, {"ids": (4, 3)})
    found = allowed(signature.semantics["ids"], (4, 3), known, np.random.default_rng(0))
    assert (found.low, found.high) == (0, 6)
    assert signature.varying == {"y"}
    assert signature.opset == 17
    assert dtype_of_port(signature.outputs, "y[3]") == np.float32
    assert dtype_of_port(signature.outputs, "z") is None


@pytest.mark.parametrize("content", [b"", b"hello, I am no model", None])
def test_what_is_no_model_is_one_clear_error(tmp_path, content):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        read_signature(path)


def relu(**options):
    return one_node("Relu", **options)


def test_a_renamed_output_is_a_difference(tmp_path):
    a, b = read(tmp_path, relu()), read(tmp_path, relu(out="z"))
    assert structural_differences(a, b) == ["output 'y' is missing, and 'z' takes its place"]
    assert structural_differences(a, a) == []


def variant(change):
    made = relu()
    change(made.graph)
    return made


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda g: g.output.append(value("x", None)), "new"),
        (lambda g: g.output.pop(), "is missing"),
        (lambda g: setattr(g.output[0].type.tensor_type, "elem_type", 10), "float16"),
        (lambda g: setattr(g.input[0].type.tensor_type.shape.dim[0], "dim_value", 3), "fixed at 3"),
        (lambda g: g.input[0].type.tensor_type.shape.dim.pop(), "rank"),
        (lambda g: g.input.append(value("more", [1])), "new"),
    ],
)
def test_changes_of_the_interface(tmp_path, change, word):
    a, b = read(tmp_path, relu()), read(tmp_path, variant(change), "b.onnx")
    found = structural_differences(a, b)
    assert len(found) == 1
    assert word in found[0]


def test_an_output_shape_that_is_known_better_is_no_difference(tmp_path):
    def narrow(graph):
        graph.output[0].CopyFrom(value("y", ["N", 4]))

    a, b = read(tmp_path, relu()), read(tmp_path, variant(narrow), "b.onnx")
    assert structural_differences(a, b) == structural_differences(b, a) == []


def test_another_order_of_outputs_is_a_difference(tmp_path):
    nodes = [helper.make_node(op, ["x"], [op]) for op in ("Relu", "Tanh")]
    outs = [value("Relu", None), value("Tanh", None)]
    a = read(tmp_path, model(nodes, [value("x", [2])], outs))
    b = read(tmp_path, model(nodes, [value("x", [2])], outs[::-1]), "b.onnx")
    assert "another order" in structural_differences(a, b)[0]


def test_sizes_come_from_the_weights_and_the_symbols(tmp_path):
    signature = read(tmp_path, conv_bn())
    assert solve(signature, NO_WISHES, batch=2) == {"x": (2, 3, 64, 64)}
    assert solve(signature, RequestedSizes({}, {"H": 5}), batch=1, spatial=8) == {"x": (1, 3, 5, 8)}
    assert solve(signature, RequestedSizes({"x": (4, 3, 9, 7)}, {}), batch=1) == {"x": (4, 3, 9, 7)}
    assert batch_is_free(signature, NO_WISHES)
    assert not batch_is_free(signature, RequestedSizes({}, {"N": 2}))
    assert not batch_is_free(signature, RequestedSizes({"x": (4, 3, 9, 7)}, {}))
    assert not batch_is_free(read(tmp_path, conv_bn(batch=1)), NO_WISHES)
    assert list(spatial_sizes(signature, NO_WISHES)) == list(SPATIAL_SIZES)
    assert len(list(spatial_sizes(read(tmp_path, relu()), NO_WISHES))) == 1


def test_a_symbol_has_one_size_and_expressions_follow(tmp_path):
    node = helper.make_node("Concat", ["a", "b"], ["y"], axis=1)
    inputs = [value("a", ["N", "past"]), value("b", ["N", "past + 3*new"])]
    signature = read(tmp_path, model([node], inputs, [value("y", None)]))
    shapes = solve(signature, RequestedSizes({}, {"past": 5}), batch=2)
    assert shapes == {"a": (2, 5), "b": (2, 5 + 3 * 16)}


@pytest.mark.parametrize(
    ("requested", "word"),
    [
        (RequestedSizes({"z": (1,)}, {}), "given for input 'z', but the model has no such input"),
        (RequestedSizes({}, {"Q": 1}), "no symbolic dimension 'Q'"),
        (RequestedSizes({"x": (1, 3)}, {}), "rank"),
        (RequestedSizes({"x": (1, 4, 8, 8)}, {}), "can't be 4"),
        (RequestedSizes({"x": (1, 3, 8, 8)}, {"H": 9}), "two sizes"),
    ],
)
def test_wishes_that_do_not_fit(tmp_path, requested, word):
    with pytest.raises(UsageError, match=word):
        solve(read(tmp_path, conv_bn()), requested, batch=1)


def test_the_work_of_a_model_and_smaller_inputs_for_it(tmp_path):
    signature = read(tmp_path, conv_bn(side=128))
    shapes = {"x": (1, 3, 128, 128)}
    work = multiply_adds(signature.structure, shapes)
    assert work == 128 * 128 * (5 * 27 + 4 * 5)
    assert list(smaller(signature, shapes, work)) == []
    assert list(smaller(signature, shapes, work // 4)) == [{"x": (1, 3, 64, 64)}]
    assert next(smaller(signature, shapes, 1)) == {"x": (1, 3, 16, 16)}


def test_a_model_without_weights_of_its_own_has_no_known_work(tmp_path):
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    inputs = [value("a", None), value("b", None)]
    signature = read(tmp_path, model([node], inputs, [value("y", None)]))
    assert multiply_adds(signature.structure, {}) is None


def test_a_structure_has_no_weights(tmp_path):
    signature = read(tmp_path, conv_bn(seed=1))
    big = read(tmp_path, onnx.load(tmp_path / "m.onnx"))
    assert len(big.structure) < 3000
    assert signature.random == ()
