"""A model in float16, by onnxruntime's own converter."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from pathlib import Path


def halve(source: Path, target: Path) -> Path:
    """Write `source` with float16 for float32, inputs and outputs too; return `target`."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that float16 rounds to 0
        half = convert_float_to_float16(onnx.load(source), keep_io_types=False)
    onnx.save(half, target)
    return target
