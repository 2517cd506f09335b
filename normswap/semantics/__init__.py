"""What ONNX operators mean: NumPy implementations, each validated against onnxruntime.

An operator is accepted at an opset only where it is registered for it, and a test compares every
registered entry with the runtime on drawn attributes, ranks and types (`registry`). There are two
readers: the check's arbiter, which keeps every floating-point value in float64, and the folding's
constants, which round it once to the type that the operator gives it (`constants`).
"""
