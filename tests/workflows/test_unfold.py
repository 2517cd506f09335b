"""BatchNormalizations that are put back: the same function, and the one a fold takes away."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import count, run
from support.functions import Body
from support.onebatch import stored_statistics
from support.swapping import tensor_of

from normswap.errors import DataError, UsageError
from normswap.unfolding.identity import EPSILON
from normswap.unfolding.places import Omission
from normswap.workflows.bn_to_gn import bn_to_gn
from normswap.workflows.fold import fold
from normswap.workflows.unfold import plan_report, unfold

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(12, 3, 8, 8)).astype(np.float32) * 3 + 1


def network(dtype="float32", *, dead=False, head=True):
    """A residual network with a linear bottleneck, folded: 3 layers that had one, and a head."""
    b = Builder(17, dtype, seed=3)
    x = b.input("N", 3, 8, 8)
    stem = b.conv(x, 3, 8, pads=[1] * 4, out="stem")
    x = b.node("Relu", stem, out="features")
    y = b.conv(x, 8, 8, group=8, pads=[1] * 4, out="depthwise")
    y = b.conv(y, 8, 8, kernel=(1, 1), out="pointwise")
    y = b.node("Relu", b.node("Add", x, y))
    if head:
        y = b.node("Flatten", b.node("GlobalAveragePool", y))
        y = b.node("Gemm", y, b.normal(8, 4), b.normal(4), out="logits")
    model = b.output(y, None).model()
    if dead:
        weight = next(t for t in model.graph.initializer if t.dims == [8, 3, 3, 3])
        values = numpy_helper.to_array(weight).copy()
        values[2] = 0
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return model


def unfolded(model, data=IMAGES, **options):
    dtype = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    return unfold(model, calibrate={"x": data.astype(dtype)}, **options)


def require_inverse(model, result):
    """The result is the same function, bit for bit, and a fold gives the model back."""
    onnx.checker.check_model(result.model, full_check=True)
    feeds = {"x": IMAGES.astype(np.float32)}
    for one, other in zip(run(model, feeds), run(result.model, feeds), strict=True):
        assert np.array_equal(one, other)
    assert fold(result.model, check=None).model == model


def test_a_folded_network_gets_its_own_back():
    model = network()
    result = unfolded(model)
    assert [place.output for place in result.report.plan.places] == [
        "stem", "depthwise", "pointwise",
    ]  # fmt: skip
    assert [(left.output, left.reason) for left in result.report.plan.left_out] == [
        ("logits", Omission.POOLED)
    ]
    assert result.report.check.is_proved
    assert result.report.samples == 12
    require_inverse(model, result)


@pytest.mark.parametrize(("batch", "order"), [(1, 1), (5, -1), (12, 1)])
def test_statistics_are_those_of_all_data_as_one_batch(batch, order):
    data = IMAGES[::order]
    batches = [{"x": data[at : at + batch]} for at in range(0, len(data), batch)]
    new = unfold(network(), calibrate=batches, check=None).model
    found = stored_statistics(new).values()
    for (mean, var), name in zip(found, ("stem", "depthwise", "pointwise"), strict=True):
        require_statistics(mean, var, tensor_of(network(), name, x=IMAGES))


def require_statistics(mean, var, values):
    """As they are of values, whose channels are the second axis; var as exactly as it may be."""
    rows = np.moveaxis(values, 1, 0).reshape(len(mean), -1).astype(np.float64)
    assert np.allclose(mean, rows.mean(axis=1), rtol=1e-5, atol=1e-5)
    assert np.allclose(var, rows.var(axis=1), rtol=2**-8)


def test_a_dead_channel_is_one_with_var_0():
    model = network(dead=True)
    result = unfolded(model)
    assert [place.dead for place in result.report.plan.places] == [1, 1, 0]
    values = {t.name: numpy_helper.to_array(t) for t in result.model.graph.initializer}
    node = next(n for n in result.model.graph.node if n.op_type == "BatchNormalization")
    scale, bias, mean, var = (values[name][2] for name in node.input[1:])
    assert (scale, var) == (np.sqrt(EPSILON), 0)
    assert bias == mean
    require_inverse(model, result)


def test_half_precision_and_a_variance_beyond_it():
    model = network("float16", head=False)
    result = unfolded(model, IMAGES)
    assert result.report.check.is_proved
    kinds = {t.data_type for t in result.model.graph.initializer}
    assert kinds == {TensorProto.FLOAT16}
    assert count(fold(result.model, check=None).model) == 0
    b = Builder(17, "float16")
    x = b.input("N", 3, 8, 8)
    b.output(b.node("Relu", b.node("Conv", x, b.const(np.full((2, 3, 1, 1), 400.0)),
                                   b.normal(2), out="large")), None)  # fmt: skip
    result = unfolded(b.model(), RNG.uniform(0, 2, (4, 3, 8, 8)))
    (left,) = result.report.plan.left_out
    assert left.reason is Omission.OVERFLOW
    assert "the variance of large has 2 values that are beyond the range of float16" in left.detail
    assert result.report.check is None


def test_an_output_of_the_graph_keeps_its_name():
    model = network()
    result = unfolded(model, include=["logits"], check=None)
    assert [o.name for o in result.model.graph.output] == ["logits"]
    require_inverse(model, result)


def test_patterns_override_the_rule_both_ways():
    report = plan_report(network(), include=["logits"], exclude=["ste*"])
    assert [place.output for place in report.plan.places] == ["depthwise", "pointwise", "logits"]
    assert [left.reason for left in report.plan.left_out] == [Omission.EXCLUDED]
    with pytest.raises(UsageError, match="No linear layer of"):
        plan_report(network(), include=["nothing"])


def test_channels_that_are_the_last_axis():
    b = Builder(17)
    x = b.input("N", 5, 3)
    y = b.node("Relu", b.node("Add", b.node("MatMul", x, b.normal(3, 6)), b.normal(6), out="h"))
    model = b.output(b.node("MatMul", y, b.normal(6, 2)), None).model()
    data = RNG.normal(size=(8, 5, 3)).astype(np.float32)
    result = unfold(model, calibrate={"x": data})
    assert [n.op_type for n in result.model.graph.node] == [
        "MatMul", "Add", "Transpose", "BatchNormalization", "Transpose", "Relu", "MatMul",
    ]  # fmt: skip
    assert np.array_equal(run(model, {"x": data})[0], run(result.model, {"x": data})[0])
    ((mean, var),) = stored_statistics(result.model).values()
    require_statistics(mean, var, tensor_of(model, "h", x=data).transpose(0, 2, 1))
    assert fold(result.model, check=None).model == model


@pytest.mark.parametrize("handed", [False, True])
def test_a_function_has_the_statistics_of_all_its_calls(handed):
    b = Builder(17)
    x = b.input("N", 3, 8, 8)
    w, c = (RNG.normal(size=shape).astype(np.float32) for shape in ((3, 3, 1, 1), (3,)))
    body = Body(b, "Block", ["x", "w", "c"] if handed else ["x"])
    weights = ["w", "c"] if handed else [body.const(w), body.const(c)]
    body.returns(body.node("Relu", body.node("Conv", "x", *weights)))
    given = [b.const(w), b.const(c)] if handed else []
    y = b.node("Block", b.node("Block", x, *given, domain="local"), *given, domain="local")
    model = b.output(y, None).model()
    result = unfolded(model)
    assert count(result.model) == 1
    assert result.report.check.verdict.value == "equivalent"
    assert fold(result.model, check=None).model == model
    constants = {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in result.model.functions[0].node
        if node.op_type == "Constant"
    }
    (bn,) = (n for n in result.model.functions[0].node if n.op_type == "BatchNormalization")
    w, c = (values.reshape(3, -1).astype(np.float64) for values in (w, c))
    first = np.einsum("oi,nihw->onhw", w, IMAGES.astype(np.float64)) + c[:, :, None, None]
    second = np.einsum("oi,inhw->onhw", w, np.maximum(first, 0)) + c[:, :, None, None]
    both = np.concatenate([first, second], axis=1).swapaxes(0, 1)
    require_statistics(constants[bn.input[3]], constants[bn.input[4]], both)


def test_a_branch_that_is_not_taken_gets_none():
    b = Builder(17)
    x = b.input("N", 3, 8, 8)
    flag = b.input(1, name="flag", elem_type=TensorProto.BOOL)
    weight, bias = b.normal(3, 3, 1, 1, name="w"), b.normal(3, name="c")
    branches = {}
    for name in ("then_branch", "else_branch"):
        nodes = [
            helper.make_node("Conv", [x, weight, bias], [f"{name}/y"], f"{name}/conv"),
            helper.make_node("Relu", [f"{name}/y"], [f"{name}/z"]),
        ]
        out = helper.make_tensor_value_info(f"{name}/z", TensorProto.FLOAT, None)
        branches[name] = helper.make_graph(nodes, name, [], [out])
    model = b.output(b.node("If", flag, **branches), None).model()
    data = {"x": IMAGES, "flag": np.array([True])}
    result = unfold(model, calibrate=[data])
    assert [place.node for place in result.report.plan.places] == ["then_branch/conv"]
    (left,) = result.report.plan.left_out
    assert (left.node, left.reason) == ("else_branch/conv", Omission.NO_ESTIMATE)
    assert count(result.model) == 1


def test_batchnorms_that_are_there_stay():
    b = Builder(17)
    y = b.bn(b.node("Relu", b.conv(b.input("N", 3, 8, 8), 3, 4)), 4)
    y = b.node("Relu", b.conv(y, 4, 4, out="conv"))
    result = unfolded(b.output(y, None).model())
    assert (count(result.model), result.report.plan.present) == (2, 1)


def test_a_model_with_nothing_to_unfold_is_not_run(tmp_path):
    b = Builder(17)
    b.output(b.node("Relu", b.input("N", 3, 8, 8)), None)
    onnx.save(b.model(), tmp_path / "model.onnx")
    result = unfold(tmp_path / "model.onnx", tmp_path / "copy.onnx", calibrate=[])
    assert (result.report.plan.places, result.report.check, result.report.samples) == ((), None, 0)
    same = (tmp_path / "model.onnx").read_bytes()
    assert (tmp_path / "copy.onnx").read_bytes() == same


def test_one_sample_has_no_variance():
    b = Builder(17)
    y = b.node("Relu", b.node("Gemm", b.input("N", 3), b.normal(3, 4), b.normal(4)))
    result = unfold(b.output(y, None).model(), calibrate={"x": IMAGES[:1, :, 0, 0]})
    (left,) = result.report.plan.left_out
    assert (left.reason, "may be too little" in left.detail) == (Omission.NO_ESTIMATE, True)


def test_what_has_no_data_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no data to estimate the statistics"):
        unfold(network(), tmp_path / "new.onnx")
    with pytest.raises(DataError):
        unfold(network(), tmp_path / "new.onnx", calibrate=[])
    broken = IMAGES.copy()
    broken[3, 1, 2, 2] = np.nan
    with pytest.raises(DataError, match="x has 1 value that is not finite"):
        unfold(network(), tmp_path / "new.onnx", calibrate={"x": broken})
    assert not list(tmp_path.iterdir())


def test_a_swap_in_one_call(monkeypatch):
    """Its statistics are not of what is held out, by which the swap is judged."""
    unfolds = []

    def noted(*arguments, **options):
        unfolds.append(unfold(*arguments, **options))
        return unfolds[-1]

    monkeypatch.setattr("normswap.workflows.swap.put_back", noted)
    data = ({"x": IMAGES[at : at + 4]} for at in (0, 4, 8))
    report = bn_to_gn(network(), groups=4, unfold=True, calibrate=data, check=None).report
    assert (len(report.plan.swaps), report.unfolded) == (3, 3)
    assert [each.report.samples for each in unfolds] == [12 - report.fit.held_out]
    assert len(report.fit.steps) + len(report.fit.unfitted) >= 3
    assert report.source == "<ModelProto>"
    assert not bn_to_gn(network(), groups=4, check=None).report.plan.swaps
    with pytest.raises(UsageError, match="unfold needs data"):
        bn_to_gn(network(), unfold=True)
