"""onnx's reference evaluator in float64, with memory given back as soon as it can be.

Weights stay in their storage type until the one node that reads them runs, and a result is
dropped after its last reader, so that a model needs little more than its widest layer.
"""

from __future__ import annotations

import contextlib
import contextvars
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpFunction

from normswap.bodies import reads
from normswap.dtypes import is_floating
from normswap.model.sparse import dense
from normswap.proof.arbiter.nodes import operators, require_known
from normswap.proof.coverage import label_of
from normswap.proof.perturbation import NOT_WEIGHTS, perturbed
from normswap.semantics.families import ARITHMETIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from normswap.proof.coverage import Coverage
    from normswap.proof.faults import Fault

_SUMS = ("Reduce", "Global")  # how the names of operators begin that sum over whole axes

# What a size or scale is computed with on its way to one of those inputs.
_SHAPE_ARITHMETIC = ARITHMETIC | {
    "Cast", "Ceil", "Concat", "Floor", "Gather", "Identity", "Reshape", "Slice", "Squeeze",
    "Unsqueeze",
}  # fmt: skip


@dataclass(slots=True)
class Settings:
    """What holds for one evaluation, in subgraphs and functions too.

    Attributes
    ----------
    sample : int
        0 evaluates the model as it is; any other number perturbs every weight at random within
        half a unit in the last place of its storage type.
    rounding : numpy.dtype or None
        In a perturbed evaluation every result of a node is perturbed as well, as a weight of this
        type would be: what a runtime that computes in it does. None perturbs weights alone.
    folder : str
        Where external data is.
    tap : callable or None
        Called with every result of the main graph: name and value.
    fault : Fault or None
        Planted in the weight that it names.
    coverage : Coverage or None
        Told of every node that is evaluated, in subgraphs and functions too.
    imprecise : set of str
        Operators that returned less than float64; filled in.
    """

    sample: int = 0
    rounding: np.dtype[Any] | None = None
    folder: str = ""
    tap: Callable[[str, Any], None] | None = None
    fault: Fault | None = None
    coverage: Coverage | None = None
    imprecise: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def inside(self, node: Any) -> Iterator[None]:
        """Tell the coverage whose subgraph or function is evaluated."""
        nested = isinstance(node, OpFunction) or any(
            attribute.type == attribute.GRAPH for attribute in node.onnx_node.attribute
        )
        if self.coverage is None or not nested:
            yield
            return
        self.coverage.path.append(label_of(node.onnx_node))
        try:
            yield
        finally:
            self.coverage.path.pop()


SETTINGS: contextvars.ContextVar[Settings] = contextvars.ContextVar("SETTINGS")


class Float64Evaluator(ReferenceEvaluator):  # type: ignore[misc]
    """Evaluates a model, graph or function; `SETTINGS` must be set.

    Inputs must be float64 where the model says any floating-point type.
    """

    def __init__(self, proto: Any, *args: Any, **options: Any) -> None:
        if options.get("new_ops") is None:  # which functions are not handed by onnx
            options["new_ops"] = operators()
        super().__init__(proto, *args, **options)

    def _load_impl(self, node: Any, input_types: Any = None) -> Any:
        if (node.domain, node.op_type) not in self.functions_:
            require_known(node, self.opsets)
        return super()._load_impl(node, input_types)

    def _init(self) -> None:
        tensors: list[Any] = list(self.inits_)
        self.inits_: list[Any] = []
        super()._init()
        self._tensors = {_tensor_name(tensor): tensor for tensor in tensors}
        self._hiding = self._tensors.keys() - set(self.input_names)
        self._reads = [tuple(dict.fromkeys(reads(node.onnx_node))) for node in self.rt_nodes_]
        self._exempt = _exempt(self.rt_nodes_)
        self._last_read: dict[str, int] = {}
        for index, names in enumerate(self._reads):
            for name in names:
                self._last_read[name] = index

    @np.errstate(all="ignore")  # NaN and infinity are values like any others here
    def run(
        self,
        output_names: Iterable[str] | None,
        feed_inputs: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
        **_options: Any,
    ) -> list[Any]:
        """Evaluate; as `onnx.reference.ReferenceEvaluator.run`, without its intermediate mode."""
        wanted = list(self.output_names if output_names is None else output_names)
        settings = SETTINGS.get()
        # What a subgraph is handed holds all names around it; one of its own initializers hides
        # what has its name outside, as it does in the runtime.
        values: dict[str, Any] = {"": None}
        values |= {k: v for k, v in feed_inputs.items() if k not in self._hiding}
        kept = {"", *wanted}
        nested = self.onnx_graph_ is None or not isinstance(self.proto_, onnx.ModelProto)
        for index, (node, names) in enumerate(zip(self.rt_nodes_, self._reads, strict=True)):
            for name in names:
                if name not in values and name in self._tensors:
                    values[name] = self._weight(name, settings)
            options: dict[str, Any] = {}
            if node.has_linked_attribute and attributes:
                options["linked_attributes"] = attributes
            if node.need_context():
                options["context"] = {k: values[k] for k in names if k in values}
            inputs = [values[name] for name in node.input]
            try:
                with settings.inside(node):
                    results = node.run(*inputs, **options)
            except Exception as error:
                raise EvaluationError(f"{label_of(node.onnx_node)}: {_root(error)}") from error
            if settings.coverage is not None:
                settings.coverage.see(node.onnx_node, inputs, results)
            for name, result in zip(node.output, results, strict=False):
                if not name:
                    continue
                value = _widened(result, node.op_type, settings)
                if node.op_type == "Constant" and name not in self._exempt:
                    value = perturbed(value, name, settings.sample, _storage(result))
                elif settings.rounding is not None and name not in self._exempt:
                    value = _rounded(value, name, settings, _terms(node, values))
                values[name] = value
                if settings.tap is not None and not nested:
                    settings.tap(name, value)
            for name in names:
                if self._last_read[name] == index and name not in kept:
                    values.pop(name, None)
        for name in wanted:
            if name not in values and name in self._tensors:
                values[name] = self._weight(name, settings)
        return [values[name] for name in wanted]

    def _weight(self, name: str, settings: Settings) -> np.ndarray:
        stored = _array(self._tensors[name], settings.folder)
        value: np.ndarray = _widened(stored, "", settings)
        if settings.fault is not None and settings.fault.tensor == name:
            value = settings.fault.applied(value)
        if name in self._exempt:
            return value
        return perturbed(value, name, settings.sample, _storage(stored))


