import numpy as np
import pytest
from support.build import Builder
from support.folding import assert_same_function, check_folds, check_kept, count, fold_model
from support.routes import C, statistics

from normswap.graph.reasons import Reason


def instance(b, y, channels=C, **attrs):
    return b.node("InstanceNormalization", y, b.normal(channels), b.normal(channels), **attrs)


def group(b, y, groups=2, channels=C):
    return b.node(
        "GroupNormalization", y, b.normal(channels), b.normal(channels), num_groups=groups
    )


def up(b, y, channels=C):
    y = b.node("Sigmoid", b.bn(y, channels))
    return b.output(
        y, ("N", C, 5, 5) if b.nodes[0].op_type == "GroupNormalization" else None
    ).model()


@pytest.mark.parametrize("opset", [7, 17, 22])
def test_instance(opset):
    b = Builder(opset)
    check_folds(up(b, instance(b, b.input("N", C, 5, 5), epsilon=1e-3)))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_21(groups):
    b = Builder(21)
    check_folds(up(b, group(b, b.input("N", C, 5, 5), groups)))


def group_18(*, repeat):
    """GroupNormalization-18, which is deprecated, so that the checker turns it away."""
    b = Builder(21)
    y = group(b, b.input("N", C, 5, 5), 3, channels=3)
    stats = [np.repeat(v, 2) for v in b.statistics(3)] if repeat else b.statistics(C)
    model = b.output(b.node("Sigmoid", b.bn(y, C, stats=stats)), ("N", C, 5, 5)).model()
    model.opset_import[0].version = 18
    return model


def test_group_18_where_a_group_has_one_affine():
    model = group_18(repeat=True)
    folded, plan = fold_model(model)
    assert not plan.kept
    assert count(folded) == 0
    assert_same_function(model, folded)


def test_group_18_is_kept():
    check_kept(group_18(repeat=False), Reason.AXIS)


@pytest.mark.parametrize(
    ("op", "bias"),
    [("LayerNormalization", True), ("LayerNormalization", False), ("RMSNormalization", False)],
)
def test_layer(op, bias):
    b = Builder(23 if op == "RMSNormalization" else 17)
    y = b.node(op, b.input("N", C), b.normal(C), *([b.normal(C)] if bias else []))
    shift = op == "LayerNormalization"
    b.output(b.node("Sigmoid", b.bn(y, C, stats=statistics(b, C, shift=shift))))
    check_folds(b.model())


def test_layer_over_channels_and_space():
    b = Builder()
    shape = (C, 3, 4)
    y = b.node(
        "LayerNormalization",
        b.input("N", *shape),
        b.normal(*shape),
        b.normal(*shape),
        axis=1,
    )
    check_folds(up(b, y))


def test_layer_channels_last():
    b = Builder()
    y = b.node("LayerNormalization", b.input("N", 3, 4, C), b.normal(C), b.normal(C))
    check_folds(up(b, b.node("Transpose", y, perm=[0, 3, 1, 2])))


def test_layer_over_another_axis_is_kept():
    b = Builder()
    y = b.node("LayerNormalization", b.input("N", C, 3, C), b.normal(C), b.normal(C))
    check_kept(up(b, y), Reason.AXIS)


def test_root_mean_square_has_no_place_for_a_shift():
    b = Builder(23)
    y = b.node("RMSNormalization", b.input("N", C), b.normal(C))
    check_kept(up(b, y), Reason.SHIFT)


def test_scale_computed_at_run_time_is_kept():
    b = Builder()
    scale = b.input(C, name="scale")
    y = b.node("InstanceNormalization", b.input("N", C, 5, 5), scale, b.normal(C))
    check_kept(up(b, y), Reason.NOT_CONSTANT, tensor="scale")


def test_statistics_of_a_layer_are_not_the_layer():
    b = Builder()
    x = b.input(C, 1, 4)
    _, mean = b.node("LayerNormalization", x, b.normal(4), b.normal(4), outputs=2)
    b.output(b.node("Sigmoid", b.bn(mean, 1)))
    check_kept(b.model(), Reason.OPERATOR)


