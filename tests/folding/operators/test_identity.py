import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward

from normswap.graph.reasons import Reason


def ops(model):
    return [node.op_type for node in model.graph.node]


def conv(b):
    return b.conv(b.input("N", 4, 7, 7), 4, C)


@pytest.mark.parametrize("op", ["Identity", "Dropout"])
@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
def test_identity_and_dropout_pass(op, opset):
    b = Builder(opset)
    b.output(b.bn(b.node(op, b.node("Identity", conv(b))), C))
    folded, _ = check_folds(b.model())
    assert ops(folded) == ["Conv", "Identity", op]


def test_dropout_in_training_mode_is_kept():
    b = Builder(13)
    ratio, mode = b.const(0.5), b.const(np.array(True))
    b.output(b.bn(b.node("Dropout", conv(b), ratio, mode), C))
    check_kept(b.model(), Reason.TRAINING_MODE)


def test_dropout_whose_mode_is_an_input_is_kept():
    from onnx import TensorProto

    b = Builder(13)
    mode = b.input(name="mode", elem_type=TensorProto.BOOL)
    b.output(b.bn(b.node("Dropout", conv(b), b.const(0.5), mode), C))
    check_kept(b.model(), Reason.TRAINING_MODE)


@pytest.mark.parametrize("op", ["Identity", "Dropout"])
@pytest.mark.parametrize("opset", [7, 12, 22])
def test_down(op, opset):
    check_folds(downward(lambda b, y: b.node(op, y), opset=opset))


def test_down_with_a_mask_that_is_read_is_kept():
    # In inference the mask is all ones whatever x is, so the first output is all that matters.
    b = Builder(13)
    y, mask = b.node("Dropout", b.bn(b.input("N", C, 6, 6), C), outputs=2)
    b.output(b.conv(y, C, 3)).output(b.node("Where", mask, y, y))
    check_kept(b.model(), Reason.GRAPH_INPUT)
