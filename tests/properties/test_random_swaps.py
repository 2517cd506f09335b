"""Whatever graph a swap is given: every form is the network with NumPy's group normalizations."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from support.folding import assert_same_signature, count, feeds_for
from support.random_graphs import Choices, random_graph
from support.swapping import swap_model

from normswap.graph.batchnorm import is_batchnorm
from normswap.graph.build import build_network
from normswap.groupnorm.normalize import normalize
from normswap.groupnorm.policy import GroupPolicy, OnIndivisible
from normswap.groupnorm.reference import group_normalization
from normswap.model import load, write_to

FORMS = {
    "float64": ["auto", "layernorm", "centred", "primitive"],
    "float32": ["instancenorm", "centred"],
}

EXACT = {"float64": 1e-11, "float32": 1e-4}
"""Largest difference, relative to the largest value of an output (or to 1)."""

ROUNDING = {"float64": 1e-16, "float32": 1e-7}
"""Of what comes to each normalization, to see how much a network magnifies it."""

SLACK = 100.0
"""How much more than that kernels may do."""


class GroupNorm(OpRun):
    """A group normalization that NumPy computes."""

    op_domain = "test"

    def _run(self, x, scale, bias, groups=None, epsilon=None):
        y = group_normalization(x, scale, bias, num_groups=groups, epsilon=epsilon)
        return (y.astype(x.dtype),)


class RoundedGroupNorm(GroupNorm):
    """The same of an input that is rounded a little differently."""

    def _run(self, x, *parameters, **attributes):
        noise = np.random.default_rng(1).normal(size=x.shape)
        rounded = (x * (1 + SLACK * ROUNDING[x.dtype.name] * noise)).astype(x.dtype)
        return super()._run(rounded, *parameters, **attributes)


RoundedGroupNorm.__name__ = "GroupNorm"  # by which the evaluator finds it


def with_reference(model, groups_of):
    """Return the model with NumPy's operator in the place of every BatchNormalization."""
    wanted = onnx.ModelProto()
    wanted.CopyFrom(model)
    wanted.opset_import.append(helper.make_opsetid("test", 1))
    for node in wanted.graph.node:
        if node.op_type == "BatchNormalization":
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            operands, result = node.input[:3], node.output[0]
            node.Clear()
            node.CopyFrom(
                helper.make_node(
                    "GroupNorm",
                    operands,
                    [result],
                    domain="test",
                    groups=groups_of[result],
                    epsilon=float(epsilon),
                )
            )
    return wanted


def outputs(model, feeds, operator=GroupNorm):
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model, new_ops=[operator]).run(None, feeds)


def assert_is_group_normalization(model, batchnorms, groups, form, **fields):
    policy = GroupPolicy(groups=groups, on_indivisible=OnIndivisible.GCD)
    swapped, plan = swap_model(model, policy=policy, form=form, **fields)
    assert_same_signature(model, swapped)
    assert count(swapped) == 0
    assert len(plan.swaps) == batchnorms
    wanted = with_reference(model, {swap.site.output: swap.num_groups for swap in plan.swaps})
    feeds = feeds_for(model, sizes={"N": 2})
    dtype = feeds["x"].dtype.name
    try:
        truths = outputs(wanted, feeds)
    except ValueError:
        return 0  # the evaluator can't take the maximum of a window that is all padding
    runs = (truths, outputs(wanted, feeds, RoundedGroupNorm), outputs(swapped, feeds))
    for info, truth, moved, got in zip(model.graph.output, *runs, strict=True):
        assert got.shape == truth.shape, info.name
        size = max(float(np.abs(truth).max(initial=0)), 1.0)
        if size < 1e30:
            magnified = np.abs(moved - truth).max(initial=0)
            error = np.abs(got - truth).max(initial=0)
            allowed = EXACT[dtype] * size + 10 * magnified
            assert error <= allowed, f"{info.name} is off by {error:.1e}"
    return sum(len(swap.absorbed) for swap in plan.swaps)


