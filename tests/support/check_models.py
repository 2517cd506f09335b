"""Small models for the tests of the check, and ways to spoil them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def value(name, shape, elem_type=FLOAT):
    return helper.make_tensor_value_info(name, elem_type, shape)


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def model(nodes, inputs, outputs, weights=(), *, opset=17, functions=(), domains=()):
    """Return a ModelProto; `weights` are TensorProtos."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(weights))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=list(functions))


def save(path, made):
    onnx.save(made, path)
    return path


def conv_bn(*, folded=False, scale=1.0, channel=2, seed=0, dtype=np.float32, batch="N", side=None):
    """Return Conv, BN (, Relu, Conv) with statistics that are no one's favourite.

    `folded` folds the BN in float64 with one rounding; `scale` multiplies one channel of the BN.
    """
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(5, 3, 3, 3)).astype(dtype)
    s, b, m = (rng.normal(size=5).astype(dtype) for _ in range(3))
    v = rng.uniform(0.01, 9.0, size=5).astype(dtype)
    last = rng.normal(size=(4, 5, 1, 1)).astype(dtype)
    s = s.copy()
    spoiled = s.astype(np.float64)
    spoiled[channel] *= scale
    tail = [
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("Conv", ["r", "last"], ["out"], name="last"),
    ]
    weights = [tensor("last", last)]
    if folded:
        factor = spoiled / np.sqrt(v.astype(np.float64) + 1e-5)
        folded_w = w.astype(np.float64) * factor[:, None, None, None]
        weights += [
            tensor("W", folded_w.astype(dtype)),
            tensor("bias", (b - m * factor).astype(dtype)),
        ]
        nodes = [helper.make_node("Conv", ["x", "W", "bias"], ["y"], pads=[1] * 4, name="conv")]
    else:
        weights += [
            tensor("W", w),
            tensor("s", spoiled.astype(dtype)),
            tensor("b", b),
            tensor("m", m),
            tensor("v", v),
        ]
        nodes = [
            helper.make_node("Conv", ["x", "W"], ["c"], pads=[1] * 4, name="conv"),
            helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], name="bn"),
        ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = [batch, 3, side or "H", side or "W"]
    return model([*nodes, *tail], [value("x", shape, kind)], [value("out", None, kind)], weights)


def one_node(op_type, shape=("N", 4), *, out="y", weights=(), extra=(), opset=17, **attributes):
    """Return a model of one node that reads x and, after it, the `weights` and `extra` names."""
    names = ["x", *extra, *(w.name for w in weights)]
    node = helper.make_node(op_type, names, [out], **attributes)
    return model([node], [value("x", list(shape))], [value(out, None)], weights, opset=opset)


def deadly_batch_norm():
    """Return a legal opset-9 BN with empty optional outputs, of which some runtimes die."""
    weights = [tensor(n, np.ones(3, np.float32)) for n in "sbmv"]
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "", "", "", ""])
    return model([node], [value("x", ["N", 3, 4, 4])], [value("y", None)], weights, opset=9)
