"""The operators of `normswap.semantics` as nodes of onnx's reference evaluator."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from onnx.reference.op_run import OpRun

from normswap.proof.arbiter.control import Loop, Scan
from normswap.semantics.registry import Meaning, meaning_of, meanings

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx


class NotKnownError(Exception):
    """An operator is none that is evaluated at this opset."""


def require_known(node: onnx.NodeProto, opsets: Mapping[str, int]) -> None:
    """Raise unless a node's operator is known at the opset that its graph imports.

    Raises
    ------
    NotKnownError
    """
    version = opsets.get(node.domain, 1)
    if meaning_of(node.op_type, node.domain, version) is None:
        where = f"{node.domain or 'ai.onnx'} opset {version}"
        raise NotKnownError(f"{node.op_type} of {where} is not supported in float64")


@functools.cache
def operators() -> tuple[type[OpRun], ...]:
    """Return every operator that is not left to onnx's reference."""
    functions = [_operator_class(m) for m in meanings().values() if m.function is not None]
    return (*functions, Loop, Scan)


def _operator_class(meaning: Meaning) -> type[OpRun]:
    def run(self: Any, *inputs: Any, **given: Any) -> tuple[Any, ...]:
        version = self.run_params["opsets"].get(meaning.domain, 1)
        used = [index for index, name in enumerate(self.onnx_node.output) if name]
        return meaning.evaluate(inputs, given, version, max(used, default=0) + 1)

    return type(meaning.name, (_Operator,), {"op_domain": meaning.domain, "_run": run})


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
