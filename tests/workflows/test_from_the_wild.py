"""Models as exporters and people leave them, each through the commands that a person would run."""

import contextlib
import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from support.build import Builder
from support.cli import invoke
from support.folding import count
from support.swapping import ops, run_ort

import normswap
from normswap import Verdict
from normswap.errors import RunError
from normswap.report import tell


def layer(b, x, c_in=3, c_out=4, **conv):
    return b.bn(b.conv(x, c_in, c_out, **conv), c_out)


def folds(model):
    """Fold a model and check it; return the report."""
    result = normswap.fold(model)
    assert result.report.check.verdict is Verdict.EQUIVALENT
    assert count(result.model) == 0
    return result.report


def swaps(model, groups=2):
    """Swap the normalizations of a model and check them; return the report."""
    result = normswap.bn_to_gn(model, groups=groups)
    assert result.report.check.verdict is Verdict.EQUIVALENT
    assert "BatchNormalization" not in ops(result.model)
    return result.report


def rename_sizes(model, size):
    """Write a size in place of the batch, wherever the file tells it."""
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = size
    return model


# ------------------------------------------------------------------------- sizes that are none


@pytest.mark.parametrize("size", [-1, 0])
def test_sizes_that_are_none_are_any(size):
    b = Builder()
    b.output(layer(b, b.input("N", 3, 8, 8)))
    model = rename_sizes(b.model(), size)
    report = folds(model)
    assert all(0 not in shape for case in report.check.cases for shape in case.shapes.values())
    swaps(model)
    assert normswap.check(model, model).verdict is Verdict.EQUIVALENT


def test_a_size_of_zero_may_be_meant():
    """What is put before the maps has to be empty, or they would not fit what is added."""
    b = Builder()
    b.input(1, 4, 0, 6, name="past")
    grown = b.node("Concat", "past", layer(b, b.input(1, 3, 8, 8)), axis=2)
    b.output(b.node("Add", grown, b.normal(1, 4, 6, 6)))
    report = folds(b.model())
    assert {case.shapes["past"] for case in report.check.cases} == {(1, 4, 0, 6)}


def test_data_goes_for_a_size_of_zero(tmp_path):
    b = Builder()
    b.output(layer(b, b.input("N", 3, 8, 8)))
    model = rename_sizes(b.model(), 0)
    data = [{"x": np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)}]
    report = normswap.bn_to_gn(model, groups=2, calibrate=data).report
    assert report.calibrated == 1


# ------------------------------------------------------------------------- outputs of other types


