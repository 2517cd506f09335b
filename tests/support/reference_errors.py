"""What onnx's reference evaluator gets wrong, and where the runtime departs, each with an example.

docs/reference-evaluator.md is written from these tables, and compared with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from support.draws.case import Case, drawn, runtime, truth
from support.draws.evaluators import arbiter, reference

VERSION = "1.23.2"
"""Of onnx, whose reference gives what the document says."""


@dataclass(frozen=True)
class Wrong:
    """An operator that the reference gets wrong.

    Attributes
    ----------
    opsets : tuple of int
        At which it was seen, of those at which the operator changed.
    words : str
    example : tuple of int
        The opset and the number of a drawn case.
    """

    opsets: tuple[int, ...]
    words: str
    example: tuple[int, int]

    def case(self, name: str) -> Case:
        return drawn("", name, *self.example)


@dataclass(frozen=True)
class Departure:
    """A case of which onnxruntime makes something else than the specification says."""

    words: str
    case: Case
    right: Any


def f32(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


DEPARTURES = [
    Departure(
        "NonZero takes a scalar for a vector of one element; it has no axis, and so no row.",
        Case("NonZero", [np.array(5)], since=13),
        np.zeros((0, 1), np.int64),
    ),
    Departure(
        "Slice takes an end of INT64_MAX for the beginning where it steps backwards; like any end "
        "beyond the last element it leaves nothing.",
        Case(
            "Slice",
            [f32(1, 2, 3), np.array([2]), np.array([2**63 - 1]), np.array([0]), np.array([-1])],
            since=13,
        ),
        np.zeros(0),
    ),
    Departure(
        "Resize and Upsample copy a tensor whose sizes do not change, whatever the scales are.",
        Case(
            "Resize",
            [f32(0, 1, 2, 3).reshape(1, 4), None, f32(1, 1.2)],
            {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
            since=19,
        ),
        np.array([[0, 1 / np.float32(1.2), 2 / np.float32(1.2), 3 / np.float32(1.2)]]),
    ),
    Departure(
        "Resize with tf_crop_and_resize does not crop an axis that keeps its size.",
        Case(
            "Resize",
            [f32(0, 1, 2).reshape(1, 3), f32(0, 0.5, 1, 1), None, np.array([2, 3])],
            {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
            since=19,
        ),
        np.array([[1, 1.5, 2], [1, 1.5, 2]]),
    ),
    Departure(
        "Resize with a keep_aspect_ratio_policy overlooks axes that are counted from the end.",
        Case(
            "Resize",
            [f32(1, 2).reshape(1, 2), None, None, np.array([4])],
            {"axes": [-1], "keep_aspect_ratio_policy": "not_larger"},
            since=19,
        ),
        np.array([[1, 1, 2, 2]]),
    ),
    Departure(
        "Attention with is_causal and past keys lets a single query see every key, those after it "
        "too.",
        Case(
            "Attention",
            [
                f32(0).reshape(1, 1, 1, 1),
                f32(0, 0).reshape(1, 1, 2, 1),
                f32(1, 5).reshape(1, 1, 2, 1),
                None,
                f32(0).reshape(1, 1, 1, 1),
                f32(3).reshape(1, 1, 1, 1),
            ],
            {"is_causal": 1},
            outputs=3,
            since=23,
        ),
        np.array([2]).reshape(1, 1, 1, 1),
    ),
    Departure(
        "AveragePool pads by less than nothing where its stride is larger than its kernel and "
        "auto_pad is SAME_UPPER or SAME_LOWER; MaxPool and Conv do not.",
        Case(
            "AveragePool",
            [f32(*range(6)).reshape(1, 1, 6)],
            {"kernel_shape": [1], "strides": [3], "auto_pad": "SAME_UPPER"},
            since=22,
        ),
        np.array([0, 3]).reshape(1, 1, 2),
    ),
]


INTRODUCTION = """\
`normswap` evaluates models in float64 to judge a rewrite, and constants to fold them. The obvious \
evaluator is the one in onnx, `onnx.reference`; it is not what an operator means. Every operator \
that is evaluated is therefore implemented in `normswap.semantics`, and compared with onnxruntime \
(optimizer off) or, where that has no kernel, with NumPy in float64 or a node of another opset \
that means the same: at every opset at which it changed, on drawn attributes, ranks and types \
(`tests/semantics/`; `python -m benchmarks.reference_errors` draws as many as you like). What is \
not validated is not evaluated: the check then says which operator it is, and compares the \
runtime's results with each other."""

