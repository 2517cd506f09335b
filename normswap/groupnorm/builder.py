"""Building the nodes of a form in the graph of the layer that they take the place of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
from onnx import TensorProto

from normswap.dtypes import NUMPY_DTYPES, round_to
from normswap.errors import ModelError
from normswap.finite import flaw_of
from normswap.groupnorm.layer import HALF_PRECISION, Runtime
from normswap.model import ArrayTensor, make_constant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.graph.names import Names
    from normswap.groupnorm.layer import Layer, Parameter


class ConstantPool:
    """The constants that a rewrite adds to one graph: equal ones are added once.

    Layers of a network share their shapes, axes and unit scales, so a swap adds a handful of
    constants and not a handful for each layer.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._constants: dict[tuple[str, tuple[int, ...], bytes], gs.Constant] = {}

    def get(self, array: npt.NDArray[Any], hint: str) -> gs.Constant:
        """Return a constant of these values, named after `hint` if it is new."""
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = make_constant(self._names.fresh(hint), ArrayTensor(array))
        return self._constants[key]


class LayerBuilder:
    """Makes the nodes of one layer.

    Parameters
    ----------
    layer : Layer
    tensors : Mapping[str, gs.Tensor]
        Those that the layer names.
    pool : ConstantPool
        Of the graph that the layer is in.
    names : Names

    Attributes
    ----------
    nodes : list of gs.Node
        What was made, in topological order.
    """

    def __init__(
        self, layer: Layer, tensors: Mapping[str, gs.Tensor], pool: ConstantPool, names: Names
    ) -> None:
        self.layer = layer
        self.nodes: list[gs.Node] = []
        self._pool = pool
        self._names = names
        self._tensors = tensors

    @property
    def x(self) -> gs.Tensor:
        """What comes to the layer, in its own element type."""
        return self._tensors[self.layer.x]

    def op(
        self, op: str, inputs: list[gs.Tensor], what: str, *, domain: str = "", **attrs: Any
    ) -> gs.Variable:
        """Add a node of one output.

        Parameters
        ----------
        op : str
        inputs : list of gs.Tensor
        what : str
            What the result is: the last part of the names of node and tensor.
        domain : str
        **attrs
            Attributes.
        """
        output = gs.Variable(self._names.fresh(f"{self.layer.name}/{what}"))
        name = self._names.fresh(f"{self.layer.name}/{what}/{op}")
        self.nodes.append(gs.Node(op, name, attrs, inputs, [output], domain or None))
        return output

    def finish(self, result: gs.Tensor) -> None:
        """Make the last node produce the layer's output, under the output's own name."""
        node = self.nodes[-1]
        if node.outputs[0] is not result:
            raise AssertionError("the result is not what the last node made")
        node.outputs[0] = self._tensors[self.layer.y]

    # Constants ---------------------------------------------------------------------------------

    def integers(self, values: list[int], what: str) -> gs.Constant:
        """Return an int64 vector, shared with other layers."""
        return self._pool.get(np.array(values, dtype=np.int64), f"groupnorm/{what}")

    def floats(
        self, values: npt.NDArray[Any] | float, what: str, *, shared: bool = True
    ) -> gs.Constant:
        """Return a constant of the compute type, rounded once."""
        return self.typed(values, self.layer.compute_type, what, shared=shared)

    def typed(
        self, values: npt.NDArray[Any] | float, data_type: int, what: str, *, shared: bool
    ) -> gs.Constant:
        """Return a constant of a given float type, rounded once.

        Raises
        ------
        ModelError
            If a value is not finite, or not in that type.
        """
        wide = np.asarray(values, dtype=np.float64)
        flaw = flaw_of(f"{what} of {self.layer.name}", wide, NUMPY_DTYPES[data_type])
        if flaw is not None:
            raise ModelError(f"{flaw}.")
        array = round_to(wide, data_type)
        prefix = "groupnorm" if shared else self.layer.name
        return self._pool.get(np.asarray(array), f"{prefix}/{what}")

    def parameter(
        self, value: npt.NDArray[Any] | Runtime, shape: list[int], what: str
    ) -> gs.Tensor:
        """Return a scale or bias in a given shape and in the compute type."""
        layer = self.layer
        if not isinstance(value, Runtime):
            return self.floats(np.reshape(value, shape), what, shared=False)
        tensor = self.tensor(value, layer.compute_type, what)
        if len(shape) > 1:
            tensor = self.op("Reshape", [tensor, self.integers(shape, f"{what}_shape")], what)
        return tensor

    def vector(self, value: Parameter, neutral: float, data_type: int, what: str) -> gs.Tensor:
        """Return a scale or bias as (C,), for an operator that must be given one."""
        if isinstance(value, Runtime):
            return self.tensor(value, data_type, what)
        if value is None:
            values = np.full(self.layer.channels, neutral)
            return self.typed(values, data_type, f"{what}_{neutral:g}", shared=True)
        return self.typed(value, data_type, what, shared=False)

    def tensor(self, value: Runtime, data_type: int, what: str) -> gs.Tensor:
        """Return a run-time parameter in a given float type."""
        tensor = self._tensors[value.name]
        if value.data_type == data_type:
            return tensor
        return self.op("Cast", [tensor], f"{what}_cast", to=data_type)

    # Steps that several forms share --------------------------------------------------------------

    def input(self) -> gs.Tensor:
        """Return x in the compute type: half precision is widened, so that sums don't overflow."""
        layer = self.layer
        if layer.data_type in HALF_PRECISION:
            return self.op("Cast", [self.x], "float32", to=TensorProto.FLOAT)
        return self.x

    def output(self, value: gs.Tensor) -> None:
        """Give y its own element type, and end."""
        layer = self.layer
        if layer.data_type in HALF_PRECISION:
            value = self.op("Cast", [value], "narrow", to=layer.data_type)
        self.finish(value)

    def grouped(self, x: gs.Tensor) -> gs.Tensor:
        """View (N, C, *spatial) as (N, G, C / G * spatial)."""
        layer = self.layer
        if layer.rank == 3 and layer.is_instance:
            return x
        shape = self.integers([0, layer.num_groups, -1], "grouped_shape")
        return self.op("Reshape", [x, shape], "grouped")

    def ungrouped(self, grouped: gs.Tensor) -> gs.Tensor:
        """View (N, G, C / G * spatial) as (N, C, *spatial) again."""
        layer = self.layer
        if layer.rank == 3 and layer.is_instance:
            return grouped
        return self.op("Reshape", [grouped, self.original_shape()], "ungrouped")

    def rows(self, x: gs.Tensor) -> gs.Tensor:
        """View (N, C, *spatial) as (N * G, C / G, *spatial), for which no size need be known."""
        layer = self.layer
        return self._with_channels(x, layer.channels // layer.num_groups, "rows")

    def unrowed(self, rows: gs.Tensor) -> gs.Tensor:
        """View (N * G, C / G, *spatial) as (N, C, *spatial) again."""
        return self._with_channels(rows, self.layer.channels, "unrowed")

    def _with_channels(self, value: gs.Tensor, channels: int, what: str) -> gs.Tensor:
        """View a tensor with another number of channels; those of space are copied, by 0."""
        rank = self.layer.rank
        if rank is None:
            raise AssertionError("space can't be copied where the rank is not known")
        shape = self.integers([-1, channels] + [0] * (rank - 2), f"{what}_shape")
        return self.op("Reshape", [value, shape], what)

    def mean(
        self, value: gs.Tensor, axis: int | list[int], what: str, *, keepdims: bool
    ) -> gs.Tensor:
        """Average along an axis, or several."""
        axes = axis if isinstance(axis, list) else [axis]
        if self.layer.opset < 18:
            return self.op("ReduceMean", [value], what, axes=axes, keepdims=int(keepdims))
        inputs = [value, self.integers(axes, "axis" if len(axes) == 1 else "axes")]
        return self.op("ReduceMean", inputs, what, keepdims=int(keepdims))

    def size_of(self, value: gs.Tensor, axis: int, what: str) -> gs.Tensor:
        """Return one size of a tensor as a vector of one integer, computed at run time."""
        if self.layer.opset >= 15:
            return self.op("Shape", [value], what, start=axis, end=axis + 1)
        whole = self.op("Shape", [value], f"{what}_of_all")
        return self.op("Gather", [whole, self.integers([axis], "axis")], what, axis=0)

    def original_shape(self) -> gs.Tensor:
        """Return the shape of x: a constant where at most one size but the batch's is dynamic."""
        layer = self.layer
        if layer.shape is not None:
            sizes = [dim if isinstance(dim, int) else -1 for dim in layer.shape[2:]]
            if sizes.count(-1) <= 1 and 0 not in sizes:
                return self.integers([0, layer.channels, *sizes], "ungrouped_shape")
        return self.op("Shape", [self.x], "shape")

    def affine(self, value: gs.Tensor, scale: Parameter, bias: Parameter) -> gs.Tensor:
        """Apply what is left of the scale and bias to (N, C, *spatial)."""
        layer = self.layer
        if scale is None and bias is None:
            return value
        if layer.rank is None:
            # Along channels whatever the rank is: (N, C, everything else).
            view = self.integers([0, layer.channels, -1], "channels_shape")
            value = self.op("Reshape", [value, view], "channels")
            value = self._multiply_add(value, scale, bias, [layer.channels, 1])
            return self.op("Reshape", [value, self.original_shape()], "unflattened")
        if (
            layer.depthwise_affine
            and isinstance(scale, np.ndarray)
            and not isinstance(bias, Runtime)
        ):
            return self._depthwise(value, scale, bias)
        return self._multiply_add(value, scale, bias, [layer.channels] + [1] * (layer.rank - 2))

    def _multiply_add(
        self, value: gs.Tensor, scale: Parameter, bias: Parameter, shape: list[int]
    ) -> gs.Tensor:
        if scale is not None:
            value = self.op("Mul", [value, self.parameter(scale, shape, "scale")], "scaled")
        if bias is not None:
            value = self.op("Add", [value, self.parameter(bias, shape, "bias")], "shifted")
        return value

    def _depthwise(
        self, value: gs.Tensor, scale: npt.NDArray[Any], bias: npt.NDArray[Any] | None
    ) -> gs.Tensor:
        """Scale and shift with a 1x1 depthwise convolution.

        Between convolutions onnxruntime keeps activations in a blocked layout. A convolution goes
        into that layout by itself, runs on all threads in one pass, and takes an activation along;
        Mul and Add are two passes before it.
        """
        channels = self.layer.channels
        inputs = [value, self.parameter(scale, [channels, 1, 1, 1], "scale")]
        if bias is not None:
            inputs.append(self.parameter(bias, [channels], "bias"))
        return self.op("Conv", inputs, "affine", group=channels, kernel_shape=[1, 1])
