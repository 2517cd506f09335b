"""What every form says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from normswap.groupnorm.builder import LayerBuilder
    from normswap.groupnorm.layer import Layer


class Preference(NamedTuple):
    """How much speaks for a form.

    Attributes
    ----------
    rank : int
        Of the forms that a layer can take, ``auto`` takes the one of the lowest rank.
    why : str
        What a person is told.
    unrivalled : bool
        Whether it is taken for what it computes, so that ``fastest`` takes it unmeasured.
    """

    rank: int
    why: str
    unrivalled: bool = False


FIRST, SECOND, THIRD, LAST = range(4)
"""Ranks."""


OLDEST = 7
"""The opset in which swaps begin."""


class Form(ABC):
    """One way to write a group normalization.

    Attributes
    ----------
    name : str
        What users call it: the name of its file.
    summary : str
        What ``--help`` says of it.
    operator, opset : str, int
        What it needs: an operator, and the opset in which that came.
    domain, version : str, int
        Where that operator is not ONNX's own: its domain, and the version to import.
    fuses_activation : bool
        Whether it takes along the activation that `Layer.activation` names.
    asks_for_sizes : bool
        Whether it computes with sizes of x even where these are in doubt, see
        :attr:`normswap.groupnorm.layer.Layer.has_sizes_in_doubt`.
    """

    name: str
    summary: str
    operator: str = ""
    opset: int = OLDEST
    domain: str = ""
    version: int = 1
    fuses_activation: bool = False
    asks_for_sizes: bool = True

    def obstacle(self, layer: Layer, provider: str) -> str | None:
        """Say why the form can't be used for a layer, or None if it can.

        Parameters
        ----------
        layer : Layer
        provider : str
            Execution provider, ``"cpu"``, ``"cuda"`` and so on.
        """
        if self.asks_for_sizes and layer.has_sizes_in_doubt:
            return "ONNX shape inference and onnxruntime disagree on the size of its input"
        if layer.opset < self.opset:
            return f"{self.operator} needs opset {self.opset}, the model has {layer.opset}"
        return self.limit(layer, provider)

    def limit(self, layer: Layer, provider: str) -> str | None:
        """Say which limit of its operators a layer is beyond, or None; the opset is seen to."""
        return None

    def is_precise(self, provider: str) -> bool:
        """Whether it keeps its digits where the mean is large beside the spread."""
        return True

    @abstractmethod
    def preference(self, layer: Layer, provider: str, threads: int) -> Preference | None:
        """Say what speaks for the form, None where ``auto`` has no use for it.

        Parameters
        ----------
        layer : Layer
            That it can be used for.
        provider : str
        threads : int
            How many there will be on a CPU.
        """

    @abstractmethod
    def build(self, builder: LayerBuilder) -> None:
        """Make the nodes for the builder's layer."""
