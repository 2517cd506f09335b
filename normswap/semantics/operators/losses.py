"""Losses: the negative log likelihood of classes, as a mean, a sum, or one by one.

Source: ONNX operators NegativeLogLikelihoodLoss-12 to -22, SoftmaxCrossEntropyLoss-12 and -13.
"""

from __future__ import annotations

import numpy as np

from normswap.semantics.operators.softmax import log_softmax
from normswap.semantics.registry import operator


@operator("NegativeLogLikelihoodLoss", since=(12, 13, 22))
def nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> np.ndarray:
    """Return minus the value of x (N, C, *places) at every place's class, weighted."""
    counted = np.ones(target.shape, bool) if ignore_index is None else target != ignore_index
    classes = np.where(counted, target, 0).astype(np.int64)
    weights = counted * (1.0 if weight is None else weight[classes])
    picked = np.take_along_axis(x, classes[:, None], axis=1)[:, 0]
    loss = -np.where(counted, picked, 0.0) * weights
    if reduction == "none":
        return loss
    return np.asarray(loss.sum() / weights.sum() if reduction == "mean" else loss.sum())


@operator("SoftmaxCrossEntropyLoss", since=(12, 13))
def softmax_cross_entropy_loss(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    n_outputs: int = 1,
) -> tuple[np.ndarray, ...]:
    """Return the loss of a LogSoftmax over the classes, and that itself."""
    logarithm = log_softmax(x, axis=1, opset=13)
    loss = nll_loss(logarithm, target, weight, ignore_index=ignore_index, reduction=reduction)
    return (loss, logarithm)[:n_outputs]
