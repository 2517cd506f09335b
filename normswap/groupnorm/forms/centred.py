"""A mean, a dot product, and one multiply and add: the fewest passes of operators on all threads.

::

    d = x - mean(x)                                    per sample and group
    y = d * (scale * sqrt(L) / sqrt(d . d + L * epsilon)) + bias

It is the ``primitive`` form without its second mean. What is saved is one of the two reads of x, or
of d, that are not a part of another operator; what is lost is the mean's last bit, as in the forms
with an operator for the normalization.
"""

from __future__ import annotations

from normswap.groupnorm.forms.primitive import Primitive

FORM = Primitive("centred", second_mean=False)
