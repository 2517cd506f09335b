"""Operators that draw random numbers, and copies of models in which they draw the same ones."""

from __future__ import annotations

import zlib
from typing import Any

import onnx

OPERATORS = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


def is_random(node: Any) -> bool:
    """Whether a node draws random numbers; Dropout does if it may be told that it trains."""
    trains = node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])
    return node.op_type in OPERATORS or trains


def pinned(path: str) -> bytes:
    """Return the model at `path` with a seed in every random node that has none.

    onnxruntime seeds such a node by its index, which a rewrite changes; the name of its output
    is what an original and its rewrite have in common. External data is left where it is.
    """
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        if is_random(node) and not any(a.name == "seed" for a in node.attribute):
            number = zlib.crc32(node.output[0].encode()) % 2**20
            seed = number if node.op_type == "Dropout" else float(number)
            node.attribute.append(onnx.helper.make_attribute("seed", seed))
    content: bytes = model.SerializeToString()
    return content
