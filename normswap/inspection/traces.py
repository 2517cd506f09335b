"""What shows that a model was folded before: the names that tools give to what they fold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from normswap.graph.batchnorm import is_batchnorm
from normswap.graph.names import FOLDED

if TYPE_CHECKING:
    from normswap.graph.network import Network

CARRIERS = frozenset({"Conv", "ConvTranspose", "FusedConv", "Gemm"})

NAMES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("torch's TorchScript exporter", re.compile(r"onnx::Conv_\d+")),
    ("torch's exporter (onnxscript)", re.compile(r".*\.weight_bias")),
    ("onnxruntime", re.compile(r"Conv(Bn|Mul|Add)Fusion_.*")),
    ("normswap", re.compile(rf".*{FOLDED}(_\d+)?")),
)
"""Of constants, by who gives them to what a fold has made."""

MANY = 4
"""Convs that all have a bias, and no normalization behind them, from which on that tells."""


def traces(network: Network) -> tuple[str, ...]:
    """Return what shows that BatchNormalizations were folded, a sentence each.

    Returns
    -------
    tuple of str
        Empty where nothing does. What only makes it likely says so.
    """
    nodes = list(network.nodes())
    carriers = [node for node in nodes if node.op in CARRIERS]
    found = []
    for who, pattern in NAMES:
        count = sum(
            any(value is not None and pattern.fullmatch(value.name) for value in node.inputs[1:])
            for node in carriers
        )
        if count:
            what = f"the constants of {count} of {len(carriers)} operators with a weight"
            found.append(f"{what} are named as {who} names folded ones")
    convs = [node for node in carriers if node.op != "Gemm"]
    biased = [node for node in convs if node.input(2) is not None]
    bare = not any(is_batchnorm(node) for node in nodes)
    if not found and bare and len(biased) >= MANY and len(biased) == len(convs):
        found.append(
            f"all {len(convs)} Convs have a bias and there is no BatchNormalization, so "
            "the model may have been folded, or never had any"
        )
    return tuple(found)
