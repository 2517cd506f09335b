import numpy as np
import pytest
from support.build import Builder
from support.folding import check_folds, check_kept
from support.routes import C, downward, ints, upward

from normswap.folding.operators.reshape import relay
from normswap.graph.affine import Affine
from normswap.graph.reasons import Reason


def reshape(*shape):
    return lambda b, y: b.node("Reshape", y, ints(b, *shape))


@pytest.mark.parametrize("batch", [2, "N"])
@pytest.mark.parametrize("shape", [(0, 0, -1), (-1, C, 25), (0, C, 25, 1), (0, C, 5, 1, 5)])
def test_space_is_laid_out_anew(shape, batch):
    check_folds(upward(reshape(*shape), batch=batch))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels_are_split(dtype):
    # Channel c of the Conv is channel c // 2 of the BN.
    check_folds(upward(reshape(0, 3, 2, 5, 5), channels=3, dtype=dtype))


def test_channels_go_to_the_batch():
    # Channel c of the Conv is channel c % 3 of the BN.
    check_folds(upward(reshape(-1, 3, 5, 5), channels=3))


def test_group_and_space_are_merged():
    check_folds(upward(reshape(0, 2, -1), channels=2))


def test_channel_shuffle():
    def op(b, y):
        y = b.node("Transpose", b.node("Reshape", y, ints(b, 0, 2, 3, 25)), perm=[0, 2, 1, 3])
        return b.node("Reshape", y, ints(b, 0, C, 5, 5))

    check_folds(upward(op))
    check_folds(
        downward(
            lambda b, y: op(b, b.node("Slice", y, ints(b, 0, 0), ints(b, 5, 5), ints(b, 2, 3)))
        )
    )


def test_symbolic_space():
    b = Builder()
    y = b.conv(b.input("N", 4, "H", "W"), 4, C)
    b.output(b.node("Sigmoid", b.bn(b.node("Reshape", y, ints(b, 0, 0, -1)), C)))
    check_folds(b.model(), sizes={"H": 5, "W": 6})


@pytest.mark.parametrize("opset", [7, 9, 13, 21])
@pytest.mark.parametrize("axis", [1, 2])
def test_flatten_of_what_a_linear_operator_makes(axis, opset):
    b = Builder(opset)
    if axis == 1:
        y, channels = b.node("Flatten", b.conv(b.input("N", 4, 3, 3), 4, C)), C
    else:  # LeViT: (B, T, N) becomes (B*T, N)
        y, channels = b.node("MatMul", b.input(2, 3, 5), b.normal(5, 8)), 8
        y = b.node("Flatten", y, axis=2)
    b.output(b.node("Sigmoid", b.bn(y, channels)))
    check_folds(b.model())


def test_flatten_of_symbolic_axes():
    b = Builder()
    y = b.node("MatMul", b.input("B", "T", 5), b.normal(5, 8))
    b.output(b.node("Sigmoid", b.bn(b.node("Flatten", y, axis=2), 8)))
    check_folds(b.model(), sizes={"B": 2, "T": 4})


def test_flatten_whose_shape_is_read_by_others():
    # LeViT as it is exported: the shape is read, flattened away, and restored.
    b = Builder()
    y = b.node("MatMul", b.input("B", "T", 5), b.normal(5, 8))
    shape = b.node("Shape", y)
    y = b.bn(b.node("Flatten", y, axis=2), 8)
    b.output(b.node("Sigmoid", b.node("Reshape", y, shape)))
    check_folds(b.model(), sizes={"B": 2, "T": 4})


@pytest.mark.parametrize(("opset", "axes"), [(11, [2, 3]), (13, [2, 3]), (13, None), (21, [-1, 2])])
def test_squeeze(opset, axes):
    b = Builder(opset)
    y = b.conv(b.input(2, 4, 3, 3), 4, C)
    if opset < 13:
        y = b.node("Squeeze", y, axes=axes)
    else:
        y = b.node("Squeeze", y, *([ints(b, *axes)] if axes else []))
    b.output(b.node("Sigmoid", b.bn(y, C)))
    check_folds(b.model())


@pytest.mark.parametrize(("opset", "axes"), [(11, [2]), (13, [2]), (13, [-1]), (21, [0, 3])])
def test_unsqueeze(opset, axes):
    def op(b, y):
        if opset < 13:
            return b.node("Unsqueeze", y, axes=axes)
        return b.node("Unsqueeze", y, ints(b, *axes))

    b = Builder(opset)
    if 0 in axes:
        y = op(b, b.conv(b.input(C, 4, 5, 5), 4, 3))
        b.output(b.node("Sigmoid", b.bn(b.node("Squeeze", y, ints(b, 0, 3)), 3)))
    else:
        b.output(b.node("Sigmoid", b.bn(op(b, b.conv(b.input("N", 4, 5, 5), 4, C)), C)))
    check_folds(b.model())


def test_unsqueeze_before_the_channels():
    check_folds(upward(lambda b, y: b.node("Unsqueeze", y, ints(b, 1)), channels=1))


def test_gemm_seen_as_an_image():
    b = Builder()
    y = b.node("Gemm", b.input("N", 5), b.normal(5, 24), b.normal(24))
    b.output(b.node("Sigmoid", b.bn(b.node("Reshape", y, ints(b, -1, 4, 2, 3)), 4)))
    check_folds(b.model())


