"""Folding: an affine travels along a graph until an operator absorbs it.

An inference-mode BatchNormalization is ``y = s*x + t`` per channel. What happens to that map, a
module each, every one importing only from those above it:

``edits``, ``answers``, ``plan``
    The edits of which every rewrite is made; what an operator may answer; what a fold will do.
``legacy``, ``draft``
    Edits of models of opset 6 and before; edits tried on a mirror of the graph, and taken back.
``functions``, ``inlining``, ``quantized``
    Bodies of model-local functions, call by call, and in the place of a call; weights behind
    DequantizeLinear.
``operators``
    What each operator answers to an affine on its output and on its input; a file a family.
``route``, ``branches``, ``identity``, ``leftover``
    The search for a way to constants that absorb the map; Convs of one tensor that are added, and
    that tensor beside them; the best form of what stays.
``planner``, ``apply``, ``residual``
    Every normalization once: folded along a route, or kept with a reason; the only module that
    edits a model; and how far what was written is from what was meant.
"""
