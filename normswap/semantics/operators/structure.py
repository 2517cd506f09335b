"""Operators that onnx's reference evaluates rightly: graphs, sequences, random numbers.

What they compute with is not theirs: bodies are graphs of other operators, sequences are lists.
Random numbers are the reference's own; no runtime draws the same ones.
"""

from __future__ import annotations

from normswap.semantics.registry import left_to_reference

left_to_reference("Constant", since=(1, 9, 11, 12, 13, 19, 21, 23, 24, 25))
left_to_reference("If", since=(1, 11, 13, 16, 19, 21, 23, 24, 25))
left_to_reference("Loop", since=(1, 11, 13, 16, 19, 21, 23, 24, 25))
left_to_reference("Scan", since=(9, 11, 16, 19, 21, 23, 24, 25))
left_to_reference(
    "ConcatFromSequence",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    since=(11,),
)
left_to_reference("SplitToSequence", since=(11, 24))
left_to_reference("Optional", since=(15,))
left_to_reference("OptionalGetElement", "OptionalHasElement", since=(15, 18))
left_to_reference("RandomNormal", "RandomUniform", since=(1, 22))
left_to_reference("RandomNormalLike", "RandomUniformLike", since=(1, 22))
left_to_reference("Bernoulli", since=(15, 22))
