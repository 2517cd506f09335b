"""Every operator, met by an affine where no shape is known, and by way of its other inputs."""

import numpy as np
import pytest
from support.build import Builder
from support.routes import C, ints

from normswap.folding.operators import registry
from normswap.folding.planner import make_plan
from normswap.graph.reasons import Reason
from normswap.model import load

ATTRIBUTES = {
    "Cast": {"to": 1},
    "Concat": {"axis": 1},
    "DepthToSpace": {"blocksize": 2},
    "SpaceToDepth": {"blocksize": 2},
    "MaxPool": {"kernel_shape": [2, 2]},
    "AveragePool": {"kernel_shape": [2, 2]},
    "LpPool": {"kernel_shape": [2, 2]},
    "Upsample": {"scales": [1.0, 1.0, 2.0, 2.0]},
    "GroupNormalization": {"num_groups": 2},
    "Gather": {"axis": 1},
    "Split": {"axis": 1},
}

PARAMETERS = {
    "Conv": [(C, C, 3, 3)],
    "ConvTranspose": [(C, C, 2, 2)],
    "Gemm": [(C, C), (C,)],
    "MatMul": [(C, C)],
    "PRelu": [(C, 1, 1)],
    "BatchNormalization": [(C,)] * 4,
    "InstanceNormalization": [(C,)] * 2,
    "GroupNormalization": [(C,)] * 2,
    "LayerNormalization": [(C,)] * 2,
    "RMSNormalization": [(C,)],
    "Max": [(C, 1, 1)],
    "Min": [(C, 1, 1)],
    "Add": [(C, 1, 1)],
    "Sub": [(C, 1, 1)],
    "Sum": [(C, 1, 1)],
    "Mean": [(C, 1, 1)],
    "Mul": [(C, 1, 1)],
    "Div": [(C, 1, 1)],
    "Concat": [(1, C, 4, 4)],
}

INTEGERS = {
    "Reshape": [(0, C, -1)],
    "Expand": [(1, C, 4, 4)],
    "Tile": [(1, 2, 1, 1)],
    "Slice": [(0,), (2,), (1,)],
    "Split": [(2, 4)],
    "Gather": [(1, 0)],
    "Squeeze": [(2,)],
    "Unsqueeze": [(2,)],
    "Pad": [(0, 1, 1, 1, 0, 0, 1, 1)],
    "ReduceSum": [(1,)],
    "ReduceMean": [(1,)],
    "ReduceMax": [(1,)],
    "ReduceMin": [(1,)],
    "ReduceL1": [(1,)],
    "ReduceL2": [(1,)],
}

OPS = sorted(op for domain, op in registry() if not domain)
OPSETS = {"Upsample": 7}


def inputs_of(b, op, y):
    if op == "Where":
        return [b.const(np.ones(4, dtype=bool)), y, b.normal(C, 1, 1)]
    if op == "Resize":
        return [y, "", b.const(np.array([1.0, 1.0, 2.0, 2.0]))]
    if op == "CastLike":
        return [y, b.const(1.0)]
    if op == "Clip":
        return [y, b.const(0.0)]
    operands = [b.const(b.rng.uniform(0.5, 1, shape)) for shape in PARAMETERS.get(op, ())]
    return [y, *operands, *(ints(b, *values) for values in INTEGERS.get(op, ()))]


def build(op, *, up, slot=None):
    b = Builder(OPSETS.get(op, 23))
    x = b.input("N", C, 4, 4)
    y = x if up else b.bn(x, C)
    inputs = inputs_of(b, op, y)
    if slot is not None:
        inputs[inputs.index(y)] = x
        inputs[slot] = b.node("Identity", y)
    outputs = 2 if op == "Split" else 1
    z = b.node(op, *inputs, outputs=outputs, **ATTRIBUTES.get(op, {}))
    z = z[0] if outputs == 2 else z
    b.output(b.node("Sigmoid", b.bn(z, C) if up else z), ("N",))
    model = unchecked(b)
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.ClearField("shape")
    return model


def unchecked(b):
    """Return the model without asking the checker, for which some of these are not whole."""
    from onnx import helper

    graph = helper.make_graph(b.nodes, "graph", b.inputs, b.outputs, b.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", b.opset)], ir_version=9)


def plan_of(model):
    return make_plan(load(model.SerializeToString()))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("up", [True, False])
def test_without_shapes(op, up):
    plan = plan_of(build(op, up=up))
    sites = [entry.site.op for entry in (*plan.folded, *plan.kept)]
    assert sites.count("BatchNormalization") == 1 + (op == "BatchNormalization")
    assert all(entry.detail for entry in plan.kept)


OTHERS = [(op, slot) for op in OPS for slot in range(1, 1 + len(INTEGERS.get(op, ())))]
OTHERS += [(op, slot) for op in OPS for slot in range(1, 1 + len(PARAMETERS.get(op, ())))]
OTHERS += [("Where", 0), ("Resize", 2), ("Clip", 1), ("CastLike", 1), ("PRelu", 1)]


@pytest.mark.parametrize(("op", "slot"), sorted(set(OTHERS)))
def test_through_another_input(op, slot):
    plan = plan_of(build(op, up=False, slot=slot))
    tensors = op in ("Add", "Sub", "Sum", "Mean", "Mul", "Max", "Min", "Concat", "MatMul", "Gemm")
    if not tensors and op != "CastLike":
        kept = [entry for entry in plan.kept if entry.site.op == "BatchNormalization"]
        assert kept
        assert not any(entry.reason is Reason.MALFORMED for entry in kept)
