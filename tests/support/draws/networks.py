"""Layers: convolutions, poolings, normalizations, products, recurrences, losses."""

import numpy as np

from support.draws.case import Case, draws
from support.draws.movement import i64
from support.draws.simple import modern_at, pair, reals, shape, wholes


def f32(values):
    return np.asarray(values, np.float32)


def windows(rng, rank, *, dilated=True, pads=True):
    """Return the attributes of a sliding window, with its kernel."""
    kernel = [int(k) for k in rng.integers(1, 4, size=rank)]
    given = {}
    if rng.random() < 0.6:
        given["strides"] = [int(s) for s in rng.integers(1, 4, size=rank)]
    choice = rng.random()
    if choice < 0.35 and pads:
        given["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    elif choice < 0.85 and pads:
        given["pads"] = [int(rng.integers(0, kernel[i % rank])) for i in range(2 * rank)]
    if dilated and rng.random() < 0.4 and "SAME" not in given.get("auto_pad", ""):
        given["dilations"] = [int(d) for d in rng.integers(1, 3, size=rank)]
    return kernel, given


@draws("Conv")
def conv(rng, since, op):
    rank, group = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    kernel, given = windows(rng, rank)
    w = reals(rng, (group * int(rng.integers(1, 4)), int(rng.integers(1, 3)), *kernel))
    x = reals(rng, (2, w.shape[1] * group, *(int(s) for s in rng.integers(6, 10, size=rank))))
    b = [reals(rng, w.shape[0])] if rng.random() < 0.5 else []
    if rng.random() < 0.5:
        given["kernel_shape"] = kernel
    return Case(op, [x, w, *b], given | {"group": group}, tolerance=1e-4)


@draws("FusedConv", domain="com.microsoft")
def fused_conv(rng, since, op):
    case = conv(rng, since, op)
    case.attributes["activation"] = str(
        rng.choice(["Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Clip"])
    )
    numbers = {"LeakyRelu": [0.3], "HardSigmoid": [0.3, 0.4], "Clip": [-0.5, 0.7]}
    if case.attributes["activation"] in numbers:
        case.attributes["activation_params"] = numbers[case.attributes["activation"]]
    return case


@draws("ConvTranspose")
def conv_transpose(rng, since, op):
    rank, group = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    kernel, given = windows(rng, rank, pads=False)
    w = reals(rng, (group * int(rng.integers(1, 3)), int(rng.integers(1, 3)), *kernel))
    x = reals(rng, (2, w.shape[0], *(int(s) for s in rng.integers(3, 6, size=rank))))
    strides, dilations = given.get("strides", [1] * rank), given.get("dilations", [1] * rank)
    full = [
        (x.shape[2 + i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 for i in range(rank)
    ]
    choice = rng.random()
    if choice < 0.4:
        given["pads"] = [int(rng.integers(0, 2)) for _ in range(2 * rank)]
        given["output_padding"] = [int(rng.integers(0, s)) for s in strides]
    elif choice < 0.6:
        given["output_shape"] = [max(f - int(rng.integers(0, 3)), 1) for f in full]
        if rng.random() < 0.5:
            given["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER"]))
    elif choice < 0.8 and all(f >= x.shape[2 + i] * strides[i] for i, f in enumerate(full)):
        given["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    b = [reals(rng, w.shape[1] * group)] if rng.random() < 0.5 else []
    return Case(op, [x, w, *b], given | {"group": group}, tolerance=1e-4)


@draws("AveragePool", "MaxPool", "LpPool")
def pool(rng, since, op):
    rank = int(rng.integers(1, 4))
    dilated = since >= {"AveragePool": 19, "MaxPool": 10, "LpPool": 18}[op]
    kernel, given = windows(rng, rank, dilated=dilated)
    steps = given.get("strides", [1])
    if "SAME" in given.get("auto_pad", "") and any(
        s > k for s, k in zip(steps, kernel, strict=False)
    ):
        given.pop("strides")  # then the runtime's AveragePool pads by less than nothing
    dtype = "float32"
    if op == "MaxPool" and since >= 12 and rng.random() < 0.2 and rank < 3:
        dtype = str(rng.choice(["int8", "uint8"]))
    x = wholes(rng, (2, 3, *(int(s) for s in rng.integers(6, 10, size=rank))), dtype, -99, 99)
    given["kernel_shape"] = kernel
    if since >= {"AveragePool": 10, "MaxPool": 10, "LpPool": 18}[op] and "SAME" not in given.get(
        "auto_pad", ""
    ):
        given["ceil_mode"] = int(rng.integers(2))
    if op == "AveragePool" and since >= 7:
        given["count_include_pad"] = int(rng.integers(2))
    if op == "LpPool":
        given["p"] = int(rng.choice([1, 2, 3])) if since >= 2 else float(rng.choice([1, 2, 3]))
        given.pop("auto_pad", None)
    outputs = 1
    if op == "MaxPool" and since >= 8 and dtype == "float32" and rng.random() < 0.5:
        outputs = 2
        given["storage_order"] = int(rng.integers(2))
    case = Case(op, [x], given, outputs, tolerance=1e-4)
    if op == "LpPool" and since < 2:
        return modern_at(case, since, 2, attributes=given | {"p": int(given["p"])})
    return modern_at(case, since, 7) if since < 7 and op == "AveragePool" else case


@draws("MaxUnpool")
def max_unpool(rng, since, op):
    rank = int(rng.integers(1, 3))
    kernel = [2] * rank
    x = reals(rng, (1, 2, *(int(s) for s in rng.integers(2, 4, size=rank))))
    total = 2 * int(np.prod([2 * s for s in x.shape[2:]]))
    places = rng.permutation(total)[: x.size].reshape(x.shape).astype(np.int64)
    return Case(op, [x, places], {"kernel_shape": kernel, "strides": [2] * rank})


@draws("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(rng, since, op):
    x = reals(rng, (2, 3, *shape(rng, 1, 3)))
    attributes = {}
    if op == "GlobalLpPool" and rng.random() < 0.7:
        attributes = {
            "p": int(rng.choice([1, 2, 3])) if since >= 2 else float(rng.choice([1, 2, 3]))
        }
    case = Case(op, [x], attributes)
    given = {k: int(v) for k, v in attributes.items()}
    return modern_at(case, since, 2, attributes=given) if op == "GlobalLpPool" else case


def batch_normalized(x, scale, b, mean, var, *, epsilon, momentum, trains, count, spatial):
    """Evaluate in NumPy and float64, by the formulas of the specification."""
    x = x.astype(np.float64)
    axes = (0, *range(2, x.ndim)) if spatial else (0,)

    def laid(v):
        v = v.astype(np.float64)
        return v.reshape(1, -1, *[1] * (x.ndim - 2)) if spatial else v[None]

    now_mean, now_var = mean.astype(np.float64), var.astype(np.float64)
    if trains:
        now_mean, now_var = x.mean(axes), x.var(axes)
    y = laid(scale) * (x - laid(now_mean)) / np.sqrt(laid(now_var) + epsilon) + laid(b)
    new = [mean * momentum + now_mean * (1 - momentum), var * momentum + now_var * (1 - momentum)]
    return [y, *new, now_mean, now_var][: count if trains else 1]


@draws("BatchNormalization")
def batch_normalization(rng, since, op):
    x = reals(rng, (3, int(rng.integers(1, 4)), *shape(rng, 0, 3)))
    spatial = since >= 9 or rng.random() < 0.7
    sizes = (x.shape[1],) if spatial else x.shape[1:]
    scale, b, mean = (reals(rng, sizes) for _ in range(3))
    var = f32(np.exp(rng.normal(size=sizes)))
    attributes = {"epsilon": float(rng.choice([1e-5, 1e-2, 0.3])), "momentum": 0.7}
    if not spatial:
        attributes["spatial"] = 0
    trains = bool(rng.random() < 0.5)
    outputs = 1
    if since < 7:
        attributes["is_test"] = int(not trains)
        outputs = 5 if trains else 1
        if trains and rng.random() < 0.3:
            attributes.pop("is_test")
    elif trains and since < 14:
        outputs = 5
    elif trains:
        attributes["training_mode"] = 1
        outputs = int(rng.choice([1, 3]))
    if since < 6:
        attributes["consumed_inputs"] = [0, 0, 0, 1, 1]
    case = Case(op, [x, scale, b, mean, var], attributes, outputs, tolerance=1e-4)
    if trains or since < 7:  # the runtime has no kernel, or its own idea of the running statistics
        case.modern = lambda: batch_normalized(
            *case.inputs,
            epsilon=attributes["epsilon"],
            momentum=attributes["momentum"],
            trains=trains,
            count=outputs,
            spatial=spatial,
        )
    return case


@draws("InstanceNormalization")
def instance_normalization(rng, since, op):
    x = reals(
        rng,
        (
            2,
            int(rng.integers(1, 4)),
            *(int(s) for s in rng.integers(2, 5, size=rng.integers(1, 4))),
        ),
    )
    attributes = {"epsilon": float(rng.choice([1e-5, 1e-2]))} if rng.random() < 0.7 else {}
    case = Case(op, [x, reals(rng, x.shape[1]), reals(rng, x.shape[1])], attributes, tolerance=1e-4)
    return modern_at(case, since, 6)


@draws("GroupNormalization")
def group_normalization(rng, since, op):
    groups, per = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    x = reals(
        rng, (2, groups * per, *(int(s) for s in rng.integers(2, 5, size=rng.integers(1, 3))))
    )
    size = groups * per if since >= 21 else groups
    attributes = {"num_groups": groups, "epsilon": float(rng.choice([1e-5, 1e-2]))}
    return Case(op, [x, reals(rng, size), reals(rng, size)], attributes, tolerance=1e-4)


@draws("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(rng, since, op):
    x = reals(rng, tuple(int(s) for s in rng.integers(2, 5, size=rng.integers(1, 5))))
    axis = int(rng.integers(-x.ndim, x.ndim))
    sizes = x.shape[axis % x.ndim :]
    given = [reals(rng, sizes)]
    outputs = 1
    if op == "LayerNormalization":
        given += [reals(rng, sizes)] if rng.random() < 0.6 else []
        outputs = [True, *(bool(rng.integers(2)) for _ in range(2))]
    attributes = {} if axis == -1 and rng.random() < 0.5 else {"axis": axis}
    return Case(
        op,
        [x, *given],
        attributes | {"epsilon": float(rng.choice([1e-5, 1e-2]))},
        outputs,
        tolerance=1e-4,
    )


@draws("SkipLayerNormalization", domain="com.microsoft")
def skip_layer_normalization(rng, since, op):
    x = reals(rng, (2, 3, 4))
    vectors = [reals(rng, 4) for _ in range(int(rng.integers(1, 4)))]
    return Case(op, [x, reals(rng, x.shape), *vectors], {"epsilon": 1e-3}, tolerance=1e-4)


@draws("MeanVarianceNormalization")
def mean_variance_normalization(rng, since, op):
    x = reals(rng, (2, 3, 4, 5))
    given = (
        {} if rng.random() < 0.5 else {"axes": [0, 2, 3] if rng.random() < 0.5 else [0, 1, 2, 3]}
    )
    return Case(op, [x], given, tolerance=1e-4)


@draws("LpNormalization")
def lp_normalization(rng, since, op):
    x = reals(rng, shape(rng, 1, 4), rng.choice(["float32", "float64"]))
    if rng.random() < 0.3:
        x[..., :1] = 0
        x = x * 0 if rng.random() < 0.3 else x
    attributes = {"axis": int(rng.integers(-x.ndim, x.ndim))} if rng.random() < 0.8 else {}
    return Case(
        op, [x], attributes | ({"p": int(rng.integers(1, 3))} if rng.random() < 0.8 else {})
    )


@draws("LRN")
def lrn(rng, since, op):
    x = reals(rng, (2, int(rng.integers(1, 7)), *shape(rng, 1, 2)))
    x = x.reshape(*x.shape, *[1] * (4 - x.ndim))
    given = {"size": int(rng.choice([1, 3, 5, 7]))}
    for name in ("alpha", "beta", "bias"):
        if rng.random() < 0.7:
            given[name] = float(np.round(rng.uniform(0.1, 2), 3))
    return Case(op, [x], given, tolerance=1e-4)


@draws("MatMul")
def matmul(rng, since, op):
    m, k, n = (int(s) for s in rng.integers(1, 5, size=3))
    a, b = pair(rng)
    a, b = (*a[:2], m, k), (*b[:2], k, n)
    try:
        np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        b = b[-2:]
    choice = rng.random()
    a, b = ((k,), b) if choice < 0.15 else (a, (k,)) if choice < 0.3 else (a, b)
    dtype = str(rng.choice(["float32", "float64", *(["int32", "int64"] if since >= 9 else [])]))
    make = reals if dtype.startswith("f") else wholes
    return Case(op, [make(rng, a, dtype), make(rng, b, dtype)], tolerance=1e-4)


def gemm_of(rng, since, op):
    m, k, n = (int(s) for s in rng.integers(1, 5, size=3))
    given = {t: int(rng.integers(2)) for t in ("transA", "transB")}
    a = reals(rng, (k, m) if given["transA"] else (m, k))
    b = reals(rng, (n, k) if given["transB"] else (k, n))
    given |= {t: float(np.round(rng.normal(), 2)) for t in ("alpha", "beta") if rng.random() < 0.6}
    return a, b, (m, n), given


@draws("Gemm")
def gemm(rng, since, op):
    a, b, (m, n), given = gemm_of(rng, since, op)
    if since < 7:
        full = rng.random() < 0.4
        c = reals(rng, (m, n) if full else (n,))
        case = Case(op, [a, b, c], given | ({} if full else {"broadcast": 1}), tolerance=1e-4)
        return modern_at(case, since, 7, attributes=given)
    c = [[(m, n)], [(n,)], [(m, 1)], [(1, n)], [()]][int(rng.integers(5))]
    if since >= 11 and rng.random() < 0.2:
        c = []
    return Case(op, [a, b, *(reals(rng, s) for s in c)], given, tolerance=1e-4)


@draws("FusedGemm", domain="com.microsoft")
def fused_gemm(rng, since, op):
    a, b, (_, n), given = gemm_of(rng, since, op)
    given["activation"] = str(rng.choice(["Relu", "LeakyRelu", "Tanh", "Sigmoid"]))
    if given["activation"] == "LeakyRelu":
        given["activation_alpha"] = 0.3
    return Case(op, [a, b, reals(rng, (n,))], given, tolerance=1e-4)


@draws("FusedMatMul", domain="com.microsoft")
def fused_matmul(rng, since, op):
    m, k, n = (int(s) for s in rng.integers(1, 5, size=3))
    given = {t: int(rng.integers(2)) for t in ("transA", "transB")} | {"alpha": 0.7}
    a = reals(rng, (2, k, m) if given["transA"] else (2, m, k))
    b = reals(rng, (2, n, k) if given["transB"] else (2, k, n))
    return Case(op, [a, b], given, tolerance=1e-4)


@draws("Gelu", "QuickGelu", domain="com.microsoft")
def contrib_gelu(rng, since, op):
    given = {"alpha": 1.3} if op == "QuickGelu" and rng.random() < 0.5 else {}
    return Case(op, [reals(rng, shape(rng, 1))], given, tolerance=1e-4)


@draws("BiasGelu", "FastGelu", domain="com.microsoft")
def bias_gelu(rng, since, op):
    x = reals(rng, shape(rng, 1))
    b = [] if op == "FastGelu" and rng.random() < 0.5 else [reals(rng, x.shape[-1])]
    return Case(op, [x, *b], tolerance=1e-4)


@draws("Einsum")
def einsum(rng, since, op):
    sizes = {c: int(rng.integers(1, 5)) for c in "ijklb"}
    equation = str(
        rng.choice(
            [
                "ij,jk->ik",
                "bij,bjk->bik",
                "ij->ji",
                "ii->i",
                "ij->",
                "bij,bkj->bik",
                "i,j->ij",
                "...ij,...jk->...ik",
                "ij,jk",
                "bij , bjk -> bik",
                "ijk->ki",
                "ij,ij->j",
            ]
        )
    )
    if equation == "ii->i":
        n = sizes["i"]
        return Case(op, [reals(rng, (n, n))], {"equation": equation})
    terms = equation.replace(" ", "").split("->")[0].replace("...", "b").split(",")
    return Case(
        op,
        [reals(rng, [sizes[c] for c in t]) for t in terms],
        {"equation": equation},
        tolerance=1e-4,
    )


@draws("Det")
def det(rng, since, op):
    n = int(rng.integers(1, 5))
    return Case(op, [reals(rng, (*shape(rng, 0, 2), n, n))], tolerance=1e-4)


ACTIVATIONS = {
    "Affine": (1, 1),
    "Elu": (1, 0),
    "HardSigmoid": (1, 1),
    "LeakyRelu": (1, 0),
    "Relu": (0, 0),
    "ScaledTanh": (1, 1),
    "Sigmoid": (0, 0),
    "Softplus": (0, 0),
    "Softsign": (0, 0),
    "Tanh": (0, 0),
    "ThresholdedRelu": (1, 0),
}


@draws("RNN", "GRU", "LSTM")
def recurrent(rng, since, op):
    gates, functions = {"RNN": (1, 1), "GRU": (3, 2), "LSTM": (4, 3)}[op]
    steps, batch, size, hidden = (int(s) for s in rng.integers(1, 5, size=4))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    n = 2 if direction == "bidirectional" else 1

    def some(sizes):
        return reals(rng, sizes, scale=0.8)

    inputs = [
        some((steps, batch, size)),
        some((n, gates * hidden, size)),
        some((n, gates * hidden, hidden)),
    ]
    optional = [
        some((n, 2 * gates * hidden)),
        rng.integers(1, steps + 1, size=batch).astype(np.int32),
        some((n, batch, hidden)),
    ]
    if op == "LSTM":
        optional += [some((n, batch, hidden)), some((n, 3 * hidden))]
    inputs += [value if rng.random() < 0.6 else None for value in optional]
    while inputs[-1] is None:
        inputs.pop()
    given = {"hidden_size": hidden}
    if direction != "forward" or rng.random() < 0.3:
        given["direction"] = direction
    if rng.random() < 0.5:
        names = [str(a) for a in rng.choice(list(ACTIVATIONS), size=n * functions)]
        given["activations"] = names
        for index, key in enumerate(("activation_alpha", "activation_beta")):
            count = sum(ACTIVATIONS[a][index] for a in names)
            if count:
                given[key] = [float(v) for v in np.round(rng.uniform(0.2, 1.2, size=count), 2)]
    if rng.random() < 0.4:
        given["clip"] = float(np.round(rng.uniform(0.2, 1.0), 2))
    if op == "GRU" and since >= 3 and rng.random() < 0.5:
        given["linear_before_reset"] = int(rng.integers(2))
    if op == "LSTM" and rng.random() < 0.4:
        given["input_forget"] = int(rng.integers(2))
    count = 3 if op == "LSTM" else 2
    outputs = [bool(rng.random() < 0.7) for _ in range(count)]
    if not any(outputs):
        outputs[0] = True
    while not outputs[-1]:
        outputs.pop()
    case = Case(op, inputs, given, outputs, tolerance=1e-4)
    if since < 7:
        given = dict(given)
        return modern_at(case, since, 7)
    return case


@draws("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(rng, since, op):
    classes = int(rng.integers(2, 5))
    places = shape(rng, 0, 2)
    x = reals(rng, (3, classes, *places))
    target = wholes(rng, (3, *places), rng.choice(["int64", "int32"]), 0, classes)
    inputs = [x, target] + ([f32(rng.uniform(0.2, 2, classes))] if rng.random() < 0.5 else [])
    given = {"reduction": str(rng.choice(["none", "sum", "mean"]))}
    if rng.random() < 0.5:
        given["ignore_index"] = int(rng.integers(classes)) if rng.random() < 0.6 else -1
    outputs = int(rng.integers(1, 3)) if op == "SoftmaxCrossEntropyLoss" else 1
    return Case(op, inputs, given, outputs, tolerance=1e-4)


@draws("RoiAlign")
def roi_align(rng, since, op):
    x = reals(rng, (2, 2, int(rng.integers(4, 9)), int(rng.integers(4, 9))))
    count = int(rng.integers(1, 4))
    corner, extent = rng.uniform(-3, 8, (count, 2)), rng.uniform(0.2, 9, (count, 2))
    rois = f32(np.concatenate([corner, corner + extent], axis=1))
    given = {
        "output_height": int(rng.integers(1, 4)),
        "output_width": int(rng.integers(1, 4)),
        "sampling_ratio": int(rng.integers(0, 4)),
        "spatial_scale": float(rng.choice([1.0, 0.5])),
        "mode": str(rng.choice(["avg", "max"])),
    }
    if since >= 16 and rng.random() < 0.6:
        given["coordinate_transformation_mode"] = str(
            rng.choice(["half_pixel", "output_half_pixel"])
        )
    case = Case(op, [x, rois, i64(rng.integers(0, 2, size=count))], given, tolerance=1e-4)
    return modern_at(case, since, 16) if since > 16 else case


@draws("MaxRoiPool")
def max_roi_pool(rng, since, op):
    x = reals(rng, (2, 2, 8, 7))
    count = int(rng.integers(1, 4))
    corner, extent = rng.integers(0, 6, (count, 2)), rng.integers(0, 8, (count, 2))
    rois = f32(np.concatenate([rng.integers(0, 2, (count, 1)), corner, corner + extent], axis=1))
    given = {
        "pooled_shape": [int(s) for s in rng.integers(1, 4, size=2)],
        "spatial_scale": float(rng.choice([1.0, 0.6])),
    }
    return modern_at(Case(op, [x, rois], given), since, 1)


@draws("NonMaxSuppression")
def non_max_suppression(rng, since, op):
    batch, count, classes = 2, int(rng.integers(1, 9)), int(rng.integers(1, 4))
    first = rng.uniform(0, 5, (batch, count, 2))
    second = rng.uniform(0.5, 4, (batch, count, 2))
    centre = int(rng.integers(2))
    boxes = np.concatenate([first, second if centre else first + second], axis=-1)
    if not centre and rng.random() < 0.5:
        boxes = boxes[..., [2, 3, 0, 1]]
    scores = rng.uniform(0, 1, (batch, classes, count))
    inputs = [
        f32(boxes),
        f32(scores),
        i64([int(rng.integers(0, 5))]),
        f32([rng.uniform(0, 0.7)]),
        f32([0.3]),
    ]
    inputs = inputs[: int(rng.integers(3, 6))] if rng.random() < 0.9 else inputs[:2]
    return Case(op, inputs, {"center_point_box": centre})


@draws("Resize")
def resize(rng, since, op):
    mode = str(rng.choice(["nearest", "linear", "cubic"]))
    coordinates = [
        "half_pixel",
        "asymmetric",
        "align_corners",
        "pytorch_half_pixel",
        "tf_crop_and_resize",
    ]
    coordinates += ["half_pixel_symmetric"] if since >= 19 else []
    given = {"mode": mode}
    if rng.random() < 0.85:
        given["coordinate_transformation_mode"] = str(rng.choice(coordinates))
    rank = (
        4
        if mode == "cubic"
        else int(rng.integers(2, 5))
        if mode == "linear"
        else int(rng.integers(1, 5))
    )
    x = reals(rng, tuple(int(s) for s in rng.integers(1 if mode == "nearest" else 2, 7, size=rank)))
    outer = 0 if mode == "nearest" else max(rank - 2, 0)
    scales = np.array(
        [1.0] * outer + [float(np.round(rng.uniform(0.4, 3), 2)) for _ in range(rank - outer)]
    )
    if mode == "nearest" and rng.random() < 0.8:
        given["nearest_mode"] = str(
            rng.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
        )
    if mode == "cubic":
        given |= {"cubic_coeff_a": -0.5} if rng.random() < 0.5 else {}
    crops = given.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if mode != "nearest" and not crops and rng.random() < 0.4:
        given["exclude_outside"] = int(mode == "cubic")
    roi = None
    axes = np.arange(rank)
    if since >= 18 and rng.random() < 0.4:
        axes = np.arange(outer, rank)
        given["axes"] = signed_axes(rng, axes, rank)
    if (
        since >= 18
        and mode in ("linear", "cubic")
        and not crops
        and rng.random() < 0.4
        and rank >= 3
    ):
        given["antialias"] = 1
    if crops:
        start, end = np.zeros(rank), np.ones(rank)
        start[outer:], end[outer:] = (
            rng.uniform(-0.1, 0.4, rank - outer),
            rng.uniform(0.6, 1.2, rank - outer),
        )
        roi = f32([*start[axes], *end[axes]])
        given["extrapolation_value"] = 1.5
    elif since < 13:
        roi = f32([])
    lengths = np.maximum((np.array(x.shape) * scales).astype(int), 1)
    by_sizes = rng.random() < 0.5
    scales = np.where(np.array(x.shape) * scales < 1, 1.0, f32(scales))
    same = (lengths if by_sizes else (np.array(x.shape) * scales).astype(int)) == x.shape
    # The runtime copies what keeps its shape, and axes that keep their size, whatever is asked.
    if same.all() or (same[outer:].any() and ("antialias" in given or crops)):
        return resize(rng, since, op)
    if by_sizes:
        policy = since >= 18 and rng.random() < 0.4 and mode != "cubic" and not crops and outer == 0
        if policy and min(given.get("axes", [0])) >= 0:  # the runtime overlooks the others
            given["keep_aspect_ratio_policy"] = str(rng.choice(["not_larger", "not_smaller"]))
        return Case(
            op,
            [x, roi, None if since >= 13 else f32([]), i64(lengths[axes])],
            given,
            tolerance=1e-4,
        )
    return Case(op, [x, roi, f32(scales[axes])], given, tolerance=1e-4)


def signed_axes(rng, axes, rank):
    return [int(a) - (rank if rng.random() < 0.5 else 0) for a in axes]


@draws("Upsample")
def upsample(rng, since, op):
    mode = str(rng.choice(["nearest", "linear"]))
    x = reals(rng, tuple(int(s) for s in rng.integers(2, 6, size=4)))
    # Where no size changes the runtime copies, whatever the scales.
    scales = np.array([1, 1, np.round(rng.uniform(1, 3), 2), np.round(rng.uniform(1.5, 3), 2)])
    given = {"mode": mode}
    if since < 9:
        return Case(op, [x], given | {"scales": [float(s) for s in scales]})
    return Case(op, [x, f32(scales)], given)


@draws("GridSample")
def grid_sample(rng, since, op):
    rank = 2 if since < 20 or rng.random() < 0.6 else 3
    x = reals(rng, (2, 2, *(int(s) for s in rng.integers(2, 6, size=rank))))
    grid = f32(rng.uniform(-1.6, 1.6, (2, *(int(s) for s in rng.integers(1, 5, size=rank)), rank)))
    modes = ["bilinear", "nearest", "bicubic"] if since < 20 else ["linear", "nearest", "cubic"]
    mode = str(rng.choice(modes[: 2 if rank == 3 else 3]))
    given = {
        "mode": mode,
        "align_corners": int(rng.integers(2)),
        "padding_mode": str(rng.choice(["zeros", "border", "reflection"])),
    }
    return Case(op, [x, grid], given, tolerance=1e-4)


@draws("AffineGrid")
def affine_grid(rng, since, op):
    rank = int(rng.integers(2, 4))
    size = i64([2, 3, *rng.integers(2, 5, size=rank)])
    given = {"align_corners": int(rng.integers(2))}
    return Case(op, [reals(rng, (2, rank, rank + 1)), size], given, tolerance=1e-4)


@draws("Col2Im")
def col2im(rng, since, op):
    rank = int(rng.integers(1, 4))
    kernel, given = windows(rng, rank)
    given.pop("auto_pad", None)
    image = [int(s) for s in rng.integers(5, 8, size=rank)]
    pads = given.get("pads", [0] * 2 * rank)
    counts = [
        (
            image[i]
            + pads[i]
            + pads[rank + i]
            - given.get("dilations", [1] * rank)[i] * (kernel[i] - 1)
            - 1
        )
        // given.get("strides", [1] * rank)[i]
        + 1
        for i in range(rank)
    ]
    x = reals(rng, (2, 2 * int(np.prod(kernel)), int(np.prod(counts))))
    return Case(op, [x, i64(image), i64(kernel)], given)


@draws("DeformConv")
def deform_conv(rng, since, op):
    group, offsets = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    kernel, given = windows(rng, 2)
    given.pop("auto_pad", None)
    x = reals(rng, (2, 4, 6, 7))
    w = reals(rng, (2 * group, 4 // group, *kernel))
    pads, strides = given.get("pads", [0] * 4), given.get("strides", [1] * 2)
    dilations = given.get("dilations", [1] * 2)
    out = [
        (x.shape[2 + i] + pads[i] + pads[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i]
        + 1
        for i in range(2)
    ]
    taps = int(np.prod(kernel))
    inputs = [x, w, reals(rng, (2, offsets * taps * 2, *out))]
    inputs += [reals(rng, w.shape[0]) if rng.random() < 0.5 else None]
    if rng.random() < 0.5:
        inputs += [f32(rng.uniform(0, 1, (2, offsets * taps, *out)))]
    while inputs[-1] is None:
        inputs.pop()
    return Case(op, inputs, given | {"group": group, "offset_group": offsets}, tolerance=1e-4)
