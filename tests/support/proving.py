"""Prove models that are in memory."""

from __future__ import annotations

import itertools

import onnx

from normswap.inputs.signature import drawing_alike, read_signature
from normswap.proof.files import prove_files

_numbers = itertools.count()


def proof_of(original, rewritten, folder):
    """Return what is proved of two models."""
    paths = []
    for name, model in (("a", original), ("b", rewritten)):
        path = folder / f"{name}{next(_numbers)}.onnx"
        onnx.save(model, path)
        paths.append(path)
    return prove_files(*drawing_alike(*map(read_signature, paths)))
