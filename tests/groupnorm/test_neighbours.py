"""What constants beside a normalization its own affine takes in, and which it must not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from support.build import Builder
from support.swapping import distance, ops, run_ort, swap_model

from normswap.groupnorm.reference import group_normalization

CHANNELS = 8
FORMS = ["native", "layernorm", "instancenorm", "centred", "primitive"]


class Case:
    """A model of some nodes around one normalization, and what it computes, in float64."""

    def __init__(self, dims=("N", CHANNELS, 5, 4), epsilon=1e-3, dtype="float32", seed=3):
        self.b = Builder(21, dtype, seed)
        self.epsilon = epsilon
        self.dims = dims
        self.tensor = self.b.input(*dims)
        self.along = (-1,) + (1,) * (len(dims) - 2)
        shape = tuple(d if isinstance(d, int) else 3 for d in dims)
        self.x = self.b.rng.normal(size=shape).astype(self.b.np_dtype)
        self.value = self.x.astype(np.float64)

    def affine(self, scale=None, shift=None, names=()):
        """A Mul and an Add, each where it is wanted."""
        for op, constant in (("Mul", scale), ("Add", shift)):
            if constant is not None:
                wide = np.asarray(constant, np.float64)
                wide = wide.reshape(self.along) if wide.ndim else wide
                stored = wide.astype(self.b.np_dtype).astype(np.float64)
                self.tensor = self.b.node(op, self.tensor, self.b.const(wide))
                self.value = self.value * stored if op == "Mul" else self.value + stored
        return self

    def bn(self, name, *, swapped, groups=4, **attrs):
        stats = [np.asarray(v, np.float32) for v in self.b.statistics(CHANNELS)]
        attrs.setdefault("epsilon", self.epsilon)
        self.tensor = self.b.bn(self.tensor, CHANNELS, stats=stats, name=name, **attrs)
        scale, bias, mean, var = (v.astype(np.float64) for v in stats)
        if swapped:
            self.value = group_normalization(
                self.value, scale, bias, num_groups=groups, epsilon=self.epsilon
            )
        else:
            s = scale / np.sqrt(var + attrs["epsilon"])
            self.value = self.value * s.reshape(self.along)
            self.value += (bias - mean * s).reshape(self.along)
        return self

    def swap(self, groups=4, reads=(), **fields):
        self.b.output(self.b.node("Identity", self.tensor), self.dims)
        for name in reads:
            self.b.output(self.b.node("Abs", name), self.dims)
        self.model = self.b.model()
        swapped, plan = swap_model(self.model, groups, **fields)
        return swapped, plan

    def agrees(self, swapped, allowed=2e-4):
        for optimized in (True, False):
            y = run_ort(swapped, optimized=optimized, x=self.x)[0]
            scale = max(1.0, float(np.abs(self.value).max()))
            assert distance(y, self.value) < allowed * scale


def removed(plan):
    return [site.op for swap in plan.swaps for site in swap.absorbed]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("dims", [("N", 8, 5, 4), (3, 8, 6), ("N", 8, "H", "W")])
def test_behind(form, groups, dims):
    case = Case(dims).bn("first", swapped=True, groups=groups)
    if "H" in dims:
        case.affine(-2.5, 0.75)  # scalars fit a tensor of any shape
    else:
        case.affine(case.b.rng.normal(size=8), case.b.rng.normal(size=8))
    case.bn("second", swapped=False, epsilon=0.1)
    swapped, plan = case.swap(groups, form=form, exclude=("second",))
    assert removed(plan) == ["Mul", "Add", "BatchNormalization"]
    assert plan.total == 2
    assert plan.absorbed_batchnorms == 1
    assert plan.untouched == ()
    assert "BatchNormalization" not in ops(swapped)
    case.agrees(swapped)
    # As many nodes as the form has for a layer without neighbours.
    alone, _ = Case(dims).bn("first", swapped=True).swap(groups, form=form)
    assert ops(swapped) == ops(alone)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_behind_in_other_types(dtype):
    case = Case(dtype=dtype).bn("first", swapped=True).affine(np.linspace(-2, 2, 8), 0.5)
    swapped, plan = case.swap()
    assert removed(plan) == ["Mul", "Add"]
    case.agrees(swapped, 5e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale", "absorbed"),
    [
        ("float32", 3.0, ["Mul"]),
        ("float64", 3.0, []),  # epsilon / 9 is no float32, as which an attribute is stored
        ("float64", -4.0, ["Mul"]),
    ],
)
@pytest.mark.parametrize("form", ["layernorm", "primitive"])
def test_an_epsilon_that_would_be_rounded_more_than_the_rest(dtype, scale, absorbed, form):
    case = Case(dtype=dtype, epsilon=2.0**-10).affine(2.0**-4 * scale)
    case.bn("bn", swapped=True)
    swapped, plan = case.swap(form=form)
    assert removed(plan) == absorbed
    case.agrees(swapped, 1e-6 if dtype == "float32" else 1e-14)


def test_what_is_swapped_itself_is_no_neighbour():
    case = Case().bn("first", swapped=True).bn("second", swapped=True)
    swapped, plan = case.swap()
    assert len(plan.swaps) == 2
    assert removed(plan) == []
    case.agrees(swapped)


@pytest.mark.parametrize("fields", [{"keep_scale": False}, {"keep_bias": False}])
def test_dropped_parameters_stay_dropped(fields):
    case = Case().bn("first", swapped=True).affine(np.linspace(-2, 2, 8), 0.5)
    swapped, plan = case.swap(**fields)
    assert removed(plan) == ["Mul", "Add"]
    other, _ = swap_model(case.model, 4, absorb=False, **fields)
    feeds = {"x": case.x}
    assert distance(run_ort(swapped, **feeds)[0], run_ort(other, **feeds)[0]) < 1e-5


def test_behind_something_that_others_read():
    case = Case().bn("first", swapped=True)
    between = case.tensor
    swapped, plan = case.affine(np.linspace(-2, 2, 8)).swap(reads=(between,))
    assert removed(plan) == []
    case.agrees(swapped)


def test_behind_a_tensor_that_a_subgraph_reads():
    case = Case().bn("first", swapped=True)
    between = case.tensor
    case.affine(2.0)
    info = helper.make_tensor_value_info("inner", 1, None)
    body = helper.make_graph([helper.make_node("Abs", [between], ["inner"])], "g", [], [info])
    condition = case.b.const(np.array(True))
    case.b.output(case.b.node("If", condition, then_branch=body, else_branch=body), case.dims)
    _, plan = case.swap()
    assert removed(plan) == []


@pytest.mark.parametrize("shape", [(1, 1, 5, 4), (1, 8, 5, 4), (5, 1), (4,)])
def test_constants_that_are_not_by_channel_stay(shape):
    case = Case(dims=(3, 8, 5, 4)).bn("first", swapped=True)
    constant = case.b.rng.normal(size=shape).astype(np.float32)
    case.tensor = case.b.node("Mul", case.tensor, case.b.const(constant))
    case.value = case.value * constant
    swapped, plan = case.swap()
    assert removed(plan) == []
    case.agrees(swapped)


def test_a_training_mode_normalization_is_no_affine():
    case = Case(dims=(3, 8, 5, 4)).bn("first", swapped=True)
    parameters = [case.b.const(v) for v in case.b.statistics(8)]
    case.tensor, *_ = case.b.node(
        "BatchNormalization", case.tensor, *parameters, outputs=3, name="second", training_mode=1
    )
    _, plan = case.swap(exclude=("second",))
    assert removed(plan) == []
    assert [entry.site.node for entry in plan.untouched] == ["second"]


def test_what_would_overflow_stays():
    case = Case(dtype="float16").bn("first", swapped=True).affine(np.full(8, 60000.0))
    _, plan = case.swap()
    assert removed(plan) == []


def test_parameters_of_run_time_take_nothing_in():
    b = Builder(21)
    x = b.input("N", 8, 5, 4)
    scale = b.input(8, name="scale")
    constants = [b.const(v) for v in b.statistics(8)[1:]]
    y = b.node("BatchNormalization", x, scale, *constants, name="bn")
    b.output(b.node("Mul", y, b.const(np.array(2.0))), ["N", 8, 5, 4])
    _, plan = swap_model(b.model(), 4)
    assert removed(plan) == []


# --- before -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("groups", "scale", "shift"),
    [
        (4, 3.0, -2.0),
        (4, -0.25, 100.0),
        (4, np.repeat([2.0, -2.0, 2.0, -2.0], 2), np.repeat([1.0, 2.0, 3.0, 4.0], 2)),
        (8, -3.0, np.arange(8.0)),  # a shift of every channel, where each is a group
        (1, None, 5.0),
    ],
)
def test_before(form, groups, scale, shift):
    case = Case(epsilon=0.05).affine(scale, shift).bn("bn", swapped=True, groups=groups)
    swapped, plan = case.swap(groups, form=form)
    assert removed(plan) == ([] if scale is None else ["Mul"]) + ["Add"]
    size = 1.0 if scale is None else float(np.max(np.abs(scale)))
    assert plan.swaps[0].epsilon == pytest.approx(0.05 / size**2, rel=1e-6)
    case.agrees(swapped)


def test_without_epsilon_every_group_may_have_its_own_scale():
    scale = np.repeat([2.0, -3.0, 0.5, 7.0], 2)
    case = Case(epsilon=0.0).affine(scale).bn("bn", swapped=True)
    swapped, plan = case.swap()
    assert removed(plan) == ["Mul"]
    case.agrees(swapped)


@pytest.mark.parametrize(
    ("scale", "shift"),
    [
        (np.arange(1.0, 9.0), None),  # differs within a group
        (np.repeat([1.0, 2.0, 3.0, 4.0], 2), None),  # and from group to group, with an epsilon
        (np.tile([1.0, -1.0], 4), None),
        (0.0, None),
        (1e25, None),  # epsilon would vanish
        (None, np.arange(8.0)),
    ],
)
def test_before_where_it_is_not_exact(scale, shift):
    case = Case(epsilon=0.05).affine(scale, shift).bn("bn", swapped=True)
    swapped, plan = case.swap()
    assert removed(plan) == []
    if scale is None or np.max(scale) < 1e20:
        case.agrees(swapped)


def test_shifts_that_cancel_out():
    case = Case().affine(None, np.arange(8.0)).affine(None, 1 - np.arange(8.0))
    swapped, plan = case.bn("bn", swapped=True).swap()
    assert removed(plan) == ["Add", "Add"]
    case.agrees(swapped)


def test_before_stops_at_what_others_read():
    case = Case().affine(3.0)
    between = case.tensor
    swapped, plan = case.affine(2.0).bn("bn", swapped=True).swap(reads=(between,))
    assert removed(plan) == ["Mul"]
    case.agrees(swapped)


def test_an_affine_between_two_layers_goes_once():
    case = Case().bn("first", swapped=True).affine(2.0, 1.0).bn("second", swapped=True)
    swapped, plan = case.swap()
    assert [len(swap.absorbed) for swap in plan.swaps] == [2, 0]
    case.agrees(swapped)


def test_constants_that_the_model_computes_go_too():
    case = Case().bn("first", swapped=True)
    var = case.b.node("Sqrt", case.b.const(np.array(4.0)))
    case.tensor = case.b.node("Mul", case.tensor, var)
    case.value = case.value * 2
    swapped, plan = case.swap()
    assert removed(plan) == ["Mul"]
    assert "Sqrt" not in ops(swapped)
    case.agrees(swapped)


def test_the_tensors_that_stay_keep_their_names():
    case = Case().affine(2.0).bn("first", swapped=True).affine(3.0)
    swapped, _ = case.swap()
    producer = {name: node for node in swapped.graph.node for name in node.output}
    last = next(node for node in case.model.graph.node if node.op_type == "Identity")
    assert last.input[0] in producer
    onnx.checker.check_model(swapped, full_check=True)
