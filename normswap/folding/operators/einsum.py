"""Einsum: a sum of products, linear in each operand.

Up: a scale goes into a constant operand that has the axes along which it varies, or else on to
another one; a shift becomes an Add after it, if a constant takes the scale, and goes on to what is
averaged, if the other operand sums to one.

Down: a scale goes into a constant operand that has its axes, summed or not, or else on to the
output, and a shift with it if the other operand sums to one;
``einsum(x + t, W) = einsum(x, W) + einsum(t, W)``, and the last term goes into the constant of an
Add that follows, or becomes an Add.

Source: ONNX operator Einsum, opset 12.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from normswap.folding.answers import Answer, Down, Up, Way
from normswap.folding.edits import Edit, Insert
from normswap.folding.operators.averaging import sums_to_one
from normswap.folding.operators.base import Operator
from normswap.folding.operators.bias import following_bias
from normswap.folding.operators.layout import strip_leading
from normswap.folding.operators.weight import scaled_weight, weight_of
from normswap.graph.affine import Affine
from normswap.graph.expressions import Expression, Filled
from normswap.graph.network import Node, Use
from normswap.graph.reasons import Reason, unless_blocked
from normswap.graph.sizes import is_in_doubt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normswap.dtypes import Wide
    from normswap.graph.sizes import Dim

ELLIPSIS = 0xE000
"""Axes that an ellipsis stands for get letters from here on, the last axis the first."""


class Einsum(Operator):
    """Takes an affine into a constant operand; passes a scale on through another one."""

    ops = ("Einsum",)

    def up(self, node: Node, index: int, affine: Affine) -> Sequence[Way]:
        *operands, out = self._terms(node)
        s, t = affine.at(len(out))
        absorbed: list[Way] = []
        carried: list[Way] = []
        for slot, own in enumerate(operands):
            weight = unless_blocked(weight_of, node, slot)
            if self._averages(node, slot, operands, out):
                carried.append(partial(self._to_operand, node, slot, affine, out, own))
                if affine.has_shift and node.out.data_type is not None:
                    carried.append(partial(self._scale_to_operand, node, slot, affine, out, own))
                continue
            if weight is not None:
                edits: tuple[Edit, ...] = ()
                if affine.has_shift:
                    shift = Filled(strip_leading(t), weight.data_type)
                    edits = (Insert(node.key, 0, "Add", shift, f"{node.title}_shift"),)
                absorbed.append(partial(self._absorbed, node, slot, weight, s, out, own, edits))
            elif not affine.has_shift:
                carried.append(partial(self._to_operand, node, slot, affine, out, own))
        if not absorbed and not carried:
            raise self.blocked(
                node,
                "multiplies tensors that are not constant, so a shift can't pass it",
                Reason.SHIFT,
            )
        return [*absorbed, *carried]

    @staticmethod
    def _averages(node: Node, slot: int, operands: Sequence[str], out: str) -> bool:
        """Whether what is multiplied with an operand sums to one along all that is summed."""
        if len(operands) != 2:
            return False
        own, other = operands[slot], operands[1 - slot]
        summed = set(own + other) - set(out)
        if len(summed) != 1 or not summed <= set(own) & set(other):
            return False
        (letter,) = summed
        value, weights = node.operand(slot), node.operand(1 - slot)
        if value.shape is None or weights.shape is None:
            return False
        # One weight, of an axis of length 1, is taken for each element of a longer one.
        length = value.shape[own.index(letter)]
        if length is None or is_in_doubt(length) or weights.shape[other.index(letter)] != length:
            return False
        return sums_to_one(weights, other.index(letter))

    def down(self, node: Node, slot: int, affine: Affine) -> Sequence[Way]:
        terms = self._terms(node)
        letters = terms[slot]
        s, _ = affine.at(len(letters))
        others = [other for other in range(len(terms) - 1) if other != slot]
        weights = {other: unless_blocked(weight_of, node, other) for other in others}
        if self._averages(node, slot, terms[:-1], terms[-1]):
            return [partial(self._to_output, node, affine, letters, terms[-1])]
        if affine.has_shift and (len(others) != 1 or None in weights.values()):
            why = "does not multiply by exactly one constant, so a shift can't pass it"
            raise self.blocked(node, why, Reason.SHIFT)
        ways: list[Way] = []
        for other, weight in weights.items():
            if weight is None:
                continue
            if affine.has_shift:
                ways.append(partial(self._absorbed_from_operand, node, slot, affine, terms, weight))
            else:
                own = terms[other]
                ways.append(partial(self._absorbed, node, other, weight, s, letters, own))
        if not affine.has_shift:
            ways.append(partial(self._to_output, node, affine, letters, terms[-1]))
        return ways

    def _absorbed(
        self,
        node: Node,
        slot: int,
        weight: Expression,
        s: Wide,
        letters: str,
        own: str,
        further: tuple[Edit, ...] = (),
    ) -> Answer:
        """Scale a constant operand, whose letters are ``own``, by what has other letters."""
        edits = scaled_weight(node, slot, weight, self._factor(node, s, letters, own, weight))
        return Answer((*edits, *further), note="W *= s" + (", and + t" if further else ""))

    def _absorbed_from_operand(
        self, node: Node, slot: int, affine: Affine, terms: list[str], weight: Expression
    ) -> Answer:
        letters, own = terms[slot], terms[1 - slot]
        s, t = affine.at(len(letters))
        factor = self._factor(node, s, letters, own, weight)
        edits = scaled_weight(node, 1 - slot, weight, factor)
        added = self._shifted(node, slot, t, terms, weight)
        return Answer((*edits, added), note="W *= s, and + einsum(t, W)")

    def _to_operand(self, node: Node, slot: int, affine: Affine, out: str, own: str) -> Answer:
        shape = node.operand(slot).shape
        if shape is None:
            raise self.blocked(node, "has an input of unknown shape", Reason.SHAPE_UNKNOWN)
        s, t = (laid_over(array, out, own, shape) for array in affine.at(len(out)))
        if s is None or t is None:
            detail = (
                f"has an input, {node.operand(slot).name}, that lacks or broadcasts the scaled axis"
            )
            raise self.blocked(node, detail, Reason.AXIS)
        note = "s, t to the averaged input" if affine.has_shift else "s to one factor"
        return Answer(goals=(Up(Use(node, slot), Affine(s, t)),), note=note)

    def _scale_to_operand(
        self, node: Node, slot: int, affine: Affine, out: str, own: str
    ) -> Answer:
        """Carry the scale to what is averaged, and add the shift to the result."""
        data_type = node.out.data_type
        if data_type is None:
            raise AssertionError("a shift is added only where its type is known")
        shift = Filled(strip_leading(affine.at(len(out))[1]), data_type)
        insert = Insert(node.key, 0, "Add", shift, f"{node.title}_shift")
        answer = self._to_operand(node, slot, affine.scale_only(), out, own)
        return replace(answer, edits=(insert,), note="s to the averaged input, and + t")

    def _to_output(self, node: Node, affine: Affine, letters: str, out: str) -> Answer:
        s, t = (laid_over(array, letters, out) for array in affine.at(len(letters)))
        if s is None or t is None:
            raise self.blocked(node, "sums over the axis that is scaled", Reason.AXIS)
        goal = Down(node.out, Affine(s, t))
        return Answer(goals=(goal,), note="einsum(s*x, z) = s * einsum(x, z)")

    def _terms(self, node: Node) -> list[str]:
        """Return the letters of all operands and of the output, those of ellipses written out."""
        equation = str(node.attr("equation", "")).replace(" ", "")
        left, arrow, out = equation.partition("->")
        operands = left.split(",")
        if not re.fullmatch(r"[A-Za-z.,]*(->[A-Za-z.]*)?", equation) or any(
            term.replace("...", "", 1).count(".") for term in (*operands, out)
        ):
            detail = f"has an invalid equation: {equation!r}"
            raise self.blocked(node, detail, Reason.MALFORMED)
        if len(operands) != len(node.inputs):
            detail = f"has {len(node.inputs)} inputs, and its equation has {len(operands)}"
            raise self.blocked(node, detail, Reason.MALFORMED)
        if not arrow and left.lower() != left and left.upper() != left:
            detail = "has letters of both cases but no '->', so its output axes have no order"
            raise self.blocked(node, detail)
        longest = ""
        for slot, term in enumerate(operands):
            hidden = self._hidden(node, slot, term)
            operands[slot] = term.replace("...", hidden)
            longest = max(longest, hidden, key=len)
        letters = "".join(operands)
        if not arrow:
            once = {letter for letter in letters if letters.count(letter) == 1}
            out = longest + "".join(sorted(once - set(longest)))
        elif longest and "..." not in out:
            raise self.blocked(node, "sums over the axes of its ellipsis")
        terms = [*operands, out.replace("...", longest)]
        if not set(terms[-1]) <= set(letters):
            raise self.blocked(node, "has an output axis that no input has", Reason.MALFORMED)
        if any(len(set(term)) != len(term) for term in terms):
            raise self.blocked(node, "takes a diagonal (one letter twice in a term)")
        return terms

    def _hidden(self, node: Node, slot: int, term: str) -> str:
        """Return the letters of the axes that the ellipsis of an operand stands for, if any."""
        value, named = node.inputs[slot], len(term.replace("...", ""))
        if value is None:
            raise self.blocked(node, "has an input that is left out", Reason.MALFORMED)
        if value.rank is None:
            if "..." in term:
                raise self.blocked(node, "has an input of unknown rank", Reason.SHAPE_UNKNOWN)
            return ""
        if value.rank < named or ("..." not in term and value.rank != named):
            detail = (
                f"has an input {value.name} of rank {value.rank}, which its equation does not fit"
            )
            raise self.blocked(node, detail, Reason.MALFORMED)
        return "".join(chr(ELLIPSIS + k) for k in reversed(range(value.rank - named)))

    def _factor(self, node: Node, array: Wide, letters: str, own: str, weight: Expression) -> Wide:
        """Lay an array out over a constant operand, which must not grow to take it."""
        factor = laid_over(array, letters, own, weight.shape)
        if factor is None:
            axes = "x".join(map(str, weight.shape)) or "no axes"
            detail = f"has a constant of {axes}, too small to absorb the scale or shift"
            raise self.blocked(node, detail, Reason.AXIS)
        return factor

    def _shifted(
        self, node: Node, slot: int, t: Wide, terms: list[str], weight: Expression
    ) -> Edit:
        """Return the edit that adds ``einsum(t, W)``, into the constant that is added anyway."""
        letters, own, out = terms[slot], terms[1 - slot], terms[-1]
        factor = self._factor(node, t, letters, own, weight)
        kept = [letter for letter in own if letter in out]
        if kept != sorted(kept, key=out.index):
            why = "has the axes of its constant in another order in its output"
            raise self.blocked(node, why, Reason.AXIS)
        # Along axes that are summed and W does not have, the same term comes once for each element.
        gain = 1.0
        shape = node.operand(slot).shape
        sizes = dict(zip(own, weight.shape, strict=True))
        for axis, letter in enumerate(letters):
            if letter not in out and sizes.get(letter, 1) == 1:
                size = None if shape is None else shape[axis]
                if not isinstance(size, int):
                    raise self.blocked(
                        node, "sums over an axis of unknown size", Reason.SHAPE_UNKNOWN
                    )
                gain *= size
        result = [sizes.get(letter, 1) for letter in out]
        summed = tuple(axis for axis, letter in enumerate(own) if letter not in out)
        return following_bias(node, weight, factor, summed, result, gain)


def laid_over(
    array: Wide, letters: str, target: str, shape: Sequence[Dim] | None = None
) -> Wide | None:
    """Lay an array out over the axes of another term of the equation.

    Parameters
    ----------
    array : ndarray
        An axis a letter, of length 1 where it is constant.
    letters, target : str
    shape : sequence of int, str or None, optional
        Of the tensor that has the target's axes; without it any length is right.

    Returns
    -------
    ndarray or None
        None where the tensor has not all axes along which the array varies, or is (or may be)
        broadcast there.
    """
    varying = {letter: size for letter, size in zip(letters, array.shape, strict=True) if size != 1}
    for letter, size in varying.items():
        if letter not in target:
            return None
        if shape is not None and shape[target.index(letter)] != size:
            return None
    order = sorted(varying, key=target.index)
    compact = array.reshape(tuple(varying.values()))
    turned = compact.transpose([list(varying).index(letter) for letter in order])
    return turned.reshape([varying.get(letter, 1) for letter in target])
