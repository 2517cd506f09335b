import numpy as np
import pytest
from support.build import DTYPES, Builder
from support.folding import check_folds, check_kept, count, fold_model, run
from support.nodecases import node_cases

from normswap.graph.reasons import Reason

C = 5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [2, 3])
def test_a_chain_composes_into_the_conv(dtype, length):
    b = Builder(17, dtype)
    y = b.conv(b.input("N", 4, 7, 7), 4, C)
    for _ in range(length):
        y = b.bn(y, C)
    b.output(y)
    folded, _ = check_folds(b.model(), tolerance=0.1 if dtype == "bfloat16" else None)
    assert [node.op_type for node in folded.graph.node] == ["Conv"]


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 21])
def test_two_without_a_linear_operator_become_one(opset):
    b = Builder(opset)
    b.output(b.bn(b.bn(b.input("N", C, 4, 4), C), C))
    check_folds(b.model(), left=1)


def test_two_with_readers_between_stay():
    b = Builder()
    one = b.bn(b.input("N", C, 4, 4), C)
    b.output(b.bn(one, C)).output(one)
    check_kept(b.model(), Reason.GRAPH_OUTPUT, kept=2)


def test_a_training_mode_node_takes_nothing():
    b = Builder(15)
    x = b.input("N", C, 4, 4)
    parameters = [b.const(v) for v in b.statistics(C)]
    y = b.node("BatchNormalization", x, *parameters, outputs=3, training_mode=1)[0]
    b.output(b.bn(y, C))
    check_kept(b.model(), Reason.TRAINING_MODE, kept=2)


def test_one_that_does_nothing_goes():
    b = Builder()
    one, zero = np.ones(C), np.zeros(C)
    y = b.node("Relu", b.input("N", C, 4, 4))
    b.output(b.node("Relu", b.bn(y, C, stats=(one, zero, zero, one), epsilon=0.0)))
    folded, plan = check_folds(b.model())
    assert [node.op_type for node in folded.graph.node] == ["Relu", "Relu"]
    assert plan.folded[0].route == ()


def test_one_that_does_nothing_between_input_and_output_stays():
    b = Builder()
    one, zero = np.ones(C), np.zeros(C)
    b.output(b.bn(b.input("N", C, 4, 4), C, stats=(one, zero, zero, one), epsilon=0.0))
    check_kept(b.model(), Reason.GRAPH_OUTPUT)


def test_shared_parameters_are_split():
    b = Builder()
    stats = [b.const(v, name) for v, name in zip(b.statistics(C), "sbmv", strict=True)]
    x = b.input("N", C, 4, 4)
    y = b.node("BatchNormalization", x, *stats)
    y = b.node("BatchNormalization", y, *stats)
    b.output(y)
    folded, _ = fold_model(b.model())
    assert count(folded) == 1
    check_folds(b.model(), left=1)


INFERENCE = [case for case in node_cases("BatchNormalization") if len(case[3]) == 1]


@pytest.mark.parametrize("case", INFERENCE, ids=lambda case: case[0])
def test_what_is_folded_agrees_with_the_onnx_node_cases(case):
    _, attributes, (x, *parameters), (y,) = case
    channels = x.shape[1]
    b = Builder(15)
    identity = b.const(np.eye(channels).reshape(channels, channels, 1, 1))
    names = [b.const(value) for value in parameters]
    out = b.node(
        "BatchNormalization", b.node("Conv", b.input(*x.shape), identity), *names, **attributes
    )
    b.output(out, x.shape)
    folded, _ = check_folds(b.model())
    np.testing.assert_allclose(run(folded, {"x": x})[0], y, rtol=1e-4, atol=1e-5)


def test_there_are_node_cases():
    assert len(INFERENCE) >= 2
