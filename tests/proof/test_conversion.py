"""A model converted to a narrower type, and what only looks like one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import fold_model
from support.proving import proof_of

from normswap.dtypes import NUMPY_DTYPES
from normswap.proof.conversion import roundings
from normswap.proof.result import Standing

FLOAT16, BFLOAT16 = TensorProto.FLOAT16, TensorProto.BFLOAT16


def network(*, kept=True):
    """Return Conv, BatchNormalization, Clip, Resize (which converters leave alone), MatMul."""
    b = Builder(17)
    x = b.bn(b.conv(b.input("N", 3, 8, 8), 3, 5, kernel=(3, 3), pads=[1] * 4), 5)
    x = b.node("Clip", x, b.const(0.0, "low"), b.const(6.0, "high"))
    if kept:
        x = b.node("Max", x, b.const(0.125, "least"))
    x = b.node("Transpose", b.node("GlobalAveragePool", x), perm=[0, 2, 3, 1])
    x = b.node("MatMul", x, b.node("Transpose", b.const(b.rng.normal(size=(4, 5)), "w")))
    b.output(b.node("Softmax", x, out="y"))
    return b.model()


def converted(model, to=FLOAT16, *, kept=("Max",), leave=()):
    """Return the model as converters write it: casts at the ends, and behind the other nodes."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    graph, casts = made.graph, []
    read_wide = {n for node in graph.node if node.op_type in kept for n in node.input}
    for tensor in graph.initializer:
        if tensor.name not in {*read_wide, *leave}:
            array = numpy_helper.to_array(tensor).astype(NUMPY_DTYPES[to])
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    weights = {tensor.name for tensor in graph.initializer}
    wide = {"x"}
    for node in graph.node:
        if node.op_type in kept:
            for slot, name in enumerate(node.input):
                if name not in weights:
                    node.input[slot] = f"{name}_wide"
                    casts.append(helper.make_node("Cast", [name], [f"{name}_wide"], to=1))
            wide.add(node.output[0])
    for node in graph.node:
        for slot, name in enumerate(node.input):
            if name in wide:
                node.input[slot] = f"{name}_narrow"
                casts.append(helper.make_node("Cast", [name], [f"{name}_narrow"], to=to))
        if node.output[0] == "y":
            node.output[0] = "narrow_y"
    casts.append(helper.make_node("Cast", ["narrow_y"], ["y"], to=1))
    graph.node.extend(casts)
    return made


def spoiled(model, name, place, factor):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array[place] = (array[place].astype(np.float64) * factor).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize(("to", "named"), [(FLOAT16, "float16"), (BFLOAT16, "bfloat16")])
@pytest.mark.parametrize("kept", [True, False])
def test_a_conversion_is_proved_to_within_its_type(tmp_path, to, named, kept):
    model = network(kept=kept)
    proof = proof_of(model, converted(model, to), tmp_path)
    assert proof.is_whole, proof
    assert proof.precision == named
    assert proof_of(model, model, tmp_path).precision == ""


def test_what_was_folded_and_then_converted_is_proved(tmp_path):
    model = network()
    folded, _ = fold_model(model)
    proof = proof_of(model, converted(folded), tmp_path)
    assert proof.is_whole, proof
    assert proof.regions
    assert proof.floors <= 6


@pytest.mark.parametrize(
    ("name", "place", "factor"),
    [("k_1", (1, 2, 0, 0), 1 + 2**-9), ("high", (), 10.0), ("w", (3, 1), -1.0)],
)
def test_a_fault_in_a_conversion_is_found(tmp_path, name, place, factor):
    model = network()
    made = spoiled(converted(model), name, place, factor)
    proof = proof_of(model, made, tmp_path)
    assert proof.precision == "float16"
    assert not proof.is_whole


def half_of_it(model):
    """Convert all but the MatMul."""
    made = converted(model, leave={"w"})
    product = next(node for node in made.graph.node if node.op_type == "MatMul")
    made.graph.node.append(helper.make_node("Cast", [product.input[0]], ["back"], to=1))
    product.input[0] = "back"
    last = next(node for node in made.graph.node if node.output[0] == "y")
    last.op_type = "Identity"
    del last.attribute[:]
    return made


def casts(*kinds):
    """Insert casts in front of the Softmax."""

    def edit(model):
        made = onnx.ModelProto.FromString(model.SerializeToString())
        node = next(node for node in made.graph.node if node.op_type == "Softmax")
        for number, kind in enumerate(kinds):
            made.graph.node.append(
                helper.make_node("Cast", [node.input[0]], [f"cast{number}"], to=kind)
            )
            node.input[0] = f"cast{number}"
        return made

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        half_of_it,
        casts(FLOAT16, TensorProto.FLOAT),
        casts(BFLOAT16, TensorProto.FLOAT),
        lambda model: casts(BFLOAT16, FLOAT16)(converted(model)),
        lambda model: casts(TensorProto.FLOAT8E4M3FN, FLOAT16)(converted(model)),
    ],
)
def test_a_cast_that_was_inserted_is_no_conversion(tmp_path, edit):
    model = network()
    proof = proof_of(model, edit(model), tmp_path)
    assert proof.precision == ""
    assert [output.standing for output in proof.outputs] == [Standing.OPEN]


