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

from normswap.folding.answers import Up
from normswap.folding.edits import Bypass, Edit, Omit, Replace
from normswap.folding.plan import Merged, Step
from normswap.folding.soundness import unsound
from normswap.graph.affine import Affine
from normswap.graph.batchnorm import affine_of, epsilon_of, is_batchnorm, is_per_activation
from normswap.graph.evaluate import constant_of, is_constant
from normswap.graph.expressions import Diagonal, Expression, Filled, Overlaid, Scaled
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Blocked, Reason, unless_blocked
from normswap.graph.removal import name_block, removal_block

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from normswap.folding.draft import Draft
    from normswap.folding.route import Router
    from normswap.graph.network import Graph, Value
    from normswap.graph.normalization import Normalization

SUMS = frozenset({"Add", "Sub", "Sum"})


@dataclass(frozen=True, slots=True)
class Window:
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

    def place(self, other: Window) -> int | None:
        """Return at which of this window's taps the first one of another is, None if nowhere."""
        if (self.stride, self.growth) != (other.stride, other.growth):
            return None
        if other.size > 1 and self.dilation != other.dilation:
            return None
        first, rest = divmod(self.before - other.before, self.dilation)
        return first if rest == 0 and 0 <= first <= self.size - other.size else None


PIXEL = Window(1)


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
    windows : tuple of Window
    nodes : tuple of Use
        What has no purpose when the branch is merged, last node first, each with the input that
        took the branch's tensor.
    """

    title: str
    weight: Expression
    bias: Expression | None
    windows: tuple[Window, ...]
    nodes: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """One of the tensors that a tree of Add, Sub and Sum adds up, with its sign.

    Attributes
    ----------
    use : Use or None
        Where it is read; None where it is the total itself, being the only term that is left.
    """

    value: Value
    sign: int
    use: Use | None


class Merger:
    """Merges branches on a draft.

    Parameters
    ----------
    draft : Draft
    router : Router
    """

    def __init__(self, draft: Draft, router: Router) -> None:
        self.draft = draft
        self.router = router
        self.merged: dict[int, list[str]] = {}  # titles of what a Conv took in, by its key

    def absorb(self, normalization: Normalization, affine: Affine) -> tuple[Step, ...] | None:
        """Merge the branch that a normalization is into a Conv beside it.

        Returns
        -------
        tuple of Step or None
            The route, whose edits are then in the draft; None if what the normalization makes is
            not added to anything.

        Raises
        ------
        Blocked
            If it is added to something, and can't be merged with that.
        """
        result, source = normalization.result, normalization.source
        value = source.node.inputs[source.slot]
        total = _total_of(result)
        term = _term_of(result, total)
        if term is None or value is None:
            return None
        if not affine.varies_only_along(1):
            raise Blocked(Reason.AXIS, result.name, "a Conv can scale its channels only")
        nodes = tuple(reversed(normalization.chain))
        mark = self.draft.mark()
        convs = self._convs(total, value)
        hosts = [conv for conv in convs if _diagonal(conv, affine, "", ()) is not None]
        others = [] if hosts else self._batchnorms(total, value, term)
        if others:
            return self._into_batchnorm(total, term, affine, normalization, others[0])
        if not hosts:
            detail = f"no Conv of {value.name} beside it makes a tensor of the same size"
            raise Blocked(Reason.NO_BRANCH, result.name, detail)
        host, title = hosts[0], normalization.chain[-1].node.title
        remaining = self._detach(total, term)
        # Where that took the negative of the rest, the Conv has changed, and its sign with it.
        sign, branch = self._sign(remaining, host), _diagonal(host, affine, title, nodes)
        if sign is None or branch is None:
            raise AssertionError("a Conv stays in its sum when another term goes")
        self._take_in(host, branch, sign * term.sign)
        block = unsound(self.draft.edits[mark:], self.draft.nodes)
        if block is not None:
            self.draft.rollback(mark)
            raise Blocked.by(block)
        self._report(host, branch)
        self.merge(remaining)
        note = "W += s at the tap of the pixel itself, b += t"
        return (Step("beside", "absorb", "Conv", host.title, value.name, note),)

    def gather(self, normalization: Normalization) -> bool:
        """Let a BatchNormalization take in its own input, where that is added to what it makes.

        ``BN(x) + x`` is a BatchNormalization of x, and may then be the only one who reads x.
        """
        node, slot = normalization.source
        value, found = node.inputs[slot], False
        while normalization.is_batchnorm and not is_per_activation(node) and value is not None:
            mark = self.draft.mark()
            total = _total_of(node.out)
            own, host = _term_of(value, total), _term_of(node.out, total)
            if own is None or host is None:
                break
            remaining = unless_blocked(self._detach, total, own)
            if remaining is None:
                break
            sign = self._sign(remaining, node)
            identity = Affine(np.ones(()), np.zeros(()))
            edits = _added(node, identity, own.sign * (sign or host.sign))
            self.draft.commit(edits)
            if unsound(edits, self.draft.nodes):
                self.draft.rollback(mark)
                break
            found = True
        return found

    def _batchnorms(self, total: Value, value: Value, but: Term) -> list[Node]:
        """Return the other BatchNormalizations of a tensor among the terms of a sum."""
        nodes = [term.value.producer for term in _terms(total) if term.value is not but.value]
        return [
            node
            for node in nodes
            if node is not None
            and is_batchnorm(node)
            and node.inputs[0] is value
            and unless_blocked(affine_of, node) is not None
            and not is_per_activation(node)
            and (node.out is total or node.out.is_private)
        ]

    def _into_batchnorm(
        self, total: Value, term: Term, affine: Affine, normalization: Normalization, host: Node
    ) -> tuple[Step, ...]:
        """Add an affine to that of another BatchNormalization of the same tensor."""
        mark = self.draft.mark()
        sign = self._sign(self._detach(total, term), host)
        if sign is None:
            self.draft.rollback(mark)
            detail = f"{term.value.name} can't be taken out of its sum"
            raise Blocked(Reason.NO_BRANCH, term.value.name, detail)
        edits = _added(host, affine, sign * term.sign)
        block = unsound(edits, self.draft.nodes)
        if block is not None:
            self.draft.rollback(mark)
            raise Blocked.by(block)
        name = _name(host, 0, "input")
        self.draft.commit(edits)
        self.draft.commit(Bypass(u.node.key, u.slot) for u in reversed(normalization.chain))
        note = "scale += s * sqrt(var + epsilon), B += t + s*mean"
        return (Step("beside", "absorb", host.op, host.title, name, note),)

    def merge_everywhere(self, graph: Graph) -> bool:
        """Merge all branches of a graph that can be, and say whether there were any."""
        before = self.draft.mark()
        for node in graph.topological():
            if not node.removed and _is_sum(node) and not _is_term(node.out):
                self._fold_layer_scales(node.out)
                self.merge(node.out)
        return self.draft.mark() > before

    def merge(self, total: Value) -> Value:
        """Merge the terms of a sum as far as that goes, and return what then is the total."""
        while True:
            for term, host, branch in self._pairs(total):
                mark = self.draft.mark()
                remaining = unless_blocked(self._detach, total, term)
                sign = None if remaining is None else self._sign(remaining, host)
                if remaining is None or sign is None:
                    self.draft.rollback(mark)
                    continue
                self._take_in(host, branch, sign * term.sign)
                self._drop_copies(term.value)
                if unsound(self.draft.edits[mark:], self.draft.nodes) is None:
                    self._report(host, branch)
                    total = remaining
                    break
                self.draft.rollback(mark)
            else:
                return total

    def _drop_copies(self, value: Value) -> None:
        """Take out who made a term by copying a tensor, if nobody reads that any more."""
        while not value.is_used and (node := value.producer) is not None and _is_copy(node):
            value = node.operand(0)
            self.draft.commit([Bypass(node.key)])

    def _report(self, host: Node, branch: Branch) -> None:
        self.merged.setdefault(host.key, []).append(branch.title)

    def report(self, present: Container[int]) -> tuple[Merged, ...]:
        """Return what was merged into which Conv, of those whose keys are present."""
        return tuple(
            Merged(self.draft.nodes[key].title, self.draft.nodes[key].graph.path, tuple(titles))
            for key, titles in self.merged.items()
            if key in present and not self.draft.nodes[key].removed
        )

    def _pairs(self, total: Value) -> Iterator[tuple[Term, Node, Branch]]:
        """Yield which terms of a sum go into which Conv of it."""
        terms = list(_terms(total))
        inputs = {id(conv.inputs[0]): conv.inputs[0] for conv in map(_conv, terms) if conv}
        for value in inputs.values():
            if value is None:
                continue
            for host in self._convs(total, value):
                for term in terms:
                    conv = _conv(term)
                    if conv is not None and conv is not host and conv.inputs[0] is value:
                        branch = _branch(conv)
                    elif _copied(term.value) is value:
                        branch = _diagonal(host, Affine(np.ones(()), np.zeros(())), value.name, ())
                    else:
                        continue
                    if branch is not None and _fits(host, branch):
                        yield term, host, branch

    @staticmethod
    def _convs(total: Value, value: Value) -> list[Node]:
        """Return the Convs of a tensor among the terms of a sum, that of the most taps first."""
        convs = [conv for conv in map(_conv, _terms(total)) if conv and conv.inputs[0] is value]
        taps = {conv.key: _taps(conv) for conv in convs}
        return sorted(
            (conv for conv in convs if taps[conv.key]),
            key=lambda conv: (-taps[conv.key], conv.title, conv.key),
        )

    @staticmethod
    def _sign(total: Value, host: Node) -> int | None:
        return next((term.sign for term in _terms(total) if term.value is host.out), None)

    def _detach(self, total: Value, term: Term) -> Value:
        """Take a term out of a sum, and return what then is the total.

        The term goes into another one of the same shape, which stays in the sum; so what is left is
        broadcast to the same shape as before.

        Raises
        ------
        Blocked
            If it can't go; the draft is then as it was.
        """
        if term.use is None:
            raise Blocked(Reason.NO_BRANCH, term.value.name, "it is the only term")
        node, slot = term.use
        if len(node.inputs) > 2:
            self.draft.commit([Omit(node.key, slot)])
            return total
        other = 1 - slot
        block = name_block([Use(node, other)])
        if block is not None:
            raise Blocked.by(block)
        if node.op == "Sub" and slot == 0:
            outcome = self.router.solve([Up(Use(node, 1), Affine(-np.ones(()), np.zeros(())))])
            if outcome.block is not None:
                raise Blocked.by(outcome.block)
        rest = node.inputs[other]
        if rest is None:
            raise AssertionError("a sum has no operand that is left out")
        self.draft.commit([Bypass(node.key, other)])
        return rest if total is node.out else total

    def _take_in(self, host: Node, branch: Branch, gain: int) -> None:
        """Add a branch, which is no longer read, to a Conv."""
        own = _branch(host)
        corner = None if own is None else _corner(own, branch)
        if own is None or corner is None:
            raise AssertionError("only a branch that fits is taken in")
        weight = Overlaid(own.weight, branch.weight, corner, gain)
        edits: list[Edit] = [Replace(host.key, 1, weight, _name(host, 1, "weight"))]
        if branch.bias is not None:
            bias = (
                Scaled(branch.bias, np.asarray(float(gain)))
                if own.bias is None
                else Overlaid(own.bias, branch.bias, (0,), gain)
            )
            edits.append(Replace(host.key, 2, bias, _name(host, 2, "bias")))
        edits += [Bypass(use.node.key, use.slot) for use in branch.nodes]
        self.draft.commit(edits)

    def _fold_layer_scales(self, total: Value) -> None:
        """Let the Convs of a sum take in the constants that they are multiplied with."""
        for term in list(_terms(total)):
            node = term.value.producer
            if node is None or node.op != "Mul" or node.domain or term.use is None:
                continue
            constants = [is_constant(value) for value in node.inputs]
            if len(constants) != 2 or sum(constants) != 1:
                continue
            slot = constants.index(False)
            value, factor = node.inputs[slot], constant_of(node.inputs[1 - slot])
            rank = node.out.rank
            if value is None or rank is None or value.rank != rank:
                continue
            maker = value.producer
            if maker is None or not (maker.op == "Conv" or _is_sum(maker)):
                continue  # what comes out would be no branch
            if removal_block([Use(node, slot)]):
                continue
            mark = self.draft.mark()
            scale = factor.wide().reshape((1,) * (rank - len(factor.shape)) + factor.shape)
            outcome = self.router.solve([Up(Use(node, slot), Affine(scale, np.zeros(())))])
            if outcome.block is not None or outcome.cost:
                self.draft.rollback(mark)
                continue
            self.draft.commit([Bypass(node.key, slot)])


def _term_of(value: Value, total: Value) -> Term | None:
    """Return a tensor as a term of a sum, None if it is none."""
    terms = _terms(total, value)
    return next((term for term in terms if term.value is value and term.use), None)


def _reader(value: Value) -> Node:
    """Return one who reads a tensor that is read."""
    return next(iter(value.readers.values())).node


def _added(host: Node, affine: Affine, gain: int) -> tuple[Replace, ...]:
    """Return the edits that add ``gain * (s*x + t)`` to a BatchNormalization of x."""
    scale, bias, mean, var = (constant_of(value) for value in host.inputs[1:5])
    s, t = (gain * vector for vector in affine.vectors(1, scale.shape[0]))
    deviation = np.sqrt(var.load().astype(np.longdouble) + np.longdouble(epsilon_of(host)))
    shift = t + s * mean.load().astype(np.longdouble)
    one = np.ones(())
    return (
        Replace(host.key, 1, Scaled(scale, one, s * deviation), _name(host, 1, "scale")),
        Replace(host.key, 2, Scaled(bias, one, shift), _name(host, 2, "bias")),
    )


def _total_of(value: Value) -> Value:
    """Return the sum of which a tensor is a term; itself if it is in none."""
    while _is_term(value):
        value = _reader(value).out
    return value


def _is_term(value: Value) -> bool:
    """Whether a tensor is there for a sum alone."""
    return value.is_private and _is_sum(_reader(value))


def _is_sum(node: Node | None) -> bool:
    return (
        node is not None
        and node.op in SUMS
        and not node.domain
        and not node.attr("broadcast", 0)
        and len(node.inputs) > 1
    )


def _terms(total: Value, whole: Value | None = None) -> Iterator[Term]:
    """Yield what a sum adds up, in order; one of them as a whole even if it is a sum itself."""
    pending = [Term(total, 1, None)]
    while pending:
        term = pending.pop()
        node = term.value.producer
        inner = term.use is None or term.value.is_private
        if term.value is whole or node is None or not inner or not _is_sum(node):
            yield term
            continue
        for slot in reversed(range(len(node.inputs))):
            value = node.inputs[slot]
            if value is not None:
                sign = -term.sign if node.op == "Sub" and slot == 1 else term.sign
                pending.append(Term(value, sign, Use(node, slot)))


def _copied(value: Value) -> Value:
    """Return what a tensor is a copy of; itself where it is none."""
    while (node := value.producer) is not None and _is_copy(node):
        value = node.operand(0)
    return value


def _is_copy(node: Node) -> bool:
    return node.op == "Identity" and not node.domain and node.input(0) is not None


def _conv(term: Term) -> Node | None:
    """Return the Conv that makes a term for its sum alone, None if that is no Conv."""
    node = term.value.producer
    if node is None or node.op != "Conv" or node.domain or node.refers_to_attributes:
        return None
    return node if term.use is None or term.value.is_private else None


def _branch(conv: Node) -> Branch | None:
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


def _diagonal(host: Node, affine: Affine, title: str, nodes: tuple[Use, ...]) -> Branch | None:
    """Return an affine of a Conv's input as a branch beside that Conv, None if it is none."""
    own = _branch(host)
    if own is None:
        return None
    channels, group = own.weight.shape[0], int(host.attr("group", 1))
    if own.weight.shape[1] * group != channels:
        return None  # a Conv to another number of channels has no diagonal
    s, t = affine.vectors(1, channels)
    weight = Diagonal(s, group, len(own.weight.shape), own.weight.data_type)
    bias = Filled(t, own.weight.data_type) if affine.has_shift else None
    branch = Branch(title, weight, bias, (PIXEL,) * len(own.windows), nodes)
    return branch if _fits(host, branch) else None


