"""BN behind Gemm and MatMul."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.suite.registry import fold, keep

if TYPE_CHECKING:
    from benchmarks.suite.net import Net

GEMM = "columns of B' times s, C' = beta*s*C + t with beta' = 1"
MATMUL = "columns of W times s; the shift goes into the Add, or becomes one"


@fold(GEMM, vary={"transB": (0, 1), "bias": (False, True)})
def gemm(net: Net, transB: int, bias: bool) -> None:
    x = net.input("x", (3, 5))
    inputs = [x, net.weight(*((6, 5) if transB else (5, 6)))] + [net.weight(6)] * bias
    net.output(net.bn(net.op("Gemm", *inputs, transB=transB), 6))


@fold("square weight: rows are not columns", vary={"transB": (0, 1)})
def gemm_square(net: Net, transB: int) -> None:
    y = net.op("Gemm", net.input("x", (4, 4)), net.weight(4, 4), net.weight(4), transB=transB)
    net.output(net.bn(y, 4))


@fold("A' = A^T: the output's columns are B's still")
def gemm_trans_a(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (5, 3)), net.weight(5, 6), net.weight(6), transA=1)
    net.output(net.bn(y, 6))


@fold(GEMM, vary={"alpha": (0.5, 1.0), "beta": (0.0, 0.25, 2.0)})
def gemm_alpha_beta(net: Net, alpha: float, beta: float) -> None:
    x = net.input("x", (3, 5))
    y = net.op("Gemm", x, net.weight(6, 5), net.weight(6), alpha=alpha, beta=beta, transB=1)
    net.output(net.bn(y, 6))


@fold("alpha 0: the product is nothing, C remains")
def gemm_alpha_zero(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 6), net.weight(6), alpha=0.0)
    net.output(net.bn(y, 6))


@fold("no C: beta has nothing to multiply, C' = t must not be scaled by it")
def gemm_beta_without_c(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 6), beta=0.5)
    net.output(net.bn(y, 6))


@fold("an empty name is no C")
def gemm_empty_c(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 6), "", alpha=2.0)
    net.output(net.bn(y, 6))


@fold(
    "C is broadcast before it is scaled", vary={"shape": ((), (1,), (1, 1), (1, 6), (3, 1), (3, 6))}
)
def gemm_c_shape(net: Net, shape: tuple[int, ...]) -> None:
    C = net.const(np.asarray(net.random(*shape), np.float32))
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 6), C, beta=1.5)
    net.output(net.bn(y, 6))


@fold("square: (M, 1) is broadcast along the columns, not the rows")
def gemm_c_column_square(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (4, 4)), net.weight(4, 4), net.weight(4, 1))
    net.output(net.bn(y, 4))


@fold(GEMM, vary={"opset": (7, 9, 11, 13)})
def gemm_opset(net: Net) -> None:
    y = net.op("Gemm", net.input("x", ("N", 5)), net.weight(5, 6), net.weight(6), alpha=0.5)
    net.output(net.bn(y, 6))


@fold("Linear, BN, ReLU, twice, and a classifier")
def mlp(net: Net) -> None:
    y = net.input("x", ("N", 8))
    for width in (6, 5):
        inputs = net.weight(width, 8 if width == 6 else 6), net.weight(width)
        y = net.op("Relu", net.bn(net.op("Gemm", y, *inputs, transB=1), width))
    net.output(net.op("Gemm", y, net.weight(3, 5), net.weight(3), transB=1))


@fold(MATMUL)
def matmul(net: Net) -> None:
    net.output(net.bn(net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6)), 6))


@fold(MATMUL, vary={"side": ("left", "right"), "shape": ((6,), (1, 6), (1,), ())})
def matmul_add(net: Net, side: str, shape: tuple[int, ...]) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6))
    bias = net.const(np.asarray(net.random(*shape), np.float32))
    net.output(net.bn(net.op("Add", *((bias, y) if side == "left" else (y, bias))), 6))


@fold("(M, 1) and (M, N) vary over the rows: K' = s*K + t", vary={"shape": ((3, 1), (3, 6))})
def matmul_add_rows(net: Net, shape: tuple[int, ...]) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6))
    net.output(net.bn(net.op("Add", y, net.weight(*shape)), 6))


@fold("MatMul - c: s*(y - c) + t = s*y - (s*c - t)")
def matmul_sub(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6))
    net.output(net.bn(net.op("Sub", y, net.weight(6)), 6))


@fold(
    "Linear + BatchNorm1d over a sequence: the channel is MatMul's last axis",
    vary={"add": (False, True)},
)
def linear_transpose_bn(net: Net, add: bool) -> None:
    y = net.op("MatMul", net.input("x", (2, 7, 5)), net.weight(5, 6))
    y = net.op("Add", net.weight(6), y) if add else y
    y = net.bn(net.op("Transpose", y, perm=[0, 2, 1]), 6)
    net.output(net.op("Transpose", y, perm=[0, 2, 1]))


@fold("sequence as long as the channels are many: axes by place, not by size")
def linear_transpose_bn_square(net: Net) -> None:
    y = net.op("Add", net.op("MatMul", net.input("x", (2, 4, 4)), net.weight(4, 4)), net.weight(4))
    net.output(net.bn(net.op("Transpose", y, perm=[0, 2, 1]), 4))


@fold("LeViT: (B, T, N) flattened to (B*T, N) and back", vary={"how": ("Flatten", "Reshape")})
def linear_flatten_bn(net: Net, how: str) -> None:
    y = net.op("MatMul", net.input("x", (2, 7, 5)), net.weight(5, 6))
    if how == "Flatten":
        y = net.op("Flatten", y, axis=2)
    else:
        y = net.op("Reshape", y, net.const(np.int64([-1, 6])))
    net.output(net.op("Reshape", net.bn(y, 6), net.const(np.int64([2, 7, 6]))))


@fold("LeViT with a symbolic batch: Flatten's column is the last axis all the same")
def linear_flatten_bn_dynamic(net: Net) -> None:
    y = net.op("MatMul", net.input("x", ("B", "T", 5), sizes=(2, 7, 5)), net.weight(5, 6))
    y = net.bn(net.op("Flatten", y, axis=2), 6)
    net.output(y, shape=(None, 6))


@fold("constant on the left: the channel is a row of W")
def matmul_constant_left(net: Net) -> None:
    y = net.op("MatMul", net.weight(6, 5), net.input("x", (2, 5, 7)))
    net.output(net.bn(y, 6))


@fold("constant on the left with a bias (C, 1)")
def matmul_constant_left_add(net: Net) -> None:
    y = net.op("MatMul", net.weight(6, 5), net.input("x", (2, 5, 7)))
    net.output(net.bn(net.op("Add", y, net.weight(6, 1)), 6))


@fold("batched weight (H, K, N): the channel is the weight's own batch axis")
def matmul_channel_is_batch(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (2, 4, 3, 5)), net.weight(4, 5, 6))
    net.output(net.bn(y, 4))


@fold("batched weight (H, K, N), channel on N behind a Transpose")
def matmul_batched_transpose(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (2, 4, 3, 5)), net.weight(4, 5, 6))
    net.output(net.bn(net.op("Transpose", y, perm=[0, 3, 1, 2]), 6))


@fold("constant-left, batched (1, M, K)")
def matmul_constant_left_batched(net: Net) -> None:
    y = net.op("MatMul", net.weight(1, 6, 5), net.input("x", (2, 5, 7)))
    net.output(net.bn(y, 6))


@fold("a vector on the left: (K) @ (K, C) is (C)")
def matmul_vector_input(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (5,)), net.weight(5, 6))
    net.output(net.bn(net.op("Unsqueeze", y, net.const(np.int64([0]))), 6))


@fold("Gemm seen as an image: column n is channel n // (H*W)")
def gemm_reshape_to_image(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 24), net.weight(24))
    y = net.op("Reshape", y, net.const(np.int64([-1, 4, 2, 3])))
    net.output(net.bn(y, 4))


@fold("Gemm, Unsqueeze: the column is the channel")
def gemm_unsqueeze(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 6), net.weight(6))
    net.output(net.bn(net.op("Unsqueeze", y, net.const(np.int64([2]))), 6))


@fold("(M, 2C) to (2M, C): column n is channel n % C")
def gemm_reshape_repeats_channels(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 8), net.weight(8))
    net.output(net.bn(net.op("Reshape", y, net.const(np.int64([-1, 4]))), 4))


@fold("attention heads: (B, T, H*D) to (B, T, H, D) to (B, H, T, D); channel n // D")
def linear_heads(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (2, 7, 5)), net.weight(5, 12))
    y = net.op("Reshape", y, net.const(np.int64([0, 0, 4, 3])))
    net.output(net.bn(net.op("Transpose", y, perm=[0, 2, 1, 3]), 4))


@fold("Linear, Transpose, Reshape to an image")
def linear_tokens_to_image(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (2, 6, 5)), net.weight(5, 4))
    y = net.op("Transpose", net.op("Add", y, net.weight(4)), perm=[0, 2, 1])
    net.output(net.bn(net.op("Reshape", y, net.const(np.int64([0, 4, 2, 3]))), 4))


@keep("3-D MatMul, BN on axis 1: the sequence axis comes from x", vary={"length": (7, 4)})
def matmul_bn_on_sequence(net: Net, length: int) -> None:
    y = net.op("MatMul", net.input("x", (2, length, 5)), net.weight(5, 4))
    net.output(net.op("Relu", net.bn(y, length)))


@keep("C is an input of the model")
def gemm_c_is_input(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (3, 5)), net.weight(5, 6), net.input("c", (6,)))
    net.output(net.op("Relu", net.bn(y, 6)))


@keep("the columns of the output are those of the input: A is the constant")
def gemm_constant_a(net: Net) -> None:
    y = net.op("Gemm", net.weight(3, 5), net.input("x", (5, 6)))
    net.output(net.op("Relu", net.bn(y, 6)))


@keep("the same behind MatMul: (W @ x), channel from x, square so that sizes tell nothing")
def matmul_constant_left_channel_from_x(net: Net) -> None:
    y = net.op("MatMul", net.weight(4, 4), net.input("x", (4, 4)))
    net.output(net.op("Relu", net.bn(y, 4)))


@keep("both operands are computed")
def matmul_of_two_tensors(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (2, 4, 5)), net.input("z", (2, 5, 6)))
    net.output(net.op("Relu", net.bn(y, 4)))


@keep(
    "Reshape mixes batch and channel: row m//2, column (m%2)*N + n; no column of W is one channel"
)
def gemm_reshape_mixes_batch(net: Net) -> None:
    y = net.op("Gemm", net.input("x", (4, 5)), net.weight(5, 3), net.weight(3))
    net.output(net.op("Relu", net.bn(net.op("Reshape", y, net.const(np.int64([2, 6]))), 6)))


@keep("the Add's other operand is computed")
def matmul_add_tensor(net: Net) -> None:
    x = net.input("x", (3, 6))
    y = net.op("Add", net.op("MatMul", x, net.weight(6, 6)), net.op("Sigmoid", x))
    net.output(net.op("Relu", net.bn(y, 6)))


@keep("MatMul's vector on the right sums the last axis; the channel is x's")
def matmul_vector_right(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (2, 4, 5)), net.weight(5))
    net.output(net.op("Relu", net.bn(y, 4)))


@keep("the MatMul's output is read by a second node")
def matmul_has_another_reader(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6))
    net.output(net.op("Add", net.op("Relu", net.bn(y, 6)), net.op("Tanh", y)))


@keep("the sum before the bias is read by a second node")
def matmul_before_add_has_another_reader(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (3, 5)), net.weight(5, 6))
    z = net.bn(net.op("Add", y, net.weight(6)), 6)
    net.output(net.op("Add", net.op("Relu", z), net.op("Tanh", y)))


@fold("(A @ x)^T: the channel is a row of the constant A, C becomes a column")
def gemm_constant_a_transposed(net: Net) -> None:
    y = net.op("Gemm", net.weight(3, 5), net.input("x", (5, 6)))
    net.output(net.op("Relu", net.bn(net.op("Transpose", y, perm=[1, 0]), 3)))


@keep("the weight's batch axis is one and broadcast: the channel is x's")
def matmul_broadcast_batch(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (2, 4, 3, 5)), net.weight(1, 5, 6))
    net.output(net.op("Relu", net.bn(y, 4)))


@keep("x (M, K) against a batch of weights: axis 1 is M, from x")
def matmul_rows_of_a_batch(net: Net) -> None:
    y = net.op("MatMul", net.input("x", (4, 5)), net.weight(4, 5, 6))
    net.output(net.op("Relu", net.bn(y, 4)))
