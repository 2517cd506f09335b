"""Parallel branches of one tensor merged into one Conv: structural re-parameterization.

``Conv_a(x) + Conv_b(x)``, of equal stride, dilation and group, sums the same products as one Conv
whose kernel is the sum of both, each laid where its taps are; zero padding is the same for both, so
this holds at the border too. A BatchNormalization of x on a branch is a Conv as well: its kernel is
the diagonal ``s``, at the tap that sees the pixel itself, and its bias is t. So is x itself
(``s = 1``). This is how RepVGG, MobileOne and FastViT are deployed.

Where the taps are: tap k of an axis sees the pixel ``k * dilation - pad_begin`` away, so even
kernels, one-sided padding and ``auto_pad`` make no difference, but for what they are.

Source: Ding et al., RepVGG: Making VGG-style ConvNets Great Again, CVPR 2021, section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from normswap.folding.edits import Bypass, Edit, Replace
from normswap.folding.soundness import unsound
from normswap.folding.sums import Term, detach, sign_of
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Diagonal, Expression, Filled
from normswap.graph.formulas import Overlaid, Scaled
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Blocked, Reason, unless_blocked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from normswap.folding.draft import Draft
    from normswap.graph.affine import Affine
    from normswap.graph.network import Value


@dataclass(frozen=True, slots=True)
class AxisWindow:
    """What a Conv does along one axis of space."""

    size: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def growth(self) -> int:
        """How much longer the output is than the input, at stride 1."""
        return self.before + self.after - self.dilation * (self.size - 1)

    def place(self, other: AxisWindow) -> int | None:
        """Return at which of this window's taps the first one of another is, None if nowhere."""
        if (self.stride, self.growth) != (other.stride, other.growth):
            return None
        if other.size > 1 and self.dilation != other.dilation:
            return None
        first, rest = divmod(self.before - other.before, self.dilation)
        return first if rest == 0 and 0 <= first <= self.size - other.size else None


PIXEL = AxisWindow(1)


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch as a Conv.

    Attributes
    ----------
    title : str
        What to call it.
    weight : Expression
        Of shape (M, C/group, *kernel).
    bias : Expression or None
        Of shape (M).
    windows : tuple of AxisWindow
    nodes : tuple of Use
        What has no purpose when the branch is merged, last node first, each with the input that
        took the branch's tensor.
    """

    title: str
    weight: Expression
    bias: Expression | None
    windows: tuple[AxisWindow, ...]
    nodes: tuple[Use, ...]

    def place(self, other: Branch) -> tuple[int, ...] | None:
        """Return where in its weight that of another branch has its taps, None if nowhere."""
        if self.weight.shape[:2] != other.weight.shape[:2]:
            return None
        if self.weight.data_type != other.weight.data_type:
            return None
        places = [a.place(b) for a, b in zip(self.windows, other.windows, strict=True)]
        found = [place for place in places if place is not None]
        return (0, 0, *found) if len(found) == len(places) else None


def conv_of(term: Term) -> Node | None:
    """Return the Conv that makes a term for its sum alone, None if that is no Conv."""
    node = term.value.producer
    if node is None or node.op != "Conv" or node.domain or node.refers_to_attributes:
        return None
    return node if term.use is None or term.value.is_private else None


def branch_of(conv: Node) -> Branch | None:
    """Return a Conv as a branch, None if its parameters or pads are not known."""
    weight = unless_blocked(constant_of, conv.input(1))
    present = conv.input(2)
    bias = None if present is None else unless_blocked(constant_of, present)
    if weight is None or (present is not None and bias is None):
        return None
    windows = _windows(conv, weight.shape[2:])
    if windows is None:
        return None
    return Branch(conv.title, weight, bias, windows, (Use(conv, 0),))


def diagonal(host: Node, affine: Affine, title: str, nodes: tuple[Use, ...]) -> Branch | None:
    """Return an affine of a Conv's input as a branch beside that Conv, None if it is none."""
    own = branch_of(host)
    if own is None:
        return None
    channels, group = own.weight.shape[0], int(host.attr("group", 1))
    if own.weight.shape[1] * group != channels:
        return None  # a Conv to another number of channels has no diagonal
    s, t = affine.vectors(channels)
    weight = Diagonal(s, group, len(own.weight.shape), own.weight.data_type)
    bias = Filled(t, own.weight.data_type) if affine.has_shift else None
    branch = Branch(title, weight, bias, (PIXEL,) * len(own.windows), nodes)
    return branch if own.place(branch) else None


