"""Which values an operator knows, where it knows no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normswap.inputs.roles.rule import Allowed, Slot, rule

if TYPE_CHECKING:
    from collections.abc import Sequence


@rule(("TfIdfVectorizer", 0))
def _token(slot: Slot) -> Allowed:
    pool = slot.attribute("pool_strings", ()) or slot.attribute("pool_int64s", ())
    return Allowed(choices=_plain(pool))


@rule(("LabelEncoder", 0))
def _key(slot: Slot) -> Allowed:
    for kind in ("keys_tensor", "keys_strings", "keys_int64s", "keys_floats", "classes_strings"):
        if kind in slot.use.attributes:
            return Allowed(choices=_plain(np.ravel(slot.use.attributes[kind]).tolist()))
    return Allowed()


@rule(("OneHotEncoder", 0), ("CategoryMapper", 0))
def _class(slot: Slot) -> Allowed:
    found = slot.attribute("cats_strings", ()) or slot.attribute("cats_int64s", ())
    return Allowed(choices=_plain(found))


def _plain(values: Sequence[Any]) -> tuple[Any, ...] | None:
    found = tuple(v.decode() if isinstance(v, bytes) else v for v in values)
    return found or None
