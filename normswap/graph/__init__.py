"""What may be asked of a graph: who makes a tensor, what is constant, how large it is.

``network``, ``build``
    The planner's view of a model, and how it is made.
``reasons``, ``affine``, ``expressions``
    Why a normalization stays; the map ``s*x + t`` and its algebra; constants that compute
    themselves, rounded once.
``opset6``, ``partial``, ``evaluate``, ``sequences``, ``shapes``, ``names``
    Old ways to broadcast; integers of which some are known; what is constant, and how large; splits
    that are sequences; which names are free.
``batchnorm``, ``decomposed``, ``normalization``
    Where a model normalizes with constants: as a node, or written out as arithmetic.
"""