@pytest.mark.parametrize(
    ("op", "kind", "attributes"),
    [("ArgMax", "int64", {"axis": 1}), ("IsNaN", "bool", {}), ("SequenceConstruct", "", {})],
)
def test_outputs_of_other_types(op, kind, attributes):
    b = Builder()
    y = b.node(op, layer(b, b.input(2, 3, 8, 8)), out="last", **attributes)
    if kind:
        b.output(y, elem_type=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    else:
        b.outputs.append(helper.make_tensor_sequence_value_info(y, TensorProto.FLOAT, None))
    model = b.model()
    report = swaps(model)
    assert report.check.is_proved
    assert [output.standing.value for output in report.check.proof.outputs] == ["proved"]
    # Tensors of a sequence are judged one by one.
    names = ["last"] if kind else ["last[0]"]
    assert [output.name for output in report.check.outputs] == names
    assert report.check.outputs[0].evidence.dtype == (kind or "float32")


def test_texts_are_the_same():
    b = Builder()
    x = b.input(2, 3, 8, 8)
    b.output(layer(b, x))
    b.output(b.node("Cast", b.node("Shape", x), out="words", to=TensorProto.STRING), elem_type=8)
    report = swaps(b.model())
    (words,) = (o for o in report.check.outputs if o.name == "words")
    assert words.evidence.verdict_level.mismatches == 0
    assert report.check.is_proved
    folds(b.model())


def test_an_output_of_another_type_alone_is_no_network_that_was_checked():
    """A layer that is wrong is found, whatever the network ends in."""
    b = Builder()
    b.output(b.node("ArgMax", layer(b, b.input(2, 3, 8, 8)), axis=1), elem_type=TensorProto.INT64)
    report = swaps(b.model())
    assert report.check.is_proved
    assert len(report.check.proof.regions) == 2  # its statistics in the Conv before, and itself


@pytest.mark.parametrize("op", ["CastLike", "RandomNormalLike", "function"])
def test_outputs_that_depend_on_no_input(op):
    """Beside the result, a state that has the type or size of the input and nothing else of it."""
    b = Builder()
    x = b.input(2, 3, 8, 8)
    b.output(layer(b, x))
    if op == "CastLike":
        b.output(b.node(op, b.const(np.zeros((1, 5)), dtype=np.float64), x))
    elif op == "RandomNormalLike":
        b.output(b.node(op, x))
    else:
        body = [helper.make_node("CastLike", ["K", "X"], ["Y"])]
        opsets = [helper.make_opsetid("", 17)]
        b.functions.append(helper.make_function("own", "Zeros", ["K", "X"], ["Y"], body, opsets))
        b.extra_opsets.append(helper.make_opsetid("own", 1))
        b.output(b.node("Zeros", b.const(np.zeros(3), dtype=np.float64), x, domain="own"))
    model = b.model()
    folds(model)
    if op == "CastLike":
        swaps(model)


def test_outputs_that_ought_to_depend_on_inputs_and_never_do():
    b = Builder()
    x = b.input(2, 3, 8, 8)
    b.output(layer(b, x))
    b.output(b.node("Mul", x, b.const(0.0)))
    tested = normswap.CheckOptions(proof=False)
    with pytest.raises(normswap.InconclusiveError, match="the same for every input that was tried"):
        normswap.fold(b.model(), check=tested)
    assert normswap.fold(b.model()).report.check.is_proved


# ------------------------------------------------------------------- what onnxruntime does not run


def spatial_is_0(b, x, c_in=3, c_out=4):
    return b.bn(b.conv(x, c_in, c_out), c_out, spatial=0)


def test_one_value_a_channel_is_per_channel_whatever_the_model_says():
    b = Builder(7)
    b.output(spatial_is_0(b, b.input(2, 3, 8, 8)))
    model = b.model(ir_version=4)
    assert folds(model).check.is_proved
    report = normswap.fold(model, check=normswap.CheckOptions(proof=False)).report
    assert any("compared in float64 only" in note for note in report.check.notes)
    twin = onnx.ModelProto.FromString(model.SerializeToString())
    kept = [item for item in model.graph.node[-1].attribute if item.name != "spatial"]
    del twin.graph.node[-1].attribute[:]
    twin.graph.node[-1].attribute.extend(kept)
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    (wanted,) = run_ort(twin, x=x)
    (given,) = run_ort(normswap.fold(model).model, x=x)
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5)
    swaps(model)
    assert normswap.bn_to_ln(model).report.check.verdict is Verdict.EQUIVALENT
    assert normswap.bn_to_in(model).report.check.verdict is Verdict.EQUIVALENT


def test_a_swap_of_what_the_runtime_refuses_has_no_drift():
    """Nothing takes the layer's place at any level of the optimizer."""
    b = Builder(7)
    y = b.node("Relu", b.input(2, 4, 8, 8))
    b.output(b.node("Relu", b.bn(y, 4, spatial=0)))
    report = swaps(b.model(ir_version=4))
    assert report.check.drift.outputs == {}
    assert any(
        "the drift from the original was not measured" in note for note in report.check.notes
    )


def refused_when_folded():
    """Two branches become a grouped Conv, whose result is an output and added to another's."""
    b = Builder()
    x = b.node("Sigmoid", b.input(1, 2, 4, 4))
    y = b.node("Add", b.bn(x, 2), b.bn(b.conv(x, 2, 2, kernel=(1, 1), group=2), 2))
    z = b.node("Add", y, b.conv(x, 2, 2, group=2, pads=[1, 1, 1, 1]))
    b.output(y).output(z)
    return b.model()


