"""The algebra of the affine, over every layout and magnitude."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from normswap.graph.affine import Affine, align

SHAPE = (2, 3, 4)
FLOATS = st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def arrays(draw):
    rank = draw(st.integers(0, len(SHAPE)))
    shape = tuple(draw(st.sampled_from([1, size])) for size in SHAPE[:rank])
    return draw(hnp.arrays(np.float64, shape, elements=FLOATS))


@st.composite
def affines(draw):
    return Affine(draw(arrays()), draw(arrays()))


def applied(affine, x):
    s, t = affine.at(x.ndim)
    return s * x + t


TENSORS = hnp.arrays(np.float64, SHAPE, elements=FLOATS)


def close(one, other):
    scale = max(np.abs(one).max(), np.abs(other).max(), 1)
    return np.abs(one - other).max() <= 1e-12 * scale


@given(affines(), affines(), TENSORS)
def test_composition_is_application_in_turn(first, second, x):
    assert close(applied(first.then(second), x), applied(second, applied(first, x)))


@given(affines(), affines(), affines())
def test_composition_is_associative(a, b, c):
    one, other = a.then(b).then(c), a.then(b.then(c))
    for left, right in ((one.scale, other.scale), (one.shift, other.shift)):
        rank = max(left.ndim, right.ndim)
        assert close(align(left, rank), align(right, rank))


@given(affines(), TENSORS)
def test_scale_then_shift_is_the_whole(affine, x):
    parts = affine.scale_only().then(affine.shift_only())
    assert close(applied(parts, x), applied(affine, x))


@given(affines(), st.permutations(range(3)), TENSORS)
def test_relaying_commutes_with_application(affine, perm, x):
    moved = affine.relaid(3, lambda array: array.transpose(perm))
    assert close(applied(moved, x.transpose(perm)), applied(affine, x).transpose(perm))


@given(affines())
def test_identity_is_neutral(affine):
    nothing = Affine(np.ones(()), np.zeros(()))
    assert nothing.is_identity
    assert affine.then(nothing) == affine == nothing.then(affine)
    assert hash(affine.then(nothing)) == hash(affine)


@given(affines(), st.integers(0, 2))
def test_varying_is_what_the_values_say(affine, axis):
    if not affine.varies_along(axis):
        s, t = affine.at(3)
        assert s.shape[axis] == t.shape[axis] == 1


@given(hnp.arrays(np.float64, 5, elements=FLOATS), hnp.arrays(np.float64, 5, elements=FLOATS))
def test_vectors_come_back(s, t):
    back = Affine(s.reshape(1, 1, -1), t.reshape(1, 1, -1)).vectors(5)
    assert (back[0] == s).all()
    assert (back[1] == t).all()
