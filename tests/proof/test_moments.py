"""A normalization is recognized by what it computes, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from support.build import Builder
from support.proving import is_made_again, proof_of

from normswap.proof.result import Means

EPSILON = np.float32(1e-3)
SHAPE = (2, 8, 4, 6)


class Writing:
    """Writes a group normalization of four groups, step by step."""

    def __init__(self):
        self.b = Builder(21)
        self.x = self.b.input(*SHAPE)

    def op(self, op, *inputs, **attributes):
        return self.b.node(op, *(self.const(i) for i in inputs), **attributes)

    def const(self, value):
        return value if isinstance(value, str) else self.b.const(np.asarray(value))

    def view(self, value, *shape):
        return self.op("Reshape", value, np.array(shape))

    def mean(self, value, *axes, **attributes):
        return self.op("ReduceMean", value, np.array(axes), **attributes)

    def centred(self):
        rows = self.view(self.x, 2, 4, -1)
        return self.op("Sub", rows, self.mean(rows, 2))

    def done(self, y, scale=1.0, shift=0.0):
        y = self.view(y, *SHAPE)
        y = self.op("Mul", y, np.full((8, 1, 1), scale, np.float32))
        self.b.output(self.op("Add", y, np.full((8, 1, 1), shift, np.float32), out="y"), SHAPE)
        return self.b.model()


def one_node():
    """Return it as an operator, which has nothing within that others could be cut at."""
    w = Writing()
    numbers = [w.const(np.full(8, value, np.float32)) for value in (1, 0)]
    y = w.op("GroupNormalization", w.x, *numbers, out="y", num_groups=4, epsilon=1e-3)
    w.b.output(y, SHAPE)
    return w.b.model()


def plain(w, *, epsilon=EPSILON, of=2):
    d = w.centred()
    spread = w.op("Add", w.mean(w.op("Mul", d, d), of), epsilon)
    return w.done(w.op("Div", d, w.op("Sqrt", spread)))


def by_power(w):
    d = w.centred()
    spread = w.op("Add", w.mean(w.op("Pow", d, np.float32(2)), 2), EPSILON)
    return w.done(w.op("Mul", d, w.op("Pow", spread, np.float32(-0.5))))


def by_reciprocal(w):
    d = w.centred()
    spread = w.op("Add", EPSILON, w.mean(w.op("Mul", d, d), 2))
    return w.done(w.op("Mul", w.op("Reciprocal", w.op("Sqrt", spread)), d))


def by_sums(w):
    d = w.centred()
    total = w.op("ReduceSumSquare", d, np.array([2]))
    spread = w.op("Add", w.op("Div", total, np.float32(48)), EPSILON)
    return w.done(w.op("Div", d, w.op("Sqrt", spread)))


def by_sum_and_root(w):
    """With the number of elements on the other side: 48 * (v + e)."""
    d = w.centred()
    total = w.op("ReduceSumSquare", d, np.array([2]))
    spread = w.op("Add", total, np.float32(48) * EPSILON)
    factor = w.op("Div", np.float32(np.sqrt(48)), w.op("Sqrt", spread))
    return w.done(w.op("Mul", d, factor))


def by_dot_product(w):
    d = w.centred()
    row, column = w.view(d, 2, 4, 1, -1), w.view(d, 2, 4, -1, 1)
    v = w.op("Div", w.view(w.op("MatMul", row, column), 2, 4, 1), np.float32(48))
    return w.done(w.op("Div", d, w.op("Sqrt", w.op("Add", v, EPSILON))))


def by_means_of_means(w):
    channels = w.view(w.x, 2, 4, 2, 24)
    mean = w.mean(w.mean(channels, 3, keepdims=0), 2)
    d = w.op("Sub", w.view(w.x, 2, 4, 48), mean)
    spread = w.op("Add", w.mean(w.op("Mul", d, d), 2), EPSILON)
    return w.done(w.op("Div", d, w.op("Sqrt", spread)))


def by_second_mean(w):
    d = w.centred()
    d = w.op("Sub", d, w.mean(d, 2))
    spread = w.op("Add", w.mean(w.op("Mul", d, d), 2), EPSILON)
    return w.done(w.op("Neg", w.op("Div", d, w.op("Sqrt", spread))), scale=-1.0)


def by_layers(w):
    rows = w.view(w.x, 2, 4, 48)
    ones = np.full(48, 2, np.float32)
    return w.done(w.op("LayerNormalization", rows, ones, epsilon=1e-3, axis=2), scale=0.5)


def by_instances(w):
    rows = w.view(w.x, 1, 8, 48)  # each group of each sample a channel
    numbers = (np.full(8, value, np.float32) for value in (4, 1))
    return w.done(w.op("InstanceNormalization", rows, *numbers, epsilon=1e-3), 0.25, -0.25)


def of_a_scaled_tensor(w):
    w.x = w.op("Mul", w.x, np.float32(0.5))
    w.x = w.op("Add", w.x, np.repeat(np.float32([1, 2, 3, 4]), 2).reshape(8, 1, 1))
    return plain(w, epsilon=EPSILON / 4)


RIGHT = [
    plain,
    by_power,
    by_reciprocal,
    by_sums,
    by_sum_and_root,
    by_dot_product,
    by_means_of_means,
    by_second_mean,
    by_layers,
    by_instances,
    of_a_scaled_tensor,
]


@pytest.mark.parametrize("right", RIGHT, ids=lambda f: f.__name__)
def test_it_is_the_same_however_it_is_written(tmp_path, right):
    models = one_node(), right(Writing())
    proof = proof_of(*models, tmp_path)
    assert proof.is_whole, proof
    assert [region.means for region in proof.regions] == [Means.MAPS]
    assert proof.floors < 2
    assert is_made_again(*models, proof, tmp_path)


def other_epsilon(w):
    return plain(w, epsilon=EPSILON * np.float32(1 + 1e-5))


def no_epsilon(w):
    return plain(w, epsilon=np.float32(0))


def of_all(w):
    """The variance of a sample, of all its groups."""
    d = w.centred()
    spread = w.op("Add", w.mean(w.op("Mul", d, d), 1, 2), EPSILON)
    return w.done(w.op("Div", d, w.op("Sqrt", spread)))


def across(w):
    """Groups of other elements: the rows of a Transpose."""
    w.x = w.view(w.op("Transpose", w.view(w.x, 2, 4, 2, 24), perm=[0, 2, 1, 3]), *SHAPE)
    return plain(w)


def of_samples(w):
    """Statistics along the batch."""
    rows = w.view(w.x, 2, -1)
    d = w.op("Sub", rows, w.mean(rows, 0))
    spread = w.op("Add", w.mean(w.op("Mul", d, d), 0), EPSILON)
    return w.done(w.op("Div", d, w.op("Sqrt", spread)))


def uncentred(w):
    """Divided by its root mean square."""
    rows = w.view(w.x, 2, 4, -1)
    spread = w.op("Add", w.mean(w.op("Mul", rows, rows), 2), EPSILON)
    return w.done(w.op("Div", rows, w.op("Sqrt", spread)))


def twice_the_root(w):
    d = w.centred()
    spread = w.op("Add", w.mean(w.op("Mul", d, d), 2), EPSILON)
    return w.done(w.op("Div", d, spread))


def of_the_sum(w):
    """As if a sum were a mean."""
    d = w.centred()
    spread = w.op("Add", w.op("ReduceSumSquare", d, np.array([2])), EPSILON)
    return w.done(w.op("Div", d, w.op("Sqrt", spread)), scale=np.sqrt(np.float32(48)))


def a_scale_within_a_group(w):
    """What is normalized was scaled by channel before."""
    w.x = w.op("Mul", w.x, np.linspace(1, 1.5, 8, dtype=np.float32).reshape(8, 1, 1))
    return plain(w)


def two_scales(w):
    """The other sign for one group."""
    w.x = w.op("Mul", w.x, np.repeat(np.float32([1, 1, -1, 1]), 2).reshape(8, 1, 1))
    return plain(w)


def repeated_along_the_batch(w):
    """The deviation of the first sample for both."""
    d = w.centred()
    first = w.op("Slice", d, np.array([0]), np.array([1]), np.array([0]))
    spread = w.op("Add", w.mean(w.op("Mul", first, first), 2), EPSILON)
    return w.done(w.op("Div", d, w.op("Sqrt", spread)))


WRONG = [
    other_epsilon,
    no_epsilon,
    of_all,
    across,
    of_samples,
    uncentred,
    twice_the_root,
    of_the_sum,
    a_scale_within_a_group,
    two_scales,
    repeated_along_the_batch,
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda f: f.__name__)
def test_what_is_another_function_is_found(tmp_path, wrong):
    models = one_node(), wrong(Writing())
    proof = proof_of(*models, tmp_path)
    assert not proof.is_whole
    (region,) = proof.apart
    assert region.is_apart
    assert not is_made_again(*models, proof, tmp_path)