# Down


def before(norm, *, opset=21, magnitude=None, shift=True, scale=None, epsilon=1e-2):
    """BN, then the normalization; the scales are +- magnitude where one is given."""
    b = Builder(opset)
    gain, bias, mean, var = b.statistics(C)
    if magnitude is not None:
        gain = b.rng.choice([-1.0, 1.0], C) * magnitude
        gain[0] = -magnitude
    if scale is not None:
        gain = np.asarray(scale, dtype=float)
    if not shift:
        bias, mean = bias * 0, mean * 0
    if magnitude is not None or scale is not None:
        var = np.ones(C)
    y = b.bn(b.input("N", C, 4, 5), C, stats=(gain, bias, mean, var), epsilon=0.0)
    return b.output(norm(b, y, epsilon), ("N", C, 4, 5)).model()


def instance_of(b, y, epsilon):
    return instance(b, y, epsilon=epsilon)


def group_of(groups):
    def norm(b, y, epsilon):
        parameters = b.normal(C), b.normal(C)
        return b.node("GroupNormalization", y, *parameters, num_groups=groups, epsilon=epsilon)

    return norm


def layer_of(axis):
    def norm(b, y, epsilon):
        shape = (C, 4, 5)[axis - 1 :]
        parameters = b.normal(*shape), b.normal(*shape)
        return b.node("LayerNormalization", y, *parameters, axis=axis, epsilon=epsilon)

    return norm


@pytest.mark.parametrize("magnitude", [1.0, 0.25, 3.0])
def test_down_one_magnitude(magnitude):
    check_folds(before(instance_of, magnitude=magnitude))
    check_folds(before(group_of(C), magnitude=magnitude))


@pytest.mark.parametrize(("magnitude", "fits"), [(2.0, True), (3.0, False)])
def test_down_an_epsilon_that_a_float32_holds_or_not(magnitude, fits):
    b = Builder(17, "float64")
    stats = (np.full(C, magnitude), np.zeros(C), np.zeros(C), np.ones(C))
    y = b.bn(b.input("N", C, 4, 5), C, stats=stats, epsilon=0.0)
    model = b.output(instance(b, y, epsilon=1e-2)).model()
    if fits:
        check_folds(model)
    else:
        check_kept(model, Reason.OVERFLOW)


def test_down_without_epsilon_any_scale():
    check_folds(before(instance_of, scale=[1, -2, 3, 0.5, -0.1, 7], epsilon=0.0))


def test_down_many_magnitudes_are_kept():
    check_kept(before(instance_of, scale=[1, -2, 3, 0.5, -0.1, 7]), Reason.SCALE)


def test_down_a_scale_of_zero_is_kept():
    check_kept(before(instance_of, scale=[0, 1, 1, 1, 1, 1]), Reason.SCALE)


@pytest.mark.parametrize("norm", [group_of(2), layer_of(1)])
def test_down_a_shift_or_sign_that_differs_where_the_mean_is_taken_is_kept(norm):
    check_kept(before(norm, magnitude=1.0), Reason.AXIS)
    check_kept(before(norm, magnitude=1.0, shift=False), Reason.AXIS)


def test_down_a_shift_that_the_mean_takes_away():
    ones = np.ones(C)
    check_folds(before(layer_of(2), scale=ones))
    check_folds(before(layer_of(2), scale=2 * ones))
    check_kept(before(layer_of(2), scale=[1, 2, 1, 1, 1, 1]), Reason.AXIS)


def test_down_into_a_parameter_is_kept():
    b = Builder()
    scale = b.node("Squeeze", b.bn(b.input(1, C, 1, 1, name="z"), C))
    b.output(b.node("InstanceNormalization", b.input("N", C, 4, 4), scale, b.normal(C)))
    check_kept(b.model(), Reason.NOT_CONSTANT)


# What leans on epsilon: without it, any scale is gone where one variance is taken, and only there


def within_groups(*rows):
    """Scales, a row for each group."""
    return [scale for row in rows for scale in row]