def test_gemm_whose_columns_are_tiled():
    b = Builder()  # column n is channel n % 4
    y = b.node("Gemm", b.input("N", 5), b.normal(5, 8), b.normal(8))
    b.output(b.node("Sigmoid", b.bn(b.node("Reshape", y, ints(b, -1, 4)), 4)))
    check_folds(b.model())


@pytest.mark.parametrize("how", ["Flatten", "Reshape"])
def test_down_into_a_classifier(how):
    b = Builder()
    y = b.bn(b.input("N", 4, 3, 2), 4)
    y = b.node("Flatten", y) if how == "Flatten" else b.node("Reshape", y, ints(b, 0, -1))
    b.output(b.node("Gemm", y, b.normal(24, 5), b.normal(5)))
    check_folds(b.model())


def test_down_through_a_squeeze():
    b = Builder()
    y = b.node("Squeeze", b.bn(b.input("N", 5, 1, 1), 5), ints(b, 2, 3))
    b.output(b.node("Gemm", y, b.normal(5, 3)))
    check_folds(b.model())


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((2, 30, 5), 30), ((2, 5, C, 5), 5), ((1, 2 * C, 5, 5), 2 * C), ((-1, 5), 5)],
    ids=["rows", "swapped", "batch", "columns"],
)
def test_other_elements_in_place_of_the_channels_are_kept(shape, channels):
    model = upward(reshape(*shape), channels=channels, batch=2)
    check_kept(model, Reason.AXIS)


def test_batch_and_channels_mixed_are_kept():
    # (4, 3) to (2, 6): column n of the BN is column n % 3 of row 2m + n // 3, so rows differ.
    b = Builder()
    y = b.node("Gemm", b.input(4, 5), b.normal(5, 3), b.normal(3))
    b.output(b.node("Sigmoid", b.bn(b.node("Reshape", y, ints(b, 2, 6)), 6)))
    check_kept(b.model(), Reason.AXIS)


def test_flatten_of_several_pixels_is_kept():
    b = Builder()
    y = b.node("Flatten", b.conv(b.input("N", 4, 4, 4), 4, 3))
    b.output(b.node("Sigmoid", b.bn(y, 12)))
    check_kept(b.model(), Reason.AXIS)


def test_flatten_of_pixels_that_agree():
    b = Builder()
    y = b.node("Flatten", b.conv(b.input("N", 4, 4, 4), 4, 3))
    b.output(b.node("Sigmoid", b.bn(y, 12, stats=[np.repeat(v, 4) for v in b.statistics(3)])))
    check_folds(b.model())


def test_squeezed_batch_is_kept():
    b = Builder()
    y = b.node("Squeeze", b.conv(b.input(1, 4, 6, 6), 4, 4), ints(b, 0))
    b.output(b.node("Sigmoid", b.bn(y, 4)))
    check_kept(b.model(), Reason.AXIS)


def test_shape_that_is_computed_is_kept():
    b = Builder()
    y = b.conv(b.input("N", 4, "H", "W"), 4, C)
    shape = b.input(4, name="shape", elem_type=7)
    y = b.bn(b.node("Reshape", y, shape), C)
    b.output(b.node("Sigmoid", y), ("a", C, "b", "c"))
    check_kept(b.model(), Reason.SHAPE_UNKNOWN)


def test_a_batchnorm_tells_how_many_channels_there_are():
    b = Builder()
    y = b.node("MatMul", b.input("B", "T", 5), b.normal(5, 12))
    y = b.node("Reshape", y, b.node("Concat", ints(b, -1), ints(b, 12), axis=0))
    b.output(b.node("Sigmoid", b.bn(y, 12)))
    check_folds(b.model(), sizes={"B": 2, "T": 4})


def affine(*shape):
    size = int(np.prod(shape))
    return Affine(np.arange(1, size + 1).reshape(shape), np.arange(size).reshape(shape))


@pytest.mark.parametrize(
    ("old", "new", "ok"),
    [
        (("N", 6, "H"), ("N", 2, 3, "H"), True),
        (("N", 6, "H"), ("N", 6, "K"), True),
        (("N", 6, "H"), ("K", 6, "H"), True),  # N = K, since all else is equal
        (("N", 6, "H"), ("K", 6, "L"), False),  # 6 may be anywhere
        ((None, 6, 4), (None, 6, 4), True),
        ((None, 6, None), (None, 6, None), False),
        ((2, 6, 4), (2, 4, 6), True),  # written out
        (("N", 6, 4), ("N", 24), True),
        (("N", 6, "H"), ("N", None), False),
        (("N", 6), ("K", 3), False),
        (("N", 3), ("K", 6), True),
        (("N", 6, 1, 1), ("N", 6), True),
        (("N", 6), ("N", 1, 6, 1), True),
        ((3, 6), None, False),
    ],
    ids=str,
)
def test_relay_knows_what_it_does_not_know(old, new, ok):
    found = relay(affine(1, 6), old, new)
    assert isinstance(found, Affine) == ok


def test_relay_is_numpy_reshape():
    rng = np.random.default_rng(0)
    for old, new in [((2, 6, 4), (2, 4, 6)), ((2, 6, 4), (12, 4)), ((4, 6), (2, 2, 3, 2))]:
        values = rng.normal(size=(1, 6))
        found = relay(Affine(values, values), old, new)
        whole = np.broadcast_to(values.reshape((1, 6) + (1,) * (len(old) - 2)), old)
        scale, _ = found.at(len(new))
        np.testing.assert_array_equal(np.broadcast_to(scale, new), whole.reshape(new))
