"""Shapes, orders, reductions, and what reads and writes at indices."""

import numpy as np

from support.draws.case import Case, draws
from support.draws.simple import modern_at, reals, shape, wholes

ANY = ("float32", "float64", "int32", "int64", "uint8", "bool", "int8", "float16")


def anything(rng, sizes, kinds=ANY):
    return wholes(rng, sizes, str(rng.choice(kinds)), -50, 50)


def signed(rng, axes, rank):
    """Return axes, some of them counted from the end."""
    return [int(a) - rank if rng.random() < 0.5 else int(a) for a in axes]


def i64(values):
    return np.asarray(values, np.int64)


@draws("Reshape")
def reshape(rng, since, op):
    x = anything(rng, shape(rng, 1, 4), ("float32",) if since < 5 else ANY)
    sizes = list(rng.permutation(x.shape))
    if rng.random() < 0.5:
        sizes[int(rng.integers(len(sizes)))] = -1
    elif rng.random() < 0.5:
        sizes = [0, -1]
    sizes = [int(s) for s in sizes]
    attributes = {}
    if since >= 14 and rng.random() < 0.5:
        attributes["allowzero"] = 1
        if 0 in sizes:
            sizes = [-1]
        if rng.random() < 0.5:
            x, sizes = x.reshape(-1)[:0], [3, 0, 2]
    if since < 5:
        case = Case(op, [x], {"shape": sizes})
        case.modern = case.at(5, inputs=[x, i64(sizes)], attributes={})
        return case
    return Case(op, [x, i64(sizes)], attributes)


@draws("Flatten")
def flatten(rng, since, op):
    x = anything(rng, shape(rng, 1, 4), ("float32",) if since < 9 else ANY)
    axis = int(rng.integers(0 if since < 11 else -x.ndim, x.ndim + 1))
    return Case(op, [x], {} if rng.random() < 0.2 else {"axis": axis})


@draws("Squeeze")
def squeeze(rng, since, op):
    sizes = [1 if rng.random() < 0.5 else int(s) for s in shape(rng, 1, 5)]
    x = anything(rng, sizes)
    ones = [i for i, s in enumerate(sizes) if s == 1]
    axes = list(rng.permutation(ones))[: int(rng.integers(1, 4))]
    axes = [int(a) for a in axes] if since < 11 else signed(rng, axes, len(sizes))
    if not axes or rng.random() < 0.15:
        return Case(op, [x])
    return Case(op, [x], {"axes": axes}) if since < 13 else Case(op, [x, i64(axes)])


@draws("Unsqueeze")
def unsqueeze(rng, since, op):
    x = anything(rng, shape(rng, 0, 3))
    count = int(rng.integers(1, 4))
    rank = x.ndim + count
    axes = [int(a) for a in rng.permutation(rank)[:count]]
    if since >= 11:
        axes = signed(rng, axes, rank)
    return Case(op, [x], {"axes": axes}) if since < 13 else Case(op, [x, i64(axes)])


@draws("Transpose")
def transpose(rng, since, op):
    x = anything(rng, shape(rng, 0, 5))
    perm = [int(a) for a in rng.permutation(x.ndim)]
    return Case(op, [x], {} if rng.random() < 0.3 or not perm else {"perm": perm})


@draws("Expand")
def expand(rng, since, op):
    whole = shape(rng, 0, 4)
    x = anything(rng, tuple(1 if rng.random() < 0.5 else s for s in whole), ("float32", "int64"))
    sizes = [1 if rng.random() < 0.2 and x.shape[i] == s else s for i, s in enumerate(whole)]
    drop = next((i for i, s in enumerate(sizes) if x.shape[i] != s), len(sizes))
    sizes = sizes[drop:] if rng.random() < 0.3 else sizes
    if rng.random() < 0.3:
        sizes = [2, *whole]
    return Case(op, [x, i64(sizes)])


@draws("Tile")
def tile(rng, since, op):
    x = anything(rng, shape(rng, 1, 4), ("float32", "int64", "uint8"))
    return Case(op, [x, i64(rng.integers(0, 4, size=x.ndim))])


