"""Bodies, sequences, constants, and random numbers, of which only the moments can be right."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from support.draws.case import Case, draws
from support.draws.movement import i64
from support.draws.simple import modern_at, reals, shape, wholes


def body(name, nodes, inputs, outputs):
    """Return a graph; values are (name, type, rank or None)."""

    def info(value):
        sizes = None if value[2] is None else [None] * value[2]
        return helper.make_tensor_value_info(value[0], value[1], sizes)

    return helper.make_graph(nodes, name, [info(v) for v in inputs], [info(v) for v in outputs])


FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


@draws("Constant")
def constant(rng, since, op):
    value = wholes(rng, shape(rng), rng.choice(["float32", "int64", "bool", "float64"]))
    given = {"value": numpy_helper.from_array(np.asarray(value))}
    if since >= 12 and rng.random() < 0.6:
        given = [
            {"value_int": 3},
            {"value_float": 0.3},
            {"value_ints": [1, 2]},
            {"value_floats": [0.5]},
        ][int(rng.integers(4))]
    return Case(op, [], given)


@draws("If")
def branches(rng, since, op):
    graphs = [
        body(
            f"b{i}",
            [
                helper.make_node(
                    "Constant", [], [f"c{i}"], value=numpy_helper.from_array(reals(rng, (2, 3)))
                ),
                helper.make_node("Abs", [f"c{i}"], [f"y{i}"]),
            ],
            [],
            [(f"y{i}", FLOAT, 2)],
        )
        for i in range(2)
    ]
    given = {"then_branch": graphs[0], "else_branch": graphs[1]}
    case = Case(op, [np.asarray(rng.random() < 0.5)], given)
    return modern_at(case, since, 11) if since < 11 else case


@draws("Loop")
def loop(rng, since, op):
    x = reals(rng, shape(rng, 0, 3))
    nodes = [
        helper.make_node("Neg", ["v"], ["w"]),
        helper.make_node("Identity", ["c"], ["d"]),
        helper.make_node("Abs", ["v"], ["s"]),
    ]
    graph = body(
        "body",
        nodes,
        [("i", INT64, 0), ("c", BOOL, 0), ("v", FLOAT, x.ndim)],
        [("d", BOOL, 0), ("w", FLOAT, x.ndim), ("s", FLOAT, x.ndim)],
    )
    limit = np.asarray(rng.integers(1, 4))
    condition = None if rng.random() < 0.3 else np.asarray(True)
    case = Case(op, [limit, condition, x], {"body": graph}, 2)
    return modern_at(case, since, 11) if since < 11 else case


@draws("Scan")
def scan(rng, since, op):
    x = reals(rng, shape(rng, 1, 3))
    given = {"num_scan_inputs": 1}
    for name in ("scan_input_axes", "scan_output_axes"):
        if rng.random() < 0.5:
            given[name] = [int(rng.integers(x.ndim))]
    for name in ("scan_input_directions", "scan_output_directions"):
        if rng.random() < 0.5:
            given[name] = [int(rng.integers(2))]
    axis = given.get("scan_input_axes", [0])[0]
    state = reals(rng, np.delete(x.shape, axis))
    nodes = [helper.make_node("Sub", ["s", "x"], ["t"]), helper.make_node("Abs", ["t"], ["y"])]
    rank = x.ndim - 1
    graph = body(
        "body",
        nodes,
        [("s", FLOAT, rank), ("x", FLOAT, rank)],
        [("t", FLOAT, rank), ("y", FLOAT, rank)],
    )
    return Case(op, [state, x], {"body": graph} | given, 2)


def sequence(rng, sizes=None):
    return [reals(rng, sizes or shape(rng, 1, 3)) for _ in range(int(rng.integers(1, 4)))]


def place(rng, values, *, insert=False):
    return np.asarray(rng.integers(-len(values), len(values) + insert), np.int64)


@draws("SequenceConstruct")
def construct(rng, since, op):
    return Case(op, sequence(rng))


@draws("SequenceEmpty")
def empty(rng, since, op):
    return Case(op, [])


@draws("SequenceLength")
def length(rng, since, op):
    return Case(op, [sequence(rng)])


@draws("SequenceAt")
def at(rng, since, op):
    values = sequence(rng, (2, 2))
    return Case(op, [values, place(rng, values)])


@draws("SequenceErase")
def erase(rng, since, op):
    values = sequence(rng, (2, 2))
    return Case(op, [values, place(rng, values)] if rng.random() < 0.7 else [values])


@draws("SequenceInsert")
def insert(rng, since, op):
    values = sequence(rng, (2, 2))
    inputs = [values, reals(rng, (2, 2))]
    return Case(op, [*inputs, place(rng, values, insert=True)] if rng.random() < 0.7 else inputs)


@draws("ConcatFromSequence")
def concat_from(rng, since, op):
    values = sequence(rng, (2, 3))
    new = int(rng.integers(2))
    return Case(op, [values], {"axis": int(rng.integers(-2 - new, 2 + new)), "new_axis": new})


@draws("SplitToSequence")
def split_to(rng, since, op):
    x = reals(rng, shape(rng, 1, 3))
    axis = int(rng.integers(-x.ndim, x.ndim))
    size = x.shape[axis]
    choice = rng.random()
    if choice < 0.4:
        return Case(op, [x], {"axis": axis, "keepdims": int(rng.integers(2))})
    if choice < 0.7:
        return Case(op, [x, np.asarray(rng.integers(1, size + 1), np.int64)], {"axis": axis})
    first = int(rng.integers(0, size))
    return Case(op, [x, i64([first, size - first])], {"axis": axis})


@draws("OptionalHasElement", "OptionalGetElement")
def optional(rng, since, op):
    return Case(op, [reals(rng, shape(rng))])


def moments(values):
    """Return what of random numbers is no chance: their shape, and nearly mean and deviation."""
    (x,) = values
    x = np.asarray(x).astype(np.float64)
    return [np.array(x.shape), np.round(np.array([x.mean(), x.std()]) * 3)]


@draws("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli")
def random(rng, since, op):
    given = {"seed": 3.0}
    if "Normal" in op:
        given |= {"mean": 4.0, "scale": 1.0}
    elif "Uniform" in op:
        given |= {"low": 2.0, "high": 2.0 + float(np.sqrt(12))}
    inputs = [] if op in ("RandomNormal", "RandomUniform") else [np.full((60, 70), 0.5, np.float32)]
    if not inputs:
        given["shape"] = [60, 70]
    case = Case(op, inputs, given, summary=moments)
    return modern_at(case, since, 15 if op == "Bernoulli" else 1)
