"""Sliding windows: sizes, padding and taps, shared by convolutions and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Unpack


class WindowAttributes(TypedDict, total=False):
    """What every convolution and pooling is told of its windows; all 1, 0 and NOTSET by default."""

    auto_pad: str
    dilations: Sequence[int] | None
    pads: Sequence[int] | None
    strides: Sequence[int] | None


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel's way over the spatial axes of an array ``(N, C, *spatial)``.

    Attributes
    ----------
    kernel, strides, dilations, begin, end, output : tuple of int
        One number a spatial axis; `begin` and `end` are the padding, `output` the positions.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    output: tuple[int, ...]

    @classmethod
    def over(
        cls,
        spatial: Sequence[int],
        kernel: Sequence[int],
        *,
        ceil_mode: int = 0,
        **attributes: Unpack[WindowAttributes],
    ) -> Window:
        """Work out paddings and positions.

        Source: ONNX operators Conv-11 and MaxPool-12. With ``ceil_mode`` a last window that
        would start beyond the input and its leading padding is dropped, as opset 22 says.
        """
        rank = len(spatial)
        auto_pad = attributes.get("auto_pad", "NOTSET")
        strides = tuple(attributes.get("strides") or (1,) * rank)
        dilations = tuple(attributes.get("dilations") or (1,) * rank)
        pads = tuple(attributes.get("pads") or (0,) * (2 * rank))
        begin, end, output = [], [], []
        for axis, size in enumerate(spatial):
            stride = strides[axis]
            reach = dilations[axis] * (kernel[axis] - 1) + 1
            before, after = pads[axis], pads[rank + axis]
            if auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
                positions = -(-size // stride)
                total = max((positions - 1) * stride + reach - size, 0)
                before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
                after = total - before
            elif auto_pad == "VALID":
                before = after = 0
            room = size + before + after - reach
            positions = room // stride + 1
            if ceil_mode and room % stride and positions * stride < size + before:
                positions += 1
            begin.append(before)
            end.append(after)
            output.append(positions)
        return cls(tuple(kernel), strides, dilations, tuple(begin), tuple(end), tuple(output))

    def pad(self, x: np.ndarray, value: float) -> np.ndarray:
        """Return `x`, padded so that every tap of every window lies inside.

        Padding may be negative: then it takes elements away.
        """
        widths = [(0, 0), (0, 0)]
        if min(self.begin, default=0) < 0:
            kept: Any = (..., *(slice(max(-before, 0), None) for before in self.begin))
            x = x[kept]
        for axis, size in enumerate(x.shape[2:]):
            reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1
            needed = (self.output[axis] - 1) * self.strides[axis] + reach
            before = max(self.begin[axis], 0)
            widths.append((before, max(needed - size - before, 0)))
        if not any(any(width) for width in widths):
            return x
        return np.pad(x, widths, constant_values=value)

    def taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yield every kernel position, and the slices of a padded array that it reads."""
        for tap in np.ndindex(*self.kernel):
            slices = tuple(
                slice(start, start + (positions - 1) * stride + 1, stride)
                for start, positions, stride in zip(
                    (t * d for t, d in zip(tap, self.dilations, strict=True)),
                    self.output,
                    self.strides,
                    strict=True,
                )
            )
            yield tap, (slice(None), slice(None), *slices)
