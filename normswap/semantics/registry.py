"""Which operators are accepted at which opsets, and the functions that evaluate them.

An entry is an operator at an opset at which its meaning changed, its schema's ``since_version``.
What is registered here is evaluated, and nothing else is: a new opset that gives an operator
another meaning makes it unknown until its entry is written, and validated.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

Implementation = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Meaning:
    """How one operator is evaluated.

    Attributes
    ----------
    name, domain : str
    since : frozenset of int
        The versions of the domain at which the operator got a meaning that is known here.
    function : callable or None
        None where the arbiter's evaluator has the operator: it runs graphs, makes sequences, or
        draws random numbers.
    attributes : frozenset of str
        What the function is given by name.
    moves : bool
        Whether values are moved and never computed with, so that they can stay in any type.
    """

    name: str
    domain: str
    since: frozenset[int]
    function: Implementation | None
    attributes: frozenset[str]
    moves: bool

    def evaluate(
        self, inputs: Sequence[Any], attributes: Mapping[str, Any], opset: int, n_outputs: int
    ) -> tuple[Any, ...]:
        """Return the outputs.

        Parameters
        ----------
        inputs : sequence of numpy.ndarray or None
            None where an input is left out; floating-point types in float64, unless it `moves`.
        attributes : mapping
            Those that the node has; others take the defaults of the function.
        opset : int
            The version of the domain.
        n_outputs : int
            How many outputs are in use, the last of them included.

        Raises
        ------
        Exception
            Whatever the function raises on inputs that the operator doesn't allow.
        """
        if self.function is None:
            raise AssertionError(f"{self.name} is no function of arrays")
        chosen = {k: v for k, v in attributes.items() if k in self.attributes and v is not None}
        if "opset" in self.attributes:
            chosen["opset"] = opset
        if "n_outputs" in self.attributes:
            chosen["n_outputs"] = n_outputs
        result = self.function(*inputs, **chosen)
        return result if isinstance(result, tuple) else (result,)


_MEANINGS: dict[tuple[str, str], Meaning] = {}


def operator(
    *names: str,
    since: Sequence[int],
    domain: str = "",
    moves: bool = False,
    shared: type[Any] | None = None,
) -> Callable[[Implementation], Implementation]:
    """Register a function as the meaning of operators.

    The function's positional parameters are the operator's inputs, in order; its keyword-only
    parameters are attributes, of which it is given those that it names and that are set; two are
    not attributes: ``opset`` is the version of the domain, ``n_outputs`` the outputs in use. It
    returns one array, or a tuple of several.

    Parameters
    ----------
    *names : str
        Operator types.
    since : sequence of int
        The versions at which the operators changed and that the function knows.
    domain : str
    moves : bool
        Whether values are only moved, whatever their type.
    shared : TypedDict, optional
        Attributes that the function takes as ``**``, since others have them too.
    """
    common = frozenset() if shared is None else frozenset(shared.__annotations__)

    def register(function: Implementation) -> Implementation:
        parameters = inspect.signature(function).parameters.values()
        given = common | {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        for name in names:
            meaning = Meaning(name, domain, frozenset(since), function, given, moves)
            _MEANINGS[domain, name] = meaning
        return function

    return register


def left_to_evaluator(*names: str, since: Sequence[int]) -> None:
    """Register operators that are no functions of arrays, and that the arbiter evaluates."""
    for name in names:
        _MEANINGS["", name] = Meaning(name, "", frozenset(since), None, frozenset(), moves=False)


@functools.cache
def meanings() -> Mapping[tuple[str, str], Meaning]:
    """Return every registered operator, by domain and name."""
    package = importlib.import_module("normswap.semantics.operators")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return _MEANINGS


@functools.cache
def since_version(name: str, domain: str, opset: int) -> int | None:
    """Return the version that gave an operator its meaning at an opset; None where it had none.

    Operators of domains of which onnx has no schemas have had one meaning, since version 1.
    """
    try:
        return int(onnx.defs.get_schema(name, opset, domain).since_version)
    except onnx.defs.SchemaError:
        return None if domain in _domains() and (domain, name) not in _WITHOUT_SCHEMA else 1


_WITHOUT_SCHEMA = frozenset({("", "SimplifiedLayerNormalization")})  # onnxruntime's, of opset 1


@functools.cache
def _domains() -> frozenset[str]:
    """Return the domains of which onnx has schemas: a question that takes it a while."""
    return frozenset(schema.domain for schema in onnx.defs.get_all_schemas())


def meaning_of(name: str, domain: str, opset: int) -> Meaning | None:
    """Return how an operator is evaluated at an opset; None where that is not known."""
    domain = "" if domain == "ai.onnx" else domain
    found = meanings().get((domain, name))
    if found is None or since_version(name, domain, opset) not in found.since:
        return None
    return found
