"""graphsurgeon's tensors, made in one step.

A model has many, and graphsurgeon's constructors set attribute by attribute, each through a method
that looks whether it is a list of readers: that takes three times as long. These copy what a tensor
has that was made by such a constructor once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.util.misc import SynchronizedList

if TYPE_CHECKING:
    from normswap.model.stored import LazyTensor

_CONSTANT = gs.Constant("", np.zeros(0))
_VARIABLE = gs.Variable("")


def constant(name: str, values: LazyTensor) -> gs.Constant:
    """Return what ``gs.Constant(name, values)`` returns."""
    return _like(_CONSTANT, name=name, _values=values)


def variable(name: str) -> gs.Variable:
    """Return what ``gs.Variable(name)`` returns."""
    return _like(_VARIABLE, name=name)


def _like(tensor: gs.Tensor, **changes: Any) -> Any:
    made = object.__new__(type(tensor))
    vars(made).update(
        vars(tensor),
        inputs=SynchronizedList(made, "outputs", ()),
        outputs=SynchronizedList(made, "inputs", ()),
        **changes,
    )
    return made
