"""From plain functions on arrays to operators of onnx's reference evaluator."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from onnx.reference.op_run import OpRun
from onnx.reference.ops import load_op

Implementation = Callable[..., Any]

_OPERATORS: dict[tuple[str, str], type[OpRun]] = {}


class Unhandled(Exception):  # noqa: N818 - not an error: the reference takes over
    """Raised by an implementation for a case it leaves to onnx's reference."""


def operator(*names: str, domain: str = "") -> Callable[[Implementation], Implementation]:
    """Register a function as the implementation of operators.

    The function's positional parameters are the operator's inputs, in order; its keyword-only
    parameters are attributes, of which it is given those that it names and that are set; two are
    not attributes: ``opset`` is the version of the domain, ``n_outputs`` the outputs in use. It
    returns one array, or a tuple of several.

    Parameters
    ----------
    *names : str
        Operator types.
    domain : str
    """

    def register(function: Implementation) -> Implementation:
        for name in names:
            _OPERATORS[domain, name] = _operator_class(name, domain, function)
        return function

    return register


def _operator_class(name: str, domain: str, function: Implementation) -> type[OpRun]:
    parameters = inspect.signature(function).parameters.values()
    attributes = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}

    def run(self: Any, *inputs: Any, **given: Any) -> tuple[Any, ...]:
        chosen = {k: v for k, v in given.items() if k in attributes and v is not None}
        version = self.run_params["opsets"].get(domain, 1)
        if "opset" in attributes:
            chosen["opset"] = version
        if "n_outputs" in attributes:
            chosen["n_outputs"] = sum(map(bool, self.onnx_node.output))
        try:
            result = function(*inputs, **chosen)
        except Unhandled:
            reference = load_op(domain, name, version)(self.onnx_node, self.run_params)
            return tuple(reference.run(*inputs))
        return result if isinstance(result, tuple) else (result,)

    return type(name, (_Operator,), {"op_domain": domain, "_run": run})


class _Operator(OpRun):  # type: ignore[misc]
    """An operator that knows of its attributes what the node says, and no schema's defaults."""

    def __init__(self, onnx_node: Any, run_params: dict[str, Any]) -> None:
        super().__init__(onnx_node, run_params, schema=_NO_SCHEMA)

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        raise NotImplementedError  # each class of `_operator_class` brings its own


class _NoSchema:
    """A schema without attributes: defaults are the implementation's, right for every opset."""

    attributes: dict[str, Any] = {}  # noqa: RUF012 - read, never written


_NO_SCHEMA = _NoSchema()


def operators() -> list[type[OpRun]]:
    """Return every registered operator; all modules of `operators` are imported for it."""
    package = importlib.import_module("normswap.check.arbiter.operators")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return list(_OPERATORS.values())
