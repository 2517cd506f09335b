"""Layers in subgraphs and functions, each run by itself.

onnxruntime shows the tensors of the main graph only. So the subgraph or function that a layer is in
is made the main graph of a model of its own, just as it stands in the swapped file, and the layer's
part of it is run on activations of its shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx

from normswap.dtypes import NUMPY_DTYPES
from normswap.errors import RunError
from normswap.graph.build import function_path
from normswap.groupnorm.hybrid import taps, values
from normswap.groupnorm.layer import Layer, Runtime
from normswap.groupnorm.layercheck import LayerCheck, check_layer
from normswap.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence
    from pathlib import Path

    from normswap.groupnorm.plan import SwapPlan
    from normswap.runtime.session import Session

BATCH = 2
SIZE = 6
"""Of an axis whose size the model leaves open."""


def check_isolated(
    swapped: Path, plan: SwapPlan, open_model: Callable[..., Session], rng: np.random.Generator
) -> list[LayerCheck]:
    """Check the layers that are not in the main graph.

    Parameters
    ----------
    swapped : Path
        The model with the swapped layers.
    plan : SwapPlan
    open_model : callable
        Opens a :class:`Session`.
    rng : numpy.random.Generator

    Raises
    ------
    RunError
        If a layer is not in the file, or can't be run.
    """
    homes: dict[str, list[Layer]] = {}
    for swap in plan.swaps:
        if swap.site.graph:
            homes.setdefault(swap.site.graph, []).append(swap.layer)
    checks: list[LayerCheck] = []
    if not homes:
        return checks
    with scratch_folder() as folder:
        path = folder / "layer.onnx"
        for home, body in _bodies(onnx.load(swapped), homes):
            layers = _taken_from(homes[home], body)
            if not layers:
                continue
            onnx.save(body, path)
            known = taps(layers)
            with open_model(
                path, f"{home} by itself", taps={**known["y"], **known["parameters"]}
            ) as session:
                checks += [_check(session, layer, rng) for layer in layers]
    for home, layers in homes.items():
        if layers:
            raise RunError(f"{swapped.name} has no {layers[0].name} in {home}.")
    return checks


def _taken_from(layers: list[Layer], body: onnx.ModelProto) -> list[Layer]:
    """Take out the layers that are in a body.

    Two bodies may have the same path and the same names in them, such as overloads of a function;
    they come in the order of their layers.
    """
    made = {name for node in body.graph.node for name in node.output}
    found: list[Layer] = []
    others: list[Layer] = []
    for layer in layers:
        (found if layer.y in made else others).append(layer)
        made.discard(layer.y)
    layers[:] = others
    return found


def _check(session: Session, layer: Layer, rng: np.random.Generator) -> LayerCheck:
    """Return the worst of what a layer makes of several kinds of activations."""
    found: list[LayerCheck] = []
    dtype = NUMPY_DTYPES[layer.data_type]
    parameters = {
        p.name: rng.normal(size=layer.channels).astype(NUMPY_DTYPES[p.data_type])
        for p in (layer.scale, layer.bias)
        if isinstance(p, Runtime)
    }
    for x in _activations(_sizes(layer), rng):
        feeds = {layer.x: x.astype(dtype), **parameters}
        y = session.run(feeds, [layer.y])[layer.y]
        scale, bias = values(layer.scale, feeds), values(layer.bias, feeds)
        found.append(check_layer(layer, feeds[layer.x], y, scale, bias))
    worst = max(found, key=lambda check: check.ratio)
    largest = max(check.max_error for check in found)
    return LayerCheck(layer.name, largest, worst.ratio, isolated=True)


def _sizes(layer: Layer) -> tuple[int, ...]:
    shape = layer.shape if layer.shape is not None else (None, layer.channels, None, None)
    batch = shape[0] if isinstance(shape[0], int) else BATCH
    return (
        batch,
        layer.channels,
        *(dim if isinstance(dim, int) else SIZE + i for i, dim in enumerate(shape[2:])),
    )


def _activations(shape: tuple[int, ...], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield what may come to a layer: plain, off centre, of many sizes, peaked, and tiny values."""
    along = (1, -1) + (1,) * (len(shape) - 2)
    plain = rng.normal(size=shape)
    yield plain
    yield plain + 10 * rng.normal(size=shape[1]).reshape(along)
    yield plain * np.exp(rng.normal(size=shape[1])).reshape(along)
    yield plain**5
    yield 1e-3 * plain  # where epsilon matters


def _bodies(
    model: onnx.ModelProto, wanted: Container[str]
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield the wanted subgraphs and functions as models, by their path."""
    roots: list[tuple[str, _Scope]] = [
        ("", _Scope(model.graph.node, model.opset_import, list(model.graph.initializer))),
        *(
            (function_path(function), _Scope(function.node, function.opset_import, []))
            for function in model.functions
        ),
    ]
    for root in roots:
        for path, scope in _nested(*root):
            if path in wanted:
                body = onnx.ModelProto(ir_version=model.ir_version)
                body.functions.extend(model.functions)
                body.opset_import.extend(scope.imports)
                body.graph.name = "layer"
                body.graph.node.extend(scope.nodes)
                read = {name for node in scope.nodes for name in node.input}
                body.graph.initializer.extend(t for t in scope.constants if t.name in read)
                yield path, body


class _Scope(NamedTuple):
    """The nodes of a graph, and the constants that they see."""

    nodes: Sequence[onnx.NodeProto]
    imports: Sequence[onnx.OperatorSetIdProto]
    constants: list[onnx.TensorProto]


def _nested(path: str, scope: _Scope) -> Iterator[tuple[str, _Scope]]:
    """Yield a graph and its subgraphs, which see what is outside of them."""
    yield path, scope
    lead = f"{path}/" if path else ""
    for node in scope.nodes:
        title = node.name or next((name for name in node.output if name), "")
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                inner = attribute.g
                constants = [*scope.constants, *inner.initializer]
                nested = _Scope(inner.node, scope.imports, constants)
                yield from _nested(f"{lead}{title}.{attribute.name}", nested)