@draws("Concat")
def concat(rng, since, op):
    sizes = list(shape(rng, 2 if since < 4 else 1, 4))
    axis = int(rng.integers(len(sizes)))
    kind = "float32" if since < 4 else str(rng.choice(ANY))
    arrays = []
    for _ in range(int(rng.integers(1, 4))):
        sizes[axis] = int(rng.integers(1, 4))
        arrays.append(wholes(rng, sizes, kind))
    if since < 4:
        case = Case(
            op,
            arrays,
            {"axis": axis}
            if rng.random() < 0.6 or len({a.shape[:1] + a.shape[2:] for a in arrays}) > 1
            else {},
        )
        given = case.attributes.get("axis", 1)
        return modern_at(case, since, 4, attributes={"axis": given})
    return Case(
        op, arrays, {"axis": axis - len(sizes) if since >= 11 and rng.random() < 0.5 else axis}
    )


@draws("Split")
def split(rng, since, op):
    x = list(shape(rng, 1, 4))
    axis = int(rng.integers(len(x)))
    parts = int(rng.integers(1, 4))
    sizes = [int(s) for s in rng.integers(1, 4, size=parts)]
    even = rng.random() < 0.5
    x[axis] = 2 * parts if even else sum(sizes)
    if since >= 18 and even and rng.random() < 0.5 and parts > 1:
        x[axis] += 1 if parts == 2 else -1
    values = anything(rng, x, ("float32",) if since < 2 else ("float32", "int64"))
    given = axis - len(x) if since >= 11 and rng.random() < 0.5 else axis
    if since < 2:
        case = Case(op, [values], {"axis": axis, "split": [2] * parts if even else sizes}, parts)
        return modern_at(case, since, 2)
    attributes = {"axis": given}
    if even:
        return Case(
            op, [values], attributes | ({"num_outputs": parts} if since >= 18 else {}), parts
        )
    if since < 13:
        return Case(op, [values], attributes | {"split": sizes}, parts)
    return Case(op, [values, i64(sizes)], attributes, parts)


@draws("Slice")
def slicing(rng, since, op):
    x = anything(rng, shape(rng, 1, 4, 8), ("float32", "int64", "int32"))
    count = int(rng.integers(1, x.ndim + 1))
    axes = [int(a) for a in rng.permutation(x.ndim)[:count]]
    starts, ends = ([int(v) for v in rng.integers(-10, 11, size=count)] for _ in range(2))
    if rng.random() < 0.2 and since < 10:
        ends[0] = 2**31 - 1
    if since < 10:
        plain = rng.random() < 0.3
        axes = list(range(count)) if plain else axes
        return Case(op, [x], {"starts": starts, "ends": ends} | ({} if plain else {"axes": axes}))
    axes = signed(rng, axes, x.ndim)
    steps = [int(s) for s in rng.choice([-3, -2, -1, 1, 2, 3], size=count)]
    if rng.random() < 0.2:
        ends[-1], steps[-1] = -(2**31), -1
    if rng.random() < 0.2:
        ends[0], steps[0] = 2**31 - 1, abs(steps[0])
    inputs = [x, i64(starts), i64(ends)]
    if rng.random() < 0.8:
        inputs += [i64(axes)]
        if rng.random() < 0.8:
            inputs += [i64(steps)]
    return Case(op, inputs)


@draws("Pad")
def pad(rng, since, op):
    modes = ["constant", "constant", "reflect", "edge"] + (["wrap"] if since >= 19 else [])
    mode = str(rng.choice(modes))
    x = reals(
        rng,
        shape(rng, 1, 4, 6)
        if mode == "constant"
        else tuple(int(s) for s in rng.integers(3, 7, size=rng.integers(1, 4))),
    )
    widths = rng.integers(-1 if mode != "wrap" else 0, 3, size=2 * x.ndim)
    if rng.random() < 0.5:
        widths = np.abs(widths)
    widths = np.array([max(w, 0) if x.shape[i % x.ndim] < 3 else w for i, w in enumerate(widths)])
    attributes = {"mode": mode}
    value = float(np.round(rng.normal(), 2))
    if since < 11:
        name = "paddings" if since < 2 else "pads"
        given = {name: [int(w) for w in widths]}
        if mode == "constant" and rng.random() < 0.5:
            attributes["value"] = value
        case = Case(op, [x], attributes | given)
        return modern_at(case, since, 2, attributes=attributes | {"pads": given[name]})
    inputs = [x, i64(widths)]
    if mode == "constant" and rng.random() < 0.6:
        inputs.append(np.asarray(value, np.float32))
    if since >= 18 and rng.random() < 0.5:
        axes = rng.permutation(x.ndim)[: int(rng.integers(1, x.ndim + 1))]
        inputs[1] = i64([*widths[axes], *widths[x.ndim + axes]])
        inputs = [*inputs, *[None] * (3 - len(inputs)), i64(signed(rng, axes, x.ndim))]
    return Case(op, inputs, attributes)


