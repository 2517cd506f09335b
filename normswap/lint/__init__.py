"""What in a model should not be as it is, by rules with stable codes.

``rule``, ``rules``
    What every rule says of itself, and the rules, one file each.
``options``, ``selection``
    What a project says of its models, and which rules its words mean.
``config``
    Where a project says so: ``[tool.normswap]`` of pyproject.toml, or normswap.toml.
"""
