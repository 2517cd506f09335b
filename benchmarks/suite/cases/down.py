"""BN in front of a linear operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.suite.registry import fold, keep, policy

if TYPE_CHECKING:
    from benchmarks.suite.net import Net

CONV = "W[:, c] *= s[c], b' = b + sum(W*t); no padding, so every tap sees the shift"
GEMM = "rows of B' times s, C' = beta*C + alpha * t @ B'"


def ints(net: Net, *values: int) -> str:
    return net.const(np.int64(values))


def image_bn(net: Net, **options: Any) -> str:
    """Put the BN under test directly behind the model's input, so that it can't go up."""
    return net.bn(net.input(), 4, **options)


@fold(CONV, vary={"bias": (False, True), "kernel": (1, 3)})
def bn_conv(net: Net, bias: bool, kernel: int) -> None:
    net.output(net.conv(image_bn(net), 4, 6, kernel, bias=bias))


@fold("input channel c of group g is W's column c - g*C/group", vary={"group": (2, 4)})
def bn_conv_group(net: Net, group: int) -> None:
    net.output(net.conv(image_bn(net), 4, 8, group=group))


@fold("square and grouped", vary={"group": (1, 2, 4)})
def bn_conv_square(net: Net, group: int) -> None:
    net.output(net.conv(image_bn(net), 4, 4, group=group, bias=False))


@fold(CONV, vary={"rank": (1, 3)})
def bn_conv_rank(net: Net, rank: int) -> None:
    y = net.bn(net.input("x", (2, 3, *[6] * rank)), 3)
    net.output(net.op("Conv", y, net.weight(5, 3, *[3] * rank), net.weight(5)))


@fold("an empty name is no bias: one is made")
def bn_conv_empty_bias(net: Net) -> None:
    net.output(net.op("Conv", image_bn(net), net.weight(6, 4, 3, 3), ""))


@fold(
    "strides and dilations without padding; VALID has none", vary={"auto_pad": ("NOTSET", "VALID")}
)
def bn_conv_strided(net: Net, auto_pad: str) -> None:
    y = net.conv(image_bn(net), 4, 6, auto_pad=auto_pad, strides=[2, 1], dilations=[1, 2])
    net.output(y)


@fold("both Convs take it: all readers absorb")
def bn_two_convs(net: Net) -> None:
    y = image_bn(net)
    net.output(net.op("Add", net.op("Relu", net.conv(y, 4, 6)), net.conv(y, 4, 6)))


@fold("three readers of three kinds: Conv, pooling and Gemm, Conv")
def bn_three_readers(net: Net) -> None:
    y = image_bn(net)
    net.output(net.conv(y, 4, 6))
    net.output(net.conv(y, 4, 2, 1, bias=False))
    pooled = net.op("Flatten", net.op("GlobalAveragePool", y))
    net.output(net.op("Gemm", pooled, net.weight(4, 3)))


@fold("t = 0: padding stays zero", vary={"auto_pad": ("NOTSET", "SAME_UPPER")})
def bn_conv_padded_without_shift(net: Net, auto_pad: str) -> None:
    pads = {"pads": [1, 1, 1, 1]} if auto_pad == "NOTSET" else {}
    net.output(net.conv(image_bn(net, shift=False), 4, 6, auto_pad=auto_pad, **pads))


@fold("SAME of a 1x1 kernel pads nothing")
def bn_conv_same_1x1(net: Net) -> None:
    net.output(net.conv(image_bn(net), 4, 6, 1, auto_pad="SAME_UPPER"))


@fold("SAME of a 2x2 kernel with stride 2 on 6x6 pads nothing")
def bn_conv_same_even(net: Net) -> None:
    net.output(net.conv(image_bn(net), 4, 6, 2, auto_pad="SAME_LOWER", strides=[2, 2]))


@fold("BN, BN, Conv")
def bn_bn_conv(net: Net) -> None:
    net.output(net.conv(net.bn(image_bn(net), 4), 4, 6))


@fold("BN on both sides of a Conv")
def bn_conv_bn(net: Net) -> None:
    net.output(net.op("Relu", net.bn(net.conv(image_bn(net), 4, 6), 6)))


@fold("behind a ReLU, in front of a 1x1 Conv (pre-activation order is the other one)")
def relu_bn_conv(net: Net) -> None:
    y = net.op("Relu", net.conv(net.input(), 4, 4))
    net.output(net.conv(net.bn(y, 4), 4, 6, 1))


@fold("nothing between but Identity and Dropout")
def bn_identity_conv(net: Net) -> None:
    y = net.op("Dropout", net.op("Identity", image_bn(net)))
    net.output(net.conv(y, 4, 6))


@fold("constants between: composed on the way", vary={"op": ("Add", "Mul", "Sub", "Div")})
def bn_constant_conv(net: Net, op: str) -> None:
    constant = net.const(net.rng.uniform(0.5, 2, (4, 1, 1)).astype(np.float32))
    net.output(net.conv(net.op(op, image_bn(net), constant), 4, 6))


@fold("image normalized by constants, then BN, then Conv")
def constant_bn_conv(net: Net) -> None:
    x = net.op("Div", net.op("Sub", net.input(), net.weight(4, 1, 1)), net.const(np.float32(3)))
    net.output(net.conv(net.bn(x, 4), 4, 6))


@fold("kernel = stride: every output pixel has one tap", vary={"group": (1, 2)})
def bn_conv_transpose(net: Net, group: int) -> None:
    y = net.op(
        "ConvTranspose", image_bn(net), net.weight(4, 6 // group, 2, 2), net.weight(6),
        strides=[2, 2], group=group,
    )  # fmt: skip
    net.output(y)


@fold("1x1 and no stride: a Conv in all but name")
def bn_conv_transpose_1x1(net: Net) -> None:
    net.output(net.op("ConvTranspose", image_bn(net), net.weight(4, 6, 1, 1)))


@fold("t = 0: rows of W times s, wherever the taps fall")
def bn_conv_transpose_without_shift(net: Net) -> None:
    y = net.op("ConvTranspose", image_bn(net, shift=False), net.weight(4, 6, 3, 3), strides=[2, 2])
    net.output(y)


# Linear


@fold(GEMM, vary={"transB": (0, 1), "bias": (False, True)})
def bn_gemm(net: Net, transB: int, bias: bool) -> None:
    y = net.bn(net.input("x", (3, 5)), 5)
    inputs = [net.weight(*((6, 5) if transB else (5, 6)))] + [net.weight(6)] * bias
    net.output(net.op("Gemm", y, *inputs, transB=transB))


@fold(GEMM, vary={"alpha": (0.5, 2.0), "beta": (0.0, 0.25)})
def bn_gemm_alpha_beta(net: Net, alpha: float, beta: float) -> None:
    y = net.bn(net.input("x", (3, 5)), 5)
    net.output(net.op("Gemm", y, net.weight(5, 6), net.weight(6), alpha=alpha, beta=beta))


@fold(
    "C of any shape takes a row vector after broadcasting",
    vary={"shape": ((), (1,), (3, 1), (3, 6))},
)
def bn_gemm_c_shape(net: Net, shape: tuple[int, ...]) -> None:
    y = net.bn(net.input("x", (3, 5)), 5)
    C = net.const(np.asarray(net.random(*shape), np.float32))
    net.output(net.op("Gemm", y, net.weight(5, 6), C, beta=2.0))


@fold("BN of B^T: the contracted axis is the channel, A takes the scale, C a column")
def bn_gemm_second_operand(net: Net) -> None:
    y = net.bn(net.input("x", (6, 5)), 5)
    net.output(net.op("Gemm", net.weight(3, 5), y, net.weight(6), transB=1))


@fold(
    "rows of W times s, the shift becomes an Add or joins the one there",
    vary={"add": (False, True)},
)
def bn_matmul(net: Net, add: bool) -> None:
    y = net.op("MatMul", net.bn(net.input("x", (3, 5)), 5), net.weight(5, 6))
    net.output(net.op("Add", y, net.weight(6)) if add else y)


@fold("constant on the left, contraction over the channel")
def bn_matmul_constant_left(net: Net) -> None:
    y = net.bn(net.input("x", (2, 5, 7)), 5)
    net.output(net.op("MatMul", net.weight(6, 5), y))


@fold("BatchNorm1d over a sequence, Transpose, Linear")
def bn_transpose_linear(net: Net) -> None:
    y = net.op("Transpose", net.bn(net.input("x", (2, 5, 7)), 5), perm=[0, 2, 1])
    net.output(net.op("Add", net.op("MatMul", y, net.weight(5, 6)), net.weight(6)))


@fold("BN, Transpose, Reshape, Gemm")
def bn_transpose_reshape_gemm(net: Net) -> None:
    y = net.op("Transpose", net.bn(net.input("x", (2, 5, 7)), 5), perm=[0, 2, 1])
    y = net.op("Reshape", y, ints(net, -1, 5))
    net.output(net.op("Gemm", y, net.weight(6, 5), net.weight(6), transB=1))


@fold(
    "BN, Flatten, Gemm: channel k // (H*W), each pixel's row of B gets its channel's s and t",
    vary={"how": ("Flatten", "Reshape")},
)
def bn_flatten_gemm(net: Net, how: str) -> None:
    y = net.bn(net.input("x", (2, 4, 3, 3)), 4)
    y = net.op("Flatten", y) if how == "Flatten" else net.op("Reshape", y, ints(net, 0, -1))
    net.output(net.op("Gemm", y, net.weight(36, 5), net.weight(5)))


@fold(
    "BN, pooling, Flatten, Gemm: the classifier of a network",
    vary={"op": ("GlobalAveragePool", "ReduceMean", "AveragePool")},
)
def bn_pool_flatten_gemm(net: Net, op: str) -> None:
    y = net.bn(net.op("Relu", net.input("x", (2, 4, 3, 3))), 4)
    attributes: dict[str, Any] = {
        "GlobalAveragePool": {},
        "ReduceMean": {"axes": [2, 3], "keepdims": 1},
        "AveragePool": {"kernel_shape": [3, 3]},
    }[op]
    y = net.op("Flatten", net.op(op, y, **attributes))
    net.output(net.op("Gemm", y, net.weight(4, 5), net.weight(5)))


# Carriers


@fold("pooling without counted padding between", vary={"op": ("AveragePool", "MaxPool")})
def bn_pool_conv(net: Net, op: str) -> None:
    y = image_bn(net, sign="nonnegative" if op == "MaxPool" else "mixed")
    net.output(net.conv(net.op(op, y, kernel_shape=[2, 2]), 4, 6))


@fold("s >= 0 and t = 0 pass the Relu, and the padding")
def bn_relu_conv(net: Net) -> None:
    y = net.op("Relu", image_bn(net, sign="nonnegative", shift=False))
    net.output(net.conv(y, 4, 6, pads=[1, 1, 1, 1]))


@fold("the other operands take the identity", vary={"first": (True, False)})
def bn_concat_conv(net: Net, first: bool) -> None:
    y, z = image_bn(net), net.input("z", (2, 3, 6, 6))
    y = net.op("Concat", *((y, z) if first else (z, y)), axis=1)
    net.output(net.conv(y, 7, 6, 1))


@fold("both operands have a BN")
def bns_concat_conv(net: Net) -> None:
    y, z = image_bn(net), net.bn(net.input("z", (2, 3, 6, 6)), 3)
    net.output(net.conv(net.op("Concat", y, z, axis=1), 7, 6))


@fold("Split to two Convs")
def bn_split_convs(net: Net) -> None:
    parts = net.op("Split", image_bn(net), ints(net, 1, 3), axis=1, out=2)
    net.output(net.conv(parts[0], 1, 2))
    net.output(net.conv(parts[1], 3, 2))


@fold("part of the channels, permuted", vary={"op": ("Gather", "Slice")})
def bn_select_conv(net: Net, op: str) -> None:
    y = image_bn(net)
    if op == "Gather":
        y = net.op("Gather", y, ints(net, 3, 1), axis=1)
    else:
        y = net.op("Slice", y, ints(net, -1), ints(net, -4), ints(net, 1), ints(net, -2))
    net.output(net.conv(y, 2, 6))


@fold("Gather may take a channel twice on the way down: each copy has its affine")
def bn_gather_twice_conv(net: Net) -> None:
    y = net.op("Gather", image_bn(net), ints(net, 1, 1, 0), axis=1)
    net.output(net.conv(y, 3, 6))


@fold("space to depth: channel (offset, c) has the affine of c (YOLO's Focus)")
def bn_space_to_depth_conv(net: Net) -> None:
    net.output(net.conv(net.op("SpaceToDepth", image_bn(net), blocksize=2), 16, 6))


@fold("Focus by four strided Slices and a Concat")
def bn_focus_conv(net: Net) -> None:
    y = image_bn(net)
    parts = [
        net.op("Slice", y, ints(net, i, j), ints(net, 6, 6), ints(net, 2, 3), ints(net, 2, 2))
        for i in (0, 1)
        for j in (0, 1)
    ]
    net.output(net.conv(net.op("Concat", *parts, axis=1), 16, 6))


@fold("nearest and linear weights sum to 1", vary={"mode": ("nearest", "linear")})
def bn_resize_conv(net: Net, mode: str) -> None:
    y = net.op("Resize", image_bn(net), "", net.const(np.float32([1, 1, 2, 2])), mode=mode)
    net.output(net.conv(y, 4, 6))


@fold("a reflecting border carries the shift", vary={"mode": ("reflect", "edge")})
def bn_pad_conv(net: Net, mode: str) -> None:
    y = net.op("Pad", image_bn(net), ints(net, 0, 0, 1, 1, 0, 0, 1, 1), mode=mode)
    net.output(net.conv(y, 4, 6))


@fold("channels are shuffled on the way")
def bn_shuffle_conv(net: Net) -> None:
    y = net.op("Reshape", image_bn(net), ints(net, 0, 2, 2, 6, 6))
    y = net.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    net.output(net.conv(net.op("Reshape", y, ints(net, 0, 4, 6, 6)), 4, 4, group=2))


@fold("an axis is squeezed away")
def bn_squeeze_gemm(net: Net) -> None:
    y = net.op("Squeeze", net.bn(net.input("x", (3, 5, 1, 1)), 5), ints(net, 2, 3))
    net.output(net.op("Gemm", y, net.weight(5, 6)))


@fold("channels to the last axis and a MatMul there")
def bn_channels_last_linear(net: Net) -> None:
    y = net.op("Transpose", image_bn(net), perm=[0, 2, 3, 1])
    net.output(net.op("MatMul", y, net.weight(4, 6)))


@fold("BN behind a sum that can't take it, in front of a 1x1 Conv")
def add_bn_conv(net: Net) -> None:
    x = net.input()
    y = net.bn(net.op("Add", x, net.op("Relu", x)), 4)
    net.output(net.conv(y, 4, 6, 1))


@policy("ReduceSum: the shift becomes H*W times itself; in no table, but exact")
def bn_reduce_sum_gemm(net: Net) -> None:
    y = net.op("ReduceSum", image_bn(net), ints(net, 2, 3), keepdims=0)
    net.output(net.op("Gemm", y, net.weight(4, 5)))


# Traps


@keep("zero padding meets the shift", vary={"auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER")})
def bn_conv_padded(net: Net, auto_pad: str) -> None:
    pads = {"pads": [1, 1, 1, 1]} if auto_pad == "NOTSET" else {}
    net.output(net.conv(image_bn(net), 4, 6, auto_pad=auto_pad, **pads))


@keep("padding on one side only")
def bn_conv_padded_end(net: Net) -> None:
    net.output(net.conv(image_bn(net), 4, 6, pads=[0, 0, 0, 1]))


@keep("a 1x1 kernel with pads: the border is bias alone")
def bn_conv_padded_1x1(net: Net) -> None:
    net.output(net.conv(image_bn(net), 4, 6, 1, pads=[1, 1, 1, 1]))


@keep("SAME with stride 2 on 7 pixels does pad; on unknown sizes it may", vary={"size": (7, "H")})
def bn_conv_same_strided(net: Net, size: int | str) -> None:
    x = net.input("x", (2, 4, size, size), sizes=(2, 4, 7, 7))
    y = net.conv(net.bn(x, 4), 4, 6, 2, auto_pad="SAME_UPPER", strides=[2, 2])
    net.output(y, shape=(2, 6, None, None))


@keep("one of two Convs is padded")
def bn_two_convs_one_padded(net: Net) -> None:
    y = image_bn(net)
    net.output(net.conv(y, 4, 6, 1))
    net.output(net.conv(y, 4, 6, pads=[1, 1, 1, 1]))


@keep("a Relu reads it too")
def bn_conv_and_relu(net: Net) -> None:
    y = image_bn(net)
    net.output(net.conv(y, 4, 6))
    net.output(net.op("Relu", y))


@keep("it's an output of the model")
def bn_is_output_and_read(net: Net) -> None:
    y = image_bn(net)
    net.output(y)
    net.output(net.conv(y, 4, 6))


@keep("a Relu between", vary={"shift": (True, False)})
def bn_relu_conv_mixed(net: Net, shift: bool) -> None:
    net.output(net.conv(net.op("Relu", image_bn(net, shift=shift)), 4, 6))


@keep("a maximum between, negative scales")
def bn_max_pool_conv_negative(net: Net) -> None:
    net.output(net.conv(net.op("MaxPool", image_bn(net), kernel_shape=[2, 2]), 4, 6))


@keep("zeros are padded between, outside the Conv")
def bn_zero_pad_conv(net: Net) -> None:
    y = net.op("Pad", image_bn(net), ints(net, 0, 0, 1, 1, 0, 0, 1, 1))
    net.output(net.conv(y, 4, 6))


@keep("counted padding between")
def bn_average_pool_padded_conv(net: Net) -> None:
    y = net.op("AveragePool", image_bn(net), kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    net.output(net.conv(y, 4, 6))


@keep("overlapping taps: near the border fewer of them", vary={"strides": (1, 2)})
def bn_conv_transpose_overlap(net: Net, strides: int) -> None:
    y = net.op(
        "ConvTranspose", image_bn(net), net.weight(4, 6, 3, 3), net.weight(6), strides=[strides] * 2
    )
    net.output(y)


@keep("stride beyond the kernel: some pixels have no tap and no shift")
def bn_conv_transpose_holes(net: Net) -> None:
    y = net.op("ConvTranspose", image_bn(net), net.weight(4, 6, 2, 2), strides=[3, 3])
    net.output(y)


@keep("output_padding makes pixels without a tap")
def bn_conv_transpose_output_padding(net: Net) -> None:
    y = net.op(
        "ConvTranspose", image_bn(net), net.weight(4, 6, 2, 2),
        strides=[2, 2], output_padding=[1, 1],
    )  # fmt: skip
    net.output(y)


@keep("A^T: the channel isn't contracted, square")
def bn_gemm_trans_a(net: Net) -> None:
    y = net.bn(net.input("x", (4, 4)), 4)
    net.output(net.op("Gemm", y, net.weight(4, 4), net.weight(4), transA=1))


@keep("BN of B: its channel is the output's column, square")
def bn_gemm_second_operand_column(net: Net) -> None:
    y = net.bn(net.input("x", (4, 4)), 4)
    net.output(net.op("Gemm", net.weight(4, 4), y))


@keep("MatMul contracts the last axis, the channel is the one before, square")
def bn_matmul_other_axis(net: Net) -> None:
    y = net.bn(net.input("x", (2, 4, 4)), 4)
    net.output(net.op("MatMul", y, net.weight(4, 4)))


@keep("constant on the left contracts rows; the channel of a matrix is its column")
def bn_matmul_constant_left_column(net: Net) -> None:
    net.output(net.op("MatMul", net.weight(4, 4), net.bn(net.input("x", (4, 4)), 4)))


@keep("the weight is an input")
def bn_conv_dynamic_weight(net: Net) -> None:
    net.output(net.op("Conv", image_bn(net), net.input("w", (6, 4, 3, 3))))


@keep(
    "a norm removes the affine, but not exactly: epsilon, and the sign",
    vary={"op": ("InstanceNormalization", "LayerNormalization")},
)
def bn_before_norm(net: Net, op: str) -> None:
    if op == "InstanceNormalization":
        net.output(net.op(op, image_bn(net), net.weight(4), net.weight(4), epsilon=0.1))
    else:
        net.output(net.op(op, image_bn(net), net.weight(4, 6, 6), axis=1, epsilon=0.1))


@keep("the scale of the residual's branch stays with it")
def bn_add_conv(net: Net) -> None:
    x = net.input()
    net.output(net.conv(net.op("Add", net.bn(x, 4), net.op("Relu", x)), 4, 6, 1))


@keep("a pixel shuffle mixes channels of several scales")
def bn_depth_to_space_conv(net: Net) -> None:
    net.output(net.conv(net.op("DepthToSpace", image_bn(net), blocksize=2), 1, 6))


@keep("Reshape and Gemm over rows that mix batch and channel")
def bn_reshape_mixes_gemm(net: Net) -> None:
    y = net.op("Reshape", net.bn(net.input("x", (4, 3)), 3), ints(net, 6, 2))
    net.output(net.op("Gemm", y, net.weight(2, 5)))


@keep("a product with another tensor between")
def bn_gate_conv(net: Net) -> None:
    y = image_bn(net)
    net.output(net.conv(net.op("Mul", y, net.op("Sigmoid", y)), 4, 6, 1))


@fold("LeakyRelu and PRelu let a scale s >= 0 pass", vary={"op": ("LeakyRelu", "PRelu")})
def bn_homogeneous_conv(net: Net, op: str) -> None:
    y = image_bn(net, sign="nonnegative", shift=False)
    y = net.op(op, y, *([net.weight(4, 1, 1)] if op == "PRelu" else []))
    net.output(net.conv(y, 4, 6, pads=[1] * 4))


@fold(
    "the maximum of the space, s >= 0, then a classifier",
    vary={"op": ("GlobalMaxPool", "ReduceMax")},
)
def bn_max_gemm(net: Net, op: str) -> None:
    y = image_bn(net, sign="nonnegative")
    y = net.op(op, y, **({"axes": [2, 3]} if op == "ReduceMax" else {}))
    net.output(net.op("Gemm", net.op("Flatten", y), net.weight(4, 5)))


@fold("a new axis, and a Conv over it")
def bn_unsqueeze_conv(net: Net) -> None:
    y = net.op("Unsqueeze", net.bn(net.input("x", (2, 4, 6)), 4), ints(net, 2))
    net.output(net.conv(y, 4, 6, 1))


@fold("space is repeated")
def bn_expand_conv(net: Net) -> None:
    y = net.op("Expand", net.bn(net.input("x", (2, 4, 1, 1)), 4), ints(net, 2, 4, 5, 5))
    net.output(net.conv(y, 4, 6))


@fold("a crop of the space")
def bn_slice_space_conv(net: Net) -> None:
    y = net.op("Slice", image_bn(net), ints(net, 1), ints(net, 5), ints(net, 2))
    net.output(net.conv(y, 4, 6))


@fold("c - BN(x): scale and shift change their sign")
def bn_reversed_sub_conv(net: Net) -> None:
    net.output(net.conv(net.op("Sub", net.weight(4, 1, 1), image_bn(net)), 4, 6))


@fold("one weight, read by a Conv behind the BN and by one that isn't")
def bn_conv_shared_weight(net: Net) -> None:
    x, w = net.input(), net.weight(4, 4, 3, 3)
    y = net.op("Conv", net.bn(net.op("Relu", x), 4), w)
    net.output(net.op("Add", y, net.op("Conv", x, w)))


@keep("a Concat over space: half of the image has the affine")
def bn_concat_space_conv(net: Net) -> None:
    y = net.op("Concat", image_bn(net), net.input("z"), axis=2)
    net.output(net.conv(y, 4, 6))


@keep("one half goes to a Conv, the other to a Relu")
def bn_split_one_relu(net: Net) -> None:
    parts = net.op("Split", image_bn(net), axis=1, out=2)
    net.output(net.conv(parts[0], 2, 6))
    net.output(net.op("Relu", parts[1]))


@keep("two BNs with two scales are added", left=2)
def bns_add_conv(net: Net) -> None:
    z = net.op("Relu", net.input("z"))
    net.output(net.conv(net.op("Add", image_bn(net), net.bn(z, 4)), 4, 6, 1))


@keep("the other operand has more axes: the channel is elsewhere then")
def bn_add_raises_the_rank(net: Net) -> None:
    y = net.op("Add", net.bn(net.input("x", (4, 4, 6)), 4), net.weight(2, 1, 1, 1))
    net.output(net.conv(y, 4, 6, 1))


@keep("C is what the model's input adds: the shift has a place, the scale has none")
def bn_as_gemm_c(net: Net) -> None:
    y = net.bn(net.input("c", (3, 6)), 6)
    net.output(net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 6), y))


@keep("the Conv's weight is what BN makes")
def bn_of_a_weight(net: Net) -> None:
    w = net.bn(net.input("w", (6, 4, 3, 3)), 4)
    net.output(net.op("Conv", net.input(), w))
