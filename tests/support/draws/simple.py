"""Functions of one element, and of two and more."""

import numpy as np

from support.draws.case import Case, draws

FLOATS = ("float32", "float32", "float32", "float32", "float16", "float64")


def shape(rng, low=0, high=4, largest=5):
    return tuple(int(s) for s in rng.integers(1, largest, size=rng.integers(low, high + 1)))


def reals(rng, sizes, dtype="float32", scale=2.0):
    return np.asarray(np.asarray(rng.normal(size=sizes) * scale).astype(dtype))


def extremes(rng, x):
    """Return x with a few values that are special."""
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-5, 0.5, -0.5, 2.5, -1.0, 1.0])
    flat = x.reshape(-1).copy()
    if flat.size and rng.random() < 0.5:
        chosen = rng.choice(special, size=min(3, flat.size)).astype(x.dtype)
        flat[rng.choice(flat.size, size=chosen.size, replace=False)] = chosen
    return flat.reshape(x.shape)


def wholes(rng, sizes, dtype, low=-9, high=10):
    if np.dtype(dtype).kind == "u":
        low = max(low, 0)
    return np.asarray(rng.integers(low, high, size=sizes)).astype(dtype)


def modern_at(case, since, opset, **changes):
    """Where the runtime has no kernel of an entry, one of another opset may say the same."""
    if since != opset:
        case.modern = case.at(opset, **changes)
    return case


UNARY = ["Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil"]
UNARY += ["Cos", "Cosh", "Erf", "Exp", "Floor", "Log", "Reciprocal"]
UNARY += ["Round", "Sin", "Sinh", "Sqrt", "Tan", "Tanh", "Sigmoid"]
UNARY += ["Relu", "Softplus", "Softsign", "HardSwish", "Mish", "Swish", "Gelu"]
UNARY += ["Selu", "Elu", "Celu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Shrink"]
UNARY += ["Abs", "Neg", "Sign", "IsNaN", "IsInf"]
INTEGERS_TOO = {"Abs": 6, "Neg": 6, "Sign": 9, "Relu": 14, "Shrink": 9}
PARAMETERS = {
    "Selu": ("alpha", "gamma"),
    "Elu": ("alpha",),
    "Celu": ("alpha",),
    "LeakyRelu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Shrink": ("bias", "lambd"),
    "Swish": ("alpha",),
}
BOUNDED = {"Acos": 1, "Asin": 1, "Atanh": 1}


@draws(*UNARY)
def unary(rng, since, op):
    dtype = str(rng.choice(FLOATS if op != "Mish" else ["float32"]))
    sizes = shape(rng)
    if since >= INTEGERS_TOO.get(op, 99) and rng.random() < 0.4:
        x = wholes(rng, sizes, rng.choice(["int8", "int32", "int64"]))
    elif op in BOUNDED:
        x = rng.uniform(-1, 1, sizes).astype(dtype)
    elif op in ("Acosh", "Log", "Sqrt"):
        x = (rng.uniform(1, 9, sizes) if rng.random() < 0.7 else rng.normal(size=sizes)).astype(
            dtype
        )
    else:
        x = extremes(rng, reals(rng, sizes, dtype, 3.0 if op != "Round" else 4.0))
    x = np.asarray(x)
    if op == "Round" and rng.random() < 0.5:
        x = (np.rint(x) + 0.5).astype(x.dtype)
    if op in ("Reciprocal", "Tan"):
        x = np.where(np.abs(x) < 0.1, x.dtype.type(0.3), x)
        x = np.where(np.isnan(x), x.dtype.type(0.3), x) if op == "Tan" else x
    if op in (
        "Selu",
        "Elu",
        "Celu",
        "Softplus",
        "Gelu",
        "Mish",
        "Sin",
        "Cos",
        "Tan",
        "Swish",
        "HardSwish",
        "Softsign",
        "Sinh",
        "Cosh",
        "Shrink",
        "Asinh",
    ):
        x = np.nan_to_num(x, posinf=2, neginf=-2).astype(x.dtype)
    attributes = {}
    for name in PARAMETERS.get(op, ()):
        if rng.random() < 0.7:
            attributes[name] = float(np.round(rng.uniform(0.1, 1.5), 3))
    if op == "Gelu":
        attributes["approximate"] = str(rng.choice(["none", "tanh"]))
    if op == "IsInf":
        attributes = {f"detect_{s}": int(rng.integers(2)) for s in ("positive", "negative")}
    case = Case(op, [x], attributes, since=since)
    if op == "Shrink":
        case.tolerance = 1e-6  # the runtime has its attributes in float32
    if op == "Selu" and since < 6:
        defaults = {"alpha": 1.6732, "gamma": 1.0507}
        return modern_at(case, since, 6, attributes=defaults | attributes)
    older = {"Softsign": 1, "HardSwish": 14, "Mish": 18, "Round": 11}.get(
        op, 7 if op != "Acosh" else 9
    )
    return modern_at(case, since, 13 if since < 13 else older)