@draws("Shape")
def shape_of(rng, since, op):
    attributes = {}
    if since >= 15:
        attributes = {k: int(rng.integers(-5, 6)) for k in ("start", "end") if rng.random() < 0.6}
    return Case(op, [anything(rng, shape(rng, 0, 4))], attributes)


@draws("Size")
def size_of(rng, since, op):
    return Case(op, [anything(rng, shape(rng, 0, 4))])


@draws("ConstantOfShape")
def constant_of_shape(rng, since, op):
    from onnx import numpy_helper

    sizes = i64(shape(rng, 0, 4))
    value = wholes(rng, 1, rng.choice(["float32", "int64", "int32", "bool", "float64"]))
    return Case(
        op, [sizes], {} if rng.random() < 0.3 else {"value": numpy_helper.from_array(value)}
    )


@draws("DepthToSpace")
def depth_to_space(rng, since, op):
    b = int(rng.integers(1, 4))
    n, d, h, w = (int(s) for s in rng.integers(1, 4, size=4))
    attributes = {"blocksize": b}
    if since >= 11 and rng.random() < 0.7:
        attributes["mode"] = str(rng.choice(["DCR", "CRD"]))
    return Case(op, [reals(rng, (n, d * b * b, h, w))], attributes)


@draws("SpaceToDepth")
def space_to_depth(rng, since, op):
    b = int(rng.integers(1, 4))
    n, c, h, w = (int(s) for s in rng.integers(1, 4, size=4))
    given = {"blocksize": b}
    if since >= 28 and rng.random() < 0.7:
        given["mode"] = str(rng.choice(["DCR", "CRD"]))
    return Case(op, [reals(rng, (n, c, h * b, w * b))], given)


@draws("Trilu")
def trilu(rng, since, op):
    x = wholes(
        rng,
        (*shape(rng, 0, 2), *(int(s) for s in rng.integers(1, 6, size=2))),
        rng.choice(["float32", "int64", "float64"]),
    )
    inputs = [x] + ([np.asarray(np.int64(rng.integers(-4, 5)))] if rng.random() < 0.7 else [])
    return Case(op, inputs, {} if rng.random() < 0.3 else {"upper": int(rng.integers(2))})


@draws("ReverseSequence")
def reverse_sequence(rng, since, op):
    time = int(rng.integers(2))
    sizes = shape(rng, 2, 4)
    x = reals(rng, sizes)
    lengths = i64(rng.integers(1, sizes[time] + 1, size=sizes[1 - time]))
    plain = {} if time == 0 and rng.random() < 0.5 else {"time_axis": time, "batch_axis": 1 - time}
    return Case(op, [x, lengths], plain)


@draws("CenterCropPad")
def center_crop_pad(rng, since, op):
    x = reals(rng, shape(rng, 1, 4, 7))
    axes = rng.permutation(x.ndim)[: int(rng.integers(1, x.ndim + 1))]
    if rng.random() < 0.3:
        return Case(op, [x, i64(rng.integers(1, 8, size=x.ndim))])
    return Case(
        op, [x, i64(rng.integers(1, 8, size=len(axes)))], {"axes": signed(rng, axes, x.ndim)}
    )


REDUCTIONS = ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"]
REDUCTIONS += ["ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"]


@draws(*REDUCTIONS)
def reduce(rng, since, op):
    x = reals(rng, shape(rng, 0 if since >= 18 else 1, 4), rng.choice(["float32", "float64"]), 1.5)
    if op == "ReduceLogSum":
        x = np.abs(x) + x.dtype.type(0.1)
    elif op not in ("ReduceL2", "ReduceLogSumExp", "ReduceL1") and rng.random() < 0.4:
        x = wholes(rng, x.shape, rng.choice(["int32", "int64"]), -5, 6)
        if op in ("ReduceMax", "ReduceMin") and since >= 12 and rng.random() < 0.5:
            x = x.astype("int8")
        if op in ("ReduceMax", "ReduceMin") and since >= 20 and rng.random() < 0.5:
            x = x > 0
    axes = [int(a) for a in rng.permutation(x.ndim)[: int(rng.integers(0, x.ndim + 1))]]
    if since >= 11:
        axes = signed(rng, axes, x.ndim)
    attributes = {} if rng.random() < 0.3 else {"keepdims": int(rng.integers(2))}
    if since < (13 if op == "ReduceSum" else 18):
        return Case(op, [x], attributes | ({"axes": axes} if axes else {}))
    if rng.random() < 0.5:
        attributes["noop_with_empty_axes"] = int(rng.integers(2))
    if not axes:
        return Case(op, [x] if rng.random() < 0.5 else [x, i64([])], attributes)
    return Case(op, [x, i64(axes)], attributes)


