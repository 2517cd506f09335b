"""Operators that draw random numbers, and copies of models in which they draw the same ones."""

from __future__ import annotations

import zlib

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


def pinned(path: str) -> bytes:
    """Return the model at `path` with a seed in every Random operator that has none.

    onnxruntime seeds such a node by its index, which a rewrite changes; the name of its output
    is what an original and its rewrite have in common. External data is left where it is.
    """
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        if node.op_type in OPERATORS and not any(a.name == "seed" for a in node.attribute):
            seed = float(zlib.crc32(node.output[0].encode()) % 2**20)
            node.attribute.append(onnx.helper.make_attribute("seed", seed))
    content: bytes = model.SerializeToString()
    return content
