"""What looks as if its channels could be permuted, and must not, or not all of them."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.functions import Body
from support.permuting import check_permutes, check_stays, free, permuted

from normswap.graph.reasons import Reason


def begun(seed=0, opset=17, channels=8, shape=(1, 3, 6, 6)):
    b = Builder(opset=opset, seed=seed)
    return b, b.bn(b.conv(b.input(*shape), shape[1], channels), channels, out="bn")


def ended(b, x, channels):
    return b.output(b.conv(x, channels, 2, kernel=(1, 1))).model()


def test_an_output_keeps_its_order():
    b, x = begun()
    check_stays(b.output(x).model(), Reason.GRAPH_OUTPUT, "bn", "is a graph output")


def test_a_tensor_that_is_an_output_too():
    b, x = begun()
    b.output(b.node("Relu", x))
    check_stays(ended(b, x, 8), Reason.GRAPH_OUTPUT, "bn")


def test_an_input_keeps_its_order():
    b = Builder()
    x = b.bn(b.input(1, 6, 4, 4), 6, out="bn")
    check_stays(ended(b, x, 6), Reason.GRAPH_INPUT, "bn", "is a graph input")


def test_a_sum_with_an_input():
    b, x = begun()
    x = b.node("Add", x, b.input(1, 8, 4, 4, name="other"))
    check_stays(ended(b, x, 8), Reason.GRAPH_INPUT, "bn")


def test_a_weight_that_is_an_input():
    b, x = begun()
    b.input(2, 8, 1, 1, name="w")
    check_stays(
        b.output(b.node("Conv", x, "w")).model(), Reason.GRAPH_INPUT, "bn", "w is a graph input"
    )


def test_a_weight_that_a_caller_may_replace():
    b, x = begun()
    w = b.normal(2, 8, 1, 1, name="w")
    b.input(2, 8, 1, 1, name="w")
    check_stays(b.output(b.node("Conv", x, w)).model(), Reason.OVERRIDABLE, "bn")


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("LRN", {"size": 3}), ("ArgMax", {"axis": 1}), ("Hardmax", {"axis": 1}), ("NonZero", {})],
)
def test_an_operator_that_reads_places(op, attributes):
    b, x = begun(channels=4)
    kind = TensorProto.FLOAT if op in {"LRN", "Hardmax"} else TensorProto.INT64
    b.output(b.node(op, x, **attributes), elem_type=kind)
    check_stays(ended(b, x, 4), Reason.ORDER, "bn", op)


def test_indices_of_a_pooling():
    b, x = begun()
    x, indices = b.node("MaxPool", x, outputs=2, kernel_shape=[2, 2])
    b.output(indices, elem_type=TensorProto.INT64)
    check_stays(ended(b, x, 8), Reason.ORDER, "bn", "indices")


def test_a_window_over_channels():
    """A Conv over the channels of a transposed tensor."""
    b, x = begun(channels=4)
    x = b.node("Transpose", x, perm=[0, 2, 1, 3])
    check_stays(ended(b, x, 4), Reason.ORDER, "bn", "axis 2")


def test_padded_channels():
    b, x = begun(channels=4)
    x = b.node("Pad", x, b.const(np.array([0, 1, 0, 0, 0, 1, 0, 0])))
    check_stays(ended(b, x, 6), Reason.ORDER, "bn", "pads")


def test_resampled_channels():
    b, x = begun(channels=4)
    sizes = b.const(np.array([1, 8, 4, 4]))
    x = b.node("Resize", x, "", "", sizes, mode="nearest")
    check_stays(ended(b, x, 8), Reason.ORDER, "bn", "resamples")


def test_indices_that_are_computed():
    b, x = begun(channels=4)
    x = b.node("Gather", x, b.input(4, name="places", elem_type=TensorProto.INT64), axis=1)
    check_stays(ended(b, x, 4), Reason.NOT_CONSTANT, "bn")


def test_flattened_pixels_of_unknown_number():
    b = Builder()
    x = b.bn(b.conv(b.input(1, 3, "H", "W"), 3, 4), 4, out="bn")
    x = b.node("Resize", x, "", "", b.const(np.array([1, 4, 2, 2])), mode="nearest")
    x = b.node("Transpose", b.node("Transpose", x, perm=[2, 3, 0, 1]), perm=[2, 3, 0, 1])
    y = b.node("Flatten", b.bn(b.conv(b.input(1, 3, "H", "W", name="z"), 3, 4), 4, out="open"))
    b.output(b.node("ReduceMean", y))
    check_stays(ended(b, x, 4), Reason.SHAPE_UNKNOWN, "open")


def test_an_operator_of_another_domain():
    b, x = begun(channels=4)
    b.extra_opsets.append(helper.make_opsetid("com.microsoft", 1))
    y = b.node("Gelu", x, domain="com.microsoft")
    b.value_info.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 4, 4, 4]))
    check_stays(ended(b, y, 4), Reason.ORDER, "bn", "Gelu")


def test_one_group_a_channel():
    """Each output reads a group of its own, so it has a place of its own."""
    b, x = begun()
    x = b.bn(b.conv(x, 8, 4, group=4, kernel=(1, 1)), 4, out="single")
    check_stays(ended(b, x, 4), Reason.ORDER, "single", "no other channel")


def test_channels_stay_in_their_groups():
    b, x = begun(channels=8)
    x = b.bn(b.conv(x, 8, 6, group=2, kernel=(1, 1)), 6, out="after")
    _, found = permuted(ended(b, x, 6), seed=3)
    orders = {order.tensor: order.places for order in found}
    assert {*orders["bn"][:4]} == set(range(4))
    assert {*orders["after"][:3]} == set(range(3))


def test_what_a_slice_cuts_out_stays_in_it():
    b, x = begun(channels=6)
    one = b.const(np.array([1]))
    part = b.node("Slice", x, b.const(np.array([2])), b.const(np.array([5])), one)
    y = b.node("Add", b.conv(part, 3, 2, kernel=(1, 1)), b.conv(x, 6, 2, kernel=(1, 1)))
    model = b.output(y).model()
    check_permutes(model)
    assert free(model)["bn"].tolist() == [True, True, True, True, True, False]


def test_every_second_channel():
    b, x = begun(channels=8)
    one, two = b.const(np.array([1])), b.const(np.array([2]))
    zero, end = b.const(np.array([0])), b.const(np.array([8]))
    even = b.node("Slice", x, zero, end, one, two)
    odd = b.node("Gather", x, b.const(np.array([7, 5, 3, 1])), axis=1)
    x = b.bn(b.node("Concat", even, odd, axis=1), 8, out="joined")
    check_permutes(ended(b, x, 8), "bn", "joined")


def test_places_of_a_channel_that_is_there_twice():
    b, x = begun(channels=4)
    twice = b.node("Concat", x, x, axis=1)
    x = b.node("Gather", twice, b.const(np.array([0, 5, 2, 7])), axis=1)
    check_stays(ended(b, x, 4), Reason.ORDER, "bn", "several elements")


def test_one_channel_that_is_picked():
    b, x = begun(channels=5)
    first = b.node("Gather", x, b.const(np.array(1)), axis=1)
    model = ended(b, b.node("Mul", x, b.node("Unsqueeze", first, b.const(np.array([1])))), 5)
    check_permutes(model)
    assert free(model)["bn"].tolist() == [True, False, True, True, True]


def test_halves_that_are_added():
    """Both move alike, or not at all."""
    b, x = begun(channels=8, opset=18)
    left, right = b.node("Split", x, outputs=2, axis=1, num_outputs=2)
    x = b.bn(b.node("Add", left, right), 4, out="sum")
    check_permutes(ended(b, x, 4), "bn", "sum")


def test_random_numbers_have_places():
    b, x = begun(channels=4)
    x = b.node("Dropout", x, b.const(0.5), b.const(np.array(True)))
    model = ended(b, x, 4)
    assert not free(model)["bn"].any()


def test_what_a_loop_carries_on():
    b, x = begun(channels=4)
    inner = Builder(seed=5)
    inner.count = 100
    inner.input(name="i", elem_type=TensorProto.INT64)
    inner.input(name="go", elem_type=TensorProto.BOOL)
    inner.input(1, 4, 4, 4, name="state")
    inner.output(inner.node("Identity", "go"), [], TensorProto.BOOL)
    y = inner.node("Tanh", inner.conv("state", 4, 4, kernel=(1, 1)))
    inner.output(y, [1, 4, 4, 4])
    body = helper.make_graph(inner.nodes, "body", inner.inputs, inner.outputs, inner.initializers)
    y = b.node("Loop", b.const(np.array(3)), "", x, body=body)
    b.value_info.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 4, 4, 4]))
    check_stays(ended(b, y, 4), Reason.ORDER, "bn", "Loop")


def test_a_function_has_one_order():
    b = Builder(seed=3)
    x = b.conv(b.input(1, 3, 4, 4), 3, 6)
    body = Body(b, "block", ["x", "w"])
    y = body.node("Relu", body.bn("x", 6))
    body.returns(body.node("Conv", y, "w"))
    for _ in range(2):
        x = b.node("block", x, b.normal(6, 6, 1, 1), domain="local")
    x = b.bn(x, 6, out="last")
    model = ended(b, x, 6)
    moves = free(model)
    assert len(moves) == 2
    assert all(ids.all() for ids in moves.values())
    check_permutes(model, *moves)


def test_a_function_that_gives_an_output():
    b = Builder(seed=3)
    x = b.conv(b.input(1, 3, 4, 4), 3, 6)
    body = Body(b, "block", ["x"])
    body.returns(body.bn("x", 6))
    b.output(b.node("block", x, domain="local"), [1, 6, 2, 2])
    moves = free(b.model())
    assert not any(ids.any() for ids in moves.values())
