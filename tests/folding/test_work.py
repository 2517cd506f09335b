"""What a plan costs, in steps and not in seconds: four times the layers, four times the work."""

import math

import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.folding import fold_model
from support.graphs import live_ops
from support.growing import KINDS

from normswap.folding.draft import Draft
from normswap.folding.planner import make_plan
from normswap.folding.route import Router
from normswap.graph import evaluate
from normswap.graph.network import Graph
from normswap.model import load
from normswap.model.stored import StoredTensor

SMALL, LARGE = 32, 128


@pytest.fixture
def work(monkeypatch):
    """Counts what planning does: answers, edits, nodes put in order, constants read."""
    done = {}

    def counted(owner, name, size=lambda *_: 1):
        original = getattr(owner, name)

        def counting(*args, **options):
            done[name] = done.get(name, 0) + size(*args)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, counting)

    counted(Router, "_answers")
    counted(Draft, "_later")
    counted(Draft, "note")
    counted(Graph, "topological", lambda graph: len(graph.nodes))
    counted(StoredTensor, "load", lambda tensor: 1 + math.prod(tensor.shape) // (1 << 12))
    counted(evaluate, "_run")
    return done


def cost(work, model):
    work.clear()
    plan = make_plan(load(model.SerializeToString()))
    return dict(work), plan


@pytest.mark.parametrize("kind", KINDS)
def test_work_grows_as_the_model_does(work, kind):
    small, _ = cost(work, KINDS[kind](SMALL))
    large, plan = cost(work, KINDS[kind](LARGE))
    assert plan.folded or plan.kept
    growth = {name: large[name] / max(small.get(name, 0), 1) for name in large}
    exponents = {name: math.log(g, LARGE / SMALL) for name, g in growth.items() if g > 1}
    assert max(exponents.values()) <= 1.1, exponents


@pytest.mark.parametrize("kind", ["chain", "sums", "residuals", "concats"])
def test_a_layer_costs_a_few_steps(work, kind):
    done, _ = cost(work, KINDS[kind](LARGE))
    assert done["_answers"] <= 12 * LARGE
    assert done["_later"] <= 24 * LARGE
    assert done["topological"] <= 4 * len(KINDS[kind](LARGE).graph.node)
    assert done["load"] <= 20 * LARGE  # every constant once


@pytest.mark.parametrize("made", ["stored", "computed"])
@pytest.mark.parametrize("between", ["Relu", "Identity"])
def test_weights_that_no_route_needs_are_not_read(work, made, between):
    b = Builder()
    y = b.node(between, b.bn(b.conv(b.input(1, 3, 4, 4), 3, 8, pads=[1] * 4), 8))
    y = b.node("Flatten", y)
    wide = (128, 1 << 10)
    if made == "stored":
        weight = b.normal(*wide)
    else:
        shape = helper.make_tensor("shape", TensorProto.INT64, [2], wide)
        weight = b.node("ConstantOfShape", b.node("Constant", value=shape))
    b.output(b.node("Gemm", y, weight))
    done, plan = cost(work, b.model())
    assert len(plan.folded) == 1
    assert done["load"] <= 20
    assert "_run" not in done


def test_many_branches_in_one_conv(work):
    # Their sum is a formula over as many constants as there are branches.
    def merged(count):
        b = Builder()
        x = b.input(1, 2, 3, 3)
        y = b.bn(x, 2)
        for _ in range(count):
            y = b.node("Add", y, b.conv(x, 2, 2, kernel=(1, 1)))
        return b.output(y).model()

    small, _ = cost(work, merged(SMALL))
    large, plan = cost(work, merged(LARGE))
    assert len(plan.folded) == 1
    assert {name: large[name] <= 4.6 * small[name] for name in large} == dict.fromkeys(large, True)
    folded, _ = fold_model(merged(1200))
    assert live_ops(folded) == ["Conv"]
