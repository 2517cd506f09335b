"""A mean, a dot product, and one multiply and add: the fewest passes of operators on all threads.

::

    d = x - mean(x)                                    per sample and group
    y = d * (scale * sqrt(L) / sqrt(d . d + L * epsilon)) + bias

It is the ``primitive`` form without its second mean. What is saved is one of the two reads of x, or
of d, that are not a part of another operator; what is lost is the mean's last bit, as in the forms
with an operator for the normalization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normswap.groupnorm.cpu import LayerWork
from normswap.groupnorm.forms.base import FIRST, SECOND, Preference
from normswap.groupnorm.forms.primitive import Primitive

if TYPE_CHECKING:
    from normswap.groupnorm.layer import Layer


class Centred(Primitive):
    """The same operators, but for the second mean."""

    name = "centred"
    summary = "plain operators with one mean"
    _second_mean = False

    def preference(self, layer: Layer, provider: str, threads: int) -> Preference | None:
        """Prefer it for what is large, most of all away from convolutions."""
        if provider != "cpu":
            return None
        work = LayerWork.of(layer, threads)
        rank = SECOND if layer.before_convolution else FIRST
        return Preference(rank, work.why) if work.pays_for_plain_operators else None


FORM = Centred()
