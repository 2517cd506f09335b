"""A model of which every result is moved in its last place, as another way to compute it might.

The arbiter shows what that does to exact operators. A runtime's own round within: the mean of two
neighbours of float32 is one of them or lies between, and which it is decides what is left when the
mean is taken off. So the runtime is asked too.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper

from support.graphs import every_graph

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}


def shaken(model, sample):
    """Return a model in which every float result has a random part of a unit added."""
    called = onnx.inliner.inline_local_functions(model)  # in functions no types are known
    copy = onnx.shape_inference.infer_shapes(called)
    rng = np.random.default_rng(sample)
    for graph in reversed(list(every_graph(copy.graph))):  # a node is copied with its bodies
        types = {
            info.name: info.type.tensor_type.elem_type
            for info in (*graph.value_info, *graph.output)
            if info.type.tensor_type.elem_type in FLOATS
        }
        nodes = []
        for node in graph.node:
            nodes.append(node)
            for place, name in enumerate(node.output):
                if name in types:
                    node.output[place] = f"{name}/exact"
                    nodes += _moved(name, types[name], float(rng.integers(1 << 20)))
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.value_info[:]
    return copy


def _moved(name, elem_type, seed):
    """Return ``x + r*x``, for r of up to a unit."""
    unit = float(np.finfo(helper.tensor_dtype_to_np_dtype(elem_type)).eps)
    exact, part, typed, step = (f"{name}/{which}" for which in ("exact", "part", "typed", "step"))
    bounds = {"low": -unit, "high": unit, "dtype": TensorProto.FLOAT, "seed": seed}
    return [
        helper.make_node("RandomUniformLike", [exact], [part], **bounds),
        helper.make_node("Cast", [part], [typed], to=elem_type),
        helper.make_node("Mul", [exact, typed], [step]),
        helper.make_node("Add", [exact, step], [name]),
    ]
