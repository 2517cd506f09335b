"""A node with inputs, what the runtime makes of it, and what else evaluates it."""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

from normswap.dtypes import is_floating


@dataclass
class Case:
    """One node of one operator.

    Attributes
    ----------
    inputs : list of array, list of arrays, or None
        None where an input is left out.
    outputs : int or list of bool
        How many are in use, or which of them.
    since : int
        The opset.
    modern : Case or callable, optional
        The truth where the runtime has no kernel of this opset: a node of a newer one that means
        the same, or a NumPy function that returns the outputs.
    loose : bool
        Whether integers may be one off, where halves were rounded from different float32 values.
    constants : tuple of int
        Inputs that are initializers.
    tolerance : float, optional
        Relative to the largest value, where the types do not say it.
    summary : callable, optional
        What of the results is compared, where they are drawn at random.
    """

    op: str
    inputs: list[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: Any = 1
    since: int = 0
    domain: str = ""
    modern: Any = None
    loose: bool = False
    constants: tuple[int, ...] = ()
    tolerance: float | None = None
    summary: Any = None

    def model(self) -> onnx.ModelProto:
        used = [True] * self.outputs if isinstance(self.outputs, int) else self.outputs
        names = ["" if value is None else f"i{n}" for n, value in enumerate(self.inputs)]
        outputs = [f"o{n}" if use else "" for n, use in enumerate(used)]
        attributes = {k: v for k, v in self.attributes.items() if v is not None}
        node = helper.make_node(self.op, names, outputs, domain=self.domain, **attributes)
        graph = helper.make_graph(
            [node],
            "case",
            [
                helper.make_value_info(name, _type(value))
                for n, (name, value) in enumerate(zip(names, self.inputs, strict=True))
                if name and n not in self.constants
            ],
            [onnx.ValueInfoProto(name=name) for name in outputs if name],
            [numpy_helper.from_array(self.inputs[n], f"i{n}") for n in self.constants],
        )
        opsets = [helper.make_opsetid("", 13 if self.domain else self.since)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, self.since))
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def feeds(self) -> dict[str, Any]:
        return {
            f"i{n}": value
            for n, value in enumerate(self.inputs)
            if value is not None and n not in self.constants
        }

    def at(self, since: int, **changes: Any) -> Case:
        """Return the same node at another opset."""
        return replace(self, since=since, modern=None, **changes)


def _type(value: Any) -> onnx.TypeProto:
    if isinstance(value, list):
        return helper.make_sequence_type_proto(_type(value[0]))
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_type_proto(kind, value.shape)


Draw = Callable[[np.random.Generator, int], Case]

DRAWS: dict[tuple[str, str], Draw] = {}


def draws(*names: str, domain: str = "") -> Callable[[Any], Any]:
    """Register a function of (generator, opset, name) that draws a case of operators."""

    def register(function: Any) -> Any:
        for name in names:
            DRAWS[domain, name] = lambda rng, since, name=name: function(rng, since, name)
        return function

    return register


def load() -> dict[tuple[str, str], Draw]:
    """Return how to draw every operator."""
    package = importlib.import_module("support.draws")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"support.draws.{module.name}")
    return DRAWS


def drawn(domain: str, op: str, since: int, number: int) -> Case:
    """Return case `number` of an entry; always the same one."""
    rng = np.random.default_rng([number, since, zlib.crc32(f"{domain}.{op}".encode())])
    case = load()[domain, op](rng, since)
    case.since, case.domain = since, domain
    for stands in (case, case.modern):
        if isinstance(stands, Case):
            stands.inputs = [_array(value) for value in stands.inputs]
    return case


def _array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.generic) else value


def size_of(case: Case) -> int:
    """Return how many elements the inputs of a case have."""
    parts = [v for value in case.inputs for v in (value if isinstance(value, list) else [value])]
    return sum(part.size for part in parts if part is not None)


class RefusedError(Exception):
    """The runtime has no kernel for a node, or does not take its attributes."""


def runtime(case: Case) -> list[Any]:
    """Return what onnxruntime makes of a case, with its optimizer off."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            case.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        results = session.run(None, case.feeds())
    except Exception as error:
        raise RefusedError(str(error)) from error
    if case.attributes.get("to") == onnx.TensorProto.FLOAT8E4M3FN:  # they come as bytes
        return [value.view(ml_dtypes.float8_e4m3fn) for value in results]
    return results


def truth(case: Case) -> list[Any]:
    """Return what a case is, by the runtime or else by what stands in for it."""
    if callable(case.modern):
        return [np.asarray(value) for value in case.modern()]
    try:
        return runtime(case)
    except RefusedError:
        if case.modern is None:
            raise
    case.modern.domain = case.domain
    return truth(case.modern)


def apart(found: Sequence[Any], right: Sequence[Any], case: Case) -> str | None:
    """Say how results differ by more than rounding, None where they do not."""
    if case.summary is not None:
        (shape, found), (other, right) = case.summary(found), case.summary(right)
        same = np.array_equal(shape, other) and np.array_equal(found, right)
        return None if same else f"{shape}, {found} is not {other}, {right}"
    if len(found) != len(right):
        return f"{len(found)} results, not {len(right)}"
    for number, (one, other) in enumerate(zip(found, right, strict=True)):
        if isinstance(other, list):
            said = apart(one, other, case) if isinstance(one, list) else "no sequence"
            if said:
                return said
            continue
        a, b = np.asarray(one), np.asarray(other)
        if a.shape != b.shape:
            return f"output {number} has shape {a.shape}, not {b.shape}"
        if b.dtype.kind in "OUS":
            if a.tolist() != b.tolist():
                return f"output {number}: {a.tolist()} is not {b.tolist()}"
            continue
        if not is_floating(b.dtype):
            if a.dtype != b.dtype:
                return f"output {number} is {a.dtype}, not {b.dtype}"
            off = a.astype(np.int64) - b.astype(np.int64)
            if np.abs(off).max(initial=0) > case.loose:
                return f"output {number} is {_some(a)}, not {_some(b)}"
            continue
        if not is_floating(a.dtype):
            return f"output {number} is {a.dtype}, not {b.dtype}"
        relative = case.tolerance or {2: 1e-2, 4: 2e-5, 8: 1e-9}.get(b.dtype.itemsize, 0.1)
        if any(
            v is not None
            and not isinstance(v, list)
            and v.dtype.itemsize == 2
            and is_floating(v.dtype)
            for v in case.inputs
        ):
            relative = max(relative, 1e-2)
        wide, narrow = b.astype(np.float64), a.astype(np.float64)
        finite = wide[np.isfinite(wide)]
        scale = np.abs(finite).max(initial=0)
        if not np.allclose(narrow, wide, rtol=10 * relative, atol=relative * scale, equal_nan=True):
            return f"output {number} is {_some(narrow)}, not {_some(wide)}"
    return None


def _some(array: np.ndarray) -> str:
    return np.array2string(array.reshape(-1)[:8], precision=4, separator=", ")
