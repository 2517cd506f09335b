"""What a fold will do: every BatchNormalization once, with its route or with its reason.

A plan is data. It names nodes and tensors, so it can be printed, compared and serialized; that is
what a dry run shows. Its edits, which :mod:`normswap.apply` carries out, ride along.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from normswap.reasons import Reason

if TYPE_CHECKING:
    from normswap.edits import Edit


@dataclass(frozen=True, slots=True)
class Step:
    """One operator on a route.

    Attributes
    ----------
    direction : str
        Whether the affine came from the operator's output (``"up"``) or input (``"down"``).
    action : str
        What the operator did with it.
    op, node : str
        The operator, and what the node is called.
    tensor : str
        The tensor on which the affine came.
    note : str
        The formula.
    """

    direction: Literal["up", "down"]
    action: Literal["absorb", "carry"]
    op: str
    node: str
    tensor: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """A normalization of the model.

    Attributes
    ----------
    node : str
        What the node is called.
    op : str
        Its operator.
    output : str
        The tensor it makes.
    graph : str
        Where it is, see :class:`normswap.graph.Graph`.
    channels : int or None
        How many channels it normalizes.
    """

    node: str
    op: str
    output: str
    graph: str = ""
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class Folded:
    """A normalization that goes, along a complete route."""

    site: Site
    route: tuple[Step, ...]
    added_nodes: int = 0

    @property
    def absorbers(self) -> tuple[Step, ...]:
        """The operators that take the affine in."""
        return tuple(step for step in self.route if step.action == "absorb")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A route that was tried and is blocked."""

    direction: str
    reason: Reason
    tensor: str
    detail: str
    trail: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A normalization that stays.

    Attributes
    ----------
    reason : Reason
        What blocks it; of several blocked routes the first, which is the way up.
    tensor : str
        The tensor (or node) that the reason is about.
    detail : str
        The reason in words.
    attempts : tuple of Attempt
        Every route that was tried.
    """

    site: Site
    reason: Reason
    tensor: str
    detail: str
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fold will do to one model.

    Attributes
    ----------
    fingerprint : str
        Of the model that was planned for, see :meth:`normswap.model.Model.fingerprint`.
    folded : tuple of Folded
    kept : tuple of Kept
    edits : tuple of Edit
        In the order in which they are made.
    """

    fingerprint: str
    folded: tuple[Folded, ...]
    kept: tuple[Kept, ...]
    edits: tuple[Edit, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, without its edits."""
        return {
            "folded": [asdict(entry) for entry in self.folded],
            "kept": [_plain(asdict(entry)) for entry in self.kept],
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Reason):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
