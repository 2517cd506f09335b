"""Adjoints of operators: what comes to an output, brought back to the inputs.

With J the Jacobian of what a node makes by an input, a *pull* takes g, of the shape of the output,
to ``J^T g``, of the shape of the input. Chained backwards through a network that is the adjoint of
its linearization, which a joint least squares over all weights asks for (Griewank and Walther,
"Evaluating Derivatives", 2008, section 3.2).

- :mod:`~normswap.groupnorm.refit.adjoints.base` : what a rule is given; the registry.
- :mod:`~normswap.groupnorm.refit.adjoints.elementwise` : by central differences, whatever it is.
- :mod:`~normswap.groupnorm.refit.adjoints.moving` : by where each element has gone.
- :mod:`~normswap.groupnorm.refit.adjoints.linear` : convolutions and matrix products.
- :mod:`~normswap.groupnorm.refit.adjoints.reducing` : means, sums, pooling, softmax.
- :mod:`~normswap.groupnorm.refit.adjoints.normalizing` : normalizations by their own statistics.
"""
