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
pass over memory. In float64, for which old versions fuse it and then have no kernel, a Reshape
takes the place of the Transpose. onnxruntime fuses a constant factor into a MatMul too, and then
takes a slow path: so the division by L is done on the other side,
``scale * sqrt(L) / sqrt(d . d + L * (epsilon - r^2))``.

Where sizes are in doubt, all of that is done in the view (N * G, C / G, *spatial), and with means
in the place of the dot product: that asks for no size, which onnxruntime would take from ONNX's
inference.

``centred`` is the same without the second mean, see :mod:`normswap.groupnorm.forms.centred`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from normswap.groupnorm.forms.base import FIRST, LAST, Form, Preference

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from normswap.groupnorm.builder import LayerBuilder
    from normswap.groupnorm.layer import Layer


class Primitive(Form):
    """``ReduceMean``, ``Sub``, ``MatMul``, ``Mul``, ``Add``."""

    name = "primitive"
    summary = "plain operators, the most precise"
    asks_for_sizes = False
    _second_mean = True

    def preference(self, layer: Layer, provider: str, threads: int) -> Preference | None:
        """Prefer it where no other form is as right, and where no other can be used."""
        if layer.has_sizes_in_doubt:
            why = "ONNX shape inference and onnxruntime disagree on the size of its input"
            return Preference(FIRST, why, unrivalled=True)
        match provider:
            case "cpu":
                why = "float64, for which onnxruntime has no InstanceNormalization"
            case "cuda":
                why = "the element type has no fused kernel"
            case _:
                why = "the element type has no InstanceNormalization"
        return Preference(LAST, why)

    def build(self, builder: LayerBuilder) -> None:
        """Make the nodes."""
        layer = builder.layer
        x = builder.input()
        if layer.has_sizes_in_doubt:
            self._by_means(builder, x)
            return
        grouped = builder.grouped(x)
        if self._second_mean:
            mean = builder.mean(grouped, 2, "mean", keepdims=True)
        else:
            mean = self._mean_of_channels(builder, x)
        centred = builder.op("Sub", [grouped, mean], "centred")
        rest = None
        if self._second_mean:
            rest = builder.mean(centred, 2, "mean_rest", keepdims=True)
        deviation, root = self._deviation(builder, centred, rest)
        if layer.scale is None:
            numerator = builder.floats(root, "numerator")
            factor = builder.op("Div", [numerator, deviation], "factor")
            value: gs.Tensor = centred
            if rest is not None:
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
        self._apply(builder, centred, factor, self._shift(builder, factor, rest, along))

    def _by_means(self, builder: LayerBuilder, x: gs.Tensor) -> None:
        """Make the nodes without asking for a size, in the view (N * G, C / G, *spatial)."""
        layer = builder.layer
        axes = list(range(1, layer.rank or 0))
        rows = builder.rows(x)
        mean = builder.mean(rows, axes, "mean", keepdims=True)
        value: gs.Tensor = builder.op("Sub", [rows, mean], "centred")
        if self._second_mean:
            rest = builder.mean(value, axes, "mean_rest", keepdims=True)
            value = builder.op("Sub", [value, rest], "recentred")
        squares = builder.op("Mul", [value, value], "squares")
        variance = builder.mean(squares, axes, "variance", keepdims=True)
        epsilon = builder.floats(layer.epsilon, "epsilon")
        spread = builder.op("Add", [variance, epsilon], "variance_epsilon")
        deviation = builder.op("Sqrt", [spread], "deviation")
        value = builder.unrowed(builder.op("Div", [value, deviation], "normalized"))
        builder.output(builder.affine(value, layer.scale, layer.bias))

    @staticmethod
    def _mean_of_channels(builder: LayerBuilder, x: gs.Tensor) -> gs.Tensor:
        """Return the mean of each group, as that of its channels' means.

        It costs nothing more, and a sum of few numbers is rounded less than one of many.
        """
        layer = builder.layer
        each = layer.channels // layer.num_groups
        shape = builder.integers([0, layer.num_groups, each, -1], "channels_of_groups_shape")
        channels = builder.op("Reshape", [x, shape], "channels_of_groups")
        means = builder.mean(channels, 3, "channel_means", keepdims=False)
        return builder.mean(means, 2, "mean", keepdims=True)

    @staticmethod
    def _deviation(
        builder: LayerBuilder, centred: gs.Tensor, rest: gs.Tensor | None
    ) -> tuple[gs.Tensor, float]:
        """Return sqrt(L * (v + epsilon)) and sqrt(L); or sqrt(v + epsilon) and 1, L unknown."""
        layer = builder.layer
        groups, size = layer.num_groups, layer.group_elements
        rows = builder.op(
            "Reshape", [centred, builder.integers([0, groups, 1, -1], "rows_shape")], "rows"
        )
        if layer.compute_type == TensorProto.DOUBLE:
            shape = builder.integers([0, groups, -1, 1], "columns_shape")
            columns = builder.op("Reshape", [centred, shape], "columns")
        else:
            columns = builder.op("Transpose", [rows], "columns", perm=[0, 1, 3, 2])
        squares = builder.op("MatMul", [rows, columns], "squares")
        variance = builder.op(
            "Reshape", [squares, builder.integers([0, groups, 1], "sums_shape")], "sum_of_squares"
        )
        if size is None:
            count = builder.size_of(centred, 2, "size")
            count = builder.op("Cast", [count], "size_float", to=layer.compute_type)
            variance = builder.op("Div", [variance, count], "mean_square")
        root = 1.0 if size is None else math.sqrt(size)
        if rest is not None:
            correction = builder.op("Mul", [rest, rest], "mean_rest_squared")
            if size is not None:
                energy = [correction, builder.floats(size, "size")]
                correction = builder.op("Mul", energy, "mean_rest_energy")
            variance = builder.op("Sub", [variance, correction], "variance")
        epsilon = builder.floats(layer.epsilon * root * root, "epsilon")
        spread = builder.op("Add", [variance, epsilon], "variance_epsilon")
        return builder.op("Sqrt", [spread], "deviation"), root

    @staticmethod
    def _shift(
        builder: LayerBuilder, factor: gs.Tensor, rest: gs.Tensor | None, along: list[int]
    ) -> gs.Tensor | None:
        """Return what is added to the scaled elements, by group and channel; None for nothing."""
        bias = builder.layer.bias
        added = None if bias is None else builder.parameter(bias, along, "bias")
        if rest is None:
            return added
        shift = builder.op("Mul", [factor, rest], "shift_rest")
        if added is None:
            return builder.op("Neg", [shift], "shift")
        return builder.op("Sub", [added, shift], "shift")

    @staticmethod
    def _apply(
        builder: LayerBuilder, centred: gs.Tensor, factor: gs.Tensor, shift: gs.Tensor | None
    ) -> None:
        layer = builder.layer
        if layer.rank is None:
            view = builder.integers([0, layer.channels, -1], "channels_shape")
            value = builder.op("Reshape", [centred, view], "channels")
        else:
            value = builder.ungrouped(centred)
        spatial = 1 if layer.rank is None else layer.rank - 2
        along = builder.integers([-1, layer.channels] + [1] * spatial, "channel_shape")
        for op, small, what in (("Mul", factor, "scaled"), ("Add", shift, "shifted")):
            if small is not None:
                operand = builder.op("Reshape", [small, along], f"{what}_by")
                value = builder.op(op, [value, operand], what)
        if layer.rank is None:
            value = builder.op("Reshape", [value, builder.original_shape()], "ungrouped")
        builder.output(value)


FORM = Primitive()
