"""Small ONNX models for tests, in a few words."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DTYPES = {
    "float32": (TensorProto.FLOAT, np.dtype(np.float32)),
    "float16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bfloat16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
    "float64": (TensorProto.DOUBLE, np.dtype(np.float64)),
}

IR_OF_OPSET = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8}


class Builder:
    """Collects nodes and initializers, and makes a model of them.

    Parameters
    ----------
    opset : int
    dtype : str
        Element type of :meth:`const` and of inputs and outputs.
    seed : int
    """

    def __init__(self, opset: int = 17, dtype: str = "float32", seed: int = 0) -> None:
        # bfloat16 convolutions are there from opset 22 on.
        self.opset = max(opset, 22) if dtype == "bfloat16" else opset
        self.elem_type, self.np_dtype = DTYPES[dtype]
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.value_info: list[onnx.ValueInfoProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.extra_opsets: list[onnx.OperatorSetIdProto] = []
        self.count = 0

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_{self.count}"

    def input(self, *shape, name="x", elem_type=None):
        info = helper.make_tensor_value_info(name, elem_type or self.elem_type, shape)
        self.inputs.append(info)
        return name

    def output(self, name, shape=None, elem_type=None):
        info = helper.make_tensor_value_info(name, elem_type or self.elem_type, shape)
        self.outputs.append(info)
        return self

    def const(self, array, name=None, dtype=None):
        array = np.asarray(array)
        if array.dtype.kind == "f":
            array = array.astype(dtype or self.np_dtype)
        name = name or self.name("k")
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape, name=None, scale=1.0):
        return self.const(self.rng.normal(size=shape) * scale, name)

    def node(self, op, *inputs, out=None, outputs=1, name=None, domain="", **attrs):
        names = [out or self.name(op.lower())]
        names += [self.name(op.lower()) for _ in range(outputs - 1)]
        node = helper.make_node(
            op, list(inputs), names, name or f"{op}_{names[0]}", domain=domain, **attrs
        )
        self.nodes.append(node)
        return names[0] if outputs == 1 else names

    def statistics(self, channels, *, positive=False):
        """Scale, B, mean and var as they are after training: signs mixed, one scale zero."""
        scale = self.rng.uniform(0.5, 1.5, channels)
        if not positive:
            scale *= self.rng.choice([-1.0, 1.0], channels)
            if channels > 2:
                scale[channels // 2] = 0.0
        return (
            scale,
            self.rng.normal(size=channels),
            self.rng.normal(size=channels) * 2,
            self.rng.uniform(0.1, 3.0, channels),
        )

    def bn(self, x, channels, *, out=None, positive=False, stats=None, name=None, **attrs):
        """Add a BatchNormalization with random statistics."""
        stats = stats if stats is not None else self.statistics(channels, positive=positive)
        parameters = [self.const(vector) for vector in stats]
        attrs.setdefault("epsilon", float(self.rng.choice([1e-5, 1e-3, 0.1, 0.0])))
        return self.node("BatchNormalization", x, *parameters, out=out, name=name, **attrs)

    def conv(self, x, c_in, c_out, *, kernel=(3, 3), group=1, bias=True, out=None, **attrs):
        """Add a Conv with random weights."""
        inputs = [x, self.normal(c_out, c_in // group, *kernel)]
        if bias:
            inputs.append(self.normal(c_out))
        return self.node("Conv", *inputs, out=out, group=group, **attrs)

    def model(self, **fields) -> onnx.ModelProto:
        ir = fields.pop("ir_version", IR_OF_OPSET.get(self.opset, 9 if self.opset < 21 else 10))
        if ir < 4:  # every initializer must be listed as an input
            for tensor in self.initializers:
                self.inputs.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )
        graph = helper.make_graph(
            self.nodes,
            "graph",
            self.inputs,
            self.outputs,
            self.initializers,
            value_info=self.value_info,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset), *self.extra_opsets],
            functions=self.functions,
            ir_version=ir,
            **fields,
        )
        # Outputs are declared without a shape, which the checker wants them to have.
        inferred = onnx.shape_inference.infer_shapes(model)
        for info, found in zip(model.graph.output, inferred.graph.output, strict=True):
            info.CopyFrom(found)
        onnx.checker.check_model(model)
        return model
