"""What two models are proved to be, by cut points."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import fold_model
from support.proving import proof_of

from normswap.proof.constants import Constants
from normswap.proof.result import Means, Standing


def network(*, kernel=3, channels=5, group=1, dtype="float32", batch="N", size=8, seed=0):
    """Return Conv, BatchNormalization, Relu, Conv, BatchNormalization, Clip."""
    b = Builder(17, dtype, seed)
    x = b.input(batch, 3, size, size)
    x = b.conv(x, 3, channels, kernel=(kernel, kernel), pads=[kernel // 2] * 4, out="c1")
    x = b.bn(x, channels, out="n1", name="bn1")
    x = b.node("Relu", x, out="r1")
    x = b.conv(x, channels, channels, group=group, pads=[1] * 4, out="c2")
    x = b.bn(x, channels, out="n2", name="bn2")
    b.output(b.node("Clip", x, b.const(0.0, "low"), b.const(6.0, "high"), out="y"))
    return b.model()


def copied(model):
    return onnx.ModelProto.FromString(model.SerializeToString())


def node_of(model, op, number=0):
    return [node for node in model.graph.node if node.op_type == op][number]


def weight(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def scaled(tensor, place, factor):
    array = numpy_helper.to_array(tensor).copy()
    array[place] *= factor
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("group", [1, 5])
@pytest.mark.parametrize("batch", ["N", 1])
def test_a_fold_is_proved(tmp_path, dtype, group, batch):
    model = network(dtype=dtype, group=group, batch=batch)
    folded, plan = fold_model(model)
    assert len(plan.folded) == 2
    proof = proof_of(model, folded, tmp_path)
    assert proof.is_whole, proof
    assert [region.means for region in proof.regions] == [Means.MAPS] * 2
    assert proof.floors <= 1.01  # each constant was rounded once
    assert proof.largest == 2


def test_it_tells_how_far_it_is(tmp_path):
    model = network()
    folded, _ = fold_model(model)
    told = []
    proof_of(model, folded, tmp_path, progress=told.append)
    count = len(folded.graph.node)
    assert told == [f"proving, node {at} of {count}" for at in range(1, count + 1)]


def folded_pair():
    model = network(kernel=9, channels=64)
    return model, fold_model(model)[0]


def scaled_before_relu():
    a, b = Builder(17), Builder(17)
    w = np.random.default_rng(0).normal(size=(64, 3, 9, 9)).astype(np.float32)
    scale = np.float32(2.0) ** np.arange(-32, 32).reshape(-1, 1, 1)
    x = a.node("Conv", a.input("N", 3, 12, 12), a.const(w))
    a.output(a.node("Mul", a.node("Relu", x), a.const(scale), out="y"))
    x = b.node("Conv", b.input("N", 3, 12, 12), b.const(w * scale[..., None]))
    b.output(b.node("Relu", x, out="y"))
    return a.model(), b.model()


@pytest.mark.parametrize(
    ("pair", "means"), [(folded_pair, Means.MAPS), (scaled_before_relu, Means.DRIVEN)]
)
def test_no_weight_is_kept_longer_than_its_region(tmp_path, monkeypatch, pair, means):
    seen = []
    real = Constants._read

    def read(self, tensor):
        array = real(self, tensor)
        if array.size > 4096:  # smaller ones are kept, to be read once
            seen.append(weakref.ref(array if array.base is None else array.base))
        return array

    monkeypatch.setattr(Constants, "_read", read)
    models = pair()
    gc.collect()
    gc.disable()  # it would find circles of references, some gigabytes later
    try:
        proof = proof_of(*models, tmp_path)
        kept = [found for found in seen if found() is not None]
    finally:
        gc.enable()
    assert proof.is_whole
    assert means in {region.means for region in proof.regions}
    assert len(seen) >= 2
    assert not kept


@pytest.mark.parametrize("factor", [1 + 1e-5, 1 - 1e-4, 1.01, 0.0, -1.0])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (4, 2, 1, 1)])
def test_one_weight_is_found_and_where(tmp_path, factor, place):
    model = network()
    folded, _ = fold_model(model)
    name = node_of(folded, "Conv").input[1]
    scaled(weight(folded, name), place, factor)
    proof = proof_of(model, folded, tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.APART]
    (region,) = proof.apart
    assert region.tensor == node_of(folded, "Conv").output[0]
    assert region.element == f"weight[{', '.join(map(str, place))}]"
    assert region.channel == place[0]


def test_one_weight_of_a_million_is_found(tmp_path):
    b = Builder(17)
    x = b.conv(b.input(1, 300, 8, 8), 300, 400, kernel=(3, 3), pads=[1] * 4)
    b.output(b.bn(x, 400, positive=True, out="y"))
    model = b.model()
    folded, _ = fold_model(model)
    proof = proof_of(model, folded, tmp_path)
    assert proof.is_whole
    scaled(weight(folded, node_of(folded, "Conv").input[1]), (250, 120, 2, 0), 1 + 1e-5)
    proof = proof_of(model, folded, tmp_path)
    assert not proof.is_whole
    assert proof.apart[0].element == "weight[250, 120, 2, 0]"
    assert proof.apart[0].is_near


def test_a_bias_that_is_small_by_cancellation_is_no_place_to_hide(tmp_path):
    """What it is a sum of is sixty times as large, but its terms were not all rounded one way."""
    b = Builder(17)
    x = b.bn(b.input("N", 16, 6, 6), 16, epsilon=1e-5)
    b.output(b.conv(x, 16, 64, out="y", bias=False))
    model = b.model()
    folded, _ = fold_model(model)
    scale, shift, mean, var = (
        numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer[:4]
    )
    terms = np.abs(numpy_helper.to_array(model.graph.initializer[4])).sum(axis=(2, 3))
    whole = terms @ np.abs(shift - mean * scale / np.sqrt(var + 1e-5))
    bias = weight(folded, node_of(folded, "Conv").input[2])
    parts = whole / np.abs(numpy_helper.to_array(bias))
    channel = int(np.abs(parts - 60).argmin())
    assert 40 < parts[channel] < 80
    assert proof_of(model, folded, tmp_path).is_whole
    scaled(bias, channel, 1 + 1e-5)
    proof = proof_of(model, folded, tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.OPEN]
    assert "times the rounding error of the" in proof.outputs[0].reason


def attribute(op, name, value, number=0):
    def edit(model):
        node = node_of(model, op, number)
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return edit


def other_limit(model):
    scaled(weight(model, "high"), (), 10.0)


def no_relu(model):
    node = node_of(model, "Relu")
    node.op_type = "Identity"


def half_precision(model):
    """Round what the second Conv reads to half precision."""
    conv = node_of(model, "Conv", 1)
    index = list(model.graph.node).index(conv)
    made = [
        helper.make_node("Cast", [conv.input[0]], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["back"], to=TensorProto.FLOAT),
    ]
    conv.input[0] = "back"
    for node in reversed(made):
        model.graph.node.insert(index, node)


FAULTS = [
    attribute("Conv", "pads", [2, 1, 0, 1], 1),
    attribute("Conv", "auto_pad", "SAME_UPPER"),
    attribute("BatchNormalization", "epsilon", 0.5, 1),
    other_limit,
    no_relu,
    half_precision,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_not_proved(tmp_path, fault):
    model = network(kernel=2 if fault is FAULTS[1] else 3)
    wrong = copied(model)
    fault(wrong)
    assert proof_of(model, model, tmp_path).is_whole
    assert not proof_of(model, wrong, tmp_path).is_whole


def test_a_limit_that_is_far_off_is_not_proved_away(tmp_path):
    b = Builder(17)
    x = b.input("N", 4)
    b.output(b.node("Max", b.node("Min", x, b.const(1e9)), b.const(-1e9), out="y"))
    model = b.model()
    plain = copied(model)
    del plain.graph.node[:]
    plain.graph.node.append(helper.make_node("Mul", ["x", "one"], ["y"]))
    plain.graph.initializer.append(numpy_helper.from_array(np.float32(1.0), "one"))
    proof = proof_of(model, plain, tmp_path)
    (output,) = proof.outputs
    assert output.standing is Standing.OPEN
    assert "no value" in output.reason


def pooled(ceil):
    b = Builder(17)
    b.output(
        b.node(
            "MaxPool",
            b.input(1, 2, 7, 7),
            out="y",
            kernel_shape=[2, 2],
            strides=[2, 2],
            ceil_mode=ceil,
        )
    )
    return b.model()


def test_a_window_that_does_not_fit_is_seen(tmp_path):
    proof = proof_of(pooled(0), pooled(1), tmp_path)
    assert not proof.is_whole


def same_padded(pads, size):
    b = Builder(17)
    x = b.input(1, 2, size, size)
    w = b.normal(3, 2, 3, 3)
    how = {"auto_pad": "SAME_UPPER"} if pads is None else {"pads": pads}
    b.output(b.node("Conv", x, w, out="y", strides=[2, 2], **how))
    return b.model()


def test_what_same_pads_depends_on_the_size(tmp_path):
    assert proof_of(same_padded(None, 16), same_padded([0, 0, 1, 1], 16), tmp_path).is_whole
    assert not proof_of(same_padded(None, 16), same_padded([1, 1, 0, 0], 16), tmp_path).is_whole
    assert not proof_of(same_padded(None, "H"), same_padded([0, 0, 1, 1], "H"), tmp_path).is_whole


def by_size(limit):
    """Return a model that adds 1 where its batch is of one size."""
    b = Builder(17)
    x = b.input("N", 4)
    shape = b.node("Shape", x, end=1)
    same = b.node("Equal", shape, b.const(np.array([limit])))
    flag = b.node("Cast", same, to=TensorProto.FLOAT)
    b.output(b.node("Add", x, flag, out="y"))
    return b.model()


def test_a_fault_at_one_batch_size_is_not_proved_away(tmp_path):
    model = by_size(7)
    plain = copied(model)
    del plain.graph.node[:]
    plain.graph.node.append(helper.make_node("Mul", ["x", "one"], ["y"]))
    plain.graph.initializer.append(numpy_helper.from_array(np.float32(1.0), "one"))
    assert not proof_of(model, plain, tmp_path).is_whole
    assert not proof_of(model, by_size(8), tmp_path).is_whole


def sliced(start, end, *, axis=2, step=1, then=None):
    b = Builder(17)
    bounds = [b.const(np.array([value])) for value in (start, end, axis, step)]
    x = b.node("Slice", b.input("N", 3, "H", "W"), *bounds)
    if then is not None:
        x = b.node("Slice", x, *(b.const(np.array([value])) for value in then))
    b.output(b.node("Neg", x, out="y"))
    return b.model()


def positions(row=None):
    """Return a model that adds as many rows of a table as a sequence is long."""
    b = Builder(17)
    values = b.rng.normal(size=(512, 4))
    if row is not None:
        values[row] += 1
    x = b.input("N", "T", 4)
    length = b.node("Shape", x, start=1, end=2)
    zero = b.const(np.array([0]))
    b.output(b.node("Add", x, b.node("Slice", b.const(values), zero, length, zero), out="y"))
    return b.model()


def squeezed(*axes):
    b = Builder(17)
    x = b.node("Squeeze", b.input("N", 3, 1), *(b.const(np.array([axis])) for axis in axes))
    b.output(b.node("Neg", x, out="y"), ["A", 3])
    return b.model()


def sheared(diagonal):
    b = Builder(17)
    x = b.node("Trilu", b.input("N", 3, "H", "W"), b.const(np.array(diagonal)))
    b.output(b.node("Neg", x, out="y"))
    return b.model()


def halved(more):
    """Return a model of the first half of an image, rounded down or up."""
    b = Builder(17)
    x = b.input("N", 3, "H", "W")
    size = b.node("Add", b.node("Shape", x, start=2, end=3), b.const(np.array([more])))
    size = b.node("Div", size, b.const(np.array([2])))
    zero, axis = b.const(np.array([0])), b.const(np.array([2]))
    b.output(b.node("Neg", b.node("Slice", x, zero, size, axis), out="y"))
    return b.model()


END = 2**62
OTHERWISE = {
    "end": (sliced(0, 100), sliced(0, 1000)),
    "start": (sliced(-100, END), sliced(-1000, END)),
    "end of a batch": (sliced(0, 6, axis=0), sliced(0, 10, axis=0)),
    "every other": (sliced(END, -END, step=-2), sliced(1, END, step=2, then=(END, -END, 2, -1))),
    "rows of a table": (positions(), positions(500)),
    "diagonal": (sheared(100), sheared(1000)),
    "batch of one": (squeezed(), squeezed(2)),
    "half": (halved(0), halved(1)),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_what_differs_at_other_sizes_is_not_proved_away(tmp_path, what):
    proof = proof_of(*OTHERWISE[what], tmp_path)
    assert not proof.is_whole


@pytest.mark.parametrize("end", [100, END])
def test_what_decides_alike_at_any_size_is_proved(tmp_path, end):
    """The end of a Slice is beyond what is tried, and the same before and behind a layer."""
    nets = Builder(17), Builder(17)
    for net in nets:
        x = net.input("N", 3, "H", "W")
        bounds = [net.const(np.array([value])) for value in (0, end, 2)]
        statistics = net.statistics(3)
        x = net.node("Slice", x, *bounds) if net is nets[0] else x
        x = net.bn(x, 3, stats=statistics, epsilon=1e-5)
        x = net.node("Slice", x, *bounds) if net is nets[1] else x
        net.output(net.node("Identity", x, out="y"))
    assert proof_of(nets[0].model(), nets[1].model(), tmp_path).is_whole


def table(row):
    b = Builder(17)
    values = b.rng.normal(size=(500, 4))
    if row is not None:
        values[row] += 1e-3
    index = b.input("N", name="index", elem_type=TensorProto.INT64)
    b.output(b.node("Gather", b.const(values), index, out="y"))
    return b.model()


def test_a_row_that_few_indices_name_is_not_proved_away(tmp_path):
    assert proof_of(table(None), table(None), tmp_path).is_whole
    assert not proof_of(table(None), table(317), tmp_path).is_whole


def branches(first, second, *, exchanged=False):
    """Return an If of two scales."""
    b = Builder(17)
    x = b.input(1, 4)
    flag = b.input(name="flag", elem_type=TensorProto.BOOL)
    bodies = []
    for name, value in (("then", first), ("else", second)):
        node = helper.make_node("Mul", [x, "scale"], [f"made_{name}"])
        scale = numpy_helper.from_array(np.float32(value), "scale")
        made = helper.make_tensor_value_info(f"made_{name}", TensorProto.FLOAT, [1, 4])
        bodies.append(helper.make_graph([node], name, [], [made], [scale]))
    then, other = bodies[::-1] if exchanged else bodies
    b.output(b.node("If", flag, out="y", then_branch=then, else_branch=other))
    return b.model()


def test_branches_that_no_input_takes_are_compared(tmp_path):
    model = branches(2.0, 3.0)
    assert proof_of(model, branches(2.0, 3.0), tmp_path).is_whole
    nearly = proof_of(model, branches(2.0 * (1 + 1e-7), 3.0), tmp_path)  # nobody rounded that
    assert [output.standing for output in nearly.outputs] == [Standing.OPEN]
    assert not proof_of(model, branches(2.0, 3.0001), tmp_path).is_whole
    assert not proof_of(model, branches(2.0, 3.0, exchanged=True), tmp_path).is_whole


def loop(step, *, identity=False):
    b = Builder(17)
    x = b.input(1, 4)
    nodes = [helper.make_node("Mul", ["state", "step"], ["next"])]
    if identity:
        nodes = [
            helper.make_node("Identity", ["state"], ["same"]),
            helper.make_node("Mul", ["same", "step"], ["next"]),
        ]
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, [1, 4]),
        ],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.float32(step), "step")],
    )
    b.output(b.node("Loop", b.const(np.array(3)), "", x, out="y", body=body), [1, 4])
    return b.model()


def test_bodies_are_compared_like_models(tmp_path):
    proof = proof_of(loop(0.5), loop(0.5, identity=True), tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.IDENTICAL]
    assert not proof_of(loop(0.5), loop(0.5 * (1 + 1e-7)), tmp_path).is_whole
    assert not proof_of(loop(0.5), loop(0.5001), tmp_path).is_whole


def with_function():
    value = helper.make_tensor_value_info
    function = helper.make_function(
        "local",
        "Scaled",
        ["x", "scale"],
        ["y"],
        [
            helper.make_node("LeakyRelu", ["x"], ["r"]),
            helper.make_node("Mul", ["r", "scale"], ["y"]),
        ],
        [helper.make_opsetid("", 17)],
        ["alpha"],
    )
    reference = function.node[0].attribute.add()
    reference.name, reference.ref_attr_name = "alpha", "alpha"
    reference.type = onnx.AttributeProto.FLOAT
    scale = numpy_helper.from_array(np.arange(4, dtype=np.float32), "scale")
    nodes = [
        helper.make_node("Scaled", ["x", "scale"], ["h"], domain="local", alpha=0.25),
        helper.make_node("Scaled", ["h", "scale"], ["y"], domain="local", alpha=0.5),
    ]
    ports = [value(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", ports[:1], ports[1:], [scale])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=8)


def test_a_function_is_its_body_call_by_call(tmp_path):
    model = with_function()
    plain = onnx.inliner.inline_local_functions(model)
    proof = proof_of(model, plain, tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.IDENTICAL]
    wrong = copied(model)
    wrong.graph.node[1].attribute[0].f = 0.25
    assert not proof_of(model, wrong, tmp_path).is_whole


def test_an_opset_that_changes_nothing_is_none(tmp_path):
    model = network(batch=1)
    newer = onnx.version_converter.convert_version(model, 21)
    proof = proof_of(model, newer, tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.IDENTICAL]


def test_data_in_another_file_is_the_same_data(tmp_path):
    model = network()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    outside = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    proof = proof_of(outside, outside, tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.IDENTICAL]
    assert proof_of(model, outside, tmp_path).identical == proof.values


def test_names_and_order_are_nothing_but_that(tmp_path):
    model = network()
    folded, _ = fold_model(model)
    renamed = copied(folded)
    for node in renamed.graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [n if n in {"", "x", "y"} else f"t_{n}" for n in names]
    for tensor in renamed.graph.initializer:
        tensor.name = f"t_{tensor.name}"
    proof = proof_of(model, renamed, tmp_path)
    assert proof.is_whole
    assert len(proof.regions) == 2


def merged(exact=True):
    """Return a 3x3 and a 1x1 Conv of one tensor added up, and the one Conv that they are."""
    b, m = Builder(17), Builder(17)
    x = b.input("N", 4, "H", "W")
    three, one = b.rng.normal(size=(2, 4, 4, 3, 3)).astype(np.float32)
    one = one[:, :, :1, :1]
    first = b.node("Conv", x, b.const(three), pads=[1] * 4)
    second = b.node("Conv", x, b.const(one))
    b.output(b.node("Add", first, second, out="y"))
    both = three.astype(np.float64)
    both[:, :, 1 if exact else 0, 1] += one[:, :, 0, 0]
    m.output(m.node("Conv", m.input("N", 4, "H", "W"), m.const(both), out="y", pads=[1] * 4))
    return b.model(), m.model()


def test_branches_that_were_merged_are_maps_too(tmp_path):
    proof = proof_of(*merged(), tmp_path)
    assert proof.is_whole
    assert proof.regions[0].means is Means.MAPS
    assert not proof_of(*merged(exact=False), tmp_path).is_whole


def test_a_scale_that_goes_through_relu_is_driven(tmp_path):
    """A positive scale behind a Relu may go before it; a negative one may not."""
    for sign in (1.0, -1.0):
        b, m = Builder(17), Builder(17)
        scale = np.array([0.5, 1.5, sign * 2.0]).reshape(3, 1, 1)
        x = b.input("N", 3, 6, 6)
        b.output(b.node("Mul", b.node("Relu", x), b.const(scale), out="y"))
        x = m.input("N", 3, 6, 6)
        m.output(m.node("Relu", m.node("Mul", x, m.const(scale)), out="y"))
        proof = proof_of(b.model(), m.model(), tmp_path)
        assert proof.is_whole is (sign > 0)


@pytest.mark.parametrize("op", ["Greater", "LessOrEqual"])
def test_a_limit_that_is_off_by_little_is_not_proved_away(tmp_path, op):
    models = []
    for limit in (0.3, 0.3001):
        b = Builder(17)
        x = b.input("N", 3)
        b.output(b.node("Where", b.node(op, x, b.const(limit)), x, b.const(0.0), out="y"))
        models.append(b.model())
    assert proof_of(models[0], models[0], tmp_path).is_whole
    assert not proof_of(*models, tmp_path).is_whole


def test_a_dropout_whose_mask_is_read_makes_nothing_but_the_mask(tmp_path):
    b = Builder(17)
    x = b.bn(b.input("N", 3, 4, 4), 3)
    x = b.node("Sub", x, b.normal(3, 1, 1), out="sub")
    for output in b.node("Dropout", x, out="dropped", outputs=2):
        b.output(output, elem_type=TensorProto.FLOAT if output == "dropped" else TensorProto.BOOL)
    model = b.model()
    folded, _ = fold_model(model, leftover="affine")
    proof = proof_of(model, folded, tmp_path)
    assert proof.is_whole
    assert {(region.original, region.means) for region in proof.regions} == {("sub", Means.MAPS)}


def test_an_equality_of_values_that_occur_is_proved_by_what_is_known_of_them(tmp_path):
    b, m = Builder(17), Builder(17)
    x = b.node("Sigmoid", b.input("N", 3, 6, 6))
    b.output(b.node("Neg", b.node("Abs", x), out="y"))
    m.output(m.node("Neg", m.node("Sigmoid", m.input("N", 3, 6, 6)), out="y"))
    assert proof_of(b.model(), m.model(), tmp_path).is_whole


def attention(weights, *, before, **attributes):
    """Return a scale and a shift of values, before an attention or behind it."""
    b = Builder(17)
    parts = [b.const(array) for array in b.rng.normal(size=(2, 5))]

    def moved(x):
        return b.node("Add", b.node("Mul", x, parts[0]), parts[1])

    p = b.node(weights, b.input(2, 7, 7, name="p"), **attributes)
    v = b.input(2, 7, 5, name="v")
    y = b.node("MatMul", p, moved(v)) if before else moved(b.node("MatMul", p, v))
    b.output(b.node("Relu", y, out="y"))
    return b.model()


@pytest.mark.parametrize(
    ("weights", "attributes", "proved"),
    [
        ("Softmax", {}, True),
        ("Softmax", {"axis": 2}, True),
        ("Softmax", {"axis": 1}, False),  # whose columns sum to 1
        ("Sigmoid", {}, False),
    ],
)
def test_a_shift_goes_through_rows_that_sum_to_one(tmp_path, weights, attributes, proved):
    models = [attention(weights, before=before, **attributes) for before in (False, True)]
    assert proof_of(*models, tmp_path).is_whole is proved


def test_many_nodes_take_time_in_proportion(tmp_path):
    """A chain that is long, and a Concat that is wide; a proof that scanned again would not end."""
    b = Builder(17)
    x = b.input(1, 2)
    for _ in range(4000):
        x = b.node("Neg", x)
    b.output(b.node("Concat", *[b.node("Neg", x) for _ in range(2000)], out="y", axis=1))
    proof = proof_of(b.model(), b.model(), tmp_path)
    assert proof.is_whole
    assert proof.identical == 6001


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e38])
def test_numbers_that_are_none_are_no_reason_to_warn(tmp_path, value):
    model = network()
    scaled(weight(model, node_of(model, "Conv").input[1]), (0, 0, 0, 0), value)
    proof = proof_of(model, copied(model), tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.IDENTICAL]
    other = copied(model)
    scaled(weight(other, node_of(other, "Conv").input[1]), (1, 1, 1, 1), value)
    assert not proof_of(model, other, tmp_path).is_whole


def with_position(array=None):
    """Return x + exp(c) / 3, or x and the constant that a tool made of the latter."""
    b = Builder(17)
    x = b.input("N", 6, 8)
    drawn = b.rng.normal(size=(6, 8))
    if array is None:
        position = b.node("Div", b.node("Exp", b.const(drawn)), b.const(np.array(3.0)))
    else:
        position = b.const(array)
    b.output(b.node("Add", x, position, out="y"))
    return b.model(), np.exp(drawn.astype(np.float32)) / np.float32(3)


@pytest.mark.parametrize(("off", "proved"), [(0, True), (2**-23, True), (1e-4, False)])
def test_a_constant_that_a_tool_folded_in_its_own_arithmetic(tmp_path, off, proved):
    model, folded = with_position()
    folded = (folded * (1 + off * np.sign(folded - folded.mean()))).astype(np.float32)
    assert proof_of(model, with_position(folded)[0], tmp_path).is_whole is proved


def looked_up(factor=1.0):
    b = Builder(17)
    table = b.rng.normal(size=(100, 4))
    table[70, 2] *= factor
    ids = b.input("N", name="ids", elem_type=TensorProto.INT64)
    row = b.node("Gather", b.const(table, "table"), ids)
    b.output(b.node("Tanh", row, out="y"))
    return b.model()


def test_a_row_that_no_index_may_reach_is_found(tmp_path):
    proof = proof_of(looked_up(), looked_up(1.01), tmp_path)
    assert [output.standing for output in proof.outputs] == [Standing.APART]
    assert proof.fault is proof.apart[0]
    assert proof.fault.element == "table[70, 2]"
    assert proof_of(looked_up(), looked_up(), tmp_path).is_whole
