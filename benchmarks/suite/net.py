"""A small hand for building ONNX models node by node, in plain sight of what goes into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DTYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.bool_): TensorProto.BOOL,
}

Shape = tuple["int | str | None", ...]
Statistics = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def tensor(value: Any, name: str = "") -> TensorProto:
    """Return `value` as a TensorProto; Python floats become float32, ints int64."""
    if isinstance(value, TensorProto):
        if name:
            value.name = name
        return value
    array = np.asarray(value)
    if not isinstance(value, np.ndarray | np.generic) and array.dtype == np.float64:
        array = array.astype(np.float32)
    return numpy_helper.from_array(array, name)


class Scope:
    """Nodes and constants of one graph: the main graph, a body, or a function.

    Every method that adds a node returns the names of its outputs: a string where there is one,
    else a tuple.
    """

    def __init__(self, net: Net, *, constants_as_nodes: bool = False) -> None:
        self.net = net
        self.rng = net.rng
        self.dtype = net.dtype
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.sparse_initializers: list[onnx.SparseTensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.constants_as_nodes = constants_as_nodes

    def random(self, *shape: int, dtype: Any = None) -> np.ndarray:
        """Return standard normal values."""
        return self.rng.normal(size=shape).astype(dtype or self.dtype)

    def const(self, value: Any, name: str = "", *, node: bool | None = None) -> str:
        """Add a constant: an initializer, or a Constant node where initializers can't be."""
        name = name or self.net.fresh("c")
        if self.constants_as_nodes if node is None else node:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor(value)))
        else:
            self.initializers.append(tensor(value, name))
        return name

    def weight(self, *shape: int, name: str = "", dtype: Any = None) -> str:
        """Add a random constant of `shape`."""
        return self.const(self.random(*shape, dtype=dtype), name or self.net.fresh("w"))

    def op(
        self,
        op_type: str,
        *inputs: str,
        out: str | Sequence[str] | int = 1,
        domain: str = "",
        name: str = "",
        **attributes: Any,
    ) -> Any:
        """Add a node. `out` is the number of its outputs, or their names."""
        if isinstance(out, int):
            outputs = [self.net.fresh(op_type.lower()) for _ in range(out)]
        else:
            outputs = [out] if isinstance(out, str) else list(out)
        self.nodes.append(
            helper.make_node(
                op_type, list(inputs), outputs, name=name, domain=domain or None, **attributes
            )
        )
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def statistics(
        self, channels: int, *, sign: str = "mixed", shift: bool = True, dtype: Any = None
    ) -> Statistics:
        """Random scale, B, input_mean, input_var of a BN.

        Parameters
        ----------
        sign : {'mixed', 'nonnegative'}
            Of the scale. One channel of four and more has a scale of exactly zero.
        shift : bool
            Without it B and input_mean are zero, and so is the shift of the affine, exactly.
        """
        scale = self.rng.uniform(0.5, 1.5, channels)
        if sign == "mixed":
            scale *= self.rng.choice([-1, 1], channels, p=(0.35, 0.65))
            scale[-1] = -abs(scale[-1])
            scale[0] = abs(scale[0]) if channels > 1 else scale[0]
        if channels >= 4:
            scale[2] = 0
        mean, B = self.rng.normal(size=(2, channels)) * shift
        var = self.rng.uniform(0.2, 2.0, channels)
        dtype = dtype or self.dtype
        return scale.astype(dtype), B.astype(dtype), mean.astype(dtype), var.astype(dtype)

    def bn(
        self,
        x: str,
        channels: int,
        *,
        parameters: Sequence[Any] | None = None,
        sign: str = "mixed",
        shift: bool = True,
        out: str | Sequence[str] | int = 1,
        **attributes: Any,
    ) -> Any:
        """Add a BatchNormalization; `parameters` are arrays, or names of tensors that exist."""
        if parameters is None:
            parameters = self.statistics(channels, sign=sign, shift=shift)
        names = [
            p if isinstance(p, str) else self.const(p, self.net.fresh(part))
            for p, part in zip(parameters, ("scale", "B", "mean", "var"), strict=True)
        ]
        if self.net.opset < 7 and "is_test" not in attributes:
            attributes["is_test"] = 1
        return self.op("BatchNormalization", x, *names, out=out, **attributes)

    def conv(
        self, x: str, channels: int, out_channels: int, kernel: int = 3, **options: Any
    ) -> str:
        """Add a two-dimensional Conv with a random weight, and bias unless ``bias=False``."""
        bias = options.pop("bias", True)
        group = options.get("group", 1)
        inputs = [x, self.weight(out_channels, channels // group, kernel, kernel)]
        if bias:
            inputs.append(self.weight(out_channels))
        return self.op("Conv", *inputs, **options)

    def input(self, name: str, shape: Shape | None, dtype: Any = None) -> str:
        """Declare an input of this graph."""
        elem_type = DTYPES[np.dtype(dtype or self.dtype)]
        self.inputs.append(helper.make_tensor_value_info(name, elem_type, shape))
        return name

    def output(self, name: str, dtype: Any = None, shape: Shape | None = None) -> None:
        """Declare an output of this graph."""
        elem_type = DTYPES[np.dtype(dtype or self.dtype)]
        self.outputs.append(helper.make_tensor_value_info(name, elem_type, shape))

    def graph(self, name: str) -> onnx.GraphProto:
        """Return the graph that was described."""
        return helper.make_graph(
            self.nodes,
            name,
            self.inputs,
            self.outputs,
            self.initializers,
            sparse_initializer=self.sparse_initializers,
        )


class Net(Scope):
    """A model in the making.

    Parameters
    ----------
    seed : int
        Of every random number in it.
    opset : int
        Of the default domain.
    ir_version : int, optional
        By default the one that came with the opset, but never below 4.
    dtype : dtype
        Of inputs, weights and statistics that don't say otherwise.
    """

    def __init__(
        self, seed: int, *, opset: int = 17, ir_version: int | None = None, dtype: Any = np.float32
    ) -> None:
        self.net = self
        self.rng = np.random.default_rng(seed)
        self.dtype = np.dtype(dtype)
        self.opset = opset
        self.opsets = {"": opset}
        self.ir_version = ir_version
        self.functions: list[onnx.FunctionProto] = []
        self.feeds: dict[str, np.ndarray] = {}
        self.value_info: list[onnx.ValueInfoProto] = []
        self.names = self._names()
        super().__init__(self)

    @staticmethod
    def _names() -> Iterator[int]:
        count = 0
        while True:
            count += 1
            yield count

    def fresh(self, hint: str) -> str:
        """Return a name that wasn't given before."""
        return f"{hint}_{next(self.names)}"

    def input(
        self,
        name: str = "x",
        shape: Shape | None = (2, 4, 6, 6),
        dtype: Any = None,
        *,
        feed: Any = None,
        sizes: Sequence[int] | None = None,
    ) -> str:
        """Declare an input; `feed` is its value in a run, or `sizes` the shape of a random one."""
        dtype = np.dtype(dtype or self.dtype)
        if feed is None:
            dims = [d if isinstance(d, int) else 3 for d in sizes or shape or ()]
            feed = np.random.default_rng(len(self.feeds)).normal(size=dims)
        self.feeds[name] = np.asarray(feed).astype(dtype)
        return super().input(name, shape, dtype)

    def body(self) -> Scope:
        """Return the graph of an If, Loop or Scan, to be filled."""
        return Scope(self)

    def function(
        self,
        name: str,
        inputs: Sequence[str],
        *,
        domain: str = "local",
        attributes: Sequence[str] = (),
        attribute_protos: Sequence[onnx.AttributeProto] = (),
    ) -> FunctionScope:
        """Return a model-local function, to be filled and ended with ``returns``."""
        self.opsets[domain] = 1
        return FunctionScope(self, name, inputs, domain, attributes, attribute_protos)

    def model(self) -> onnx.ModelProto:
        """Return the model, with the shapes of its outputs as far as they can be inferred."""
        graph = self.graph("suite")
        graph.value_info.extend(self.value_info)
        ir_version = self.ir_version
        if ir_version is None:
            known = [helper.make_opsetid("", max(self.opset, 9))]
            ir_version = max(4, helper.find_min_ir_version_for(known))
            ir_version = max(ir_version, 8 if self.functions else 4)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(d, v) for d, v in self.opsets.items()],
            functions=self.functions,
            ir_version=ir_version,
            producer_name="normswap-suite",
        )
        unknown = [o for o in model.graph.output if not o.type.tensor_type.HasField("shape")]
        if unknown:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
            for output in unknown:
                output.CopyFrom(next(o for o in inferred if o.name == output.name))
        return model


class FunctionScope(Scope):
    """A model-local function; its constants are Constant nodes, since it has no initializers."""

    def __init__(
        self,
        net: Net,
        name: str,
        inputs: Sequence[str],
        domain: str,
        attributes: Sequence[str],
        attribute_protos: Sequence[onnx.AttributeProto],
    ) -> None:
        super().__init__(net, constants_as_nodes=True)
        self.name = name
        self.arguments = list(inputs)
        self.domain = domain
        self.attributes = list(attributes)
        self.attribute_protos = list(attribute_protos)

    def returns(self, *outputs: str) -> None:
        """End the function and add it to the model."""
        opsets = [helper.make_opsetid(d, v) for d, v in self.net.opsets.items()]
        self.net.functions.append(
            helper.make_function(
                self.domain,
                self.name,
                self.arguments,
                list(outputs),
                self.nodes,
                opsets,
                self.attributes,
                self.attribute_protos,
            )
        )

    def refer(self, attribute: str, source: str, kind: int) -> None:
        """Let `attribute` of the last node be the function's own attribute `source`."""
        reference = onnx.AttributeProto(name=attribute, ref_attr_name=source, type=kind)
        self.nodes[-1].attribute.append(reference)
