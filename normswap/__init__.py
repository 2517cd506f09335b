"""Rewrite the normalization layers of ONNX models, and prove that the rewrite is right."""

__version__ = "0.1.0"