@draws("ArgMax", "ArgMin")
def arg(rng, since, op):
    x = wholes(rng, shape(rng, 1, 4), rng.choice(["float32", "int32", "int8", "uint8"]), -3, 4)
    attributes = {"axis": int(rng.integers(0 if since < 11 else -x.ndim, x.ndim))}
    attributes |= {"keepdims": int(rng.integers(2))} if rng.random() < 0.6 else {}
    if since >= 12 and rng.random() < 0.5:
        attributes["select_last_index"] = int(rng.integers(2))
    return Case(op, [x], attributes if rng.random() < 0.8 else {})


@draws("TopK")
def top_k(rng, since, op):
    kinds = ["float32", "float64", "int64", "int32"] if since >= 11 else ["float32", "float64"]
    x = wholes(rng, shape(rng, 1, 4), str(rng.choice(kinds)), -9, 10)
    axis = int(rng.integers(x.ndim))
    k = int(rng.integers(1, x.shape[axis] + 1))
    attributes = {"axis": axis - x.ndim if since >= 11 and rng.random() < 0.5 else axis}
    if since < 10:
        return Case(op, [x.astype("float32")], attributes | {"k": k}, 2)
    if since >= 11 and rng.random() < 0.6:
        attributes["largest"] = int(rng.integers(2))
    return Case(op, [x, i64([k])], attributes, 2)


@draws("CumSum", "CumProd")
def cum_sum(rng, since, op):
    x = wholes(rng, shape(rng, 1, 4), rng.choice(["float32", "float64", "int32", "int64"]))
    axis = np.asarray(rng.integers(-x.ndim, x.ndim)).astype(rng.choice(["int32", "int64"]))
    attributes = {k: int(rng.integers(2)) for k in ("exclusive", "reverse")}
    return Case(op, [x, axis], attributes)


@draws("Gather")
def gather(rng, since, op):
    x = anything(rng, shape(rng, 1, 4))
    axis = int(rng.integers(-x.ndim, x.ndim))
    low = 0 if since < 11 else -x.shape[axis]
    indices = wholes(rng, shape(rng, 0, 3), rng.choice(["int32", "int64"]), low, x.shape[axis])
    return Case(op, [x, indices], {"axis": axis})


@draws("GatherElements")
def gather_elements(rng, since, op):
    x = anything(rng, shape(rng, 1, 4), ("float32", "int64", "uint8"))
    axis = int(rng.integers(-x.ndim, x.ndim))
    sizes = [int(rng.integers(1, s + 1)) for s in x.shape]
    sizes[axis] = int(rng.integers(1, 6))
    indices = wholes(rng, sizes, rng.choice(["int32", "int64"]), -x.shape[axis], x.shape[axis])
    return Case(op, [x, indices], {"axis": axis})


def tuples(rng, sizes, lead, depth):
    columns = [rng.integers(-s, s, size=lead) for s in sizes[:depth]]
    return np.stack(columns, axis=-1).astype(np.int64)


@draws("GatherND")
def gather_nd(rng, since, op):
    x = anything(rng, shape(rng, 1, 4), ("float32", "int64"))
    batch = int(rng.integers(x.ndim)) if since >= 12 else 0
    depth = int(rng.integers(1, x.ndim - batch + 1))
    lead = (*x.shape[:batch], *shape(rng, 0, 2))
    attributes = {"batch_dims": batch} if batch or (since >= 12 and rng.random() < 0.3) else {}
    return Case(op, [x, tuples(rng, x.shape[batch:], lead, depth)], attributes)


def writing(rng, since):
    names = ["none"] if since < 16 else ["none", "add", "mul"]
    return str(rng.choice(names + (["max", "min"] if since >= 18 else [])))