def with_neighbours(model, choose):
    """Put arithmetic by constants before and behind BatchNormalizations."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    rng = np.random.default_rng(7)
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = []

    def arithmetic(x, y, rank, channels):
        """Add a node from x to y; its constant is a number, or one a channel."""
        op = choose.one_of(["Mul", "Add", "Sub", "Div", "Neg"])
        operands = [x]
        if op != "Neg":
            shape = () if choose.chance(50) else (channels, *[1] * (rank - 2))
            values = rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape)
            name = f"beside_{len(graph.initializer)}"
            values = np.asarray(values, weights[bn.input[1]].dtype)
            graph.initializer.append(numpy_helper.from_array(values, name))
            operands.append(name)
            if op in ("Mul", "Add", "Sub") and choose.chance(30):
                operands.reverse()
        nodes.append(helper.make_node(op, operands, [y], name=f"make_{y}"))

    for bn in graph.node:
        if bn.op_type == "BatchNormalization" and (rank := ranks.get(bn.input[0])):
            channels, x, y = len(weights[bn.input[1]]), bn.input[0], bn.output[0]
            for number in range(choose.integer(3)):
                name = f"{y}_before_{number}"
                arithmetic(x, name, rank, channels)
                x = name
            bn.input[0] = x
            nodes.append(bn)
            chain = [f"{y}_behind_{number}" for number in range(choose.integer(3))]
            bn.output[0], *others = [*chain, y]
            for name, result in zip([bn.output[0], *others], others, strict=False):
                arithmetic(name, result, rank, channels)
        else:
            nodes.append(bn)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


@st.composite
def graphs(draw, dtype, largest=14):
    def integer(below):
        return draw(st.integers(0, below - 1)) if below > 1 else 0

    choose = Choices(integer)
    nodes, seed = draw(st.integers(1, largest)), draw(st.integers(0, 2**16))
    model, batchnorms = random_graph(choose, nodes=nodes, seed=seed, dtype=dtype)
    return with_neighbours(model, choose), batchnorms


@pytest.mark.parametrize("dtype", FORMS)
def test_every_form_is_group_normalization(dtype):
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(
        graphs(dtype), st.sampled_from([1, 2, 3, 4]), st.sampled_from(FORMS[dtype]), st.booleans()
    )
    def holds(graph, groups, form, absorb):
        assert_is_group_normalization(*graph, groups, form, absorb=absorb)

    holds()


@pytest.mark.parametrize("form", FORMS["float64"])
def test_there_is_something_to_absorb(form):
    # What stands beside a layer is in its affine somewhere, or the property says little of it.
    rng = np.random.default_rng(0)
    choose = Choices(lambda below: int(rng.integers(below)))
    absorbed = 0
    for seed in range(30):
        model, batchnorms = random_graph(choose, nodes=14, seed=seed)
        model = with_neighbours(model, choose)
        absorbed += assert_is_group_normalization(model, batchnorms, 2, form)
    assert absorbed > 20


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(graphs("float64"))
def test_normalizing_first_is_exact(graph):
    model, batchnorms = graph
    loaded = load(model.SerializeToString())
    keys = {node.key for node in build_network(loaded).nodes() if is_batchnorm(node)}
    told = normalize(loaded, keys)
    assert len(told.statistics) == batchnorms
    assert all(went.normalized for went in told.statistics.values())
    stream = io.BytesIO()
    write_to(loaded, stream)
    normalized = onnx.ModelProto.FromString(stream.getvalue())
    onnx.checker.check_model(normalized, full_check=True)
    assert_same_signature(model, normalized)
    assert count(normalized) == batchnorms
    feeds = feeds_for(model, sizes={"N": 2})
    for info, want, got in zip(
        model.graph.output, outputs(model, feeds), outputs(normalized, feeds), strict=True
    ):
        assert got.shape == want.shape
        size = max(float(np.abs(want).max(initial=0)), 1.0)
        if size < 1e100:
            assert np.abs(got - want).max(initial=0) <= 1e-12 * size, info.name
