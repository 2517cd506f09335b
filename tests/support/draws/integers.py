"""Quantization, and arithmetic in quantized integers."""

import numpy as np

from support.draws.case import Case, draws
from support.draws.networks import f32, windows
from support.draws.simple import reals, shape, wholes


def scaling(rng, x, dtype, since):
    """Return a scale, a zero point and attributes: whole, by axis, or by blocks."""
    axis = int(rng.integers(x.ndim))
    sizes, given = (), {}
    choice = rng.random()
    if choice < 0.4 and since >= 13:
        sizes, given = (x.shape[axis],), {"axis": axis - x.ndim if rng.random() < 0.5 else axis}
    elif choice < 0.6 and since >= 21:
        sizes = list(x.shape)
        sizes[axis] = -(-x.shape[axis] // 2)
        given = {"axis": axis, "block_size": 2}
    scale = f32(rng.uniform(0.05, 0.5, sizes))
    low, high = (100, 150) if dtype == "uint8" else (-20, 20)
    return scale, wholes(rng, sizes, dtype, low, high), given


@draws("QuantizeLinear", "DequantizeLinear")
def linear(rng, since, op):
    x = reals(rng, shape(rng, 1, 4), scale=5)
    kinds = ["uint8", "int8"]
    if op == "DequantizeLinear":
        kinds.append("int32")
    if since >= 21:
        kinds += ["uint16", "int16"]
    dtype = str(rng.choice(kinds))
    scale, zero, given = scaling(rng, x, dtype, since)
    if dtype == "int32":
        zero = zero * 0
    if op == "DequantizeLinear":
        x = wholes(rng, x.shape, dtype, -100, 100)
        return Case(op, [x, scale, zero] if rng.random() < 0.7 else [x, scale], given)
    if rng.random() < 0.3:
        if since >= 21 and dtype != "uint8":
            from onnx import helper

            given["output_dtype"] = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return Case(op, [x, scale], given, loose=True)
    return Case(op, [x, scale, zero], given, loose=True)


@draws("DynamicQuantizeLinear")
def dynamic(rng, since, op):
    x = reals(rng, shape(rng, 1, 4)) + f32(rng.choice([0, 5, -5]))
    return Case(op, [x], {}, 3, loose=True)


def byte(rng, sizes):
    return wholes(rng, sizes, rng.choice(["uint8", "int8"]), -100, 100)


@draws("MatMulInteger")
def matmul_integer(rng, since, op):
    m, k, n = (int(s) for s in rng.integers(1, 5, size=3))
    batch = shape(rng, 0, 1)
    a, b = wholes(rng, (*batch, m, k), "uint8", 0, 200), byte(rng, (*batch, k, n))
    zeros = [
        np.asarray(wholes(rng, (), "uint8", 0, 9)),
        wholes(rng, n if rng.random() < 0.5 and not batch else (), b.dtype, 0, 9),
    ]
    return Case(op, [a, b, *zeros[: int(rng.integers(3))]])


@draws("ConvInteger")
def conv_integer(rng, since, op):
    kernel, given = windows(rng, 2)
    x, w = wholes(rng, (1, 2, 6, 7), "uint8", 0, 200), wholes(rng, (3, 2, *kernel), "uint8", 0, 200)
    zeros = [np.asarray(wholes(rng, (), "uint8", 0, 9)), np.asarray(wholes(rng, (), "uint8", 0, 9))]
    return Case(op, [x, w, *zeros[: int(rng.integers(3))]], given)


@draws("QLinearMatMul")
def qlinear_matmul(rng, since, op):
    m, k, n = (int(s) for s in rng.integers(1, 5, size=3))
    a, b = byte(rng, (m, k)), byte(rng, (k, n))
    b = b.astype("uint8") if a.dtype == np.uint8 and rng.random() < 0.5 else b.astype("int8")
    scales = [f32(rng.uniform(0.01, 0.1)) for _ in range(2)] + [f32(rng.uniform(0.1, 0.9))]
    zeros = [np.asarray(wholes(rng, (), v.dtype, 0, 9)) for v in (a, b, a)]
    return Case(
        op, [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2]], loose=True
    )


@draws("QLinearConv")
def qlinear_conv(rng, since, op):
    kernel, given = windows(rng, 2)
    x, w = wholes(rng, (1, 2, 6, 7), "uint8", 0, 200), wholes(rng, (3, 2, *kernel), "uint8", 0, 200)
    per = rng.random() < 0.5
    w_scale, w_zero = f32(rng.uniform(0.01, 0.1, 3 if per else ())), np.uint8(7)
    inputs = [
        x,
        f32(0.05),
        np.uint8(5),
        w,
        w_scale,
        np.full(w_scale.shape, w_zero, np.uint8),
        f32(0.7),
        np.uint8(100),
    ]
    if rng.random() < 0.5:
        inputs.append(wholes(rng, 3, "int32", -500, 500))
    return Case(op, [np.asarray(i) for i in inputs], given, loose=True)


@draws("DFT")
def dft(rng, since, op):
    onesided, inverse = int(rng.integers(2)), int(rng.integers(2))
    if onesided:
        inverse = 0
    parts = 1 if onesided else int(rng.integers(1, 3))
    if inverse:
        parts = 2
    x = reals(rng, (2, int(rng.integers(2, 7)), int(rng.integers(2, 7)), parts))
    length = [np.asarray(np.int64(rng.integers(2, 9)))] if rng.random() < 0.4 else [None]
    axis = int(rng.integers(1, 3))
    given = {"onesided": onesided, "inverse": inverse}
    if since < 20:
        return Case(
            op,
            [x, *length] if length[0] is not None else [x],
            given | {"axis": axis},
            tolerance=1e-4,
        )
    if rng.random() < 0.3:
        return Case(op, [x, *length] if length[0] is not None else [x], given, tolerance=1e-4)
    return Case(
        op,
        [x, *length, np.asarray(np.int64(axis - 4 if rng.random() < 0.5 else axis))],
        given,
        tolerance=1e-4,
    )


@draws("STFT")
def stft(rng, since, op):
    x = reals(rng, (2, int(rng.integers(8, 20)), 1))
    length = int(rng.integers(3, 8))
    step = np.asarray(np.int64(rng.integers(1, 4)))
    window = f32(rng.uniform(0.1, 1, length)) if rng.random() < 0.6 else None
    frame = np.asarray(np.int64(length)) if window is None or rng.random() < 0.5 else None
    inputs = [x, step, window, frame]
    while inputs[-1] is None:
        inputs.pop()
    return Case(op, inputs, {"onesided": int(rng.integers(2))}, tolerance=1e-4)


@draws("HannWindow", "HammingWindow", "BlackmanWindow")
def window(rng, since, op):
    given = {"periodic": int(rng.integers(2))} if rng.random() < 0.7 else {}
    if rng.random() < 0.3:
        given["output_datatype"] = 11
    return Case(op, [np.asarray(np.int64(rng.integers(3, 12)))], given, tolerance=1e-5)


@draws("MelWeightMatrix")
def mel_weight_matrix(rng, since, op):
    whole = [np.asarray(np.int64(v)) for v in (rng.integers(2, 8), rng.integers(16, 64), 8000)]
    return Case(
        op, [*whole, f32(rng.uniform(0, 200)), f32(rng.uniform(2000, 3900))], tolerance=1e-4
    )
