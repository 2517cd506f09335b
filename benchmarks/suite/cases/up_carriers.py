"""BN behind operators that only move, select or pool what a Conv made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.suite.registry import fold, keep, policy

if TYPE_CHECKING:
    from benchmarks.suite.net import Net


def ints(net: Net, *values: int) -> str:
    return net.const(np.int64(values))


def relu_bn(net: Net, y: str, channels: int, **options: Any) -> None:
    """Put the BN under test behind `y`, and a Relu behind it, so that it can't go down."""
    net.output(net.op("Relu", net.bn(y, channels, **options)))


# Shape


@fold("batch and space may be swapped, axis 1 stays", vary={"perm": ((0, 1, 3, 2), (2, 1, 0, 3))})
def transpose(net: Net, perm: tuple[int, ...]) -> None:
    relu_bn(net, net.op("Transpose", net.conv(net.input(), 4, 6), perm=perm), 6)


@fold("to channels last and back")
def transpose_twice(net: Net) -> None:
    y = net.op("Transpose", net.conv(net.input(), 4, 6), perm=[0, 2, 3, 1])
    y = net.op("Identity", y)
    relu_bn(net, net.op("Transpose", y, perm=[0, 3, 1, 2]), 6)


@fold("the default perm reverses: axis 1 of three stays")
def transpose_default(net: Net) -> None:
    y = net.op("Conv", net.input("x", (2, 4, 6)), net.weight(5, 4, 3))
    relu_bn(net, net.op("Transpose", y), 5)


@fold("space is flattened", vary={"shape": ((2, 6, 16), (0, 0, -1), (0, 6, -1), (-1, 6, 16))})
def reshape_flattens_space(net: Net, shape: tuple[int, ...]) -> None:
    relu_bn(net, net.op("Reshape", net.conv(net.input(), 4, 6), ints(net, *shape)), 6)


@fold("symbolic batch and space")
def reshape_dynamic(net: Net) -> None:
    x = net.input("x", ("N", 4, "H", "W"), sizes=(2, 4, 6, 5))
    y = net.op("Reshape", net.conv(x, 4, 6), ints(net, 0, 0, -1))
    relu_bn(net, y, 6)


@fold("channel split in two axes: c // 2")
def reshape_splits_channels(net: Net) -> None:
    y = net.op("Reshape", net.conv(net.input(), 4, 6), ints(net, 0, 3, 2, 4, 4))
    relu_bn(net, y, 3)


@fold("group and channel, BN over the group, Reshape to (N, g, C/g * H * W)")
def reshape_groups(net: Net) -> None:
    relu_bn(net, net.op("Reshape", net.conv(net.input(), 4, 6), ints(net, 0, 2, -1)), 2)


@fold("channel shuffle (ShuffleNet): Reshape, Transpose, Reshape permutes the channels")
def channel_shuffle(net: Net) -> None:
    y = net.op("Reshape", net.conv(net.input(), 4, 6), ints(net, 0, 2, 3, 4, 4))
    y = net.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    relu_bn(net, net.op("Reshape", y, ints(net, 0, 6, 4, 4)), 6)


@fold("channels to the batch axis: (N, C, H, W) to (N*2, C/2, H, W), channel c % (C/2)")
def reshape_channels_to_batch(net: Net) -> None:
    relu_bn(net, net.op("Reshape", net.conv(net.input(), 4, 6), ints(net, -1, 3, 4, 4)), 3)


@fold(
    "space is 1x1: nothing but the channel is flattened",
    vary={"how": ("Flatten", "Reshape", "Squeeze")},
)
def flatten_one_pixel(net: Net, how: str) -> None:
    y = net.conv(net.input("x", (2, 4, 3, 3)), 4, 6)
    if how == "Flatten":
        y = net.op("Flatten", y)
    elif how == "Reshape":
        y = net.op("Reshape", y, ints(net, 0, -1))
    else:
        y = net.op("Squeeze", y, ints(net, 2, -1))
    relu_bn(net, y, 6)


@fold("Flatten at axis 2 of a Linear's output", vary={"axis": (2, -1)})
def flatten_axis(net: Net, axis: int) -> None:
    y = net.op("MatMul", net.input("x", (2, 3, 5)), net.weight(5, 6))
    relu_bn(net, net.op("Flatten", y, axis=axis), 6)


@fold("Squeeze without axes drops every axis of length one")
def squeeze_all(net: Net) -> None:
    y = net.op("Conv", net.input("x", (2, 4, 3, 3)), net.weight(6, 4, 3, 3))
    relu_bn(net, net.op("Squeeze", y), 6)


@fold("axes as an attribute until 12", opset=11)
def squeeze_unsqueeze_11(net: Net) -> None:
    y = net.op("Squeeze", net.conv(net.input("x", (2, 4, 3, 3)), 4, 6), axes=[2, 3])
    relu_bn(net, net.op("Unsqueeze", y, axes=[2]), 6)


