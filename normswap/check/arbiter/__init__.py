"""The float64 arbiter: a model as the real function it stands for, as near as doubles come.

It is onnx's own reference evaluator, with every floating-point tensor in float64 whatever its
declared type (`evaluator`), and with NumPy implementations of the operators that the reference
lacks, evaluates slowly, or evaluates in less than float64 (`operators`). What a model rounds on
purpose, by casting to integers or quantizing, it still rounds.
"""
