"""Least squares over the weights of a swapped network, so that it follows the original on data.

A layer that is linear in its weight (Conv, ConvTranspose, Gemm, MatMul, the affine of a group
normalization) is fitted to what it gives in the original network, from what comes to it in the
swapped one. No labels, no gradients: one ridge regression a layer, in the order of the network.

In the order in which it happens, a module each:

``holdout``
    Which samples are fitted to, and by which others every step is judged.
``layers``
    Which layers there are, and which of them share a weight.
``networks``
    The original, and the swapped network with all that is fitted as inputs.
``course``
    Goes through a network level by level, and no part of it twice.
``products``, ``equations``
    A layer as a matrix product (im2col); its normal equations, and their solution.
``outputs``
    What scale and bias do to the outputs of the network, seen by moving them.
``judge``
    How near the outputs are on what is held out.
``walk``
    Solve, try, keep or not; then the next layer.
``outcome``, ``writing``
    What is told of it; the model with what was fitted.
"""