@fold("an axis behind the channel", vary={"axis": (2, -1, 4)})
def unsqueeze(net: Net, axis: int) -> None:
    relu_bn(net, net.op("Unsqueeze", net.conv(net.input(), 4, 6), ints(net, axis)), 6)


@fold("one BN channel over all of the Conv's: s[0] and t[0] for every m")
def unsqueeze_before_channel(net: Net) -> None:
    relu_bn(net, net.op("Unsqueeze", net.conv(net.input(), 4, 6), ints(net, 1)), 1)


@fold("space is repeated, channels aren't")
def expand_space(net: Net) -> None:
    y = net.op("GlobalAveragePool", net.conv(net.input(), 4, 6))
    relu_bn(net, net.op("Expand", y, ints(net, 2, 6, 3, 3)), 6)


@fold("channel = c // 4 (CRD) or c % C (DCR)", vary={"mode": ("DCR", "CRD")})
def depth_to_space(net: Net, mode: str) -> None:
    y = net.op("DepthToSpace", net.conv(net.input(), 4, 12), blocksize=2, mode=mode)
    relu_bn(net, y, 3)


@policy("SpaceToDepth: one Conv channel becomes four; foldable only since the four agree here")
def space_to_depth_uniform(net: Net) -> None:
    y = net.op("SpaceToDepth", net.conv(net.input(), 4, 3), blocksize=2)
    relu_bn(net, y, 12, parameters=[np.tile(p, 4) for p in net.statistics(3)])


# Selection


