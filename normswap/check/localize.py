"""Where a rewritten model leaves its original: the first tensor that both have and that differs.

A rewrite may change a tensor on purpose, when a scale travels through it to be absorbed further
on; such a tensor differs, but what is made of it agrees again. So the search starts at the
outputs that differ and goes back only through tensors that differ, or that the rewritten model
has no counterpart of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from normswap.check.observe import patience
from normswap.check.report import Divergence
from normswap.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from normswap.check.observe import Observations
    from normswap.check.options import CheckOptions
    from normswap.check.runner import Runner
    from normswap.inputs.signature import Signature


def localize(
    runner: Runner,
    original: Signature,
    rewritten: Signature,
    seen: Observations,
    options: CheckOptions,
    failing: Collection[str] = (),
) -> Divergence | None:
    """Find the first tensor at which the rewritten model leaves the original.

    It is done on the first of the arbiter's cases that is among those `failing`, by name.

    Returns
    -------
    Divergence or None
        None where the models have no such tensor, or cannot be evaluated in float64; a note
        says which.
    """
    found = (seen.cases[i] for i in seen.truths if seen.cases[i].name in failing)
    case = next(found, None) or seen.arbiter_case or seen.cases[0]
    try:
        tensors = runner.trace(original, rewritten, case.feeds, options.matches, patience(options))
    except RunError as error:
        seen.notes.append(f"the divergence was not localized: {error}")
        return None
    graph = onnx.load(str(original.path), load_external_data=False).graph
    makers = {name: node for node in graph.node for name in node.output if name}
    outputs = [port.name for port in original.outputs]
    name = first_divergence(outputs, makers, tensors)
    if name is None:
        seen.notes.append("in float64 no tensor that both models have diverges")
        return None
    node = makers[name]
    errors = {i: _relative(tensors[i]) for i in node.input if i in tensors}
    own = _relative(tensors[name])
    largest = max(errors.values(), default=0.0)
    return Divergence(
        tensor=name,
        operator=node.op_type,
        node=node.name,
        error=tensors[name]["error"],
        scale=tensors[name]["scale"],
        input_errors=errors,
        amplification=own / largest if largest > 0 else None,
        compared=len(tensors),
    )


def first_divergence(
    outputs: list[str], makers: Mapping[str, Any], tensors: Mapping[str, Mapping[str, float]]
) -> str | None:
    """Return the earliest diverging tensor that the divergence of an output comes from.

    Parameters
    ----------
    outputs : list of str
    makers : Mapping of str to NodeProto
        The node that makes each tensor, in the original.
    tensors : Mapping of str to Mapping
        The numbers of the tensors that were compared, in the order they are made.
    """
    reached: set[str] = set()
    frontier = list(outputs)
    while frontier:
        name = frontier.pop()
        if name in reached or name not in makers:
            continue
        if name in tensors and not tensors[name]["left"]:
            continue
        reached.add(name)
        frontier.extend(makers[name].input)
    return next((name for name in tensors if name in reached and tensors[name]["left"]), None)


def _relative(numbers: Mapping[str, float]) -> float:
    return numbers["error"] / numbers["scale"] if numbers["scale"] > 0 else numbers["error"]
