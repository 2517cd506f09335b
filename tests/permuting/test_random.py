"""Random small networks, every space of which is permuted."""

import numpy as np
import pytest
from support.build import Builder
from support.permuting import check_permutes, free


class Drawn:
    """A random network: tensors of 6 x 6 pixels that operators read and make."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.b = Builder(opset=18, seed=seed)
        self.tensors = [(self.b.conv(self.b.input(2, 3, 6, 6), 3, 8, pads=[1] * 4), 8)]

    def pick(self):
        return self.tensors[self.rng.integers(max(0, len(self.tensors) - 3), len(self.tensors))]

    def grow(self):
        b, (x, c) = self.b, self.pick()
        kind = self.rng.choice([name for name in dir(self) if name.startswith("add_")])
        made = getattr(self, kind)(b, x, c)
        if made is not None:
            self.tensors.append(made)

    def add_conv(self, b, x, c):
        to = int(self.rng.choice([4, 6, 8]))
        return b.bn(b.conv(x, c, to, pads=[1] * 4), to), to

    def add_activation(self, b, x, c):
        kind = self.rng.choice(["Relu", "Sigmoid", "Identity"])
        return b.node(kind, b.bn(x, c)), c

    def add_slope(self, b, x, c):
        return b.node("PRelu", x, b.normal(c, 1, 1)), c

    def add_depthwise(self, b, x, c):
        return b.bn(b.conv(x, c, c, group=c, pads=[1] * 4), c), c

    def add_groups(self, b, x, c):
        if c % 2:
            return None
        return b.bn(b.conv(x, c, c, group=2, pads=[1] * 4), c), c

    def add_sum(self, b, x, c):
        y, d = self.pick()
        return None if c != d else (b.node(self.rng.choice(["Add", "Mul", "Max"]), x, y), c)

    def add_concat(self, b, x, c):
        y, d = self.pick()
        return None if c + d > 24 else (b.bn(b.node("Concat", x, y, axis=1), c + d), c + d)

    def add_split(self, b, x, c):
        if c % 2:
            return None
        left, right = b.node("Split", x, outputs=2, axis=1, num_outputs=2)
        self.tensors.append((right, c // 2))
        return left, c // 2

    def add_slice(self, b, x, c):
        start, end = sorted(self.rng.choice(c + 1, 2, replace=False).tolist())
        ends = [b.const(np.array([n])) for n in (start, end, 1)]
        return b.node("Slice", x, *ends), end - start

    def add_gate(self, b, x, c):
        s = b.node("Flatten", b.node("GlobalAveragePool", x))
        s = b.node("Gemm", b.node("Relu", b.node("Gemm", s, b.normal(c, 5))), b.normal(5, c))
        s = b.node("Reshape", b.node("Sigmoid", s), b.const(np.array([0, -1, 1, 1])))
        return b.node("Mul", x, s), c

    def add_transposed(self, b, x, c):
        w = b.normal(c, 6, 3, 3)
        return b.bn(b.node("ConvTranspose", x, w, pads=[1] * 4), 6), 6

    def add_shuffle(self, b, x, c):
        if c % 2:
            return None
        x = b.node("Reshape", x, b.const(np.array([2, 2, c // 2, 6, 6])))
        x = b.node("Transpose", x, perm=[0, 2, 1, 3, 4])
        return b.bn(b.node("Reshape", x, b.const(np.array([2, c, 6, 6]))), c), c

    def add_pool(self, b, x, c):
        x = b.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        scales = b.const(np.array([1, 1, 2, 2], np.float32))
        return b.node("Resize", x, "", scales, mode="nearest"), c

    def model(self):
        b = self.b
        ends = [
            b.node("Gemm", b.node("Flatten", b.node("Tanh", x)), b.normal(c * 36, 3, scale=0.1))
            for x, c in self.tensors[-3:]
        ]
        return b.output(b.node("Sum", *ends)).model()


@pytest.mark.parametrize("seed", range(24))
def test_it_is_one_function(seed):
    drawn = Drawn(seed)
    for _ in range(10):
        drawn.grow()
    check_permutes(drawn.model(), tolerance=2e-5)


def test_much_of_it_moves():
    """The test above is one of networks that are permuted."""
    moves = []
    for seed in range(8):
        drawn = Drawn(seed)
        for _ in range(10):
            drawn.grow()
        moves += free(drawn.model()).values()
    assert np.concatenate(moves).mean() > 0.4