def test_a_fold_that_the_runtime_refuses_is_judged_below_its_default_level():
    model = refused_when_folded()
    report = folds(model)
    with contextlib.suppress(RuntimeError, ort_errors.Fail):
        run_ort(normswap.fold(model).model, x=np.zeros((1, 2, 4, 4), np.float32))
        pytest.skip("this onnxruntime runs it")
    said = [note for note in report.check.notes if "at its default optimization level" in note]
    assert len(said) == 1
    assert "can at level" in said[0]


def test_without_the_arbiter_a_refusal_ends_the_check_with_a_tip():
    b = Builder(7)
    b.output(spatial_is_0(b, b.input(2, 3, 8, 8)))
    model = b.model(ir_version=4)
    with pytest.raises(RunError, match="could not run") as raised:
        normswap.fold(model, check=normswap.CheckOptions(arbiter=False))
    assert "--no-check" in raised.value.tip
    assert count(normswap.fold(model, check=None).model) == 0


def test_a_model_that_nothing_can_run_ends_with_a_tip():
    b = Builder()
    b.output(b.node("Secret", layer(b, b.input(2, 3, 8, 8)), domain="example"), (2, 4, 6, 6))
    b.extra_opsets.append(helper.make_opsetid("example", 1))
    for rewrite in (normswap.fold, normswap.bn_to_ln):
        with pytest.raises(RunError) as raised:
            rewrite(b.model())
        assert "--no-check" in raised.value.tip


# --------------------------------------------------------------------------- inputs that say little


def test_sizes_that_must_agree():
    b = Builder()
    one, other = b.input("n", 4, "h", "w", name="one"), b.input("m", 4, "p", "q", name="other")
    y = b.bn(b.conv(one, 4, 6, strides=[2, 2]), 6)
    b.output(b.node("Add", y, b.conv(other, 4, 6, kernel=(1, 1))))
    folds(b.model())
    swaps(b.model())


def test_sizes_that_can_not_be_found_are_asked_for():
    b = Builder()
    flat = b.node("Flatten", layer(b, b.input(1, 3, "h", "w")))
    b.output(b.node("Gemm", flat, b.normal(4 * 5 * 7, 2)))
    for rewrite in (normswap.fold, normswap.bn_to_ln):
        with pytest.raises(RunError) as raised:
            rewrite(b.model())
        assert "--input-shape x:1,3,64,64 did not work" in raised.value.tip
    folded = normswap.fold(b.model(), check=normswap.CheckOptions(input_shapes={"x": (1, 3, 7, 9)}))
    assert folded.report.check.verdict is Verdict.EQUIVALENT


def test_inputs_that_no_memory_holds(tmp_path):
    b = Builder()
    b.output(layer(b, b.input(1, 3, 3_000_000, 3_000_000)))
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path)
    for command in (("fold",), ("bn-to-ln",)):
        result = invoke(*command, path)
        assert result.code == 4
        assert "Out of memory: " in result.err
        assert "internal" not in result.err


def test_inputs_that_can_not_be_drawn():
    b = Builder()
    b.output(layer(b, b.input(1, 3, 8, 8)))
    model = b.model()
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, []))
    model.graph.input.append(helper.make_value_info("map", kind))
    for rewrite in (normswap.fold, normswap.bn_to_ln):
        with pytest.raises(normswap.UsageError, match="'map' is of kind map") as raised:
            rewrite(model)
        assert "--no-check" in raised.value.tip


# ------------------------------------------------------------------------------ words that mislead


def centred():
    """The mean of what its mean was taken from."""
    b = Builder()
    y = layer(b, b.input(1, 3, 8, 8))
    y = b.node("Sub", y, b.node("ReduceMean", y, axes=[2, 3]))
    return b.output(b.node("ReduceMean", y, out="zero", axes=[2, 3])).model()


