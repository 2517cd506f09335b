"""Normalize first: a network that is the same function, in which a swap does least harm.

A BatchNormalization normalizes by its statistics, then scales and shifts::

    x^ = (x - mean) / sqrt(var + epsilon)          y = scale * x^ + B

A group normalization of x has its groups ruled by the channel of the largest variance, and nothing
behind it can undo that. One of x^, whose channels have mean 0 and variance 1 on the data that the
network was trained on, has groups of about that mean and variance in every sample, and is close to
doing nothing; with the scale and B of before it is close to what the BatchNormalization was.

So the statistics go to the operators before, as a fold brings them there, or become a Mul and an
Add; what is left is a BatchNormalization of x^ that only scales and shifts. A swap of that network
is the swap that is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from normswap.folding.apply import apply_plan
from normswap.folding.division import plan_division
from normswap.folding.passes.dividing import LAYER
from normswap.folding.plan import Folded
from normswap.graph.build import gs_nodes, gs_nodes_with_paths
from normswap.groupnorm.plan import Statistics

if TYPE_CHECKING:
    from collections.abc import Container

    import onnx_graphsurgeon as gs

    from normswap.folding.division import Divided, Division
    from normswap.graph.network import Node
    from normswap.model import Model

Place = tuple[str, str]
"""A node by the path of its graph and the name of its first output."""

FORGOTTEN = Statistics(detail="in a group of one channel, mean and variance make no difference")


def place_of(node: Node) -> Place:
    """Return where a node is."""
    return node.graph.path, node.out.name


@dataclass(frozen=True, slots=True)
class Normalized:
    """What has become of the BatchNormalizations of a model.

    Attributes
    ----------
    edited : bool
        Whether the model is another one than before.
    numbers : dict of Place to int
        The number that each had before, of every BatchNormalization that there is now.
    statistics : dict of Place to Statistics
        Where those went that were to go.
    """

    edited: bool
    numbers: dict[Place, int]
    statistics: dict[Place, Statistics]


def normalize(model: Model, layers: Container[int], *, sealed: Container[int] = ()) -> Normalized:
    """Move the statistics of BatchNormalizations to what is before them, and leave scale and B.

    The network stays the same function. To plan on, write it and read it again: what is known of
    its tensors is what was read.

    Parameters
    ----------
    model : Model
        Is changed; not edited since it was read.
    layers : container of int
        The keys of the nodes in :func:`normswap.graph.build.build_network`. They are in inference
        mode, have constant statistics, or are left as they are.
    sealed : container of int
        Keys of those whose scale and B are to be others, so that they can't take in the statistics
        of a layer behind them.

    Returns
    -------
    Normalized
    """
    nodes = list(gs_nodes(model))
    numbers = [key for key, node in enumerate(nodes) if _is_batchnorm(node)]
    for number in numbers:
        nodes[number].attrs[LAYER] = number
    wanted = {number for number in numbers if number in layers}
    refused: dict[int, Divided] = {}
    while True:
        division = plan_division(model, wanted, sealed)
        stuck = {d.number: d for d in division.layers.values() if "BatchNormalization" in d.left}
        if not stuck:
            break
        refused |= stuck
        wanted -= stuck.keys()
    apply_plan(division.plan, model)
    return _told(model, division, refused)


def _is_batchnorm(node: gs.Node) -> bool:
    return node.op == "BatchNormalization" and node.domain in (None, "", "ai.onnx")


def _told(model: Model, division: Division, refused: dict[int, Divided]) -> Normalized:
    """Say what has become of every BatchNormalization, and take its number off it."""
    numbers: dict[Place, int] = {}
    statistics: dict[Place, Statistics] = {}
    # What is undivided in the copy of a function has the number that it had before.
    known = {divided.number: divided for divided in division.layers.values()}
    known |= refused | division.layers
    for path, node in gs_nodes_with_paths(model):
        key = node.attrs.pop(LAYER, None)
        if key is None:
            continue
        place = path, next(tensor.name for tensor in node.outputs if tensor.name)
        divided = known.get(key)
        numbers[place] = key if divided is None else divided.number
        if divided is not None:
            statistics[place] = _statistics(divided)
    return Normalized(bool(division.plan.edits), numbers, statistics)


def _statistics(divided: Divided) -> Statistics:
    fate = divided.fate
    if isinstance(fate, Folded):
        return Statistics(fate.route, fate.added_nodes)
    added = 0 if "BatchNormalization" in divided.left else len(divided.left)
    return Statistics((), added, fate.reason, fate.detail)
