"""Prove models that are in memory."""

from __future__ import annotations

import itertools

import onnx

from normswap.inputs.signature import drawing_alike, read_signature
from normswap.proof.files import prove_files, sides_of
from normswap.proof.result import Standing
from normswap.proof.retrace import retrace

_numbers = itertools.count()


def proof_of(original, rewritten, folder, **options):
    """Return what is proved of two models."""
    return prove_files(*_signatures(original, rewritten, folder), **options)


def is_made_again(original, rewritten, proof, folder):
    """Whether the cut points of a proof, maybe of other models, prove all of two models."""
    a, b, _ = sides_of(*_signatures(original, rewritten, folder))
    sizes = len(a.flat.names), len(b.flat.names)
    cuts = [region.cut for region in proof.regions]
    known = {
        cut.tensor: cut
        for cut in cuts
        if cut.original < sizes[0] and max(cut.tensor, *cut.frontier, 0) < sizes[1]
    }
    return all(output.standing is not Standing.OPEN for output in retrace(a, b, known).outputs)


def _signatures(original, rewritten, folder):
    paths = []
    for name, model in (("a", original), ("b", rewritten)):
        path = folder / f"{name}{next(_numbers)}.onnx"
        onnx.save(model, path)
        paths.append(path)
    return drawing_alike(*map(read_signature, paths))
