"""What every form answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from normswap.groupnorm.builder import Builder
    from normswap.groupnorm.layer import Layer


class Form(Protocol):
    """One way to write a group normalization."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    @property
    def fuses_activation(self) -> bool:
        """Whether it takes along the activation that `Layer.activation` names."""
        ...

    def obstacle(self, layer: Layer, provider: str) -> str | None:
        """Say why the form can't be used for a layer, or None if it can.

        Parameters
        ----------
        layer : Layer
        provider : str
            Execution provider, ``"cpu"``, ``"cuda"`` and so on.
        """
        ...

    def build(self, builder: Builder) -> None:
        """Make the nodes for the builder's layer."""
        ...