def _fits(host: Node, branch: Branch) -> bool:
    """Whether a Conv has taps for all those of a branch."""
    own = _branch(host)
    return own is not None and _corner(own, branch) is not None


def _corner(own: Branch, branch: Branch) -> tuple[int, ...] | None:
    """Return where in the weight of one branch that of another has its place."""
    if own.weight.shape[:2] != branch.weight.shape[:2]:
        return None
    if own.weight.data_type != branch.weight.data_type:
        return None
    places = [a.place(b) for a, b in zip(own.windows, branch.windows, strict=True)]
    found = [place for place in places if place is not None]
    return (0, 0, *found) if len(found) == len(places) else None


def _windows(conv: Node, kernel: Sequence[int]) -> tuple[Window, ...] | None:
    """Return what a Conv does along each axis, None if its pads depend on an unknown size."""
    axes = len(kernel)
    strides = conv.attr("strides", [1] * axes)
    dilations = conv.attr("dilations", [1] * axes)
    auto_pad = conv.attr("auto_pad", "NOTSET")
    pads = conv.attr("pads", [0] * 2 * axes) if auto_pad == "NOTSET" else [0] * 2 * axes
    value = conv.inputs[0]
    windows: list[Window] = []
    for axis, size in enumerate(kernel):
        stride, dilation = int(strides[axis]), int(dilations[axis])
        before, after = int(pads[axis]), int(pads[axis + axes])
        if auto_pad.startswith("SAME"):
            reach = dilation * (size - 1)
            if stride == 1:
                padding = reach
            else:
                length = value.shape[axis + 2] if value is not None and value.shape else None
                if not isinstance(length, int):
                    return None
                padding = max((math.ceil(length / stride) - 1) * stride + reach + 1 - length, 0)
            before = padding // 2 if auto_pad == "SAME_UPPER" else padding - padding // 2
            after = padding - before
        windows.append(Window(size, stride, dilation, before, after))
    return tuple(windows)


def _taps(conv: Node) -> int:
    """Return how many taps the kernel of a Conv has, 0 if that is not known."""
    branch = _branch(conv)
    return 0 if branch is None else math.prod(window.size for window in branch.windows)


def _name(node: Node, slot: int, part: str) -> str:
    """Return what a new constant for an input is called after."""
    value = node.input(slot)
    return f"{node.title}_{part}" if value is None else value.name
