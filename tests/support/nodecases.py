"""The test cases of single operators that ship in the onnx package."""

from __future__ import annotations

import importlib
import pkgutil
import warnings

import onnx
from onnx.backend.test.case import node as cases

MODULES = (
    ("batch_normalization", "batchnorm"),  # the latter before onnx 1.20
    ("groupnormalization",),
    ("instance_normalization", "instancenorm"),
    ("layernormalization",),
)


def node_cases(op):
    """Return ``(name, attributes, inputs, outputs)`` of every case of one operator."""
    # Importing the case modules makes the cases; importing all of them takes seconds.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = {module.name for module in pkgutil.iter_modules(cases.__path__)}
        for names in MODULES:
            (name,) = there.intersection(names)
            importlib.import_module(f"{cases.__name__}.{name}")
    found = {}
    for case in cases._NodeTestCases:
        nodes = case.model.graph.node
        if [node.op_type for node in nodes] == [op] and not nodes[0].domain:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in nodes[0].attribute}
            found[case.name] = (case.name, attributes, *case.data_sets[0])
    return list(found.values())
