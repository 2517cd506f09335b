"""Permute all that may be permuted in a test model, and assert that it is the same function."""

from __future__ import annotations

import io

import numpy as np
import onnx

from normswap.graph.batchnorm import is_batchnorm
from normswap.groupnorm.planner import network_of
from normswap.groupnorm.statistics import calls_of
from normswap.model import load, write_to
from normswap.permuting.permute import permute
from normswap.permuting.spaces import find_spaces
from support.folding import assert_same_function, assert_same_signature


def normalized(network):
    """The tensors that a BatchNormalization reads, by its output's name."""
    return {node.out.name: node.operand(0) for node in network.nodes() if is_batchnorm(node)}


def spaces_of(model):
    """Return what may be exchanged, and the channels of each normalization by its output."""
    loaded = load(model.SerializeToString())
    network = network_of(loaded)
    tensors = normalized(network)
    spaces = find_spaces(network, calls_of(loaded, network), tensors.values())
    return loaded, spaces, {name: spaces.channels(value) for name, value in tensors.items()}


def free(model):
    """Return, by the output of each normalization, which of its channels may be exchanged."""
    _, spaces, channels = spaces_of(model)
    movable = np.concatenate([*spaces.spaces, np.zeros(0, np.int64)])
    return {name: np.isin(ids, movable) for name, ids in channels.items() if ids is not None}


def permuted(model, seed=0):
    """Return the model with every space in another order, and the orders of its tensors."""
    loaded, spaces, _ = spaces_of(model)
    rng = np.random.default_rng(seed)
    orders = {}
    for number, space in enumerate(spaces.spaces):
        order = rng.permutation(len(space))
        while (order == np.arange(len(space))).all():
            order = rng.permutation(len(space))
        orders[number] = order
    found = permute(loaded, spaces, orders)
    stream = io.BytesIO()
    write_to(loaded, stream)
    result = onnx.load_from_string(stream.getvalue())
    onnx.checker.check_model(result, full_check=True)
    return result, found


def check_permutes(model, *normalizations, kept=(), **options):
    """All channels of some normalizations move, those of others stay; it is one function."""
    moves = free(model)
    assert {name for name, ids in moves.items() if ids.all()} >= {*normalizations}
    assert {name for name, ids in moves.items() if not ids.any()} >= {*kept}
    for seed in (0, 1):
        result, found = permuted(model, seed)
        if normalizations:
            assert found
        assert [n.op_type for n in result.graph.node] == [
            n.op_type for n in model.graph.node if n.op_type != "Constant" or not found
        ] or any(n.op_type == "Constant" for n in model.graph.node)
        assert_same_signature(model, result)
        assert_same_function(model, result, **options)
    return result


def check_stays(model, reason, normalization, detail=""):
    """No channel of a normalization moves, for a reason; whatever else does is right."""
    _, spaces, channels = spaces_of(model)
    ids = channels[normalization]
    blocks = [spaces.blocks[root] for root in ids.tolist()]
    assert {block.reason for block in blocks} == {reason}
    assert any(detail in block.detail for block in blocks)
    check_permutes(model, kept=[normalization])
