"""Small models to load and edit, and what is often done with them."""

import io

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from normswap.model import load, write_to

OPSETS = [helper.make_opsetid("", 20)]


def array(name, *shape, seed=0):
    rng = np.random.default_rng([seed, *name.encode()])
    return rng.standard_normal(shape).astype(np.float32)


def initializer(name, *shape):
    return numpy_helper.from_array(array(name, *shape), name)


def value(name, *shape, data_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, data_type, shape)


def graph_of(nodes, inputs=("x",), outputs=("y",), initializers=(), shape=("N", 4), **fields):
    return helper.make_graph(
        nodes,
        "main",
        [value(name, *shape) if isinstance(name, str) else name for name in inputs],
        [value(name, *shape) if isinstance(name, str) else name for name in outputs],
        list(initializers),
        **fields,
    )


def model_of(graph, *, opsets=None, ir_version=10, functions=(), **fields):
    return helper.make_model(
        graph,
        opset_imports=opsets or OPSETS,
        ir_version=ir_version,
        functions=list(functions),
        **fields,
    )


def edited(model, edit):
    """Load a ModelProto, let `edit` change the graph, and return the ModelProto that is written."""
    loaded = load(model.SerializeToString(), name="test.onnx")
    edit(loaded.graph)
    return written(loaded)


def written(loaded):
    stream = io.BytesIO()
    write_to(loaded, stream)
    return onnx.ModelProto.FromString(stream.getvalue())
