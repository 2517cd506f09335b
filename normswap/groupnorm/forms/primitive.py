"""Means, a dot product, and one multiply and add: operators that every runtime has.

::

    d = x - mean(x)                                    per sample and group
    r = mean(d)                                        what rounding left of the mean
    v = d . d / L - r^2                                L elements
    y = d * (scale / sqrt(v + epsilon)) + (bias - r * scale / sqrt(v + epsilon))

The mean that is taken out first is rounded, which is all the error there is where the mean is large
beside the spread; the second mean brings it back, so that this form is right to rounding for any
mean. The sum of squares is a dot product, ``MatMul(d, Transpose(d))``, which onnxruntime fuses and
runs vectorised; its ReduceSumSquare is five times slower, and squares that are stored first cost a
pass over memory. It fuses a constant factor into a MatMul too, and then takes a slow path: so the
division by L is done on the other side, ``scale * sqrt(L) / sqrt(d . d + L * (epsilon - r^2))``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from normswap.groupnorm.builder import Builder
    from normswap.groupnorm.layer import Layer


class Primitive:
    """``ReduceMean``, ``Sub``, ``MatMul``, ``Mul``, ``Add``."""

    name = "primitive"
    fuses_activation = False

    def obstacle(self, layer: Layer, provider: str) -> str | None:
        """Say why not; see :class:`normswap.groupnorm.forms.base.Form`."""
        del layer, provider
        return None

    def build(self, builder: Builder) -> None:
        """Make the nodes."""
        layer = builder.layer
        grouped = builder.grouped(builder.input())
        centred = builder.op("Sub", [grouped, self._mean(builder, grouped, "mean")], "centred")
        rest = self._mean(builder, centred, "mean_rest")
        deviation, root = self._deviation(builder, centred, rest)
        if layer.scale is None:
            numerator = builder.floats(root, "numerator")
            factor = builder.op("Div", [numerator, deviation], "factor")
            value = builder.op("Sub", [centred, rest], "recentred")
            value = builder.ungrouped(builder.op("Mul", [value, factor], "normalized"))
            builder.output(builder.affine(value, None, layer.bias))
            return
        # Factor and shift are small, one number a channel: all that is left for x is y = d * f + s.
        along = [layer.num_groups, layer.channels // layer.num_groups]
        if isinstance(layer.scale, np.ndarray):
            scale = builder.parameter(layer.scale * root, along, "scale")
        else:
            scale = builder.parameter(layer.scale, along, "scale")
            if root != 1:
                scale = builder.op("Mul", [scale, builder.floats(root, "numerator")], "numerator")
        factor = builder.op("Div", [scale, deviation], "factor")
        shift = builder.op("Mul", [factor, rest], "shift_rest")
        if layer.bias is None:
            shift = builder.op("Neg", [shift], "shift")
        else:
            shift = builder.op(
                "Sub", [builder.parameter(layer.bias, along, "bias"), shift], "shift"
            )
        self._apply(builder, centred, factor, shift)

    @staticmethod
    def _mean(builder: Builder, value: gs.Tensor, what: str) -> gs.Tensor:
        if builder.layer.opset < 18:
            return builder.op("ReduceMean", [value], what, axes=[2], keepdims=1)
        return builder.op("ReduceMean", [value, builder.integers([2], "axis")], what, keepdims=1)

    @staticmethod
    def _deviation(
        builder: Builder, centred: gs.Tensor, rest: gs.Tensor
    ) -> tuple[gs.Tensor, float]:
        """Return sqrt(L * (v + epsilon)) and sqrt(L); or sqrt(v + epsilon) and 1, L unknown."""
        layer = builder.layer
        groups, size = layer.num_groups, layer.group_elements
        rows = builder.op(
            "Reshape", [centred, builder.integers([0, groups, 1, -1], "rows_shape")], "rows"
        )
        columns = builder.op("Transpose", [rows], "columns", perm=[0, 1, 3, 2])
        squares = builder.op("MatMul", [rows, columns], "squares")
        squares = builder.op(
            "Reshape", [squares, builder.integers([0, groups, 1], "sums_shape")], "sum_of_squares"
        )
        correction = builder.op("Mul", [rest, rest], "mean_rest_squared")
        if size is None:
            whole = builder.op("Shape", [centred], "grouped_sizes")
            count = builder.op("Gather", [whole, builder.integers([2], "axis")], "size", axis=0)
            count = builder.op("Cast", [count], "size_float", to=layer.compute_type)
            squares = builder.op("Div", [squares, count], "mean_square")
            root = 1.0
        else:
            correction = builder.op(
                "Mul", [correction, builder.floats(size, "size")], "mean_rest_energy"
            )
            root = math.sqrt(size)
        variance = builder.op("Sub", [squares, correction], "variance")
        epsilon = builder.floats(layer.epsilon * root * root, "epsilon")
        spread = builder.op("Add", [variance, epsilon], "variance_epsilon")
        return builder.op("Sqrt", [spread], "deviation"), root

    @staticmethod
    def _apply(builder: Builder, centred: gs.Tensor, factor: gs.Tensor, shift: gs.Tensor) -> None:
        layer = builder.layer
        if layer.rank is None:
            view = builder.integers([0, layer.channels, -1], "channels_shape")
            value = builder.op("Reshape", [centred, view], "channels")
        else:
            value = builder.ungrouped(centred)
        spatial = 1 if layer.rank is None else layer.rank - 2
        along = builder.integers([-1, layer.channels] + [1] * spatial, "channel_shape")
        for op, small, what in (("Mul", factor, "scaled"), ("Add", shift, "shifted")):
            operand = builder.op("Reshape", [small, along], f"{what}_by")
            value = builder.op(op, [value, operand], what)
        if layer.rank is None:
            value = builder.op("Reshape", [value, builder.original_shape()], "ungrouped")
        builder.output(value)


FORM = Primitive()
