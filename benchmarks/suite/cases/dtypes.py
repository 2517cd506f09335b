"""Other types than float32, and numbers that don't fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from benchmarks.suite.registry import fold, keep

if TYPE_CHECKING:
    from benchmarks.suite.net import Net

HALF = {"dtype": np.float16, "tolerance": 2e-2}
DOUBLE = {"dtype": np.float64, "tolerance": 1e-11}
BRAIN = {"dtype": ml_dtypes.bfloat16, "tolerance": 1e-1}


def conv_bn(net: Net, **options: Any) -> None:
    net.output(net.op("Relu", net.bn(net.conv(net.input(), 4, 6), 6, **options)))


def gemm_bn(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 6), net.weight(6), alpha=0.5)
    net.output(net.op("Relu", net.bn(y, 6)))


@fold("float64 inside, one rounding to float16", **HALF)
def half_conv(net: Net) -> None:
    conv_bn(net)


@fold("float16 Gemm", **HALF)
def half_gemm(net: Net) -> None:
    gemm_bn(net)


@fold("float16 in front of a Conv", **HALF)
def half_down(net: Net) -> None:
    net.output(net.conv(net.bn(net.input(), 4), 4, 6))


@fold("float64 keeps its digits", runs_in="reference", **DOUBLE)
def double_conv(net: Net) -> None:
    conv_bn(net)


@fold("float64 Gemm: onnxruntime has it", **DOUBLE)
def double_gemm(net: Net) -> None:
    gemm_bn(net)


@fold("float64 MatMul, shift as an Add of the same type", **DOUBLE)
def double_matmul(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6))
    net.output(net.op("Relu", net.bn(y, 6)))


@fold("bfloat16", opset=22, runs_in="reference", **BRAIN)
def brain_conv(net: Net) -> None:
    conv_bn(net)


@fold("bfloat16 Gemm", runs_in="reference", **BRAIN)
def brain_gemm(net: Net) -> None:
    gemm_bn(net)


@fold("BN-15: x in half, all statistics in float32", opset=15, runs_in="reference", **HALF)
def mixed_15(net: Net) -> None:
    conv_bn(net, parameters=net.statistics(6, dtype=np.float32))


@fold(
    "BN-15: scale and B in half like x, mean and var in float32",
    opset=15,
    runs_in="reference",
    **HALF,
)
def mixed_15_statistics(net: Net) -> None:
    scale, B, mean, var = net.statistics(6, dtype=np.float32)
    half = scale.astype(np.float16), B.astype(np.float16)
    conv_bn(net, parameters=(*half, mean, var))


@fold("BN-14: mean and var in float32, the rest in half", opset=14, runs_in="reference", **HALF)
def mixed_14(net: Net) -> None:
    scale, B, mean, var = net.statistics(6, dtype=np.float32)
    conv_bn(net, parameters=(scale.astype(np.float16), B.astype(np.float16), mean, var))


@fold("a small variance in float32 that float16 can't hold", opset=15, runs_in="reference", **HALF)
def mixed_15_small_variance(net: Net) -> None:
    scale, B, mean, var = net.statistics(6, dtype=np.float32)
    conv_bn(
        net, parameters=(scale * np.float32(1e-5), B, mean, var * np.float32(1e-10)), epsilon=0.0
    )


@fold("down to half behind the Conv, BN in half: Cast is carried", tolerance=2e-2)
def cast_down(net: Net) -> None:
    y = net.op("Cast", net.conv(net.input(), 4, 6), to=10)
    parameters = net.statistics(6, dtype=np.float16)
    net.output(net.op("Relu", net.bn(y, 6, parameters=parameters)), np.float16)


@fold("Conv in half between two Casts, BN in float32", tolerance=2e-2)
def cast_up(net: Net) -> None:
    x = net.op("Cast", net.input(), to=10)
    y = net.op("Conv", x, net.weight(6, 4, 3, 3, dtype=np.float16))
    net.output(net.op("Relu", net.bn(net.op("Cast", y, to=1), 6)))


@fold("BN in float32, Cast, Conv in half", tolerance=2e-2)
def cast_down_before_conv(net: Net) -> None:
    y = net.op("Cast", net.bn(net.input(), 4), to=10)
    net.output(net.op("Conv", y, net.weight(6, 4, 3, 3, dtype=np.float16)), np.float16)


@fold("float32 weights of 1e-30 times a scale of 1e30: only the product matters")
def extremes_cancel(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    w = net.const(net.random(6, 4, 3, 3) * np.float32(1e-30))
    y = net.op("Conv", net.input(), w)
    net.output(
        net.op(
            "Relu",
            net.bn(y, 6, parameters=(scale * np.float32(1e30), B, mean * np.float32(1e-30), var)),
        )
    )


@keep("float16: 65504 is the end, the folded weight would be inf", **HALF)
def half_overflow(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    w = net.const(net.random(6, 4, 3, 3) * np.float16(300))
    x = net.input("x", (2, 4, 6, 6), feed=np.random.default_rng(0).normal(size=(2, 4, 6, 6)) * 1e-3)
    parameters = (scale * np.float16(2000), B, mean, var)
    net.output(net.op("Relu", net.bn(net.op("Conv", x, w), 6, parameters=parameters)))


@keep("float32 overflow of the folded weight")
def single_overflow(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    w = net.const(net.random(6, 4, 3, 3) * np.float32(1e25))
    x = net.input(
        "x", (2, 4, 6, 6), feed=np.random.default_rng(0).normal(size=(2, 4, 6, 6)) * 1e-20
    )
    parameters = (scale * np.float32(1e20), B, mean, var)
    net.output(net.op("Relu", net.bn(net.op("Conv", x, w), 6, parameters=parameters)))


@keep("the bias overflows, the weight doesn't", **HALF)
def half_bias_overflow(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    # 36 taps of -55 on pixels of about one: the sum is about -1980, which the bias makes up for.
    w = net.const(net.random(6, 4, 3, 3) - np.float16(55))
    b = net.const(np.full(6, 1980, np.float16))
    pixels = 1 + 1e-3 * np.random.default_rng(0).normal(size=(2, 4, 6, 6))
    y = net.op("Conv", net.input("x", (2, 4, 6, 6), feed=pixels), w, b)
    parameters = (scale * np.float16(80), B, mean, var)
    net.output(net.op("Relu", net.bn(y, 6, parameters=parameters)))


@keep("in float32 the affine fits, in the Conv's float16 it doesn't", tolerance=2e-2)
def cast_up_overflow(net: Net) -> None:
    x = net.op("Cast", net.input(), to=10)
    y = net.op("Conv", x, net.weight(6, 4, 3, 3, dtype=np.float16))
    scale, B, mean, var = net.statistics(6)
    parameters = (scale * np.float32(1e6), B, mean, var)
    net.output(net.op("Relu", net.bn(net.op("Cast", y, to=1), 6, parameters=parameters)))


@keep("a variance below -epsilon: the root is NaN", vary={"value": (-0.5, -1e-5)})
def negative_variance(net: Net, value: float) -> None:
    scale, B, mean, var = net.statistics(6)
    var[1] = value
    conv_bn(net, parameters=(scale, B, mean, var), epsilon=1e-5)


@keep("var + epsilon = 0: the division gives inf")
def zero_variance_and_epsilon(net: Net) -> None:
    scale, B, mean, var = net.statistics(6)
    var[1] = 0
    conv_bn(net, parameters=(scale, B, mean, var), epsilon=0.0)


@keep("NaN or inf among the statistics", vary={"index": (0, 1, 2, 3), "value": ("nan", "inf")})
def not_finite(net: Net, index: int, value: str) -> None:
    parameters = list(net.statistics(6))
    parameters[index][1] = float(value)
    conv_bn(net, parameters=parameters)


@keep("NaN in the weight, behind a scale of zero")
def weight_not_finite(net: Net) -> None:
    weight = net.random(6, 4, 3, 3)
    weight[2, 0, 0, 0] = np.inf
    y = net.op("Conv", net.input(), net.const(weight))
    net.output(net.op("Relu", net.bn(y, 6)))
