"""Dropout, which lets everything pass unless it is told that it trains.

Source: ONNX operators Dropout-1 to -22.
"""

from __future__ import annotations

import numpy as np

from normswap.semantics.registry import operator


@operator("Dropout", since=(1, 6, 7, 10, 12, 13, 22))
def dropout(
    x: np.ndarray,
    ratio: np.ndarray | None = None,
    training_mode: np.ndarray | None = None,
    *,
    is_test: int = 0,
    seed: int | None = None,
    n_outputs: int = 1,
    opset: int,
) -> tuple[np.ndarray, ...]:
    """Return x and a mask of what passes; in training a share of x is 0, the rest larger for it.

    Until opset 11 nothing says what the mask is where nothing is dropped.
    """
    share = 0.5 if ratio is None else float(ratio)
    trains = not is_test if opset < 7 else training_mode is not None and bool(training_mode)
    if opset < 7 and trains:
        raise ValueError(
            "it is in training mode (is_test=0), and its random numbers are not defined"
        )
    if opset < 12 and n_outputs > 1:
        raise ValueError("its mask is read, which is not defined in inference mode")
    passes = np.ones(x.shape, bool)
    if trains and share > 0:
        # The generator of onnx's reference; no runtime draws the same numbers.
        passes = np.random.RandomState(seed).uniform(0, 1.0, x.shape) >= share
    scale = 1 / (1 - share) if trains and share < 1 else 1.0
    return (np.where(passes, x * scale, 0.0), passes)[:n_outputs]
