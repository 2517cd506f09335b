"""Whether a file is the torch module that it was exported from: what the module says to it.

::

    factory     from ``PKG.FILE:FACTORY`` to a module and its arguments
    module      a torch module as a function of arrays, in float64; all that imports torch
    binding     which tensor of its arguments is which input of the file
    inputs      what both are run on
    weights     its weights among the constants of the file
    layers      its layers among the values of the file, and the first that is not there

The verdict is :mod:`normswap.check`'s; what is found here says why.
"""