FIGURES = """\
This is what those draws found in onnx {version}: {operators} operators, and {entries} counting \
each opset at which one changed. An operator that raises on a legal model counts as wrong. Numbers \
are rounded to four digits; the file is written from the tests' own table \
(`python -m benchmarks.reference_errors --write`)."""

DEPARTS = """\
Not every difference is the reference's. In these cases onnxruntime's CPU build makes something \
else of a node than the specification says, and the evaluation follows the specification. Where it \
says nothing, or the runtime is the only one to say anything (the clip of an LSTM stands in front \
of its gates, not of its cell state; the mode max of RoiAlign; the sizes of Resize, computed in \
float32), it follows the runtime."""

REFUSED = """\
Refused, since sources contradict each other: MaxUnpool with an output_shape; the mask of a \
Dropout at opset 11 and below; casts to float8 other than e4m3fn, or without saturation; the \
scores of an Attention as an output; AffineGrid with align_corners and a size of 1."""


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return "[" + "; ".join(_text(part) for part in value) + "]"
    array = np.asarray(value)
    if array.dtype.kind not in "OUSbiu":
        array = array.astype(np.float64)
    said = np.array2string(array, precision=4, separator=", ", threshold=200, suppress_small=True)
    said = " ".join(said.split())
    return f"{array.shape} {said}" if array.size == 0 or array.ndim == 0 else said


def _attribute(value: Any) -> str:
    if isinstance(value, onnx.GraphProto):
        return "; ".join(f"{n.output[0]} = {n.op_type}({', '.join(n.input)})" for n in value.node)
    if isinstance(value, TensorProto):
        return _text(onnx.numpy_helper.to_array(value))
    return f'"{value}"' if isinstance(value, str) else str(value)


def _node(case: Case) -> list[str]:
    given = ", ".join(f"{k} = {_attribute(v)}" for k, v in sorted(case.attributes.items()))
    lines = [f"{case.op}-{case.since}" + (f" with {given}" if given else "")]
    lines += [f"  input {n}: {_text(value)}" for n, value in enumerate(case.inputs)]
    return lines


def _results(evaluator: Any, case: Case) -> list[str]:
    try:
        return [_text(value) for value in evaluator(case)]
    except Exception as error:  # noqa: BLE001 - whatever it raises is what it makes of the case
        return [f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"]


def document() -> str:
    """Return docs/reference-evaluator.md."""
    from support.reference_table import WRONG

    entries = sum(len(wrong.opsets) for wrong in WRONG.values())
    lines = [
        "# What onnx's reference evaluator gets wrong",
        "",
        INTRODUCTION,
        "",
        FIGURES.format(version=VERSION, operators=len(WRONG), entries=entries),
        "",
        "| operator | at opsets | what is wrong |",
        "|---|---|---|",
    ]
    for name, wrong in sorted(WRONG.items()):
        opsets = ", ".join(str(opset) for opset in wrong.opsets)
        lines.append(f"| [{name}](#{name.lower()}) | {opsets} | {wrong.words} |")
    lines += ["", "## Examples", ""]
    for name, wrong in sorted(WRONG.items()):
        case = wrong.case(name)
        lines += [f"### {name}", "", "```text", *_node(case)]
        lines += [f"  reference: {'; '.join(_results(reference, case))}"]
        lines += [f"  right:     {'; '.join(_results(truth, case))}", "```", ""]
    lines += ["## Where onnxruntime departs", "", DEPARTS, ""]
    for departure in DEPARTURES:
        lines += [departure.words, "", "```text", *_node(departure.case)]
        lines += [f"  onnxruntime: {'; '.join(_results(runtime, departure.case))}"]
        lines += [f"  right:       {'; '.join(_results(arbiter, departure.case))}", "```", ""]
    lines += [REFUSED, ""]
    return "\n".join(lines)
