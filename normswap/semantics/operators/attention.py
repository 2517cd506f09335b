"""Attention, rotary embeddings, and the cache of keys and values.

Source: ONNX operators Attention-23 and -24, RotaryEmbedding-23, TensorScatter-24.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from normswap.semantics.registry import operator


def _heads(x: np.ndarray, count: int | None) -> np.ndarray:
    """Return (N, heads, length, size) of (N, length, heads * size)."""
    if x.ndim == 4:
        return x
    if count is None:
        raise ValueError("its inputs have three axes, and q_num_heads or kv_num_heads is missing")
    return x.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)


def _bias(mask: np.ndarray | None, length: int) -> np.ndarray:
    """Return what a mask adds: -inf where a key does not count, nor reaches."""
    if mask is None:
        return np.zeros((1, length))
    added = np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask
    missing = length - added.shape[-1]
    widths = [(0, 0)] * (added.ndim - 1) + [(0, missing)]
    return np.pad(added, widths, constant_values=-np.inf) if missing > 0 else added


@operator("Attention", since=(23, 24))
def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    past_key: np.ndarray | None = None,
    past_value: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    n_outputs: int = 1,
) -> tuple[np.ndarray, ...]:
    """Return softmax(q k' * scale + bias) v, of every head; keys and values with their past.

    Queries are (N, heads, length, size) or (N, length, heads * size); several heads of queries
    may share one of keys. A query that sees no key has the result 0.

    Raises
    ------
    ValueError
        If the scores are an output too, or `lengths` says how many keys count: of these the
        runtime and the specification say different things.
    """
    if n_outputs > 3 or qk_matmul_output_mode:
        raise ValueError("its output of scores is read, and runtimes define that differently")
    if lengths is not None:
        raise ValueError("nonpad_kv_seqlen is not supported in float64")
    flat = q.ndim == 3
    q, k, v = _heads(q, q_num_heads), _heads(k, kv_num_heads), _heads(v, kv_num_heads)
    offset = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
    present = (k, v)
    shared = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, shared, axis=1), np.repeat(v, shared, axis=1)
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = np.matmul(q, k.swapaxes(-1, -2)) * factor
    if softcap > 0:
        scores = np.tanh(scores / softcap) * softcap
    bias = _bias(mask, k.shape[2])
    if is_causal:
        rows, columns = np.arange(q.shape[2])[:, None], np.arange(k.shape[2])
        bias = bias + np.where(columns <= rows + offset, 0.0, -np.inf)
    scores = scores + bias
    largest = scores.max(axis=-1, keepdims=True)
    e = np.exp(scores - np.where(np.isneginf(largest), 0.0, largest))
    total = e.sum(axis=-1, keepdims=True)
    y = np.matmul(e / np.where(total == 0, 1.0, total), v)
    if flat:
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)
    return (y, *present)[:n_outputs]


@operator("RotaryEmbedding", since=(23,))
def rotary_embedding(
    x: np.ndarray,
    cosines: np.ndarray,
    sines: np.ndarray,
    positions: np.ndarray | None = None,
    *,
    interleaved: int = 0,
    num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
) -> np.ndarray:
    """Rotate pairs of elements of x, (N, heads, length, size) or (N, length, heads * size)."""
    heads = _heads(x, num_heads)
    width = rotary_embedding_dim or heads.shape[-1]
    turned, kept = heads[..., :width], heads[..., width:]
    if positions is not None:
        cosines, sines = cosines[positions], sines[positions]
    c, s = cosines[:, None], sines[:, None]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
    else:
        a, b = turned[..., : width // 2], turned[..., width // 2 :]
    pair: Any = (c * a - s * b, s * a + c * b)
    if interleaved:
        turned = np.stack(pair, axis=-1).reshape(turned.shape)
    else:
        turned = np.concatenate(pair, axis=-1)
    y = np.concatenate([turned, kept], axis=-1)
    return y if x.ndim == 4 else y.transpose(0, 2, 1, 3).reshape(x.shape)


@operator("TensorScatter", since=(24,))
def tensor_scatter(
    cache: np.ndarray,
    update: np.ndarray,
    begin: np.ndarray | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> np.ndarray:
    """Return a cache with an update written into every sample, from its own place on."""
    y = cache.copy()
    along = axis % cache.ndim
    for sample in range(len(cache)):
        places = np.arange(update.shape[along]) + (0 if begin is None else int(begin[sample]))
        if mode == "circular":
            places %= cache.shape[along]
        here = np.moveaxis(y[sample], along - 1, 0)
        here[places] = np.moveaxis(update[sample], along - 1, 0)
    return y
