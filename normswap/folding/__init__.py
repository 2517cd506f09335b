"""Folding: an affine travels along a graph until an operator absorbs it.

An inference-mode BatchNormalization is ``y = s*x + t`` per channel. What happens to that map, a
module each, every one importing only from those above it:

``reasons``, ``affine``, ``expressions``
    Why a normalization stays; the map and its algebra; constants that compute themselves, rounded
    once.
``answers``, ``edits``, ``plan``
    What an operator may answer; the edits of which every rewrite is made; what a fold will do.
``precision``
    Where values are so small that a type has too few digits for them.
``legacy``, ``evaluate``, ``sizes``, ``trust``, ``shapes``, ``graph``, ``mode``, ``names``
    Questions to a graph: what is constant, how large is it (where ONNX and runtimes agree on it),
    who reads it, which normalizations are in training mode, which names are free.
``draft``
    Edits tried on a mirror of the graph, and taken back.
``batchnorm``, ``decomposed``, ``normalization``
    Where a model normalizes with constants: as a node, or written out as arithmetic.
``functions``, ``quantized``
    Bodies of model-local functions, call by call; weights behind DequantizeLinear.
``soundness``
    Whether a new constant can be stored as its formula says.
``operators``
    What each operator answers to an affine on its output and on its input; a file a family.
``route``, ``branches``, ``leftover``
    The search for a way to constants that absorb the map; Convs of one tensor that are added; the
    best form of what stays.
``planner``, ``apply``
    Every normalization once: folded along a route, or kept with a reason; and the only module that
    edits a model.
"""
