"""Models that break the specification: they stay as they are, and nothing falls over."""

import numpy as np
import pytest
from onnx import numpy_helper
from support.build import Builder
from support.random_graphs import Choices, random_graph
from support.routes import C, downward, ints, upward

from normswap.errors import NormswapError
from normswap.folding.planner import make_plan
from normswap.graph.reasons import Reason
from normswap.model import load


def plan_of(model):
    return make_plan(load(model.SerializeToString()))


def without_shapes(model):
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.ClearField("shape")
    return model


def initializer(model, slot, op):
    node = next(node for node in model.graph.node if node.op_type == op)
    return next(t for t in model.graph.initializer if t.name == node.input[slot])


def identity(b, y):
    return b.node("Identity", y)


@pytest.mark.parametrize("build", [upward, downward])
@pytest.mark.parametrize(
    ("slot", "shape"), [(1, (C + 1, C + 1, 3, 3)), (1, (4,)), (1, ()), (2, (C + 1,))], ids=str
)
def test_a_conv_that_does_not_fit(build, slot, shape):
    model = without_shapes(build(identity))
    tensor = initializer(model, slot, "Conv")
    tensor.CopyFrom(numpy_helper.from_array(np.ones(shape, np.float32), tensor.name))
    plan = plan_of(model)
    (kept,) = plan.kept
    assert Reason.MALFORMED in {attempt.reason for attempt in kept.attempts}
    assert kept.detail


def test_a_batchnorm_of_too_many_channels():
    b = Builder()
    y = b.bn(b.conv(b.input("N", 4, 6, 6), 4, C), C)
    model = without_shapes(b.output(b.node("Sigmoid", y)).model())
    for slot in range(1, 5):
        tensor = initializer(model, slot, "BatchNormalization")
        tensor.CopyFrom(
            numpy_helper.from_array(np.arange(1.0, C + 2, dtype=np.float32), tensor.name)
        )
    (kept,) = plan_of(model).kept
    assert kept.reason is Reason.MALFORMED
    assert str(C + 1) in kept.detail


def test_a_slice_with_more_axes_than_ends():
    model = upward(lambda b, y: b.node("Slice", y, ints(b, 0), ints(b, 6), ints(b, 1)))
    tensor = initializer(model, 3, "Slice")
    tensor.CopyFrom(numpy_helper.from_array(np.array([1, 2, 3]), tensor.name))
    (kept,) = plan_of(without_shapes(model)).kept
    assert kept.reason in (Reason.MALFORMED, Reason.SHAPE_UNKNOWN)


def broken(seed):
    """A random graph with constants of other shapes, and inputs and attributes that are gone."""
    rng = np.random.default_rng(seed)
    model, _ = random_graph(Choices(lambda n: int(rng.integers(n))), nodes=15, seed=seed)
    for info in model.graph.input:
        if rng.integers(2):
            info.type.tensor_type.ClearField("shape")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim and not rng.integers(6):
            changes = [np.concatenate([array, array[:1]]), array[None], array.reshape(-1)]
            changed = changes[rng.integers(3)]
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    for node in model.graph.node:
        if len(node.attribute) and not rng.integers(8):
            del node.attribute[int(rng.integers(len(node.attribute)))]
        if len(node.input) > 1 and not rng.integers(20):
            node.input.pop()
    return model


@pytest.mark.parametrize("seed", range(40))
def test_broken_graphs(seed):
    try:
        plan = plan_of(broken(seed))
    except NormswapError as error:
        assert str(error)  # noqa: PT017 - refusing to read it is as good
    else:
        assert all(entry.detail for entry in plan.kept)