def test_kept_operators_alone_are_no_conversion(tmp_path):
    b = Builder(17)
    x = b.node("Max", b.input(2, 3), b.const(0.5))
    b.output(b.node("Min", x, b.const(2.0), out="y"))
    model = b.model()
    made = onnx.ModelProto.FromString(model.SerializeToString())
    made.graph.node[1].input[0] = "back"
    made.graph.node.append(helper.make_node("Cast", [x], ["narrow"], to=FLOAT16))
    made.graph.node.append(helper.make_node("Cast", ["narrow"], ["back"], to=1))
    proof = proof_of(model, made, tmp_path)
    assert proof.precision == ""
    assert not proof.is_whole


def test_what_converters_make_of_numbers_beyond_the_type():
    values = np.array([1e-9, -1e-9, 0.0, 1e6, -np.inf, 1.0005], np.float32)
    made = [array.astype(np.float64).tolist() for array in roundings(values, FLOAT16)]
    least = float(np.float16(6e-8))
    assert made[0] == [0.0, 0.0, 0.0, np.inf, -np.inf, float(np.float16(1.0005))]
    assert made[1][:5] == [least, -least, 0.0, 65504.0, -np.inf]
    assert made[2][:5] == [2 * least, -2 * least, 0.0, 10000.0, -np.inf]
    assert len(list(roundings(values[2:3], FLOAT16))) == 1


def half():
    """Return Conv, BatchNormalization, Relu and Conv in float16."""
    b = Builder(17, "float16")
    x = b.input("N", 3, 8, 8)
    x = b.node("Relu", b.bn(b.conv(x, 3, 5, out="c"), 5, out="n"), out="r")
    b.output(b.conv(x, 5, 4, out="y"))
    return b.model()


def in_float32(model, *, narrow=(), factor=1.0):
    """Return a model in float16 as onnxruntime's optimizer has it run where there are no kernels.

    Some tensors may be rounded to float16 in between, and a weight may be off.
    """
    made = fold_model(model)[0]
    graph = made.graph
    if factor != 1:
        array = numpy_helper.to_array(graph.initializer[0]).copy()
        array.reshape(-1)[np.abs(array).argmax()] *= np.float16(factor)
        graph.initializer[0].CopyFrom(numpy_helper.from_array(array, graph.initializer[0].name))
    read = [*(tensor.name for tensor in graph.initializer), "x"]
    first = [helper.make_node("Cast", [name], [f"{name}_wide"], to=1) for name in read]
    nodes = []
    for node in graph.node:
        node.input[:] = [f"{name}_wide" if name in read else name for name in node.input]
        node.output[:] = [f"{name}_wide" for name in node.output]
        nodes.append(node)
        for name in list(node.output):
            own = name.removesuffix("_wide")
            read.append(own)
            if own in narrow or own == "y":
                nodes.append(helper.make_node("Cast", [name], [own], to=FLOAT16))
            if own in narrow:
                again = f"{own}_wide"
                nodes[-2].output[0] = nodes[-1].input[0] = f"{own}_whole"
                nodes.append(helper.make_node("Cast", [own], [again], to=1))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*first, *nodes)]
    del graph.node[:]
    graph.node.extend(copies)
    onnx.checker.check_model(made)
    return made


@pytest.mark.parametrize("narrow", [(), ("r",)])
def test_what_computes_in_a_wider_type_is_the_same_function(tmp_path, narrow):
    """Rounding to the original's own type in between loses nothing that the original has."""
    proof = proof_of(half(), in_float32(half(), narrow=narrow), tmp_path)
    assert proof.is_whole, proof
    assert proof.precision == ""


def test_a_wider_type_hides_no_fault(tmp_path):
    assert not proof_of(half(), in_float32(half(), factor=1.01), tmp_path).is_whole
    # And what rounds where the original does not is none of that.
    wide = Builder(17)
    x = wide.conv(wide.input("N", 3, 8, 8), 3, 5, out="c")
    wide.output(wide.node("Relu", x, out="y"))
    model = wide.model()
    rounded = onnx.ModelProto.FromString(model.SerializeToString())
    rounded.graph.node[0].output[0] = "whole"
    for before, after, to in (("whole", "half", FLOAT16), ("half", "c", TensorProto.FLOAT)):
        rounded.graph.node.insert(-1, helper.make_node("Cast", [before], [after], to=to))
    assert not proof_of(model, rounded, tmp_path).is_whole
