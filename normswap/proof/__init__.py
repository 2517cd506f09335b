"""A model as the function it stands for, and what can be proved of two of them.

``arbiter``, ``coverage``, ``faults``
    Whole models in float64; which sides of their kinks were reached; faults to be found.
``flat``, ``constants``, ``sizes``, ``facts``
    A model as one list of nodes; its constants, shapes and integers; bounds of its tensors.
``numbering``, ``candidates``, ``regions``, ``prove``
    The proof by cut points: one table of classes for both models, and the walk that fills it.
``judge``, ``maps``, ``reading``, ``moments``, ``drive``, ``movement``, ``layout``, ``evaluate``,
``by_size``
    Whether the two forms of a region are one function: as maps, of what is normalized too
    (``moments``), or driven with values, beside how far rounding moves them (``movement``);
    and whether they decide alike by sizes that are open.
``turns``, ``simulate``, ``witness``
    Whole models once in float64, bodies turn by turn: what may be equal, and what shows that models
    differ.
``retrace``, ``identity``
    The proof made again from its cut points, without a search; what to call tensors and nodes.
``reordered``
    A model whose channels were permuted, read so that its tensors can be compared.
``files``, ``result``
    From two files to what is proved of them.
"""