@draws("Not")
def negation(rng, since, op):
    return Case(op, [rng.random(shape(rng)) < 0.5])


@draws("BitwiseNot")
def bitwise_not(rng, since, op):
    return Case(
        op, [wholes(rng, shape(rng), rng.choice(["int8", "uint8", "int32", "int64", "uint16"]))]
    )


def pair(rng):
    """Return two shapes that broadcast."""
    whole = shape(rng, 0, 4)
    cut = [tuple(1 if rng.random() < 0.3 else s for s in whole) for _ in range(2)]
    drop = int(rng.integers(len(whole) + 1)) if rng.random() < 0.5 else 0
    cut[1] = cut[1][drop:]
    return cut if rng.random() < 0.5 else cut[::-1]


def legacy(rng, op, make, since):
    """Return a case as opsets until 6 broadcast: the second operand, from an axis on."""
    whole = shape(rng, 1, 4)
    case = Case(op, [make(whole), make(whole)], since=since)
    b = case.inputs[1]
    if rng.random() < 0.8:
        start = int(rng.integers(len(whole)))
        stop = int(rng.integers(start, len(whole))) + 1
        suffix = rng.random() < 0.5
        start, stop = (start, len(whole)) if suffix else (start, stop)
        b = make(whole[start:stop])
        case.attributes = {"broadcast": 1}
        if not suffix:
            case.attributes["axis"] = start
        case.inputs[1] = b
        b = b.reshape(*b.shape, *(1,) * (len(whole) - stop))
    case.modern = case.at(13, attributes={}, inputs=[case.inputs[0], b])
    return case


KINDS = ("float32", "float32", "float64", "int32", "int64")


@draws("Add", "Sub", "Mul", "Div", "Less", "Greater", "Equal", "Pow")
def binary(rng, since, op):
    dtype = str(rng.choice(KINDS))
    if since < 7 or (since < 9 and op in ("Less", "Greater")):
        dtype = "float32"
    if op == "Equal" and since < 11:
        dtype = str(rng.choice(["int32", "int64"]))
    if op == "Pow" and since < 12:
        dtype = "float32"

    def make(sizes):
        if np.dtype(dtype).kind == "f":
            x = np.round(reals(rng, sizes, dtype), 1 if op in ("Less", "Greater", "Equal") else 4)
            x = np.abs(x) + 0.1 if op == "Pow" else x
            return np.where(np.abs(x) < 0.05, np.dtype(dtype).type(0.5), x).astype(dtype)
        x = wholes(rng, sizes, dtype)
        if op == "Pow":
            return np.abs(x) % 5
        return np.where(x == 0, np.dtype(dtype).type(3), x) if op == "Div" else x

    if since < 7:
        return legacy(rng, op, make, since)
    a, b = pair(rng)
    case = Case(op, [make(a), make(b)])
    if op == "Pow" and since >= 12 and rng.random() < 0.5:
        case.inputs[1] = case.inputs[1].astype(rng.choice(["float32", "int64", "float64", "int32"]))
        case.tolerance = 1e-3
    return modern_at(case, since, 13) if since < 13 else case


