"""The float64 arbiter: a model as the real function it stands for, as near as doubles come.

Graphs are walked by onnx's own reference evaluator, with every floating-point tensor in float64
whatever its declared type (`evaluator`). What their operators make of values is in
`normswap.semantics`, each validated against onnxruntime (`nodes`); of the reference's own operators
only If, Constant and the random ones are left (`control` has Loop and Scan). An operator that is
not validated at the opset of its graph is not evaluated, and named. What a model rounds on purpose,
by casting to integers or quantizing, it still rounds.
"""