@fold("a crop of the space", vary={"opset": (9, 11, 17)})
def slice_space(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    if net.opset < 10:
        y = net.op("Slice", y, axes=[2, 3], starts=[1, 0], ends=[3, -1])
    else:
        y = net.op("Slice", y, ints(net, 1, 0), ints(net, 3, -1), ints(net, 2, 3))
    relu_bn(net, y, 6)


@fold("channels 2 to 4; nobody reads the others")
def slice_channels(net: Net) -> None:
    y = net.op("Slice", net.conv(net.input(), 4, 6), ints(net, 2), ints(net, 5), ints(net, 1))
    relu_bn(net, y, 3)


@fold("backwards and every second channel")
def slice_channels_reversed(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    y = net.op("Slice", y, ints(net, -1), ints(net, -7), ints(net, 1), ints(net, -2))
    relu_bn(net, y, 3)


@fold("two parts, two BNs: each scales its own channels", vary={"opset": (11, 13, 18)})
def split_channels(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    if net.opset < 13:
        parts = net.op("Split", y, axis=1, split=[2, 4], out=2)
    elif net.opset < 18:
        parts = net.op("Split", y, ints(net, 2, 4), axis=1, out=2)
    else:
        parts = net.op("Split", y, axis=1, num_outputs=2, out=2)
    sizes = (3, 3) if net.opset == 18 else (2, 4)
    for part, size in zip(parts, sizes, strict=True):
        relu_bn(net, part, size)


@fold("the other part takes the identity")
def split_channels_one_bn(net: Net) -> None:
    parts = net.op("Split", net.conv(net.input(), 4, 6), ints(net, 2, 4), axis=1, out=2)
    relu_bn(net, parts[1], 4)
    net.output(net.op("Sigmoid", parts[0]))


@fold("Split of a Linear over the last axis (q, k, v), a BN on one of them")
def split_linear(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 9))
    q, k, v = net.op("Split", y, axis=1, out=3)
    relu_bn(net, k, 3)
    net.output(net.op("Mul", q, v))


@fold("a permutation of the channels")
def gather_channels(net: Net) -> None:
    y = net.op("Gather", net.conv(net.input(), 4, 6), ints(net, 3, 0, -1, 2), axis=1)
    relu_bn(net, y, 4)


@fold("one column of the space: a scalar index drops the axis")
def gather_space(net: Net) -> None:
    y = net.op("Gather", net.conv(net.input(), 4, 6), net.const(np.int64(1)), axis=3)
    relu_bn(net, y, 6)


# Joining


@fold("every operand takes its own channels", vary={"axis": (1, -3)})
def concat_convs(net: Net, axis: int) -> None:
    x = net.input()
    parts = [net.conv(x, 4, 2), net.conv(x, 4, 5, bias=False), net.conv(x, 4, 1)]
    relu_bn(net, net.op("Concat", *parts, axis=axis), 8)


@fold("MixNet: Split, depthwise Convs of several sizes, Concat, BN")
def mixnet(net: Net) -> None:
    parts = net.op("Split", net.input("x", (2, 6, 8, 8)), axis=1, out=3)
    convs = [
        net.conv(part, 2, 2, kernel, group=2, bias=False, pads=[kernel // 2] * 4)
        for part, kernel in zip(parts, (3, 5, 7), strict=True)
    ]
    relu_bn(net, net.op("Concat", *convs, axis=1), 6)


@fold("Concat in Concat")
def concat_nested(net: Net) -> None:
    x = net.input()
    inner = net.op("Concat", net.conv(x, 4, 2), net.conv(x, 4, 3), axis=1)
    relu_bn(net, net.op("Concat", net.conv(x, 4, 1), inner, axis=1), 6)


@fold("Concat of a ConvTranspose and a Conv")
def concat_different_operators(net: Net) -> None:
    x = net.input()
    y = net.op("ConvTranspose", x, net.weight(4, 3, 1, 1))
    relu_bn(net, net.op("Concat", y, net.conv(x, 4, 2, 1), axis=1), 5)


@fold("Concat over space: the same affine for every operand", vary={"axis": (0, 2, -1)})
def concat_other_axis(net: Net, axis: int) -> None:
    x = net.input()
    y = net.op("Concat", net.conv(x, 4, 6), net.conv(x, 4, 6), axis=axis)
    relu_bn(net, y, 6)


@fold("a constant operand is scaled and shifted like the others")
def concat_constant(net: Net) -> None:
    y = net.op("Concat", net.conv(net.input(), 4, 4), net.weight(2, 2, 4, 4), axis=1)
    relu_bn(net, y, 6)


@fold("s to both, t to one", vary={"op": ("Add", "Sub", "Sum")})
def add_convs(net: Net, op: str) -> None:
    x = net.input()
    relu_bn(net, net.op(op, net.conv(x, 4, 6), net.conv(net.op("Relu", x), 4, 6)), 6)


@fold("Sum of three")
def sum_of_three(net: Net) -> None:
    x = net.input()
    relu_bn(net, net.op("Sum", *(net.conv(x, 4, 6, bias=False) for _ in range(3))), 6)


@fold("broadcast over space: both have the channels")
def add_broadcast_space(net: Net) -> None:
    x = net.input()
    pooled = net.conv(net.op("GlobalAveragePool", x), 4, 6, 1)
    relu_bn(net, net.op("Add", pooled, net.conv(x, 4, 6)), 6)


@fold("Add of MatMuls (two inputs), BN", vary={"op": ("Add", "Sub")})
def add_matmuls(net: Net, op: str) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6))
    z = net.op("MatMul", net.input("z", (3, 4)), net.weight(4, 6))
    relu_bn(net, net.op(op, y, z), 6)


# Activation and pooling


@fold("positively homogeneous, s >= 0, t = 0", vary={"op": ("Relu", "LeakyRelu", "PRelu")})
def homogeneous(net: Net, op: str) -> None:
    y = net.conv(net.input(), 4, 6)
    y = net.op(op, y, *([net.weight(6, 1, 1)] if op == "PRelu" else []))
    net.output(net.op("Tanh", net.bn(y, 6, sign="nonnegative", shift=False)))


@fold("a maximum keeps its place where s >= 0; the padding is -inf", vary={"pads": (0, 1)})
def max_pool(net: Net, pads: int) -> None:
    y = net.conv(net.input(), 4, 6)
    y = net.op("MaxPool", y, kernel_shape=[2, 2], pads=[pads] * 4, strides=[2, 2])
    relu_bn(net, y, 6, sign="nonnegative")


@fold("the maximum of the whole space", vary={"op": ("GlobalMaxPool", "ReduceMax")})
def global_max(net: Net, op: str) -> None:
    attributes = {"axes": [2, 3], "keepdims": 0} if op == "ReduceMax" else {}
    y = net.op(op, net.conv(net.input(), 4, 6), **attributes)
    relu_bn(net, y, 6, sign="nonnegative")


@fold("PointNet: Conv1d, max over the points, BN")
def pointnet(net: Net) -> None:
    y = net.op("Conv", net.input("x", (2, 3, 9)), net.weight(6, 3, 1), net.weight(6))
    relu_bn(net, net.op("ReduceMax", y, axes=[2], keepdims=0), 6, sign="nonnegative")


@fold(
    "no padding is counted: the weights of a mean sum to 1",
    vary={"include": (0, 1), "pads": (0, 1)},
)
def average_pool(net: Net, include: int, pads: int) -> None:
    shift = not (include and pads)  # the padding's zeros are counted: then only t = 0 is exact
    y = net.conv(net.input(), 4, 6)
    y = net.op("AveragePool", y, kernel_shape=[2, 2], pads=[pads] * 4, count_include_pad=include)
    relu_bn(net, y, 6, shift=shift)


@fold("ceil_mode without counted padding divides by what is there")
def average_pool_ceil(net: Net) -> None:
    y = net.conv(net.input("x", (2, 4, 7, 7)), 4, 6)
    y = net.op("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    relu_bn(net, y, 6)


@fold("auto_pad's padding isn't counted by default")
def average_pool_same(net: Net) -> None:
    y = net.conv(net.input("x", (2, 4, 7, 7)), 4, 6)
    y = net.op("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    relu_bn(net, y, 6)


@fold("the mean of the space", vary={"op": ("GlobalAveragePool", "ReduceMean")})
def global_mean(net: Net, op: str) -> None:
    attributes = {"axes": [2, 3], "keepdims": 1} if op == "ReduceMean" else {}
    relu_bn(net, net.op(op, net.conv(net.input(), 4, 6), **attributes), 6)


@fold("ReduceMean with axes as an input", opset=18, vary={"keepdims": (0, 1)})
def reduce_mean_18(net: Net, keepdims: int) -> None:
    y = net.op("ReduceMean", net.conv(net.input(), 4, 6), ints(net, -1, 2), keepdims=keepdims)
    relu_bn(net, y, 6)


@fold("pool, flatten, BN: three carriers in a row")
def pool_flatten(net: Net) -> None:
    y = net.op("GlobalAveragePool", net.conv(net.input(), 4, 6))
    relu_bn(net, net.op("Flatten", y), 6)


@fold("min(s*x) = s*min(x) for s >= 0")
def reduce_min(net: Net) -> None:
    y = net.op("ReduceMin", net.conv(net.input(), 4, 6), axes=[2, 3])
    net.output(net.bn(y, 6, sign="nonnegative"))


@fold("s*sum(x) + t = sum(s*x + t/n), n = 16 elements")
def reduce_sum(net: Net) -> None:
    y = net.op("ReduceSum", net.conv(net.input(), 4, 6), ints(net, 2, 3))
    relu_bn(net, y, 6)


# Padding and resampling


@fold("the border repeats what is inside", vary={"mode": ("edge", "reflect")})
def pad_repeats(net: Net, mode: str) -> None:
    y = net.op("Pad", net.conv(net.input(), 4, 6), ints(net, 0, 0, 1, 1, 0, 0, 2, 1), mode=mode)
    relu_bn(net, y, 6)


@fold("wrap", opset=19)
def pad_wrap(net: Net) -> None:
    y = net.op("Pad", net.conv(net.input(), 4, 6), ints(net, 0, 0, 1, 1, 0, 0, 2, 1), mode="wrap")
    relu_bn(net, y, 6)


@fold("pads as an attribute, reflecting", opset=10)
def pad_10(net: Net) -> None:
    y = net.op("Pad", net.conv(net.input(), 4, 6), pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect")
    relu_bn(net, y, 6)


@fold("zeros stay zeros under a scale; t = 0")
def pad_zero_without_shift(net: Net) -> None:
    y = net.op("Pad", net.conv(net.input(), 4, 6), ints(net, 0, 0, 1, 1, 0, 0, 1, 1))
    relu_bn(net, y, 6, shift=False)


@policy("negative pads only crop")
def pad_negative(net: Net) -> None:
    y = net.op("Pad", net.conv(net.input(), 4, 6), ints(net, 0, 0, -1, 0, 0, 0, 0, -1))
    relu_bn(net, y, 6)


@fold("the weights of every output pixel sum to 1", vary={"mode": ("nearest", "linear", "cubic")})
def resize(net: Net, mode: str) -> None:
    scales = net.const(np.float32([1, 1, 2, 1.5]))
    y = net.op("Resize", net.conv(net.input(), 4, 6), "", scales, mode=mode)
    relu_bn(net, y, 6)


@fold("by sizes, aligned corners")
def resize_sizes(net: Net) -> None:
    y = net.op(
        "Resize", net.conv(net.input(), 4, 6), "", "", ints(net, 2, 6, 7, 5),
        mode="linear", coordinate_transformation_mode="align_corners",
    )  # fmt: skip
    relu_bn(net, y, 6)


@fold("Resize-10 and Upsample-9, its elder", vary={"opset": (9, 10)})
def upsample(net: Net) -> None:
    op = "Upsample" if net.opset == 9 else "Resize"
    scales = net.const(np.float32([1, 1, 2, 2]))
    relu_bn(net, net.op(op, net.conv(net.input(), 4, 6), scales, mode="nearest"), 6)


@fold("a long way: Resize, Slice, Transpose, Reshape, MaxPool")
def long_way(net: Net) -> None:
    y = net.op("Resize", net.conv(net.input(), 4, 6), "", net.const(np.float32([1, 1, 2, 2])))
    y = net.op("Slice", y, ints(net, 0), ints(net, 6), ints(net, 2))
    y = net.op("Transpose", y, perm=[0, 2, 3, 1])
    y = net.op("Reshape", y, ints(net, 2, -1, 6))
    y = net.op("Transpose", y, perm=[0, 2, 1])
    y = net.op("MaxPool", y, kernel_shape=[2])
    relu_bn(net, y, 6, sign="nonnegative")


# Traps


@keep("axis 1 is H now, as long as C")
def transpose_to_height(net: Net) -> None:
    y = net.conv(net.input("x", (2, 4, 6, 6)), 4, 4)
    relu_bn(net, net.op("Transpose", y, perm=[0, 2, 1, 3]), 4)


@keep("(N, C, H, W) to (N, C*H, W): one BN channel for each row")
def reshape_merges_height(net: Net) -> None:
    y = net.op("Reshape", net.conv(net.input(), 4, 3), ints(net, 2, 12, 4))
    relu_bn(net, y, 12)


@keep("(N, C, H, W) to (N, H, C, W): no transposition, another channel")
def reshape_misread_as_transpose(net: Net) -> None:
    y = net.conv(net.input("x", (2, 4, 8, 6)), 4, 4)  # (2, 4, 6, 4)
    relu_bn(net, net.op("Reshape", y, ints(net, 2, 6, 4, 4)), 6)


@keep("batch joins the channels: sample 0 and sample 1 differ")
def reshape_merges_batch(net: Net) -> None:
    y = net.op("Reshape", net.conv(net.input(), 4, 3), ints(net, 1, 6, 4, 4))
    relu_bn(net, y, 6)


@keep("Flatten of 2x2 pixels: one BN channel for each pixel")
def flatten_pixels(net: Net) -> None:
    y = net.op("Flatten", net.conv(net.input("x", (2, 4, 4, 4)), 4, 3))
    relu_bn(net, y, 12)


@keep("the batch axis is dropped, axis 1 is H, as long as C")
def squeeze_batch(net: Net) -> None:
    y = net.op("Squeeze", net.conv(net.input("x", (1, 4, 6, 6)), 4, 4), ints(net, 0))
    relu_bn(net, y, 4)


@keep("one channel is repeated to four: the Conv makes only one")
def expand_channels(net: Net) -> None:
    y = net.op("Expand", net.conv(net.input(), 4, 1), ints(net, 2, 4, 4, 4))
    relu_bn(net, y, 4)


@keep("the four offsets of a block become four channels with four affines")
def space_to_depth(net: Net) -> None:
    relu_bn(net, net.op("SpaceToDepth", net.conv(net.input(), 4, 3), blocksize=2), 12)


@keep("half of the space is read elsewhere")
def split_space(net: Net) -> None:
    top, bottom = net.op("Split", net.conv(net.input(), 4, 6), axis=2, out=2)
    relu_bn(net, top, 6)
    net.output(net.op("Sigmoid", bottom))


@keep("two halves of the space with two BNs", left=2)
def split_space_two_bns(net: Net) -> None:
    for part in net.op("Split", net.conv(net.input(), 4, 6), axis=2, out=2):
        relu_bn(net, part, 6)


@keep("overlapping slices with two affines", left=2)
def slices_overlap(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    for start in (0, 2):
        part = net.op("Slice", y, ints(net, start), ints(net, start + 4), ints(net, 1))
        relu_bn(net, part, 4)


@keep("channel 1 is taken twice with two scales")
def gather_twice(net: Net) -> None:
    y = net.op("Gather", net.conv(net.input(), 4, 6), ints(net, 1, 1, 0, 2), axis=1)
    relu_bn(net, y, 4)


@keep("which channels are taken is known at run time only")
def gather_dynamic(net: Net) -> None:
    indices = net.input("i", (4,), np.int64, feed=[3, 1, 0, 5])
    y = net.op("Gather", net.conv(net.input(), 4, 6), indices, axis=1)
    relu_bn(net, y, 4)


@keep("an operand of the Concat is an input of the model")
def concat_input(net: Net) -> None:
    x = net.input()
    y = net.op("Concat", net.conv(x, 4, 2, 1), x, axis=1)
    relu_bn(net, y, 6)


@keep("the same tensor twice, with two affines")
def concat_same_twice(net: Net) -> None:
    y = net.conv(net.input(), 4, 3)
    relu_bn(net, net.op("Concat", y, y, axis=1), 6)


@keep("an operand of the Concat is read elsewhere (DenseNet)")
def concat_operand_shared(net: Net) -> None:
    x = net.input()
    y = net.conv(x, 4, 3)
    relu_bn(net, net.op("Concat", y, net.conv(x, 4, 3), axis=1), 6)
    net.output(net.op("Sigmoid", y))


@keep("x + F(x): the sum's other operand can't take the scale")
def add_input(net: Net) -> None:
    x = net.input()
    relu_bn(net, net.op("Add", net.conv(x, 4, 4, 1), x), 4)


@keep("one channel is broadcast over all")
def add_broadcast_channel(net: Net) -> None:
    x = net.input()
    relu_bn(net, net.op("Add", net.conv(x, 4, 6), net.conv(x, 4, 1)), 6)


@keep("negative scale behind a Relu", vary={"op": ("Relu", "LeakyRelu", "PRelu")})
def homogeneous_negative(net: Net, op: str) -> None:
    y = net.conv(net.input(), 4, 6)
    y = net.op(op, y, *([net.weight(6, 1, 1)] if op == "PRelu" else []))
    net.output(net.op("Tanh", net.bn(y, 6, shift=False)))


@keep("a shift can't pass a Relu, whatever its sign")
def relu_shift(net: Net) -> None:
    y = net.op("Relu", net.conv(net.input(), 4, 6))
    net.output(net.op("Tanh", net.bn(y, 6, sign="nonnegative")))


@keep(
    "not homogeneous, though s >= 0 and t = 0",
    vary={"op": ("Clip", "HardSwish", "Softplus", "Elu")},
)
def inhomogeneous(net: Net, op: str) -> None:
    y = net.conv(net.input(), 4, 6)
    limits = [net.const(np.float32(v)) for v in (0, 6)] if op == "Clip" else []
    y = net.op(op, y, *limits)
    net.output(net.op("Tanh", net.bn(y, 6, sign="nonnegative", shift=False)))


@keep(
    "a negative scale turns a maximum into a minimum",
    vary={"op": ("MaxPool", "GlobalMaxPool", "ReduceMax")},
)
def max_negative(net: Net, op: str) -> None:
    attributes: dict[str, Any] = {
        "MaxPool": {"kernel_shape": [2, 2]},
        "GlobalMaxPool": {},
        "ReduceMax": {"axes": [2, 3]},
    }[op]
    relu_bn(net, net.op(op, net.conv(net.input(), 4, 6), **attributes), 6)


@keep("the Indices of a maximum are read, and a scale of zero moves them")
def max_pool_indices(net: Net) -> None:
    y, indices = net.op("MaxPool", net.conv(net.input(), 4, 6), kernel_shape=[2, 2], out=2)
    relu_bn(net, y, 6, sign="nonnegative")
    net.output(indices, np.int64)


@keep("zeros of the padding are counted, t isn't zero", vary={"ceil_mode": (0, 1)})
def average_pool_counts_padding(net: Net, ceil_mode: int) -> None:
    y = net.op(
        "AveragePool", net.conv(net.input("x", (2, 4, 7, 7)), 4, 6), ceil_mode=ceil_mode,
        kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1,
    )  # fmt: skip
    relu_bn(net, y, 6)


@keep(
    "the mean, or maximum, over the channels", vary={"op": ("ReduceMean", "ReduceMax", "ReduceSum")}
)
def reduce_channels(net: Net, op: str) -> None:
    y = net.conv(net.input("x", (2, 4, 6, 6)), 4, 4)
    if op == "ReduceSum":
        y = net.op(op, y, ints(net, 1), keepdims=0)
    else:
        y = net.op(op, y, axes=[1], keepdims=0)
    relu_bn(net, y, 4, sign="nonnegative")


@keep("the padding isn't what the shift would make of it", vary={"value": (0.0, 1.5)})
def pad_constant(net: Net, value: float) -> None:
    pads = ints(net, 0, 0, 1, 1, 0, 0, 1, 1)
    y = net.op("Pad", net.conv(net.input(), 4, 6), pads, net.const(np.float32(value)))
    relu_bn(net, y, 6)


@keep("channels are added by the padding", vary={"mode": ("constant", "reflect")})
def pad_channels(net: Net, mode: str) -> None:
    y = net.op("Pad", net.conv(net.input(), 4, 4), ints(net, 0, 1, 0, 0, 0, 1, 0, 0), mode=mode)
    relu_bn(net, y, 6)


@keep("outside the image a constant is put in")
def resize_extrapolates(net: Net) -> None:
    roi = net.const(np.float32([0, 0, -0.3, -0.3, 1, 1, 1.3, 1.3]))
    y = net.op(
        "Resize", net.conv(net.input(), 4, 6), roi, "", ints(net, 2, 6, 5, 5), mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0,
    )  # fmt: skip
    relu_bn(net, y, 6)


@keep("Resize interpolates between channels")
def resize_channels(net: Net) -> None:
    y = net.op("Unsqueeze", net.conv(net.input(), 4, 3), ints(net, 0))
    y = net.op("Resize", y, "", net.const(np.float32([1, 1, 2, 1, 1])), mode="nearest")
    y = net.op("Squeeze", y, ints(net, 0))
    relu_bn(net, y, 6)


@keep("through integers: rounding comes before the affine")
def cast_to_integer(net: Net) -> None:
    y = net.op("Cast", net.conv(net.input(), 4, 6), to=6)
    relu_bn(net, net.op("Cast", y, to=1), 6)


@keep("Dropout in training, ratio 0, but its mask is read", left=1)
def dropout_mask(net: Net) -> None:
    y, mask = net.op("Dropout", net.conv(net.input(), 4, 6), out=2)
    z = net.op("Where", mask, net.bn(y, 6), y)
    net.output(net.op("Relu", z))


@keep("a softmax over the channels")
def softmax_between(net: Net) -> None:
    relu_bn(net, net.op("Softmax", net.conv(net.input(), 4, 6), axis=1), 6)


@keep("the pooled tensor has a second reader")
def carrier_has_another_reader(net: Net) -> None:
    y = net.op("AveragePool", net.conv(net.input(), 4, 6), kernel_shape=[2, 2])
    relu_bn(net, y, 6)
    net.output(net.op("Sigmoid", y))


@keep("the tensor between is an output of the model")
def carrier_is_output(net: Net) -> None:
    y = net.op("Reshape", net.conv(net.input(), 4, 6), ints(net, 0, 6, -1))
    net.output(y)
    relu_bn(net, y, 6)


@fold("MaxPool's Indices have a name but no reader")
def max_pool_indices_unread(net: Net) -> None:
    y, _ = net.op("MaxPool", net.conv(net.input(), 4, 6), kernel_shape=[2, 2], out=2)
    relu_bn(net, y, 6, sign="nonnegative")


@fold("two Slices that share no channel, each with its BN")
def slices_disjoint(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    for start, end in ((0, 2), (2, 6)):
        part = net.op("Slice", y, ints(net, start), ints(net, end), ints(net, 1))
        relu_bn(net, part, end - start)


@fold("operands and sum have BNs: the outer one goes on up", vary={"op": ("Add", "Concat")})
def bns_joined_then_bn(net: Net, op: str) -> None:
    x = net.input()
    parts = net.bn(net.conv(x, 4, 3), 3), net.conv(x, 4, 3)
    y = net.op(op, *parts, **({"axis": 1} if op == "Concat" else {}))
    relu_bn(net, y, 6 if op == "Concat" else 3)


@fold("Concat and Sum of a single operand", vary={"op": ("Concat", "Sum")})
def join_of_one(net: Net, op: str) -> None:
    attributes = {"axis": 1} if op == "Concat" else {}
    relu_bn(net, net.op(op, net.conv(net.input(), 4, 6), **attributes), 6)


@policy("y + y of one Conv: s*y and t/2 twice")
def add_same_twice(net: Net) -> None:
    y = net.conv(net.input(), 4, 6)
    relu_bn(net, net.op("Add", y, y), 6)


@fold("over the batch: the channel is untouched", vary={"op": ("ReduceMean", "ReduceMax")})
def reduce_batch(net: Net, op: str) -> None:
    y = net.op(op, net.conv(net.input(), 4, 6), axes=[0], keepdims=1)
    relu_bn(net, y, 6, sign="nonnegative")


@fold("no axes and noop_with_empty_axes: nothing is reduced", opset=18)
def reduce_nothing(net: Net) -> None:
    y = net.op("ReduceMean", net.conv(net.input(), 4, 6), noop_with_empty_axes=1)
    relu_bn(net, y, 6)


@fold("pads for the axes that are named", opset=18)
def pad_axes(net: Net) -> None:
    y = net.op(
        "Pad", net.conv(net.input(), 4, 6), ints(net, 1, 2), "", ints(net, 3), mode="reflect"
    )
    relu_bn(net, y, 6)


@fold("scales for the axes that are named", opset=18)
def resize_axes(net: Net) -> None:
    scales = net.const(np.float32([2, 1.5]))
    y = net.op("Resize", net.conv(net.input(), 4, 6), "", scales, axes=[2, 3], mode="linear")
    relu_bn(net, y, 6)


@fold("dilated pooling", opset=19, vary={"op": ("MaxPool", "AveragePool")})
def pool_dilated(net: Net, op: str) -> None:
    y = net.op(op, net.conv(net.input(), 4, 6), kernel_shape=[2, 2], dilations=[2, 2])
    relu_bn(net, y, 6, sign="nonnegative")


@fold("Gather of samples")
def gather_batch(net: Net) -> None:
    relu_bn(net, net.op("Gather", net.conv(net.input(), 4, 6), ints(net, 1, 0, 1), axis=0), 6)


@fold("Mul and Add with a Transpose between")
def affine_around_transpose(net: Net) -> None:
    y = net.op("Mul", net.conv(net.input(), 4, 6), net.weight(6, 1, 1))
    y = net.op("Add", net.op("Transpose", y, perm=[0, 2, 3, 1]), net.weight(6))
    relu_bn(net, net.op("Transpose", y, perm=[0, 3, 1, 2]), 6)


@fold("no axes: the mean of everything, and one affine for every channel of the Conv")
def reduce_everything(net: Net) -> None:
    y = net.op("ReduceMean", net.conv(net.input(), 4, 6), keepdims=1)
    net.output(net.op("Sigmoid", net.bn(y, 1)))


@keep("the batch axis is gone, axis 1 is H, as long as C")
def reduce_batch_away(net: Net) -> None:
    y = net.conv(net.input("x", (2, 4, 6, 6)), 4, 4)
    relu_bn(net, net.op("ReduceMean", y, axes=[0], keepdims=0), 4)


@keep("which axes are reduced is known at run time only", opset=18)
def reduce_dynamic_axes(net: Net) -> None:
    axes = net.input("axes", (1,), np.int64, feed=[0])
    y = net.op("ReduceMean", net.conv(net.input(), 4, 4), axes, keepdims=1)
    net.output(net.op("Relu", net.bn(y, 4)), shape=(None, None, None, None))


@keep("how much each axis grows is known at run time only: channels too, perhaps")
def resize_dynamic(net: Net) -> None:
    scales = net.op("Cast", net.input("s", (4,), np.int64, feed=[1, 2, 1, 1]), to=1)
    y = net.op("Resize", net.conv(net.input(), 4, 3), "", scales, mode="nearest")
    net.output(net.op("Relu", net.bn(y, 6)), shape=(None, None, None, None))


@keep("the pads are known at run time only: on the channels, perhaps")
def pad_dynamic(net: Net) -> None:
    pads = net.input("p", (8,), np.int64, feed=[0, 1, 0, 0, 0, 1, 0, 0])
    y = net.op("Pad", net.conv(net.input(), 4, 4), pads, mode="reflect")
    net.output(net.op("Relu", net.bn(y, 6)), shape=(None, None, None, None))


@keep("where the Slice starts, on the channels, is known at run time only")
def slice_dynamic(net: Net) -> None:
    start = net.input("i", (1,), np.int64, feed=[1])
    y = net.op("Slice", net.conv(net.input(), 4, 6), start, ints(net, 5), ints(net, 1))
    net.output(net.op("Relu", net.bn(y, 4)), shape=(2, None, 4, 4))


@keep("the target shape is known at run time only")
def reshape_to_input(net: Net) -> None:
    shape = net.input("shape", (4,), np.int64, feed=[2, 4, 6, 4])
    y = net.op("Reshape", net.conv(net.input("x", (2, 4, 8, 6)), 4, 4), shape)
    net.output(net.op("Relu", net.bn(y, 4)), shape=(None, None, None, None))


@keep("zeros are added to the batch")
def pad_batch(net: Net) -> None:
    y = net.op("Pad", net.conv(net.input(), 4, 6), ints(net, 0, 0, 0, 0, 1, 0, 0, 0))
    relu_bn(net, y, 6)


@keep("indices of rank two: a BN channel is a pair of the Conv's")
def gather_pairs(net: Net) -> None:
    pairs = net.const(np.int64([[0, 1], [1, 2]]))
    relu_bn(net, net.op("Gather", net.conv(net.input(), 4, 3), pairs, axis=1), 2)


@keep("a new axis in front: axis 1 is the batch, as large as C")
def unsqueeze_batch(net: Net) -> None:
    y = net.conv(net.input("x", (4, 4, 6, 6)), 4, 4)
    relu_bn(net, net.op("Unsqueeze", y, ints(net, 0)), 4)


@keep("Flatten before W: the columns are W, as many as channels")
def flatten_before_width(net: Net) -> None:
    y = net.conv(net.input("x", (2, 4, 6, 6)), 4, 4)
    relu_bn(net, net.op("Flatten", y, axis=3), 4)


@keep("Dropout in training, by a constant: a random mask between", runs_in="nothing")
def dropout_training(net: Net) -> None:
    ratio, training = net.const(np.float32(0.5)), net.const(np.bool_(1))
    relu_bn(net, net.op("Dropout", net.conv(net.input(), 4, 6), ratio, training), 6)


@keep("the scale of a channel decides which elements win: LpPool, sum of squares' root; s < 0")
def lp_pool(net: Net) -> None:
    relu_bn(net, net.op("GlobalLpPool", net.conv(net.input(), 4, 6)), 6)


@keep("elements are scattered into the Conv's result", opset=18)
def scatter(net: Net) -> None:
    indices = net.const(np.zeros((1, 6, 4, 4), np.int64))
    y = net.op("ScatterElements", net.conv(net.input(), 4, 6), indices, net.weight(1, 6, 4, 4))
    relu_bn(net, y, 6)