UNEVEN = within_groups([1.5, 0.9, 0.6], [0.5, 2.0, 1.0])
EVEN = within_groups([1.5, 1.5, 1.5], [-0.5, -0.5, -0.5])


@pytest.mark.parametrize("epsilon", [0.0, 1e-30, 1e-12, 1e-2, 1e6])
@pytest.mark.parametrize("shift", [False, True])
def test_down_magnitudes_that_differ_within_a_group_are_kept(epsilon, shift):
    check_kept(before(group_of(2), scale=UNEVEN, shift=shift, epsilon=epsilon), Reason.AXIS)


@pytest.mark.parametrize("rows", [([1, -1, 1], [2, 2, 2]), ([1, 1, 1], [2, 2, 2.001])])
def test_down_signs_or_a_little_that_differs_within_a_group_is_kept(rows):
    model = before(group_of(2), scale=within_groups(*rows), shift=False, epsilon=0.0)
    check_kept(model, Reason.AXIS)


def test_down_without_epsilon_one_magnitude_in_each_group():
    check_folds(before(group_of(2), scale=EVEN, shift=False, epsilon=0.0))


@pytest.mark.parametrize("epsilon", [1e-30, 1e-12, 1e-2, 1e6])
def test_down_with_epsilon_one_magnitude_for_all_groups(epsilon):
    check_kept(before(group_of(2), scale=EVEN, shift=False, epsilon=epsilon), Reason.SCALE)
    same = [2, 2, 2, -2, -2, -2]
    check_folds(before(group_of(2), scale=same, shift=False, epsilon=epsilon))


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-2, 1e6])
@pytest.mark.parametrize("norm", [instance_of, group_of(1), group_of(3), layer_of(1), layer_of(2)])
@pytest.mark.parametrize("magnitude", [1e-3, 0.3, 40.0])
def test_down_any_epsilon(norm, epsilon, magnitude):
    check_folds(before(norm, scale=[magnitude] * C, shift=False, epsilon=epsilon))


@pytest.mark.parametrize("epsilon", [0.0, 1e-2])
@pytest.mark.parametrize("norm", [layer_of(1), layer_of(2)])
def test_down_a_layer_takes_one_scale_whatever_epsilon_is(norm, epsilon):
    check_kept(before(norm, scale=UNEVEN, shift=False, epsilon=epsilon), Reason.AXIS)


@pytest.mark.parametrize("epsilon", [0.0, 1e-2])
def test_down_the_root_mean_square_takes_one_scale_and_no_shift(epsilon):
    def norm(b, y, epsilon):
        return b.node("RMSNormalization", y, b.normal(4, 5), axis=2, epsilon=epsilon)

    options = {"opset": 23, "epsilon": epsilon}
    check_folds(before(norm, scale=[-2] * C, shift=False, **options))
    check_kept(before(norm, scale=[-2] * C, **options), Reason.SHIFT)
    check_kept(before(norm, scale=UNEVEN, shift=False, **options), Reason.AXIS)


@pytest.mark.parametrize("magnitude", [1e-21, 1e20])
def test_down_an_epsilon_beyond_what_a_float32_holds_in_full(magnitude):
    # 1e-2 * 1e42 is infinite, and 1e-2 / 1e40 has lost most of its digits or all.
    check_kept(before(instance_of, scale=[magnitude] * C, shift=False), Reason.OVERFLOW)
    check_folds(before(instance_of, scale=[1e-3] * C, shift=False, epsilon=1e-12))


def test_down_a_subnormal_epsilon_is_not_made():
    model = before(instance_of, scale=[1e4] * C, shift=False, epsilon=1e-32)
    check_kept(model, Reason.OVERFLOW)


def test_down_float64_with_the_epsilon_of_no_attribute():
    # The default is a float32 too, and half of it is one that a float32 holds.
    b = Builder(17, "float64")
    stats = (np.full(C, 2.0), np.zeros(C), np.zeros(C), np.ones(C))
    y = b.bn(b.input("N", C, 4, 5), C, stats=stats, epsilon=0.0)
    check_folds(b.output(instance(b, y)).model())