def test_rounding_around_zero_is_said_to_be_that():
    said = "output 'zero' is only rounding error around zero: terms of about 1 cancel in it"
    assert any(said in note for note in folds(centred()).check.notes)
    assert any(said in note for note in swaps(centred(), groups=1).check.notes)


def test_small_values_are_no_rounding():
    b = Builder()
    b.output(b.node("Mul", layer(b, b.input(1, 3, 8, 8)), b.const(1e-20)))
    for report in (folds(b.model()), swaps(b.model())):
        assert not any("rounding around zero" in note for note in report.check.notes)


def classifier():
    b = Builder()
    y = b.node("Flatten", b.node("GlobalAveragePool", layer(b, b.input("n", 3, 8, 8))))
    return b.output(b.node("MatMul", y, b.normal(4, 2), out="scores")).model()


@pytest.mark.parametrize(("samples", "told"), [(0, False), (49, False), (50, True)])
def test_shares_are_of_enough_data_that_a_person_gave(samples, told):
    data = np.random.default_rng(0).normal(size=(samples, 3, 8, 8)).astype(np.float32)
    given = {"evaluate": [{"x": data}]} if samples else {}
    report = normswap.bn_to_gn(classifier(), groups=2, **given).report
    drift = report.check.drift.outputs["scores"]
    assert (drift.top1 is not None) == told
    stream = io.StringIO()
    tell(report, "text", stream)
    assert ("%" in stream.getvalue()) == told
    if told:
        assert f"of {samples} samples" in stream.getvalue()


def test_a_check_names_the_constant_that_is_not_finite():
    b = Builder()
    b.output(layer(b, b.input(1, 3, 8, 8)))
    model = b.model()
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[:, 0, 1, 2] = np.nan
    name = model.graph.initializer[0].name
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, name))
    report = normswap.check(model, model)
    assert report.verdict is Verdict.INCONCLUSIVE
    said = f"{name} has 4 values that are not finite: the first, at index (0, 0, 1, 2), is NaN"
    assert any(said in note for note in report.notes)


# -------------------------------------------------------------------------------- random operators


RANDOM = {
    "RandomNormal": lambda b, y: b.node("Add", y, b.node("RandomNormal", shape=[2, 4, 6, 6])),
    "RandomUniform": lambda b, y: b.node("Add", y, b.node("RandomUniform", shape=[2, 4, 6, 6])),
    "RandomNormalLike": lambda b, y: b.node("Add", y, b.node("RandomNormalLike", y)),
    "RandomUniformLike": lambda b, y: b.node("Add", y, b.node("RandomUniformLike", y)),
    "Bernoulli": lambda b, y: b.node("Add", y, b.node("Bernoulli", b.node("Sigmoid", y))),
    "Dropout": lambda b, y: b.node("Dropout", y, b.const(0.4), b.const(np.array(True))),
    "Multinomial": lambda b, y: b.node(
        "Add",
        y,
        b.node("Cast", b.node("Multinomial", b.const(np.zeros((2, 6))), sample_size=6), to=1),
    ),
}


def noisy(name):
    b = Builder()
    y = layer(b, b.input(2, 3, 8, 8))
    if name == "Multinomial":
        y = b.node("Flatten", b.node("GlobalMaxPool", y))
        y = b.node("MatMul", y, b.normal(4, 6))
    return b.output(RANDOM[name](b, y)).model()


@pytest.mark.parametrize("name", RANDOM)
def test_a_swapped_network_draws_the_numbers_of_the_original(name):
    report = swaps(noisy(name))
    assert all(o.evidence.verdict_level.max_abs < 1e-4 for o in report.check.outputs)
    assert any("were given fixed seeds" in note for note in report.check.notes)


def test_a_folded_network_draws_them_too():
    model = noisy("Dropout")
    report = folds(model)
    assert report.check.worst.evidence.verdict_level.max_abs < 1e-4
    assert any("were given fixed seeds" in note for note in report.check.notes)
    bias = model.graph.initializer[3]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
    assert normswap.check(noisy("Dropout"), model).verdict is Verdict.DIFFERENT
