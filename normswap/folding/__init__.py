"""Folding: an affine travels along a graph until an operator absorbs it.

An inference-mode BatchNormalization is ``y = s*x + t`` per channel. What happens to that map, a
module each, every one importing only from those above it:

``edits``, ``answers``, ``plan``, ``record``
    The edits of which every rewrite is made; what an operator may answer; what a fold will do, and
    what is known of each normalization until then.
``legacy``, ``growth``, ``draft``
    Edits of models of opset 6 and before; what a fold adds to the file; the plan in the making, of
    which all can be taken back.
``functions``, ``inlining``, ``quantized``
    Bodies of model-local functions, call by call, and in the place of a call; weights behind
    DequantizeLinear.
``operators``
    What each operator answers to an affine on its output and on its input; a file a family.
``route``, ``sums``, ``branches``
    The search for a way to constants that absorb the map; trees of Add, Sub and Sum; Convs of one
    tensor that are added.
``passes``
    What is done to a graph until nothing is left to be done; a file a pass.
``planner``, ``division``, ``apply``, ``residual``
    The passes in order: every normalization once, folded along a route, or kept with a reason; the
    same for statistics alone, whose scale and B stay; the only module that edits a model; and how
    far what was written is from what was meant.
"""
