"""What a file is that is no ONNX model, by its first bytes."""

from __future__ import annotations

import codecs

from normswap.errors import ModelError

# What people give by mistake: the first bytes, what it is, and what to do.
_LOOK_ALIKES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer", "Fetch the model itself: git lfs pull."),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint", "Export it to ONNX first."),
    (b"\x80\x02", "a Python pickle, perhaps a PyTorch checkpoint", "Export it to ONNX first."),
    (b"\x89HDF", "an HDF5 file, perhaps a Keras model", "Export it to ONNX first."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
)


INTERRUPTED = "Was the export or download interrupted?"


def not_a_model(head: bytes, name: str, reason: str) -> ModelError:
    """Return the error of a file that is none: by its first bytes, or else by a reason."""
    if not head:
        tip = (
            "Nothing came through the pipe: check the command before it, or name a file."
            if name == "<stdin>"
            else INTERRUPTED
        )
        return ModelError(f"{name} is empty.", tip=tip)
    for magic, what, tip in _LOOK_ALIKES:
        if head.startswith(magic):
            return ModelError(f"{name} is {what}, not an ONNX model.", tip=tip)
    if head[4:8] == b"ORTM":
        return ModelError(
            f"{name} is in onnxruntime's own format, not ONNX.",
            tip="Give the .onnx model that it was made from.",
        )
    if _is_text(head):
        return ModelError(f"{name} is a text file, not an ONNX model.")
    return ModelError(
        f"{name} is truncated, damaged, or not an ONNX model: {reason}.",
        tip=INTERRUPTED,
    )


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
