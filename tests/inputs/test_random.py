import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from support.check_models import conv_bn, model, save, tensor, value

from normswap.check.cases import make_cases
from normswap.check.options import CheckOptions
from normswap.dtypes import is_floating
from normswap.errors import UsageError
from normswap.inputs.random import Distribution, Draw, make_case
from normswap.inputs.random import tensor as draw
from normswap.inputs.roles import Allowed, Known, allowed
from normswap.inputs.signature import read_signature


def drawn(dtype="float32", shape=(4, 5), *, name="x", kind=Distribution.NORMAL, seed=0, **facts):
    return draw(
        name,
        dtype,
        shape,
        draw=Draw(kind),
        meaning=Allowed(**facts) if facts else None,
        rng=np.random.default_rng(seed),
    )


DTYPES = (
    "float32 float64 float16 bfloat16 float8_e4m3fn int8 uint8 int64 bool string complex64 int4"
)


@pytest.mark.parametrize("dtype", DTYPES.split())
@pytest.mark.parametrize("kind", [k for k in Distribution if k is not Distribution.USER])
def test_every_type_has_every_distribution(dtype, kind):
    array = drawn(dtype, kind=kind)
    assert array.shape == (4, 5)
    assert array.dtype == (
        object if dtype == "string" else np.dtype(getattr(ml_dtypes, dtype, dtype))
    )
    if is_floating(array.dtype):
        assert np.isfinite(array.astype(np.float64)).all()


def test_distributions_are_what_they_say():
    shape = (3, 4000)
    assert drawn(shape=shape, kind=Distribution.UNIFORM).min() >= 0
    assert abs(drawn(shape=shape, kind=Distribution.LARGE_MEAN).mean() - 10) < 0.1
    assert (drawn(shape=shape, kind=Distribution.SPARSE) == 0).mean() > 0.8
    assert (np.ptp(drawn(shape=shape, kind=Distribution.CONSTANT), axis=1) == 0).all()
    assert np.abs(drawn(shape=shape, kind=Distribution.EXTREMES)).max() == 1000
    assert np.abs(drawn("float16", shape, kind=Distribution.EXTREMES)).max() == 20


def test_ranges_are_kept():
    values = drawn("int64", (500,), low=0, high=6)
    assert (values.min(), values.max()) == (0, 6)
    assert drawn("float32", (500,), low=0, high=6).max() <= 6
    values = drawn("float32", (500,), low=-3.0, high=-2.0)
    assert -3 <= values.min() <= values.max() <= -2
    assert set(drawn("int32", (500,), low=2, high=4).tolist()) == {2, 3, 4}
    assert drawn("int64", (9,), low=1, high=2).min() >= 1
    assert drawn("int64", (500,), low=1, high=500).min() >= 1
    assert drawn("int64", (500,), name="lengths").min() >= 1


def test_a_mask_keeps_a_prefix():
    mask = drawn("int64", (20, 10), name="attention_mask")
    assert set(np.unique(mask)) <= {0, 1}
    assert (np.diff(mask, axis=1) <= 0).all()
    assert (mask.sum(axis=1) >= 5).all()


def signature(tmp_path, made):
    return read_signature(save(tmp_path / "m.onnx", made))


def test_a_seed_fixes_the_inputs_and_an_input_does_not_depend_on_the_others(tmp_path):
    node = helper.make_node("Sum", ["a", "b"], ["y"])
    one = signature(tmp_path, model([node], [value("a", [4]), value("b", [4])], [value("y", None)]))
    two = signature(tmp_path, model([node], [value("b", [4]), value("a", [4])], [value("y", None)]))
    shapes = {"a": (4,), "b": (4,)}
    cases = [
        make_case(s, shapes, Distribution.NORMAL, seed=seed, ranges={})
        for s, seed in ((one, 1), (two, 1), (one, 2))
    ]
    for name in shapes:
        assert np.array_equal(cases[0].feeds[name], cases[1].feeds[name])
        assert not np.array_equal(cases[0].feeds[name], cases[2].feeds[name])
    assert not np.array_equal(cases[0].feeds["a"], cases[0].feeds["b"])


def test_a_range_for_an_input_that_is_not_there(tmp_path):
    s = signature(tmp_path, conv_bn())
    with pytest.raises(
        UsageError, match="A range is given for input 'z', but the model has no such input"
    ):
        make_case(s, {"x": (1, 3, 4, 4)}, Distribution.NORMAL, seed=0, ranges={"z": (0, 1)})


def test_indices_are_found_through_what_leaves_them_alone(tmp_path):
    nodes = [
        helper.make_node("Cast", ["ids"], ["i"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["i", "zero"], ["u"]),
        helper.make_node("Gather", ["table", "u"], ["y"], axis=1),
    ]
    made = model(
        nodes,
        [value("ids", ["N"])],
        [value("y", None)],
        [tensor("table", np.ones((3, 5, 2), np.float32)), tensor("zero", np.array([0]))],
    )
    s = signature(tmp_path, made)
    shapes = {"ids": (9,)}
    known = Known.of(s, shapes)
    found = allowed(s.semantics["ids"], (9,), known, np.random.default_rng(0))
    assert (found.low, found.high) == (0, 4)


def test_quick_has_few_cases_and_full_sweeps_the_batch(tmp_path):
    s = signature(tmp_path, conv_bn())
    quick = make_cases(s, CheckOptions(), spatial=8)
    assert [c.shapes()["x"] for c in quick] == [(n, 3, 8, 8) for n in (1, 2, 8)]
    heavy = make_cases(s, CheckOptions(), spatial=1024)
    assert [c.shapes()["x"][0] for c in heavy] == [1, 2]
    fixed = make_cases(s, CheckOptions(symbolic_dims={"N": 3}), spatial=8)
    assert [c.shapes()["x"][0] for c in fixed] == [3, 3]
    full = make_cases(s, CheckOptions(depth="full"), spatial=8)
    assert {c.shapes()["x"][0] for c in full} == {1, 2, 7}
    assert {c.distribution for c in full} == set(Distribution) - {Distribution.USER}
    more = make_cases(s, CheckOptions(iterations=3), spatial=8)
    assert len({c.name for c in more}) == 9


def test_sequences_and_optionals_are_drawn(tmp_path):
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [2, None])
    node = helper.make_node("SequenceLength", ["x"], ["y"])
    made = model([node], [sequence], [value("y", [], TensorProto.INT64)])
    s = signature(tmp_path, made)
    assert s.inputs[0].kind == "sequence:tensor"
    case = make_cases(s, CheckOptions(), spatial=8)[0]
    assert [a.shape for a in case.feeds["x"]] == [(2, 16)] * 3