def _windows(conv: Node, kernel: Sequence[int]) -> tuple[AxisWindow, ...] | None:
    """Return what a Conv does along each axis, None if its pads depend on an unknown size."""
    axes = len(kernel)
    strides = conv.attr("strides", [1] * axes)
    dilations = conv.attr("dilations", [1] * axes)
    auto_pad = conv.attr("auto_pad", "NOTSET")
    pads = conv.attr("pads", [0] * 2 * axes) if auto_pad == "NOTSET" else [0] * 2 * axes
    value = conv.inputs[0]
    windows: list[AxisWindow] = []
    for axis, size in enumerate(kernel):
        stride, dilation = int(strides[axis]), int(dilations[axis])
        before, after = int(pads[axis]), int(pads[axis + axes])
        if auto_pad.startswith("SAME"):
            padding = reach = dilation * (size - 1)
            if stride != 1:
                length = value.shape[axis + 2] if value is not None and value.shape else None
                if not isinstance(length, int):
                    return None
                padding = max((math.ceil(length / stride) - 1) * stride + reach + 1 - length, 0)
            before = padding // 2 if auto_pad == "SAME_UPPER" else padding - padding // 2
            after = padding - before
        windows.append(AxisWindow(size, stride, dilation, before, after))
    return tuple(windows)


def name_of(node: Node, slot: int, part: str) -> str:
    """Return what a new constant for an input is called after."""
    value = node.input(slot)
    return f"{node.title}_{part}" if value is None else value.name


def convs_of(value: Value, terms: Iterable[Term]) -> list[Term]:
    """Return the terms that Convs make of a tensor, that of the most taps first."""
    order: dict[Term, tuple[int, str, int]] = {}
    for term in terms:
        conv = conv_of(term)
        branch = branch_of(conv) if conv and conv.inputs[0] is value else None
        if conv and branch:
            taps = math.prod(window.size for window in branch.windows)
            order[term] = (-taps, conv.title, conv.key)
    return sorted(order, key=lambda term: order[term])


def join(draft: Draft, total: Value, term: Term, other: Term, branch: Branch) -> Value:
    """Let a Conv of a sum, which makes another term, take in one; return what then is the total.

    Raises
    ------
    Blocked
        If it can't; the draft is then as it was.
    """
    with draft.trial() as mark:
        host, sign = conv_of(other), other.sign
        if host is None:
            raise AssertionError("a branch is taken in by a Conv")
        remaining = detach(draft, total, term)
        if term.use and term.use.node.op == "Sub":
            # Where that took the negative of the rest, the Conv has changed, and its sign with it.
            sign = sign_of(remaining, host)
        own = branch_of(host)
        corner = own.place(branch) if own else None
        if own is None or corner is None:
            raise Blocked(
                Reason.NO_BRANCH,
                host.out.name,
                f"the weight of Conv {host.title} can't hold that branch",
            )
        gain = sign * term.sign
        weight = Overlaid(own.weight, branch.weight, corner, gain)
        edits: list[Edit] = [Replace(host.key, 1, weight, name_of(host, 1, "weight"))]
        if branch.bias is not None:
            bias = (
                Scaled(branch.bias, np.asarray(float(gain)))
                if own.bias is None
                else Overlaid(own.bias, branch.bias, (0,), gain)
            )
            edits.append(Replace(host.key, 2, bias, name_of(host, 2, "bias")))
        draft.commit([*edits, *(Bypass(use.node.key, use.slot) for use in branch.nodes)])
        block = unsound(draft.since(mark), draft.nodes) or draft.outgrown(host.title)
        if block is not None:
            raise Blocked.by(block)
        draft.note(draft.merged, host.key, (*draft.merged.get(host.key, ()), branch.title))
    return remaining
