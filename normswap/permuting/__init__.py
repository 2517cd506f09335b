"""The order of channels, which a network may change without becoming another function.

- :mod:`~normswap.permuting.labels` : which channels of which tensors must move together.
- :mod:`~normswap.permuting.axes` : where they are.
- :mod:`~normswap.permuting.operators` : what an operator says to that, a family a file.
- :mod:`~normswap.permuting.walk` : from the channels of some tensors to all that move with them.
- :mod:`~normswap.permuting.spaces` : what may then be exchanged, and why the rest stays.
- :mod:`~normswap.permuting.permute` : new constants, in the order that is wished.
"""
