"""Matrix products, straight to BLAS, and what is made of matrices.

Source: ONNX operators of these names; com.microsoft FusedGemm-1, FusedMatMul-1.
"""

from __future__ import annotations

import numpy as np

from normswap.semantics.operators.activation import ACTIVATIONS
from normswap.semantics.registry import operator


@operator("MatMul", since=(1, 9, 13))
def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the matrix product."""
    return np.asarray(np.matmul(a, b))


@operator("Gemm", since=(1, 6, 7, 9, 11, 13))
def gemm(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> np.ndarray:
    """Return ``alpha * A' B' + beta * C``."""
    y = alpha * np.matmul(a.T if transA else a, b.T if transB else b)
    return np.asarray(y if c is None or beta == 0 else y + beta * c)


@operator("FusedGemm", since=(1,), domain="com.microsoft")
def fused_gemm(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> np.ndarray:
    """Return an activation of a Gemm."""
    y = gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    numbers = [n for n in (activation_alpha, activation_beta) if n is not None]
    return ACTIVATIONS[activation](y, *numbers) if activation else y


@operator("FusedMatMul", since=(1,), domain="com.microsoft")
def fused_matmul(
    a: np.ndarray, b: np.ndarray, *, alpha: float = 1.0, transA: int = 0, transB: int = 0
) -> np.ndarray:
    """Return ``alpha * A' B'``, the last two axes transposed as told."""
    left = np.swapaxes(a, -1, -2) if transA and a.ndim > 1 else a
    right = np.swapaxes(b, -1, -2) if transB and b.ndim > 1 else b
    return np.asarray(alpha * np.matmul(left, right))


@operator("Einsum", since=(12, 28))
def einsum(*arrays: np.ndarray, equation: str) -> np.ndarray:
    """Return a sum over products, as an equation of axes says."""
    return np.asarray(np.einsum(equation.replace(" ", ""), *arrays, optimize=len(arrays) > 2))


@operator("Det", since=(11, 22))
def det(x: np.ndarray) -> np.ndarray:
    """Return the determinants of matrices."""
    return np.asarray(np.linalg.det(x))
