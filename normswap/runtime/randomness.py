"""Operators that draw random numbers, and copies of models in which they draw the same ones.

onnxruntime seeds an operator without a seed by its place in the graph, which a rewrite changes,
and every time anew. So two models could not be compared, and the noise of one model with itself
would hide any fault. Seeds are given wherever such an operator may be: in the graph, in the
branches and bodies of If, Loop and Scan, and in functions. An operator with a seed draws the same
sequence in every session, so the n-th iteration of a loop draws the same in both models.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from normswap.order import in_topological_order, set_nodes
from normswap.semantics.families import RANDOM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_DOMAINS = frozenset({"", "ai.onnx"})
_NAMED = 5  # operators in a sentence
_SEEDS = 2**20  # whole numbers up to here are exact in the float that a seed is


def is_random(node: Any) -> bool:
    """Whether a node draws random numbers; Dropout does if it may be told that it trains."""
    if node.domain not in _DOMAINS:
        return False
    trains = node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])
    return node.op_type in RANDOM or trains


@dataclass(frozen=True, slots=True)
class RandomNode:
    """An operator that draws random numbers.

    Attributes
    ----------
    operator, output : str
    node : str
        Its name, or that of its output.
    function : str
        The function that it is in, domain first; empty in the graph and in its subgraphs.
    place : str
        For people: where it is, if that is not the graph itself.
    seeded : bool
        Whether the model gives it a seed.
    seed : float or None
        That seed; None where it is an attribute of the function.
    """

    operator: str
    output: str
    node: str
    function: str = ""
    place: str = ""
    seeded: bool = False
    seed: float | None = None

    def __str__(self) -> str:
        return f"{self.node} ({self.place})" if self.place else self.node


def draws(model: onnx.ModelProto) -> tuple[RandomNode, ...]:
    """Return every operator of a model that draws random numbers, in the order of `seeded`."""
    return tuple(_draw(*found) for found in _random_nodes(model))


def _random_nodes(model: onnx.ModelProto) -> Iterator[tuple[Any, str, str]]:
    """Yield node, function and place; graph first, then functions."""
    yield from _in_nodes(model.graph.node, "", "")
    for function in model.functions:
        name = f"{function.domain}.{function.name}".lstrip(".")
        yield from _in_nodes(function.node, name, f"in function {name}")


def _in_nodes(nodes: Iterable[Any], function: str, place: str) -> Iterator[tuple[Any, str, str]]:
    for node in nodes:
        if is_random(node):
            yield node, function, place
        for attribute in sorted(node.attribute, key=lambda a: str(a.name)):
            for body in (attribute.g, *attribute.graphs):
                where = f"in {attribute.name} of {node.name or node.output[0]}" if body.node else ""
                yield from _in_nodes(body.node, function, where)


def _draw(node: Any, function: str, place: str) -> RandomNode:
    given = next((a for a in node.attribute if a.name == "seed"), None)
    seed = None
    if given is not None and not given.ref_attr_name:
        seed = float(given.i if given.type == onnx.AttributeProto.INT else given.f)
    name = node.name or node.output[0]
    return RandomNode(node.op_type, node.output[0], name, function, place, given is not None, seed)


def seeds(found: Sequence[RandomNode]) -> tuple[float | None, ...]:
    """Return a seed for each operator that has none; None for one that has."""
    return tuple(
        None if draw.seeded else _number(key) for draw, key in zip(found, _keys(found), strict=True)
    )


def paired_seeds(
    original: Sequence[RandomNode], rewritten: Sequence[RandomNode]
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Return seeds for the operators of two models, so that they draw alike.

    Operators are the same where kind and output's name are; the others pair up in their order,
    kind by kind. Of two where one has a seed the other one gets it.
    """
    keys, others = _keys(original), _keys(rewritten)
    match: dict[int, int] = {}
    there = {key: index for index, key in enumerate(others)}
    for index, key in enumerate(keys):
        if key in there:
            match[there[key]] = index
    taken = set(match.values())
    rest = [index for index in range(len(original)) if index not in taken]
    for position, draw in enumerate(rewritten):
        if position in match:
            continue
        fitting = next((i for i in rest if original[i].operator == draw.operator), None)
        if fitting is not None:
            match[position] = fitting
            rest.remove(fitting)
    first = list(seeds(original))
    second = list(seeds(rewritten))
    for position, index in match.items():
        a, b = original[index], rewritten[position]
        if not a.seeded and not b.seeded:
            second[position] = first[index]
        elif a.seeded and not b.seeded and a.seed is not None:
            second[position] = a.seed
        elif b.seeded and not a.seeded and b.seed is not None:
            first[index] = b.seed
    return tuple(first), tuple(second)


def _keys(found: Sequence[RandomNode]) -> list[tuple[str, str, str, int]]:
    """Return what tells operators apart: sister branches may use one name, so they are counted."""
    counts: Counter[tuple[str, str, str]] = Counter()
    keys = []
    for draw in found:
        key = (draw.function, draw.operator, draw.output)
        keys.append((*key, counts[key]))
        counts[key] += 1
    return keys


def _number(key: tuple[str, str, str, int]) -> float:
    return float(zlib.crc32("/".join(map(str, key)).encode()) % _SEEDS)


def seed_notes(found: Sequence[RandomNode]) -> list[str]:
    """Return what a person should know of the random numbers, if there are any."""
    if not found:
        return []
    named = ", ".join(str(draw) for draw in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return [f"operators that draw random numbers were given fixed seeds: {named}{more}"]


def seed_all(model: onnx.ModelProto, numbers: Sequence[float | None]) -> None:
    """Give seeds, as of `seeds`, to the operators of a model, in place."""
    for (node, _, _), number in zip(_random_nodes(model), numbers, strict=True):
        if number is not None:
            seed = int(number) if node.op_type == "Dropout" else number
            node.attribute.append(onnx.helper.make_attribute("seed", seed))


def pinned(path: str, numbers: Sequence[float | None]) -> onnx.ModelProto:
    """Return the model at `path` with seeds; external data is left where it is.

    Its nodes are in topological order.
    """
    return pin(onnx.load(path, load_external_data=False), numbers)


def pin(model: onnx.ModelProto, numbers: Sequence[float | None]) -> onnx.ModelProto:
    """Give a model seeds, as of `seeds`, and put its nodes in topological order, in place.

    Float16 converters leave some behind those that read them, which runtimes put up with.
    """
    seed_all(model, numbers)
    nodes = list(model.graph.node)
    with contextlib.suppress(ValueError):  # a circle, which no runtime takes
        ordered = in_topological_order(nodes)
        if ordered is not nodes:
            set_nodes(model.graph, ordered)
    return model
