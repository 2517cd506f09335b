"""Loop and Scan: what onnx's reference stacks wrongly, or not at all.

Source: ONNX operators Loop-1 to -25, Scan-9 to -25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class _Repeats(OpRun):  # type: ignore[misc]
    """An operator with a body, which sees what is around it."""

    body: Any

    def need_context(self) -> bool:
        """Return True: the body may capture."""
        return True

    def _once(
        self, context: Mapping[str, Any] | None, given: Sequence[Any], attributes: Any
    ) -> list[Any]:
        """Run the body; its own inputs hide captured names."""
        feeds = {**(context or {}), **dict(zip(self.body.input_names, given, strict=True))}
        results: list[Any] = self._run_body(feeds, attributes=attributes)
        return results

    def _stacked(self, parts: Sequence[np.ndarray], output: int, axis: int = 0) -> np.ndarray:
        """Return the values of an output, one behind another along a new axis."""
        if parts:
            return np.stack(parts, axis=axis)
        kind = self.body.proto_.output[output].type.tensor_type
        sizes = [int(d.dim_value) for d in kind.shape.dim if d.HasField("dim_value")]
        if not kind.HasField("shape") or len(sizes) < len(kind.shape.dim):
            raise ValueError("its body never runs, and does not declare the shape of its output")
        sizes.insert(axis % (len(sizes) + 1), 0)
        return np.zeros(sizes, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))


class Loop(_Repeats):
    """Runs a body until a condition no longer holds, or often enough."""

    def _run(
        self,
        limit: np.ndarray | None,
        condition: np.ndarray | None,
        *states: Any,
        context: Mapping[str, Any] | None = None,
        attributes: Any = None,
        **_given: Any,
    ) -> tuple[Any, ...]:
        carried = list(states)
        count = len(self.body.input_names) - 2
        scanned: list[list[Any]] = [[] for _ in self.body.output_names[1 + count :]]
        goes_on = condition is None or bool(condition)
        step = 0
        while goes_on and (limit is None or step < int(limit)):
            given = [np.array(step, np.int64), np.array(goes_on), *carried]
            outputs = self._once(context, given, attributes)
            goes_on, carried = bool(outputs[0]), outputs[1 : 1 + count]
            for part, value in zip(scanned, outputs[1 + count :], strict=True):
                part.append(value)
            step += 1
        stacked = [self._stacked(part, 1 + count + i) for i, part in enumerate(scanned)]
        return (*carried, *stacked)


class Scan(_Repeats):
    """Runs a body over the slices of tensors, along any axis and either way."""

    def _run(
        self,
        *inputs: Any,
        num_scan_inputs: int,
        scan_input_axes: Sequence[int] | None = None,
        scan_input_directions: Sequence[int] | None = None,
        scan_output_axes: Sequence[int] | None = None,
        scan_output_directions: Sequence[int] | None = None,
        context: Mapping[str, Any] | None = None,
        attributes: Any = None,
        **_given: Any,
    ) -> tuple[Any, ...]:
        count = len(inputs) - num_scan_inputs
        states = list(inputs[:count])
        slices = [
            np.flip(moved, 0) if backward else moved
            for moved, backward in (
                (np.moveaxis(value, axis, 0), backward)
                for value, axis, backward in zip(
                    inputs[count:],
                    scan_input_axes or [0] * num_scan_inputs,
                    scan_input_directions or [0] * num_scan_inputs,
                    strict=True,
                )
            )
        ]
        scanned: list[list[Any]] = [[] for _ in self.body.output_names[count:]]
        for step in range(len(slices[0])):
            outputs = self._once(context, [*states, *(part[step] for part in slices)], attributes)
            states = outputs[:count]
            for part, value in zip(scanned, outputs[count:], strict=True):
                part.append(value)
        axes = scan_output_axes or [0] * len(scanned)
        backwards = scan_output_directions or [0] * len(scanned)
        return (
            *states,
            *(
                self._stacked(part[::-1] if backward else part, count + i, axis)
                for i, (part, axis, backward) in enumerate(
                    zip(scanned, axes, backwards, strict=True)
                )
            ),
        )
