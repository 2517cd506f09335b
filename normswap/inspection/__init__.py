"""What a model is, read and not changed: what `inspect` tells and `lint` looks at.

``subject``
    A model, and what can be asked of it, each worked out when it is first asked.
``layers``, ``health``
    Its normalizations: where they are, what a fold says of them, and how their numbers look.
``size``
    How many parameters and multiply-adds it has.
``traces``
    What an earlier fold, by whichever tool, has left in its names.
"""
