"""A network without functions: their bodies take the place of the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.inliner

from normswap.model import load, stage

if TYPE_CHECKING:
    from pathlib import Path

    from normswap.model import Model


def inlined(model: Model, folder: Path) -> Model:
    """Return a model with the calls of its functions replaced by their bodies.

    Functions of other operator sets than the model's stay.

    Parameters
    ----------
    model : Model
        Also one that was edited.
    folder : Path
        Where the new one lies.
    """
    path = folder / "called.onnx"
    with stage(model, path) as staged:
        staged.commit()
    proto = onnx.load(path, load_external_data=False)
    path = folder / "inlined.onnx"
    onnx.save(onnx.inliner.inline_local_functions(proto), path)
    return load(path, name=model.name)
