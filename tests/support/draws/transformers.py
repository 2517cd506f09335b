"""Attention and what goes with it."""

import numpy as np

from support.draws.case import Case, draws
from support.draws.networks import f32
from support.draws.simple import reals, wholes


@draws("Attention")
def attention(rng, since, op):
    n, shared, heads, size, value = (int(s) for s in rng.integers(1, 4, size=5))
    queries, keys = (int(s) for s in rng.integers(1, 6, size=2))
    past = int(rng.integers(1, 4)) if rng.random() < 0.4 else 0
    q = reals(rng, (n, shared * heads, queries, 2 * size))
    k, v = reals(rng, (n, heads, keys, 2 * size)), reals(rng, (n, heads, keys, value))
    given = {}
    if rng.random() < 0.5:
        given = {"q_num_heads": shared * heads, "kv_num_heads": heads}
        q, k, v = (x.transpose(0, 2, 1, 3).reshape(n, x.shape[2], -1) for x in (q, k, v))
    total = keys + past
    mask = None
    if rng.random() < 0.5:
        sizes = [(queries, total), (n, shared * heads, queries, total), (1, 1, queries, total)]
        sizes = sizes[int(rng.integers(3))]
        mask = reals(rng, sizes) if rng.random() < 0.5 else rng.random(sizes) < 0.7
        if mask.dtype == bool:
            mask[..., 0] = True
    inputs = [q, k, v, mask]
    if past:
        inputs += [reals(rng, (n, heads, past, 2 * size)), reals(rng, (n, heads, past, value))]
    while inputs[-1] is None:
        inputs.pop()
    if rng.random() < 0.4:
        given["scale"] = 0.3
    # With a past the runtime lets a single query see every key.
    if rng.random() < 0.4 and not (past and queries == 1 and keys > 1):
        given["is_causal"] = 1
    if rng.random() < 0.4:
        given["softcap"] = 1.5
    outputs = 3 if past else int(rng.choice([1, 3]))
    return Case(op, inputs, given, outputs, tolerance=1e-4)


@draws("RotaryEmbedding")
def rotary(rng, since, op):
    n, heads, length, half = (int(s) for s in rng.integers(1, 5, size=4))
    partial = rng.random() < 0.4
    size = 2 * half + (2 if partial else 0)
    x = reals(rng, (n, heads, length, size))
    given = {"interleaved": int(rng.integers(2))}
    if partial:
        given["rotary_embedding_dim"] = 2 * half
    if rng.random() < 0.5 or partial:
        given["num_heads"] = heads
        x = x.transpose(0, 2, 1, 3).reshape(n, length, -1)
    if rng.random() < 0.5:
        angles = rng.normal(size=(9, half))
        positions = wholes(rng, (n, length), "int64", 0, 9)
        return Case(
            op, [x, f32(np.cos(angles)), f32(np.sin(angles)), positions], given, tolerance=1e-4
        )
    angles = rng.normal(size=(n, length, half))
    return Case(op, [x, f32(np.cos(angles)), f32(np.sin(angles))], given, tolerance=1e-4)


@draws("TensorScatter")
def tensor_scatter(rng, since, op):
    sizes = [int(s) for s in rng.integers(2, 5, size=int(rng.integers(2, 5)))]
    axis = int(rng.integers(1, len(sizes)))
    cache = reals(rng, sizes)
    length = int(rng.integers(1, sizes[axis] + 1))
    update = reals(rng, [length if i == axis else s for i, s in enumerate(sizes)])
    mode = str(rng.choice(["linear", "circular"]))
    high = sizes[axis] if mode == "circular" else sizes[axis] - length + 1
    inputs = [cache, update]
    if rng.random() < 0.7:
        inputs.append(wholes(rng, sizes[0], "int64", 0, high))
    given = {"mode": mode, "axis": axis - len(sizes) if rng.random() < 0.5 else axis}
    return Case(op, inputs, given)
