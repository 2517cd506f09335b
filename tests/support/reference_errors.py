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
        "NonZero treats a scalar as a vector of one element; a scalar has no axis, and so no row.",
        Case("NonZero", [np.array(5)], since=13),
        np.zeros((0, 1), np.int64),
    ),
    Departure(
        "Slice with a negative step takes an end of INT64_MAX for the beginning; like any end "
        "beyond the last element, it should leave nothing.",
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
        "Resize with a keep_aspect_ratio_policy ignores negative axes.",
        Case(
            "Resize",
            [f32(1, 2).reshape(1, 2), None, None, np.array([4])],
            {"axes": [-1], "keep_aspect_ratio_policy": "not_larger"},
            since=19,
        ),
        np.array([[1, 1, 2, 2]]),
    ),
    Departure(
        "Attention with is_causal and past keys lets a single query see every key, including later "
        "ones.",
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
        "AveragePool uses negative padding if its stride is larger than its kernel and auto_pad is "
        "SAME_UPPER or SAME_LOWER; MaxPool and Conv do not.",
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
This page lists where `onnx.reference`, the evaluator that comes with onnx, differs from the \
specification, which is why normswap does not use it. `normswap` evaluates models in float64 to \
judge a rewrite, and constants to fold them. Every operator that it evaluates is implemented in \
`normswap.semantics`, and compared with onnxruntime (optimizer off) or, where that has no kernel, \
with NumPy in float64 or an equivalent node of another opset: at every opset at which the \
operator changed, on random attributes, ranks and types (`tests/semantics/`; `python -m \
benchmarks.reference_errors` draws as many as you like). What is not validated is not evaluated: \
the check then names the operator, and compares the runtime's results with each other."""

FIGURES = """\
In onnx {version}, those draws found {operators} operators that are wrong, or {entries} if each \
opset at which one changed is counted. An operator that raises on a valid model counts as wrong. \
Numbers are rounded to four digits; the page is generated from the tests' own table \
(`python -m benchmarks.reference_errors --write`)."""

DEPARTS = """\
Not every difference is an error of the reference. In these cases onnxruntime's CPU build deviates \
from the specification, and normswap follows the specification. Where the specification says \
nothing, or only the runtime defines the result (the clip of an LSTM applies before its gates and \
not to its cell state; the mode max of RoiAlign; the sizes of Resize, computed in float32), it \
follows the runtime."""

REFUSED = """\
Not evaluated, because the sources contradict each other: MaxUnpool with an output_shape; the mask \
of a Dropout at opset 11 and below; casts to float8 other than e4m3fn, or without saturation; the \
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
