"""BN behind operators whose weights are integers behind a DequantizeLinear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from benchmarks.suite.registry import BATCH_NORM, fold, keep, policy

if TYPE_CHECKING:
    from benchmarks.suite.net import Net

SCALES = "s goes into the scale of DequantizeLinear; where s < 0 the integers are negated"


def integers(net: Net, shape: tuple[int, ...], dtype: Any = np.int8) -> str:
    low, high = (-127, 128) if dtype == np.int8 else (1, 256)
    return net.const(net.rng.integers(low, high, shape).astype(dtype))


def scales(net: Net, count: int | None) -> str:
    values = net.rng.uniform(0.005, 0.02, count or ())
    return net.const(np.asarray(values, np.float32))


def weight(
    net: Net,
    shape: tuple[int, ...],
    *,
    axis: int | None = 0,
    zero_point: bool = True,
    dtype: Any = np.int8,
) -> str:
    """Return the dequantized weight; ``axis=None`` is one scale for all."""
    count = None if axis is None else shape[axis]
    inputs = [integers(net, shape, dtype), scales(net, count)]
    if zero_point:
        middle = 0 if dtype == np.int8 else 128
        inputs.append(net.const(np.full(() if count is None else count, middle, dtype)))
    attributes = {} if axis is None else {"axis": axis}
    return net.op("DequantizeLinear", *inputs, **attributes)


def finish(net: Net, y: str, channels: int = 6, **options: Any) -> None:
    net.output(net.op("Relu", net.bn(y, channels, **options)))


@fold(SCALES, vary={"bias": (False, True), "zero_point": (False, True)})
def conv_per_channel(net: Net, bias: bool, zero_point: bool) -> None:
    w = weight(net, (6, 4, 3, 3), zero_point=zero_point)
    finish(net, net.op("Conv", net.input(), w, *[net.weight(6)] * bias))


@fold("one scale becomes one for each channel", vary={"opset": (13, 17, 21)})
def conv_per_tensor(net: Net) -> None:
    finish(net, net.op("Conv", net.input(), weight(net, (6, 4, 3, 3), axis=None), net.weight(6)))


@fold("uint8 around 128: 256 - q is in range for q >= 1", vary={"axis": (None, 0)})
def conv_uint8(net: Net, axis: int | None) -> None:
    w = weight(net, (6, 4, 3, 3), axis=axis, dtype=np.uint8)
    finish(net, net.op("Conv", net.input(), w))


@fold("s >= 0: the integers stay, -128 among them")
def conv_minus_128_positive(net: Net) -> None:
    q = net.rng.integers(-128, 128, (6, 4, 3, 3)).astype(np.int8)
    q[:, 0, 0, 0] = -128
    w = net.op("DequantizeLinear", net.const(q), scales(net, 6), axis=0)
    finish(net, net.op("Conv", net.input(), w), sign="nonnegative")


@fold("grouped and depthwise", vary={"group": (2, 4)})
def conv_group(net: Net, group: int) -> None:
    w = weight(net, (8, 4 // group, 3, 3))
    finish(net, net.op("Conv", net.input(), w, group=group), 8)


@fold("output channels on axis 1, one group")
def conv_transpose(net: Net) -> None:
    w = weight(net, (4, 6, 3, 3), axis=1)
    finish(net, net.op("ConvTranspose", net.input(), w, net.weight(6), strides=[2, 2]))


@fold("columns of B", vary={"transB": (0, 1)})
def gemm(net: Net, transB: int) -> None:
    w = weight(net, (6, 5) if transB else (5, 6), axis=0 if transB else 1)
    y = net.op("Gemm", net.input("x", (3, 5)), w, net.weight(6), transB=transB)
    finish(net, y)


@fold("MatMul + Add, columns", vary={"axis": (None, 1)})
def matmul(net: Net, axis: int | None) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), weight(net, (5, 6), axis=axis))
    finish(net, net.op("Add", y, net.weight(6)))


@fold("quantized activations around: Q, DQ, Conv, BN, Q, DQ")
def qdq(net: Net) -> None:
    scale, zero = net.const(np.float32(0.02)), net.const(np.int8(0))
    x = net.op("QuantizeLinear", net.input(), scale, zero)
    x = net.op("DequantizeLinear", x, scale, zero)
    y = net.bn(net.op("Conv", x, weight(net, (6, 4, 3, 3)), net.weight(6)), 6)
    out, nothing = net.const(np.float32(0.1)), net.const(np.int8(3))
    y = net.op("QuantizeLinear", y, out, nothing)
    net.output(net.op("DequantizeLinear", y, out, nothing))


@fold("two Convs with BNs on one quantized weight")
def shared_weight(net: Net) -> None:
    w, x = weight(net, (4, 4, 3, 3)), net.input()
    y = net.op("Relu", net.bn(net.op("Conv", x, w, pads=[1] * 4), 4))
    finish(net, net.op("Conv", y, w), 4)


@fold("blocks along the input channels: the scales of row m times |s[m]|", opset=21)
def blocked(net: Net) -> None:
    block = net.const(net.rng.uniform(0.005, 0.02, (6, 2)).astype(np.float32))
    w = net.op("DequantizeLinear", integers(net, (6, 8)), block, axis=1, block_size=4)
    y = net.op("Gemm", net.input("x", (3, 8)), w, net.weight(6), transB=1)
    finish(net, y)


@fold(
    "integer Conv, Cast, Mul by the scale, Add of the bias: constants like any", residue=BATCH_NORM
)
def conv_integer(net: Net) -> None:
    x = net.input("x", (2, 4, 6, 6), np.uint8, feed=np.arange(288).reshape(2, 4, 6, 6) % 251)
    y = net.op("ConvInteger", x, integers(net, (6, 4, 3, 3)))
    y = net.op("Mul", net.op("Cast", y, to=1), net.const(np.float32(0.001)))
    finish(net, net.op("Add", y, net.weight(6, 1, 1)))


@policy("a bias in int32: s*b + t isn't a whole number of steps, unless it becomes a float")
def int32_bias(net: Net) -> None:
    w = weight(net, (6, 4, 3, 3))
    b = net.const(net.rng.integers(-500, 500, 6).astype(np.int32))
    b = net.op("DequantizeLinear", b, scales(net, 6), axis=0)
    finish(net, net.op("Conv", net.input(), w, b))


@policy("a float weight, quantized and dequantized at run time: constant, but meant to be seen")
def quantized_at_run_time(net: Net) -> None:
    scale, zero = scales(net, 6), net.const(np.zeros(6, np.int8))
    w = net.op(
        "QuantizeLinear", net.const(net.random(6, 4, 3, 3) * np.float32(0.5)), scale, zero, axis=0
    )
    finish(net, net.op("Conv", net.input(), net.op("DequantizeLinear", w, scale, zero, axis=0)))


@policy("scales on the input channels: the output's can only go into the integers")
def other_axis(net: Net) -> None:
    finish(net, net.op("Conv", net.input(), weight(net, (6, 4, 3, 3), axis=1)))


@keep("-128 can't be negated in int8")
def conv_minus_128_negative(net: Net) -> None:
    q = net.rng.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8)
    q[:, 0, 0, 0] = -128
    w = net.op("DequantizeLinear", net.const(q), scales(net, 6), axis=0)
    finish(net, net.op("Conv", net.input(), w))


@keep("uint8 without a zero point can't be negated")
def uint8_without_zero_point(net: Net) -> None:
    w = net.op("DequantizeLinear", integers(net, (6, 4, 3, 3), np.uint8), scales(net, None))
    finish(net, net.op("Conv", net.input(), w))


@keep("opset 10 has one scale for all channels", opset=10)
def per_tensor_10(net: Net) -> None:
    finish(net, net.op("Conv", net.input(), weight(net, (6, 4, 3, 3), axis=None)))


@keep("the Conv's output is quantized before the BN sees it")
def quantized_between(net: Net) -> None:
    scale, zero = net.const(np.float32(0.05)), net.const(np.int8(0))
    y = net.op("Conv", net.input(), weight(net, (6, 4, 3, 3)))
    y = net.op("DequantizeLinear", net.op("QuantizeLinear", y, scale, zero), scale, zero)
    finish(net, y)


@keep("QLinearConv requantizes inside")
def qlinear_conv(net: Net) -> None:
    x = net.input("x", (2, 4, 6, 6), np.uint8, feed=np.arange(288).reshape(2, 4, 6, 6) % 251)
    scale, zero = net.const(np.float32(0.02)), net.const(np.uint8(128))
    y = net.op(
        "QLinearConv", x, scale, zero, integers(net, (6, 4, 3, 3)), net.const(np.float32(0.01)),
        net.const(np.int8(0)), net.const(np.float32(0.1)), zero,
    )  # fmt: skip
    finish(net, net.op("DequantizeLinear", y, net.const(np.float32(0.1)), zero))


@keep("a BN in front of a quantized Conv: s is per input channel, the scales per output")
def bn_before_quantized_conv(net: Net) -> None:
    y = net.bn(net.op("Relu", net.input()), 4)
    net.output(net.op("Conv", y, weight(net, (6, 4, 3, 3))))


@keep("the weight's scale is an input of the model")
def scale_is_input(net: Net) -> None:
    scale = net.input("s", (6,), feed=np.linspace(0.01, 0.02, 6))
    w = net.op("DequantizeLinear", integers(net, (6, 4, 3, 3)), scale, axis=0)
    finish(net, net.op("Conv", net.input(), w))


@keep("int4 has -8 and no 8", opset=21)
def int4_minus_8(net: Net) -> None:
    q = net.rng.integers(-7, 8, (6, 4, 1, 1))
    q[:, 0] = -8
    proto = helper.make_tensor("q", TensorProto.INT4, q.shape, q.ravel())
    w = net.op("DequantizeLinear", net.const(proto, "q"), scales(net, 6), axis=0)
    finish(net, net.op("Conv", net.input(), w))


@fold("dequantized, then transposed: PyTorch's Linear without a Gemm")
def transposed_matmul(net: Net) -> None:
    w = net.op("Transpose", weight(net, (6, 5), axis=0), perm=[1, 0])
    finish(net, net.op("MatMul", net.input("x", (3, 5)), w))


@keep("uint8 around 100: 200 - q isn't there for q > 200")
def uint8_off_centre(net: Net) -> None:
    q = net.rng.integers(0, 256, (6, 4, 3, 3)).astype(np.uint8)
    q[:, 0, 0, 0] = 255
    w = net.op("DequantizeLinear", net.const(q), scales(net, None), net.const(np.uint8(100)))
    finish(net, net.op("Conv", net.input(), w))
