"""Operators that no function of arrays evaluates: bodies, and random numbers.

They are the evaluator's own business: bodies are graphs of other operators (Loop and Scan run them
by `normswap.proof.arbiter.control`), and random numbers are those of onnx's reference, since no
two runtimes draw the same ones.
"""

from __future__ import annotations

from normswap.semantics.registry import left_to_evaluator

left_to_evaluator("Constant", since=(1, 9, 11, 12, 13, 19, 21, 23, 24, 25))
left_to_evaluator("If", "Loop", since=(1, 11, 13, 16, 19, 21, 23, 24, 25))
left_to_evaluator("Scan", since=(9, 11, 16, 19, 21, 23, 24, 25))
left_to_evaluator("OptionalGetElement", "OptionalHasElement", since=(18,))
left_to_evaluator("RandomNormal", "RandomUniform", since=(1, 22))
left_to_evaluator("RandomNormalLike", "RandomUniformLike", since=(1, 22))
left_to_evaluator("Bernoulli", since=(15, 22))
