"""Families of standard operators: what is done alike to all of a kind, whoever asks.

Who treats an operator otherwise than the rest of its family says so where it does.
"""

from __future__ import annotations

ARITHMETIC = frozenset({"Add", "Div", "Mul", "Sub"})
"""Two operands, element by element."""

SUMS = frozenset({"Add", "Sub", "Sum"})

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply what they read by a weight and add it up."""

POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})

GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"})

WINDOWS = frozenset({"Conv", "ConvTranspose", *POOLS})
"""Operators that look at some places of an image at a time."""

RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that keep all elements, in their order."""

PICKS = frozenset({"Expand", "Gather", "Slice", "Split", "Tile", "Transpose"})
"""Operators that hand on some elements of a tensor, or all in another order."""

BLOCKS = frozenset({"DepthToSpace", "SpaceToDepth"})

MOVES = RESHAPES | PICKS | {"Concat"}
"""Operators whose elements are elements that they read."""

SHAPING = RESHAPES | {"Cast", "Identity", "Transpose"}
"""Operators that leave elements what they are, and give them other places."""

RANDOM_LIKE = frozenset({"RandomNormalLike", "RandomUniformLike"})

RANDOM = RANDOM_LIKE | {"Bernoulli", "Multinomial", "RandomNormal", "RandomUniform"}

BODIES = frozenset({"If", "Loop", "Scan"})
"""Operators with graphs of their own."""

CONTINUOUS = frozenset({
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Log", "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt",
    "Tanh",
})  # fmt: skip
"""Continuous functions of an element, none of which needs another operand."""
