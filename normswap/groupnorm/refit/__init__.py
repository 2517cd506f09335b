"""Least squares over the weights of a swapped network, so that it follows the original on data.

A layer that is linear in its weight (Conv, ConvTranspose, Gemm, MatMul, the affine of a group
normalization) is fitted to what it gives in the original network, from what comes to it in the
swapped one: one ridge regression a layer, in the order of the network. Before that, in networks of
some size, all of them are fitted at once to the outputs, by the same means. No labels are needed.

In the order in which it happens, a module each:

``holdout``
    Which samples are fitted to, and by which others every step is judged.
``mixing``
    Samples between two of those, to fit to as well.
``layers``
    Which layers there are, and which of them share a weight.
``networks``, ``opening``
    The original, and the swapped network with all that is fitted as inputs; how they are written.
``occurrences``
    Each time that a layer runs: once, or in a body by turns.
``course``
    Goes through a network level by level, and no part of it twice.
``products``, ``equations``
    A layer as a matrix product (im2col); its normal equations, and their solution.
``adjoints``, ``tangent``
    The way back from what is judged to all that is fitted: operator by operator, and through the
    network.
``share``, ``crew``
    What the outputs do when all that is fitted moves, and the way back, over all batches: in one
    process, and in one for each core.
``targets``
    What all is fitted to at once.
``joint``
    Least squares with that, by conjugate gradients.
``judge``
    How near the outputs are on what is held out.
``walk``
    Solve, try, keep or not; then the next layer.
``outcome``, ``writing``
    What is told of it; the model with what was fitted.
"""