@draws("ScatterElements", "Scatter")
def scatter_elements(rng, since, op):
    x = wholes(rng, shape(rng, 1, 4), rng.choice(["float32", "int64", "float64"]))
    axis = int(rng.integers(-x.ndim if op == "ScatterElements" else 0, x.ndim))
    sizes = [int(rng.integers(1, s + 1)) for s in x.shape]
    reduction = writing(rng, since)
    if reduction == "none":
        order = rng.permuted(
            np.broadcast_to(
                np.arange(x.shape[axis]).reshape(
                    [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
                ),
                [x.shape[i] if i == axis % x.ndim else s for i, s in enumerate(sizes)],
            ),
            axis=axis,
        )
        indices = np.take(order, np.arange(sizes[axis]), axis=axis).astype(np.int64)
    else:
        indices = wholes(rng, sizes, "int64", -x.shape[axis], x.shape[axis])
    if op == "ScatterElements" and rng.random() < 0.5:
        indices = np.where(
            rng.random(sizes) < 0.5, indices, indices % x.shape[axis] - x.shape[axis]
        )
    attributes = {"axis": axis} | ({"reduction": reduction} if since >= 16 else {})
    return Case(op, [x, indices, wholes(rng, sizes, x.dtype)], attributes)


@draws("ScatterND")
def scatter_nd(rng, since, op):
    x = wholes(rng, shape(rng, 1, 4), rng.choice(["float32", "int64", "float64"]))
    depth = int(rng.integers(1, x.ndim + 1))
    reduction = writing(rng, since)
    lead = shape(rng, 1, 2, 3)
    indices = tuples(rng, x.shape, lead, depth)
    if reduction == "none":
        total = int(np.prod(x.shape[:depth]))
        count = int(rng.integers(1, total + 1))
        flat = rng.permutation(total)[:count]
        indices = np.stack(np.unravel_index(flat, x.shape[:depth]), axis=-1).astype(np.int64)
        indices = np.where(
            rng.random(indices.shape) < 0.3, indices - np.array(x.shape[:depth]), indices
        )
    updates = wholes(rng, (*indices.shape[:-1], *x.shape[depth:]), x.dtype)
    attributes = {"reduction": reduction} if since >= 16 else {}
    return Case(op, [x, indices.astype(np.int64), updates], attributes)


@draws("Compress")
def compress(rng, since, op):
    x = anything(rng, shape(rng, 1, 4))
    if rng.random() < 0.4:
        return Case(op, [x, rng.random(int(rng.integers(1, x.size + 1))) < 0.5])
    axis = int(rng.integers(0 if since < 11 else -x.ndim, x.ndim))
    return Case(op, [x, rng.random(int(rng.integers(1, x.shape[axis] + 1))) < 0.5], {"axis": axis})


@draws("NonZero")
def non_zero(rng, since, op):
    x = wholes(rng, shape(rng, 0, 4), rng.choice(["float32", "int64", "bool", "int32"]), -1, 2)
    case = Case(op, [x])
    if x.ndim == 0:  # the runtime takes it for a vector; ONNX says that it has no axis
        case.modern = lambda: [np.zeros((0, int(x != 0)), np.int64)]
    return case


@draws("Unique")
def unique(rng, since, op):
    x = wholes(rng, shape(rng, 1, 3), rng.choice(["float32", "int64", "int8", "float64"]), -2, 3)
    attributes = {"sorted": int(rng.integers(2))} if rng.random() < 0.7 else {}
    if rng.random() < 0.5:
        attributes["axis"] = int(rng.integers(-x.ndim, x.ndim))
    outputs = [True, *(bool(rng.integers(2)) for _ in range(3))]
    return Case(op, [x], attributes, outputs)


@draws("OneHot")
def one_hot(rng, since, op):
    depth = int(rng.integers(1, 6))
    kind, of = [("int64", "int64"), ("int64", "float32"), ("float32", "float32")][
        int(rng.integers(3))
    ]
    indices = wholes(rng, shape(rng, 1, 3), kind, -depth - 2, depth + 2)
    axis = int(rng.integers(-indices.ndim - 1, indices.ndim + 1))
    return Case(op, [indices, np.asarray(depth).astype(kind), wholes(rng, 2, of)], {"axis": axis})


@draws("EyeLike")
def eye_like(rng, since, op):
    from onnx import TensorProto

    x = wholes(
        rng,
        tuple(int(s) for s in rng.integers(1, 6, size=2)),
        rng.choice(["float32", "int64", "int32"]),
    )
    attributes = {"k": int(rng.integers(-4, 5))} if rng.random() < 0.7 else {}
    if rng.random() < 0.5:
        attributes["dtype"] = int(
            rng.choice([TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE])
        )
    return Case(op, [x], attributes)
