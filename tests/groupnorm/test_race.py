"""Timing the forms on this machine: what races, on what, and what comes of it."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.swapping import distance, ops, run_ort, swap_options

from normswap.check.options import CheckOptions
from normswap.errors import RunError
from normswap.groupnorm.forms import FORMS
from normswap.groupnorm.forms.layernorm import is_precise_on_cpu
from normswap.groupnorm.planner import plan_swap, with_timings
from normswap.groupnorm.race import MOST_ELEMENTS, _cut, measure
from normswap.groupnorm.surroundings import in_form, small_network
from normswap.model import load
from normswap.runtime.child import run_task
from normswap.workflows.swap import plan_report, swap

ON_CPU = {name for name in FORMS if name != "contrib"}
PRECISE = set(ON_CPU) - ({"native"} if is_precise_on_cpu() else {"native", "layernorm"})


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("normswap.groupnorm.race.SECONDS", 0.0)


def measured(model, tmp_path, groups=4, how=None, **fields):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    said = []
    options = swap_options(groups, form="fastest", **fields)
    plan = plan_swap(load(path), options)
    return plan, measure(path, plan, how or CheckOptions(), progress=said.append), said


# --- the small networks ----------------------------------------------------------------


@pytest.mark.parametrize("convolutions", [True, False])
@pytest.mark.parametrize("activation", ["", "Relu", "SiLU"])
@pytest.mark.parametrize("dims", [(2, 16, 6, 5), ("N", 16, "H", "W"), (2, 16, 12)])
@pytest.mark.parametrize("opset", [7, 13, 17, 21])
def test_the_forms_agree_in_small_networks(dims, activation, opset, convolutions):
    rng = np.random.default_rng(0)
    affine = rng.normal(size=(2, 16))
    network = small_network(
        dims,
        (affine[0], affine[1]),
        data_type=TensorProto.FLOAT,
        opset=opset,
        epsilon=1e-3,
        convolutions=convolutions,
        activation=activation,
    )
    onnx.checker.check_model(network, full_check=True)
    sizes = [dim if isinstance(dim, int) else 4 for dim in dims]
    x = rng.normal(size=sizes).astype(np.float32)
    results = {}
    for form in ON_CPU:
        if (form, opset >= 21) == ("native", False) or (form, opset >= 17) == ("layernorm", False):
            continue
        made, name = in_form(network, 4, form)
        assert name == form
        model = onnx.load_from_string(made)
        assert "BatchNormalization" not in ops(model)
        (results[form],) = run_ort(model, input=x)
    truth = results.pop("primitive")
    assert np.abs(truth).max() > 0.1
    assert all(distance(result, truth) < 1e-4 for result in results.values())


def test_a_small_network_without_normalization():
    how = {"data_type": TensorProto.FLOAT, "opset": 17, "epsilon": 1e-3}
    network = small_network((1, 16, 4, 4), None, convolutions=True, activation="Relu", **how)
    assert ops(network) == ["Conv", "Relu", "Conv"]
    assert ops(small_network((1, 16), None, convolutions=False, **how)) == ["Abs", "Abs"]


# --- what is measured ------------------------------------------------------------------


def test_layers_that_are_alike_race_once(tmp_path):
    b = Builder(21)
    x = b.input(1, 8, 6, 6)
    for _ in range(3):
        x = b.node("Relu", b.bn(x, 8, epsilon=1e-5))
    x = b.node("Relu", b.bn(b.conv(x, 8, 16), 16, epsilon=1e-5))
    b.output(x, None)
    plan, timings, said = measured(b.model(), tmp_path)
    assert said == ["timing the forms of 2 kinds of layers"]
    assert [timings[swap.key].shape for swap in plan.swaps] == [(1, 8, 6, 6)] * 3 + [(1, 16, 4, 4)]
    assert timings[plan.swaps[0].key] is timings[plan.swaps[2].key]
    for each in timings.values():
        assert set(each.seconds) == PRECISE
        assert all(0 < seconds < 10 for seconds in each.seconds.values())


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_element_types(tmp_path, dtype):
    b = Builder(21)
    x = b.input(1, 8, 6, 6, elem_type=dtype)
    stats = [b.const(v.astype(helper.tensor_dtype_to_np_dtype(dtype))) for v in np.ones((4, 8))]
    b.output(b.node("BatchNormalization", x, *stats, out="y"), None, elem_type=dtype)
    _, timings, _ = measured(b.model(), tmp_path)
    (each,) = timings.values()
    assert {"primitive", "centred"} <= set(each.seconds)


def test_what_the_runtime_has_no_kernel_for_is_in_no_race(tmp_path):
    """onnxruntime computes no bfloat16 on a CPU: the rule decides."""
    b = Builder(21)
    x = b.input(1, 8, 6, 6, elem_type=TensorProto.BFLOAT16)
    rows = [helper.make_tensor(f"s{i}", TensorProto.BFLOAT16, [8], [1.0] * 8) for i in range(4)]
    model_inputs = [b.node("Constant", value=row) for row in rows]
    y = b.node("BatchNormalization", x, *model_inputs, out="y")
    b.output(y, None, elem_type=TensorProto.BFLOAT16)
    plan, timings, _ = measured(b.model(), tmp_path)
    (each,) = timings.values()
    assert not each.seconds
    options = swap_options(4, form="fastest", threads=1)
    again = with_timings(plan_swap(load(tmp_path / "model.onnx"), options), timings)
    assert again.swaps[0].form == "instancenorm"
    assert again.swaps[0].why == "the fastest in onnxruntime on one CPU thread for this size"
    assert plan.swaps[0].form in ON_CPU


def test_sizes_that_the_model_leaves_open_are_those_of_a_run(tmp_path):
    b = Builder(17)
    x = b.conv(b.input("N", 3, "H", "W"), 3, 8, strides=[2, 2])
    b.output(b.node("Relu", b.bn(x, 8, epsilon=1e-5)), None)
    _, timings, said = measured(b.model(), tmp_path)
    assert [each.shape for each in timings.values()] == [(1, 8, 111, 111)]  # of 224 pixels
    assert said[0] == "looking for inputs that the model accepts"
    how = CheckOptions(input_shapes={"x": (3, 3, 9, 15)})
    _, timings, _ = measured(b.model(), tmp_path, how=how)
    assert [each.shape for each in timings.values()] == [(3, 8, 4, 7)]


@pytest.mark.parametrize(("dims", "count"), [((1, 8, 4, 4), 1), ((1, 8, "H", "W"), 0)])
def test_layers_in_subgraphs_race_where_their_sizes_are_known(tmp_path, dims, count):
    def body(op, *operands):
        name = f"{op}_y"
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        return helper.make_graph([helper.make_node(op, ["x", *operands], [name])], op, [], [info])

    b = Builder(17)
    b.input(*dims)
    condition = b.input(name="c", elem_type=TensorProto.BOOL)
    stats = [b.const(values) for values in b.statistics(8)]
    bodies = {
        "then_branch": body("BatchNormalization", *stats),
        "else_branch": body("Identity"),
    }
    b.output(b.node("If", condition, **bodies), dims)
    plan, timings, _ = measured(b.model(), tmp_path)
    assert len(plan.swaps) == 1
    assert len(timings) == count


def test_run_time_parameters_race_too(tmp_path):
    b = Builder(17)
    x = b.input(1, 8, 5, 5)
    scale, bias = b.input(8, name="scale"), b.input(8, name="bias")
    constants = [b.const(np.zeros(8)), b.const(np.ones(8))]
    b.output(b.node("BatchNormalization", x, scale, bias, *constants, out="y"), None)
    _, timings, _ = measured(b.model(), tmp_path)
    assert all(each.seconds for each in timings.values())


@pytest.mark.parametrize(
    ("shape", "cut"),
    [
        ((2, 64, 56, 56), (2, 64, 56, 56)),
        ((1024, 64, 56, 56), (64, 64, 56, 56)),
        ((1, 64, 4096, 1024), (1, 64, 512, 512)),
        ((1, 1 << 25, 1, 1), (1, 1 << 25, 1, 1)),
        ((1 << 26, 4), (1 << 22, 4)),
    ],
)
def test_a_large_activation_is_cut(shape, cut):
    assert _cut(shape) == cut
    assert np.prod(cut) <= MOST_ELEMENTS or max(cut[:1] + cut[2:]) == 1


# --- a swap from beginning to end -------------------------------------------------------


def test_a_swap_to_the_fastest_is_checked_as_any(tmp_path):
    b = Builder(21)
    x = b.input("N", 8, 6, 6)
    b.output(b.node("Relu", b.bn(b.conv(x, 8, 8), 8, epsilon=1e-5)), None)
    source = b.model().SerializeToString()
    options = swap_options(2, form="fastest", threads=1)
    target = io.BytesIO()
    said = []
    report = swap(source, target, options, check=CheckOptions(), progress=said.append).report
    assert report.exit_code == 0
    assert "timing the forms of 1 kind of layer" in said
    (made,) = report.plan.swaps
    assert made.why == f"the fastest here of {len(PRECISE)} forms measured at 1x8x4x4"
    assert made.timings.seconds[made.form] <= 1.03 * min(made.timings.seconds.values())
    assert "BatchNormalization" not in ops(onnx.load_from_string(target.getvalue()))
    (planned,) = plan_report(source, options).plan.swaps
    assert planned.timings.seconds


def test_nothing_to_swap_is_nothing_to_measure(tmp_path):
    b = Builder()
    b.output(b.node("Relu", b.input(1, 4)), None)
    report = plan_report(b.model().SerializeToString(), swap_options(2, form="fastest"))
    assert report.plan.total == 0


# --- the stopwatch ---------------------------------------------------------------------


RACE = "normswap.runtime.stopwatch:race"


def request(models, **fields):
    models = {name: np.frombuffer(model, np.uint8) for name, model in models.items()}
    return {
        "provider": "cpu",
        "provider_options": {},
        "threads": 1,
        "seconds": 0.0,
        "trials": [{"models": models, "input": "x", "shape": [2, 4]} | {"dtype": "float32"}],
        **fields,
    }


def relu(*dims):
    b = Builder()
    b.output(b.node("Relu", b.input(*dims)), None)
    return b.model().SerializeToString()


def test_models_that_do_not_load_or_run_are_left_out():
    models = {"fine": relu("N", 4), "broken": b"no model", "other": relu(3, 7)}
    response = run_task(RACE, request(models), label="it", timeout=60)
    assert list(response["trials"][0]) == ["fine"]
    assert response["provider"] == "CPUExecutionProvider"


def test_a_provider_that_is_not_there_is_an_error():
    task = request({"fine": relu("N", 4)}, provider="cuda")
    with pytest.raises(RunError, match="'cuda' is not available"):
        run_task(RACE, task, label="it", timeout=60)
