"""onnxruntime's com.microsoft.GroupNorm in NumPy, with what its CUDA kernel asks for.

The arithmetic is the kernel's: float32 throughout, sums of x and of x^2, the SiLU fused. So is what
it refuses (onnxruntime/contrib_ops/cuda/diffusion/group_norm.cc and group_norm_impl.cu).
"""

from __future__ import annotations

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


class GroupNorm(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x, gamma, beta, *, epsilon=1e-5, groups=None, activation=None, channels_last=1):
        if not channels_last:
            raise NotImplementedError("only the channels_last layout is supported")
        if gamma.dtype != np.float32 or beta.dtype != np.float32:
            raise NotImplementedError("gamma and beta are float32")
        if x.ndim != 4 or x.dtype not in (np.float32, np.float16):
            raise NotImplementedError("x is (N, H, W, C) in float32 or float16")
        batch, height, width, channels = x.shape
        each = channels // groups
        if channels % groups or gamma.shape != (channels,) or beta.shape != (channels,):
            raise ValueError("the channels don't fit")
        if each % 2 or each > 512:
            raise NotImplementedError("GroupNorm in CUDA does not support the input")
        if activation not in (0, 1):
            raise ValueError("the activation is required, and 0 or 1")
        parts = x.astype(np.float32).reshape(batch, height * width, groups, each)
        mean = parts.mean(axis=(1, 3), keepdims=True, dtype=np.float32)
        square = np.square(parts).mean(axis=(1, 3), keepdims=True, dtype=np.float32)
        var = square - np.square(mean)
        deviation = np.where(var > 0, 1 / np.sqrt(np.maximum(var, 0) + np.float32(epsilon)), 1)
        y = ((parts - mean) * deviation.astype(np.float32)).reshape(x.shape) * gamma + beta
        if activation:
            y = y / (1 + np.exp(-y))
        return (y.astype(x.dtype),)


def run_emulated(model, **feeds):
    """Run a model that may have com.microsoft.GroupNorm in it."""
    return ReferenceEvaluator(model, new_ops=[GroupNorm]).run(None, feeds)


def silu(values):
    """Return ``v * sigmoid(v)``, without overflow for any v."""
    with np.errstate(over="ignore", invalid="ignore"):
        gate = np.exp(-np.abs(values))
        return values * (np.where(values >= 0, 1.0, gate) / (1.0 + gate))