class EvaluationError(Exception):
    """A node could not be evaluated."""


def _exempt(nodes: Sequence[Any]) -> set[str]:
    """Return the tensors that are no weights, followed back from where they are read."""
    exempt: set[str] = set()
    for node in reversed(nodes):
        slots = NOT_WEIGHTS.get(node.op_type, set())
        exempt.update(name for slot, name in enumerate(node.input) if slot in slots)
        if node.op_type in _SHAPE_ARITHMETIC and not exempt.isdisjoint(node.output):
            exempt.update(node.input)
    return exempt


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _tensor_name(tensor: Any) -> str:
    sparse = isinstance(tensor, onnx.SparseTensorProto)
    return str(tensor.values.name if sparse else tensor.name)


def _array(tensor: Any, folder: str) -> np.ndarray:
    if isinstance(tensor, onnx.SparseTensorProto):
        return dense(tensor)
    if onnx.external_data_helper.uses_external_data(tensor):
        kept, tensor = tensor, onnx.TensorProto()
        tensor.CopyFrom(kept)  # reading puts the data into the tensor, where it would stay
    array: np.ndarray = onnx.numpy_helper.to_array(tensor, base_dir=folder)
    return array


def _storage(value: Any) -> np.dtype[Any] | None:
    return value.dtype if isinstance(value, np.ndarray) else None


def _widened(value: Any, op_type: str, settings: Settings) -> Any:
    """Return floats as float64; an operator that computed them in less is made a note of."""
    if isinstance(value, list):
        return [_widened(item, op_type, settings) for item in value]
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype == np.float64:
        return value
    if not is_floating(value.dtype):
        return value
    if op_type and op_type not in {"Constant", "ConstantOfShape"}:
        settings.imprecise.add(op_type)
    return value.astype(np.float64)


def _rounded(value: Any, name: str, settings: Settings, terms: int) -> Any:
    """Return a result as rounding its elements might have left it; what is no float as it is.

    A sum of n terms, n of `terms` to an element, is rounded n times, and these errors add up like
    the steps of a random walk. (Those of a product of matrices do too, but there are hundreds of
    terms and not millions, and kernels take them in blocks.)
    """
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.size == 0:
        return value
    walk = max(terms / value.size, 1.0) ** 0.5
    moved = perturbed(value, name, settings.sample, settings.rounding)
    return moved if walk == 1.0 else value + walk * (moved - value)


def _terms(node: Any, values: Mapping[str, Any]) -> int:
    """Return how many numbers a node sums up, in all."""
    if not node.op_type.startswith(_SUMS):
        return 0
    return max((np.size(values[name]) for name in node.input if name), default=0)