@draws("LessOrEqual", "GreaterOrEqual")
def order(rng, since, op):
    a, b = pair(rng)
    dtype = rng.choice(["float32", "float64", "int64", "int32"])
    return Case(op, [wholes(rng, a, dtype, -2, 3), wholes(rng, b, dtype, -2, 3)])


@draws("And", "Or", "Xor")
def logical(rng, since, op):
    def make(sizes):
        return np.asarray(rng.random(sizes) < 0.5)

    if since < 7:
        return legacy(rng, op, make, since)
    a, b = pair(rng)
    return Case(op, [make(a), make(b)])


@draws("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(rng, since, op):
    a, b = pair(rng)
    dtype = rng.choice(["int8", "uint8", "int32", "uint32", "int64"])
    return Case(op, [wholes(rng, a, dtype, -99, 99), wholes(rng, b, dtype, -99, 99)])


@draws("BitShift")
def bit_shift(rng, since, op):
    a, b = pair(rng)
    dtype = rng.choice(["uint8", "uint32", "uint64"])
    direction = str(rng.choice(["LEFT", "RIGHT"]))
    return Case(
        op, [wholes(rng, a, dtype, 0, 99), wholes(rng, b, dtype, 0, 8)], {"direction": direction}
    )


@draws("Mod")
def mod(rng, since, op):
    a, b = pair(rng)
    dtype = str(rng.choice(["float32", "float64", "int8", "int32", "int64", "uint8", "float16"]))
    real = dtype.startswith("float")
    inputs = [reals(rng, s, dtype, 5) if real else wholes(rng, s, dtype, -20, 20) for s in (a, b)]
    zero = np.abs(inputs[1]) < 0.2
    inputs[1] = np.where(zero, np.dtype(dtype).type(3), inputs[1])
    attributes = {"fmod": 1} if real else {"fmod": int(rng.integers(2))}
    return Case(op, inputs, attributes)


@draws("Max", "Min", "Sum", "Mean")
def variadic(rng, since, op):
    a, b = pair(rng)
    if since < 8:
        b = a
    dtype = "float32"
    if op in ("Max", "Min") and since >= 12:
        dtype = str(rng.choice(["float32", "float64", "int32", "int64", "float16"]))
    arrays = [
        reals(rng, s, dtype) if dtype.startswith("float") else wholes(rng, s, dtype)
        for s in (a, b, a)[: int(rng.integers(1, 4))]
    ]
    if op in ("Max", "Min") and dtype == "float32":
        arrays = [extremes(rng, np.asarray(x)) for x in arrays]
        arrays = [np.nan_to_num(x, posinf=9, neginf=-9) if since < 12 else x for x in arrays]
    return modern_at(Case(op, [np.asarray(x) for x in arrays]), since, max(since, 8))


@draws("Where")
def where(rng, since, op):
    a, b = pair(rng)
    dtype = rng.choice(["float32", "int64", "uint8", "float64"])
    return Case(op, [np.asarray(rng.random(a) < 0.5), wholes(rng, b, dtype), wholes(rng, a, dtype)])


@draws("Clip")
def clip(rng, since, op):
    bounds = sorted(np.round(rng.normal(size=2), 2)) if rng.random() < 0.8 else [0.7, -0.3]
    given = [b if rng.random() < 0.7 else None for b in bounds]
    x = reals(rng, shape(rng))
    if since >= 11:
        dtype = (
            str(rng.choice(["float32", "float64", "int32", "int64"])) if since >= 12 else "float32"
        )
        if dtype.startswith("int"):
            x, given = wholes(rng, shape(rng), dtype), [g if g is None else 3 * g for g in given]
        inputs = [
            x.astype(dtype),
            *(g if g is None else np.asarray(g).astype(dtype) for g in given),
        ]
        while inputs[-1] is None:
            inputs.pop()
        return Case(op, inputs)
    names = {k: float(v) for k, v in zip(("min", "max"), given, strict=True) if v is not None}
    return modern_at(Case(op, [x], names), since, 6) if since < 6 else Case(op, [x], names)


@draws("PRelu")
def prelu(rng, since, op):
    x = shape(rng, 2, 4)
    dtype = str(rng.choice(["float32", "float64"])) if since >= 9 else "float32"
    if since < 7:
        slope = reals(rng, (x[1] if rng.random() < 0.7 else 1,))
        case = Case(op, [reals(rng, x), slope])
        laid = slope.reshape(-1, *(1,) * (len(x) - 2))
        case.modern = case.at(9, inputs=[case.inputs[0], laid])
        return case
    slope = tuple(1 if rng.random() < 0.4 else s for s in x)[int(rng.integers(len(x))) :]
    return Case(op, [reals(rng, x, dtype), reals(rng, slope, dtype)])


@draws("Range")
def arange(rng, since, op):
    dtype = rng.choice(["float32", "float64", "int32", "int64", "int16"])
    real = np.dtype(dtype).kind == "f"
    start, limit = rng.integers(-9, 10, size=2)
    step = rng.choice([-3, -2, -1, 1, 2, 3]) / (4 if real else 1)
    return Case(op, [np.asarray(v).astype(dtype) for v in (start, limit, step)])


@draws("Softmax", "LogSoftmax", "Hardmax")
def softmax(rng, since, op):
    x = reals(rng, shape(rng, 2 if since < 13 else 1, 4), rng.choice(["float32", "float64"]), 3)
    if op == "Hardmax":
        x = np.round(x).astype("float32")
    axis = int(rng.integers(0 if since < 11 else -x.ndim, x.ndim))
    case = Case(op, [x], {} if rng.random() < 0.3 else {"axis": axis})
    return modern_at(case, since, 11) if since < 11 else case


@draws("Cast")
def cast(rng, since, op):
    kinds = ["float32", "float16", "float64", "int32", "int64", "uint8", "bool", "int8"]
    source, to = rng.choice(kinds, size=2)
    x = reals(rng, shape(rng), "float64", 20)
    x = np.abs(x) if "uint" in to or "uint" in source else x
    from onnx import TensorProto, helper

    if since >= 19 and rng.random() < 0.3:
        code = TensorProto.FLOAT8E4M3FN
        attributes = {"to": code} | ({"saturate": 1} if rng.random() < 0.5 else {})
        return Case(
            op, [(x * 10 ** rng.integers(0, 4)).astype("float32")], attributes, tolerance=1e-6
        )
    code = helper.np_dtype_to_tensor_dtype(np.dtype(to))
    if since < 6:
        name = TensorProto.DataType.Name(code)
        case = Case(op, [x.astype(source)], {"to": name})
        case.modern = case.at(13, attributes={"to": code})
        return case
    if since >= 9 and rng.random() < 0.1:
        return Case(op, [np.array(["1.5", "-2", "7"], object)], {"to": TensorProto.FLOAT})
    return Case(op, [x.astype(source)], {"to": code})


@draws("CastLike")
def cast_like(rng, since, op):
    kinds = ["float32", "float64", "int32", "int64", "int8"]
    source, to = rng.choice(kinds, size=2)
    x = reals(rng, shape(rng), "float64", 20).astype(source)
    if np.dtype(to).kind == "f":
        to = "float64"
    return Case(op, [x, np.zeros(2, to)], tolerance=1e-6)


@draws("Identity")
def identity(rng, since, op):
    return Case(op, [wholes(rng, shape(rng), rng.choice(["float32", "int64", "int8", "bool"]))])


@draws("Dropout")
def dropout(rng, since, op):
    x = reals(rng, shape(rng))
    outputs = int(rng.integers(1, 3)) if since >= 12 else 1
    if since >= 12:
        inputs = [x, np.float32(0.3)] if rng.random() < 0.5 else [x]
        if rng.random() < 0.5:
            inputs = [
                x,
                np.asarray(np.float32(0.0 if rng.random() < 0.5 else 0.4)),
                np.asarray(False),
            ]
        return Case(op, [np.asarray(i) for i in inputs], outputs=outputs)
    case = Case(op, [x], {"ratio": 0.4} | ({"is_test": 1} if since < 7 else {}), outputs=outputs)
    return modern_at(case, since, 7, attributes={"ratio": 0.4}) if since < 7 else case
