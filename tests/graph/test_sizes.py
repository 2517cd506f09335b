"""Sizes are known where every runtime makes them so, and nowhere else."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import fold_model, run
from support.swapping import ops, run_ort, swap_model

from normswap.errors import UsageError
from normswap.graph.shapes import infer_types, subgraph_key
from normswap.graph.sizes import is_in_doubt
from normswap.groupnorm.reference import group_normalization
from normswap.model import load

info = helper.make_tensor_value_info


def known(model, name, key=""):
    """Return what is known of the shape of a tensor."""
    return infer_types(load(model.SerializeToString()))[key][name].shape


def model_of(op, shape, opset, constants=(), domain="", **attributes):
    """Return a model of one node, from x to y, that says nothing of y's size."""
    names = [f"c{index}" if values is not None else "" for index, values in enumerate(constants)]
    node = helper.make_node(op, ["x", *names], ["y"], domain=domain, **attributes)
    tensors = [
        numpy_helper.from_array(np.asarray(values), name)
        for name, values in zip(names, constants, strict=True)
        if values is not None
    ]
    x, y = info("x", TensorProto.FLOAT, shape), info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y], tensors)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("other", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def made(model):
    """Return the shape that onnxruntime makes, None where it refuses the model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"x": np.ones(shape, np.float32)})[0].shape
    except Exception:  # noqa: BLE001 - it has a class for each reason
        return None


def is_true(believed, real):
    return believed is None or (
        len(believed) == len(real)
        and all(not isinstance(a, int) or a == b for a, b in zip(believed, real, strict=True))
    )


# Every operator with a rule for its size, on drawn attributes ------------------------------------


def pools(rng):
    op, opset = [
        ("MaxPool", 8), ("MaxPool", 10), ("MaxPool", 12), ("MaxPool", 22), ("AveragePool", 7),
        ("AveragePool", 10), ("AveragePool", 19), ("AveragePool", 22), ("LpPool", 11),
        ("LpPool", 18), ("LpPool", 22),
    ][rng.integers(11)]  # fmt: skip
    auto = ["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"][rng.integers(5)]
    kernel = int(rng.integers(1, 4))
    attributes = {
        "kernel_shape": [kernel],
        "strides": [int(rng.integers(1, 4))],
        "ceil_mode": int(rng.integers(2)),
        "dilations": [int(rng.integers(1, 3))],
        "auto_pad": auto,
    }
    if auto == "NOTSET":
        attributes["pads"] = [int(pad) for pad in rng.integers(0, kernel, 2)]
    return op, (1, 2, int(rng.integers(3, 9))), opset, (), attributes


def convolutions(rng):
    op = ["Conv", "ConvTranspose"][rng.integers(2)]
    auto = ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"][rng.integers(4)]
    size, stride = int(rng.integers(3, 8)), int(rng.integers(1, 4))
    attributes = {"strides": [stride], "auto_pad": auto, "dilations": [int(rng.integers(1, 3))]}
    if auto == "NOTSET":
        attributes["pads"] = [int(pad) for pad in rng.integers(0, 2, 2)]
    if op == "ConvTranspose" and rng.integers(2):
        attributes["output_padding"] = [int(rng.integers(0, stride))]
    if op == "ConvTranspose" and rng.integers(2):
        attributes["output_shape"] = [int(rng.integers(1, 2 * size))]
        attributes.pop("pads", None)
    weight = np.ones((2, 2, int(rng.integers(1, 4))), np.float32)
    return op, (1, 2, size), [1, 11, 22][rng.integers(3)], (weight,), attributes


def slices(rng):
    ends = [*range(-8, 9), 2**31 - 1, 2**63 - 1, -(2**31), -(2**63)]
    bounds = [
        [int(rng.integers(-8, 9))],
        [ends[rng.integers(len(ends))]],
        [int(rng.integers(-1, 2))],
        [int(rng.choice([1, 2, -1, -2, -3]))],
    ]
    constants = [np.array(bound, np.int64) for bound in bounds]
    return "Slice", (2, int(rng.integers(1, 6))), [10, 11, 13][rng.integers(3)], constants, {}


def resizes(rng):
    opset = [10, 11, 13, 18, 19][rng.integers(5)]
    scales = [1.0, 1.0, *rng.choice([0.1, 0.3, 1 / 3, 0.5, 0.6, 1.1, 1.4, 2.0, 2.6, 3.3], 2)]
    scales = np.array(scales, np.float32)
    shape = (1, 2, *(int(size) for size in rng.integers(1, 13, 2)))
    if opset == 10:
        return "Resize", shape, 10, (scales,), {"mode": "nearest"}
    roi = np.zeros(0, np.float32)
    if opset < 18 or rng.integers(2):
        return "Resize", shape, opset, (roi, scales), {"mode": "nearest"}
    policy = ["stretch", "stretch", "not_larger", "not_smaller"][rng.integers(4)]
    sizes = rng.integers(1, 12, 2)
    attributes = {"keep_aspect_ratio_policy": policy, "axes": [2, 3]}
    return "Resize", shape, opset, (None, None, sizes), attributes


def axes(rng):
    op = ["Squeeze", "Unsqueeze", "ReduceSum", "Flatten"][rng.integers(4)]
    opset = [1, 11, 13][rng.integers(3)]
    if op == "Flatten":
        return op, (2, 3, 4), 11, (), {"axis": int(rng.integers(-3, 4))}
    chosen = [[0], [2], [0, 2], [2, 0], [-1], [0, -1], [-1, 0], [-3, 2]][rng.integers(8)]
    shape = (2, 3) if op == "Unsqueeze" else (1, 3, 1)
    if opset < 13:
        return op, shape, opset, (), {"axes": chosen}
    return op, shape, opset, (np.array(chosen, np.int64),), {}


def others(rng):
    opset = [11, 13][rng.integers(2)]
    pads = np.array(rng.integers(-2, 3, 4), np.int64)
    mode = ["constant", "edge", "reflect"][rng.integers(3)]
    target = [(0, -1), (-1, 2), (2, -1, 2), (-1,), (0, 6), (0, 0, 1)][rng.integers(6)]
    wider = [(2, 6), (1, 1), (3, 1, 1), (2, 1, 6), (6,)][rng.integers(5)]
    return [
        ("Pad", (3, 4), opset, (pads,), {"mode": mode}),
        ("Reshape", (2, 6), opset, (np.array(target, np.int64),), {}),
        ("Expand", (2, 6), opset, (np.array(wider, np.int64),), {}),
        ("Tile", (2, 3), opset, (np.array(rng.integers(0, 4, 2), np.int64),), {}),
        ("DepthToSpace", (1, 4, 3, 2), opset, (), {"blocksize": 2}),
        ("SpaceToDepth", (1, 2, 4, 2), opset, (), {"blocksize": 2}),
    ][rng.integers(6)]


@pytest.mark.parametrize("draw", [pools, convolutions, slices, resizes, axes, others])
def test_a_size_that_is_known_is_the_one_that_onnxruntime_makes(draw):
    rng = np.random.default_rng(0)
    wrong, sure, total = [], 0, 0
    for _ in range(250):
        op, shape, opset, constants, attributes = draw(rng)
        schema = onnx.defs.get_schema(op, opset)
        given = {name: value for name, value in attributes.items() if name in schema.attributes}
        model = model_of(op, shape, opset, constants, **given)
        real = made(model)
        if real is None or 0 in real:
            continue
        believed = known(model, "y")
        total += 1
        sure += believed is not None and all(isinstance(size, int) for size in believed)
        if not is_true(believed, real):
            wrong.append((op, opset, shape, given, constants, believed, real))
    assert not wrong, wrong[:3]
    assert sure > total / 2, "sizes are given up needlessly"


# Poolings that round up ---------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1)])
@pytest.mark.parametrize("size", [6, 7, 8])
def test_the_usual_poolings_that_round_up_are_known(kernel, stride, pad, size):
    window = {"kernel_shape": [kernel], "strides": [stride], "pads": [pad, pad], "ceil_mode": 1}
    model = model_of("MaxPool", (1, 2, size), 12, **window)
    assert known(model, "y") == made(model)


def test_a_symbolic_size_stays_one():
    window = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1] * 4, "ceil_mode": 1}
    model = model_of("MaxPool", ("N", 2, "H", 8), 12, **window)
    batch, channels, height, width = known(model, "y")
    assert (batch, channels, width) == ("N", 2, 5), "one axis in doubt does not make another so"
    assert not isinstance(height, int)


WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1] * 4, "ceil_mode": 1}
"""Of 7 elements ONNX makes 5, and onnxruntime 4: the last window would lie in the padding."""


def noted(model, **notes):
    """Return the model with what an exporter noted about its tensors."""
    for name, shape in notes.items():
        for entry in [e for e in model.graph.value_info if e.name == name]:
            model.graph.value_info.remove(entry)
        model.graph.value_info.append(info(name, TensorProto.FLOAT, shape))
    return model


def as_it_is(model):
    del model.graph.value_info[:]
    return model


def as_onnx_infers(model):
    """Return the model with all that ONNX infers noted, wrong as it is."""
    return onnx.shape_inference.infer_shapes(model)


def in_branch(model):
    """Return the model in both branches of an If, with its notes, and the mean of what it makes.

    onnxruntime runs no If that hands on a tensor of which it infers a wrong size.
    """
    graph = model.graph
    (output,) = graph.output
    graph.node.append(helper.make_node("GlobalAveragePool", [output.name], ["mean"]))
    output.CopyFrom(info("mean", TensorProto.FLOAT, [None] * 4))
    bodies = {}
    for name in ("then_branch", "else_branch"):
        body = onnx.GraphProto()
        body.CopyFrom(as_onnx_infers(model).graph)
        del body.input[:]
        bodies[name] = body
    node = helper.make_node("If", ["c"], [e.name for e in graph.output], **bodies)
    tensors = [numpy_helper.from_array(np.array(True), "c")]
    outer = helper.make_graph([node], "outer", graph.input, graph.output, tensors)
    return helper.make_model(outer, opset_imports=model.opset_import, ir_version=8)


@pytest.fixture(params=[as_it_is, as_onnx_infers, in_branch])
def dressed(request):
    return request.param


def rounded_up(then, before=None):
    """Return a model of a pooling whose size is in doubt, and what follows it."""
    b = Builder(17)
    x = b.input(1, 4, 7, 7)
    y = b.node("MaxPool", before(b, x) if before else x, **WINDOW)
    return b.output(then(b, y), [None] * 4).model()


def normalized(b, y):
    return b.bn(y, 4, positive=True)


def summed(b, y):
    return b.node("ReduceSum", y, b.const(np.array([2, 3])), keepdims=1)


def convolved(b, y):
    return b.conv(y, 4, 4, kernel=(2, 2), auto_pad="SAME_UPPER", strides=[2, 2])


@pytest.mark.parametrize("reader", [summed, convolved])
def test_a_fold_of_what_leans_on_a_size_in_doubt(dressed, reader):
    # A shift has to know how many elements are summed, and whether a SAME Conv pads at all: for
    # 5 elements this one does, for 4 it does not.
    model = dressed(rounded_up(reader, normalized))
    folded, _ = fold_model(model)
    feeds = {"x": np.random.default_rng(0).normal(size=(1, 4, 7, 7)).astype(np.float32)}
    for want, got in zip(run(model, feeds), run(folded, feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_what_does_not_lean_on_it_folds_as_ever(dressed):
    model = dressed(
        rounded_up(
            lambda b, y: b.node("Relu", y),
            lambda b, x: b.bn(b.conv(x, 4, 4, kernel=(1, 1)), 4, positive=True),
        )
    )
    copies = 2 if dressed is in_branch else 1
    _, plan = fold_model(model)
    assert len(plan.folded) == copies


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("form", ["auto", "primitive", "centred"])
@pytest.mark.parametrize("opset", [12, 17, 18])
def test_a_swap_behind_a_pooling_that_rounds_up(dressed, form, opset, optimized):
    b = Builder(opset)
    y = b.bn(b.node("MaxPool", b.input(2, 4, 7, 7), **WINDOW), 4)
    model = dressed(b.output(y, [None] * 4).model())
    swapped, plan = swap_model(model, groups=2, form=form)
    assert not [op for op in ops(swapped) if op == "Shape"], "onnxruntime would fold it to 5"
    x = np.random.default_rng(0).normal(size=(2, 4, 7, 7)).astype(np.float32)
    (got,) = run_ort(swapped, optimized=optimized, x=x)
    tensors = {t.name: numpy_helper.to_array(t) for t in b.initializers}
    bn = next(node for node in b.nodes if node.op_type == "BatchNormalization")
    scale, bias = (tensors[name].astype(np.float64) for name in bn.input[1:3])
    pooled = model_of("MaxPool", x.shape, 12, **WINDOW)
    (inner,) = run(pooled, {"x": x})
    epsilon = next(a.f for a in bn.attribute if a.name == "epsilon")
    want = group_normalization(inner.astype(np.float64), scale, bias, num_groups=2, epsilon=epsilon)
    assert want.shape == (2, 4, 4, 4)
    if dressed is in_branch:
        want = want.mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(got, want, atol=2e-5)
    assert len(plan.swaps) == (2 if dressed is in_branch else 1)


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("where", ["in", "before"])
def test_a_swap_in_a_function_behind_a_pooling_that_rounds_up(where, optimized):
    # onnxruntime takes functions apart, and infers in the parts what ONNX does.
    b = Builder(17)
    x = b.input(2, 4, 7, 7)
    if where == "before":
        x = b.node("MaxPool", x, **WINDOW)
    arguments = [b.const(vector) for vector in b.statistics(4)]
    names = ["scale", "bias", "mean", "var"]
    nodes = [helper.make_node("BatchNormalization", ["p", *names], ["q"], "bn", epsilon=1e-5)]
    first = helper.make_node("MaxPool", ["a"], ["p"], **WINDOW)
    nodes.insert(0, first if where == "in" else helper.make_node("Relu", ["a"], ["p"]))
    function = helper.make_function(
        "local", "Block", ["a", *names], ["q"], nodes, [helper.make_opsetid("", 17)]
    )
    b.functions.append(function)
    b.extra_opsets.append(helper.make_opsetid("local", 1))
    y = b.node("Block", x, *arguments, domain="local")
    model = b.output(y, [None] * 4).model()
    swapped, _ = swap_model(model, groups=2)
    x = np.random.default_rng(0).normal(size=(2, 4, 7, 7)).astype(np.float32)
    (got,) = run_ort(swapped, optimized=optimized, x=x)
    (want,) = run_ort(swapped, optimized=False, x=x)
    assert got.shape == (2, 4, 4, 4)
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_a_form_that_asks_for_sizes_is_refused_with_a_reason():
    model = rounded_up(normalized)
    with pytest.raises(
        UsageError, match="ONNX shape inference and onnxruntime disagree on the size"
    ):
        swap_model(model, groups=2, form="instancenorm")


# What a file notes --------------------------------------------------------------------------------


def with_custom(before=None):
    b = Builder(17)
    b.extra_opsets.append(helper.make_opsetid("other", 1))
    x = b.input("N", 4, 6, 6)
    inner = b.node("Custom", before(b, x) if before else x, out="inner", domain="other")
    y = b.node("Relu", inner, out="y")
    b.outputs.append(info(y, TensorProto.FLOAT, [None] * 4))
    graph = helper.make_graph(b.nodes, "g", b.inputs, b.outputs, b.initializers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), *b.extra_opsets], ir_version=8
    )


def test_a_note_counts_behind_an_operator_that_onnx_has_no_rule_for():
    assert known(noted(with_custom(), inner=["N", 8, 5, 5]), "y") == ("N", 8, 5, 5)


def test_a_note_does_not_count_behind_what_is_in_doubt():
    model = with_custom(before=lambda b, x: b.node("MaxPool", x, out="pool", **WINDOW))
    model = noted(model, pool=["N", 4, 4, 4], inner=["N", 4, 4, 4])
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 7
    shape = known(model, "inner")
    assert shape is None or not any(isinstance(size, int) for size in shape[2:])


def test_a_note_does_not_count_where_a_rule_says_otherwise():
    b = Builder(17)
    y = b.node("Relu", b.conv(b.input("N", 3, 6, 6), 3, 4, kernel=(3, 3), out="conv"))
    model = noted(b.output(y).model(), conv=["N", 4, 9, 9])
    assert known(model, "conv") == ("N", 4, 4, 4)
    assert known(model, y) == ("N", 4, 4, 4)


@pytest.mark.parametrize("noted_as", [[4, 3, 3, 3], [9, 3, 3, 3], [None] * 4])
def test_a_note_of_an_initializer_leaves_it_as_large_as_it_is(noted_as):
    """torch's newer exporter notes all of them."""
    b = Builder(17)
    y = b.node("Conv", b.input("N", 3, 6, 6), b.normal(4, 3, 3, 3, name="w"))
    model = noted(b.output(b.node("Relu", y)).model(), w=noted_as)
    assert known(model, y) == ("N", 4, 4, 4)


def test_a_note_of_a_fixed_batch_is_stale_where_the_input_leaves_it_open():
    # As where somebody opened the batch of an exported model, and left the rest.
    model = with_custom(before=lambda b, x: b.node("Relu", x, out="before"))
    model = noted(model, before=[1, 4, 6, 6], inner=[1, 4, 6, 6])
    assert known(model, "before") == ("N", 4, 6, 6)
    shape = known(model, "inner")
    assert shape is None or shape[0] != 1


@pytest.mark.parametrize("size", [0, -1])
def test_an_input_of_no_size_is_one_of_any(size):
    model = with_custom()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size
    assert known(model, "x")[2] is None


def test_the_state_of_a_loop_may_change_its_size():
    pool = helper.make_node("MaxPool", ["state"], ["next"], kernel_shape=[2], name="pool")
    keep = helper.make_node("Identity", ["go"], ["still"])
    body = helper.make_graph(
        [pool, keep],
        "body",
        [info("i", 7, []), info("go", 9, []), info("state", 1, [1, 2, 6])],
        [info("still", 9, []), info("next", 1, [1, 2, 5])],
    )
    turns = [
        numpy_helper.from_array(np.array(2), "m"),
        numpy_helper.from_array(np.array(True), "c"),
    ]
    loop = helper.make_node("Loop", ["m", "c", "x"], ["y"], body=body)
    graph = helper.make_graph(
        [loop], "g", [info("x", 1, [1, 2, 6])], [info("y", 1, [1, 2, None])], turns
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (want,) = run(model, {"x": np.ones((1, 2, 6), np.float32)})
    assert want.shape == (1, 2, 4)
    inner = subgraph_key("", 0, "body")
    for key, name in ((inner, "state"), (inner, "next"), ("", "y")):
        shape = known(model, name, key)
        assert shape is None or not isinstance(shape[2], int)


def test_doubt_in_a_function_reaches_what_is_behind_the_call():
    inner = helper.make_node("MaxPool", ["a"], ["b"], **WINDOW)
    function = helper.make_function(
        "local", "Down", ["a"], ["b"], [inner], [helper.make_opsetid("", 17)]
    )
    b = Builder(17)
    b.functions.append(function)
    b.extra_opsets.append(helper.make_opsetid("local", 1))
    y = b.node("Relu", b.node("Down", b.input(1, 4, 7, 7), domain="local", out="called"))
    model = b.output(y, [None] * 4).model()
    for name in ("called", y):
        shape = known(model, name)
        assert shape is None or not any(isinstance(size, int) for size in shape[2:])


def test_bodies_keep_their_types_where_nodes_before_them_are_computed_or_cut():
    # The key of a body has the place of its node, which what is prepared for ONNX has elsewhere.
    b = Builder(17)
    x = b.input(1, 4, 7, 7)
    b.node("Add", b.const(np.array([1])), b.const(np.array([2])))
    y = b.node("MaxPool", x, **WINDOW)
    bodies = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Relu", ["x"], [f"in_{name}"])
        bodies[name] = helper.make_graph(
            [node, helper.make_node("Neg", [f"in_{name}"], [f"out_{name}"])],
            name,
            [],
            [info(f"out_{name}", 1, None)],
        )
    condition = b.const(np.array(True))
    z = b.node("If", condition, **bodies)
    model = b.output(y, [None] * 4).output(z, [None] * 4).model()
    index = [node.op_type for node in model.graph.node].index("If")
    for name in bodies:
        assert known(model, f"in_{name}", subgraph_key("", index, name)) == (1, 4, 7, 7)


@pytest.mark.parametrize("ir_version", [3, 4, 8])
def test_a_computed_weight_is_one_for_the_inference(ir_version):
    # Up to IR version 3 constants are listed as inputs, and ONNX overlooks those that are not.
    shape = numpy_helper.from_array(np.array([4, 2, 3, 3]), "shape")
    value = numpy_helper.from_array(np.array([0.5], np.float32))
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["w"], value=value),
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    inputs = [info("x", 1, ["N", 2, 6, 6])]
    inputs += [info("shape", TensorProto.INT64, [4])] if ir_version < 4 else []
    graph = helper.make_graph(nodes, "g", inputs, [info("z", 1, [None] * 4)], [shape])
    imports = [helper.make_opsetid("", 9)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    assert known(model, "z") == ("N", 4, 4, 4)


def test_a_body_knows_the_integers_around_it():
    then = helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1)
    other = helper.make_node("Split", ["x", "sizes"], ["c", "d"], axis=1)
    bodies = {
        name: helper.make_graph([node], name, [], [info(node.output[1], 1, None)])
        for name, node in (("then_branch", then), ("else_branch", other))
    }
    tensors = [
        numpy_helper.from_array(np.array([1, 3]), "sizes"),
        numpy_helper.from_array(np.array(True), "c0"),
    ]
    choose = helper.make_node("If", ["c0"], ["y"], **bodies)
    graph = helper.make_graph(
        [choose], "g", [info("x", 1, [2, 4, 5])], [info("y", 1, [None] * 3)], tensors
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert known(model, "b", subgraph_key("", 0, "then_branch")) == (2, 3, 5)
    assert known(model, "y") == (2, 3, 5)


def test_sizes_that_onnx_knows_otherwise_are_named_so():
    shape = known(rounded_up(lambda b, y: b.node("Relu", y, out="y")), "y")
    assert shape[:2] == (1, 4)
    assert all(is_in_doubt(size) for size in shape[2:])
    assert not is_in_doubt("H")
    assert not is_in_doubt(None)


@pytest.mark.parametrize("equation", ["d,acd->acd", "acd,d->acd"])
def test_a_length_that_an_einsum_broadcasts_is_in_doubt(equation):
    """ONNX takes the length that it has met first, a 1; onnxruntime makes the longer one."""
    b = Builder(17)
    operands = {"d": b.normal(1), "acd": b.input(2, 6, 5)}
    y = b.node("Einsum", *(operands[term] for term in equation[:5].split(",")), equation=equation)
    y = b.node("ReduceSum", b.bn(y, 6), b.const(np.array([2], np.int64)), keepdims=0)
    b.output(b.node("MatMul", y, b.normal(6, 3)), (2, 3))
    model = b.model()
    folded, _ = fold_model(model)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)}
    (want,), (got,) = run(model, feeds), run(folded, feeds)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
