"""Which form a layer gets: that which was asked for, else the one that speaks best for itself.

``auto`` goes by what each form says, see :meth:`normswap.groupnorm.forms.base.Form.preference`, and
takes none that loses digits: on a CPU and on CUDA by what was measured
(:mod:`normswap.groupnorm.cpu`, :mod:`normswap.groupnorm.cuda`). TensorRT compiles what is plain,
and fails on GroupNormalization.

``fastest`` asks no table: it takes what was measured on this machine, see
:mod:`normswap.groupnorm.race`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from normswap.errors import UsageError
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.words import AUTO, FASTEST

if TYPE_CHECKING:
    from normswap.groupnorm.forms import Form
    from normswap.groupnorm.layer import Layer
    from normswap.groupnorm.options import Timings


CLOSE = 1.03
"""How much longer than the fastest a form may take and be the same for all that can be measured."""


def threads_here() -> int:
    """Return how many threads onnxruntime would have on this machine."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_form(
    layer: Layer, asked: str, provider: str, threads: int, timings: Timings | None = None
) -> tuple[Form, str]:
    """Return the form of a layer, and why it is that one.

    Parameters
    ----------
    layer : Layer
    asked : str
        The name of a form, ``"auto"`` or ``"fastest"``.
    provider : str
        Execution provider that the model is for, such as ``"cpu"``.
    threads : int
        How many threads it will have on a CPU.
    timings : Timings, optional
        What was measured for the layer; without it ``"fastest"`` is as ``"auto"``.

    Raises
    ------
    UsageError
        If the form that was asked for can't be used for this layer.
    """
    if asked not in (AUTO, FASTEST):
        form = FORMS[asked]
        obstacle = form.obstacle(layer, provider)
        if obstacle is not None:
            possible = ", ".join(other.name for other in possible_forms(layer, provider))
            raise UsageError(
                f"{layer.name} can't be written in the {asked} form: {obstacle}.",
                tip=f"Use --form {AUTO}, or one of {possible}.",
            )
        return form, "asked for"
    preferences = [
        (preference, form)
        for form in contenders(layer, provider)
        if (preference := form.preference(layer, provider, threads)) is not None
    ]
    best, form = min(preferences, key=lambda entry: (not entry[0].unrivalled, entry[0].rank))
    if asked == FASTEST and not best.unrivalled and timings is not None and timings.seconds:
        return _by_timings(form, timings)
    return form, best.why


def possible_forms(layer: Layer, provider: str) -> list[Form]:
    """Return the forms that a layer can take."""
    return [form for form in FORMS.values() if form.obstacle(layer, provider) is None]


def contenders(layer: Layer, provider: str) -> list[Form]:
    """Return the forms that a layer can take with no loss of precision."""
    return [form for form in possible_forms(layer, provider) if form.is_precise(provider)]


def _by_timings(expected: Form, timings: Timings) -> tuple[Form, str]:
    """Take the fastest; of those that are as fast for all one can tell, the expected one."""
    name, least = min(timings.seconds.items(), key=lambda entry: entry[1])
    if timings.seconds.get(expected.name, float("inf")) <= least * CLOSE:
        name = expected.name
    size = "x".join(map(str, timings.shape))
    return FORMS[name], f"the fastest here of {len(timings.seconds)} forms measured at {size}"
