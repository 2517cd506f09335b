"""The BatchNormalization of every opset, and its modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.suite.registry import fold, keep

if TYPE_CHECKING:
    from benchmarks.suite.net import Net

ALL = (*range(7, 28),)


@fold("Conv and BN in every opset that onnxruntime runs", vary={"opset": ALL})
def conv_bn(net: Net) -> None:
    net.output(net.op("Relu", net.bn(net.conv(net.input(), 4, 6, pads=[1] * 4), 6)))


@fold("BN-6 with is_test: inference", opset=6, runs_in="reference")
def bn_6(net: Net) -> None:
    net.output(net.op("Relu", net.bn(net.conv(net.input(), 4, 6), 6, is_test=1, spatial=1)))


@fold("BN-1 with is_test and consumed_inputs", opset=5, runs_in="nothing")
def bn_1(net: Net) -> None:
    y = net.bn(net.conv(net.input(), 4, 6), 6, is_test=1, consumed_inputs=[0, 0, 0, 1, 1])
    net.output(net.op("Relu", y), shape=(2, 6, 4, 4))


@fold("spatial = 1 written out", vary={"opset": (7, 8)})
def bn_spatial_1(net: Net) -> None:
    net.output(net.op("Relu", net.bn(net.conv(net.input(), 4, 6), 6, spatial=1)))


@keep("BN-9 with five outputs is in training mode, whoever reads them", opset=9, runs_in="nothing")
def bn_9_unread_outputs(net: Net) -> None:
    y, *_ = net.bn(net.conv(net.input(), 4, 6), 6, out=5)
    net.output(net.op("Relu", y))


@fold(
    "BN-9's optional outputs left empty: onnxruntime 1.32 dies of them", opset=9, runs_in="nothing"
)
def bn_9_empty_outputs(net: Net) -> None:
    y, *_ = net.bn(net.conv(net.input(), 4, 6), 6, out=["y", "", "", "", ""])
    net.output(net.op("Relu", y))


@fold("training_mode = 0 written out", vary={"opset": (14, 15, 22)})
def training_mode_0(net: Net) -> None:
    net.output(net.op("Relu", net.bn(net.conv(net.input(), 4, 6), 6, training_mode=0)))


@fold("an old Linear", vary={"opset": (7, 8)})
def gemm_bn_old(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(6, 5), net.weight(6), transB=1)
    net.output(net.op("Relu", net.bn(y, 6)))


@fold("an unbatched pair (N, C): BN works on two axes", vary={"opset": (9, 14)})
def bn_of_rank_2(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6))
    net.output(net.op("Relu", net.bn(y, 6)))


@keep(
    "training: statistics of the batch",
    vary={"opset": (14, 15), "outputs": (1, 3)},
    runs_in="reference",
    full_check=False,
)
def training_mode_1(net: Net, outputs: int) -> None:
    y = net.bn(net.conv(net.input(), 4, 6), 6, training_mode=1, out=outputs)
    net.output(net.op("Relu", y if outputs == 1 else y[0]), shape=(2, 6, 4, 4))


@keep("training, and the new statistics are outputs of the model", opset=15, runs_in="reference")
def training_statistics_are_outputs(net: Net) -> None:
    outputs = net.bn(net.conv(net.input(), 4, 6), 6, training_mode=1, out=3)
    for name in outputs:
        net.output(name)


@keep(
    "BN-6 without is_test is training", opset=6, runs_in="nothing", vary={"written": (True, False)}
)
def bn_6_training(net: Net, written: bool) -> None:
    y = net.conv(net.input(), 4, 6)
    parameters = [net.const(p) for p in net.statistics(6)]
    attributes: dict[str, Any] = {"is_test": 0} if written else {}
    outputs = ["y", "mean_out", "var_out", "saved_mean", "saved_var"]
    net.op("BatchNormalization", y, *parameters, out=outputs, **attributes)
    net.output(net.op("Relu", "y"))


@keep("BN-9 whose running mean is read: training", opset=9, runs_in="nothing")
def bn_9_mean_is_read(net: Net) -> None:
    y, mean, *_ = net.bn(net.conv(net.input(), 4, 6), 6, out=5)
    net.output(net.op("Relu", y))
    net.output(mean, shape=(6,))


@keep("spatial = 0: statistics for every element, not every channel", opset=8, runs_in="nothing")
def bn_spatial_0(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    scale, B, mean, var = (np.abs(net.random(6, 4, 4)) + np.float32(0.1) for _ in range(4))
    net.output(net.op("Relu", net.bn(y, 6, parameters=(scale, B, mean, var), spatial=0)))
