"""A file against its module: what is right passes, and of what is not the reason is named."""

from unittest import mock

import numpy as np
import onnx
import pytest
from support.cli import invoke
from support.inprocess import backend_suite
from support.modules import IN, FakeModule, exported, weights

import normswap
from normswap.check.options import CheckOptions
from normswap.workflows.check_module import check_source

OPTIONS = CheckOptions()


@pytest.fixture(autouse=True, scope="module")
def here():
    """Run without child processes: how a check is run has tests of its own."""
    with mock.patch("normswap.check.runner.run_task", backend_suite.here):
        yield


def check(model, module=None, options=OPTIONS):
    return check_source(module or FakeModule(), model, options)


def codes(report):
    return [finding.code for finding in report.source.findings]


@pytest.fixture(scope="module")
def right(here):
    return check(exported())


def test_a_right_file_is_right_by_its_own_noise(right):
    assert right.verdict is normswap.Verdict.EQUIVALENT
    assert right.reasons == ()
    assert (right.original, right.source.weights, right.source.weights_same) == ("Fake", 5, 5)
    assert {run.model for run in right.runs} == {"module", "exported"}
    assert {output.judgement.basis for output in right.outputs} == {"arbiter"}


def test_other_batches_are_run_where_the_axis_is_open(right):
    assert {case.shapes["x"][0] for case in right.cases} >= {1, 2, 3}
    fixed = check(exported(batch=2))
    assert {case.shapes["x"] for case in fixed.cases} == {(2, IN)}
    assert fixed.verdict is normswap.Verdict.EQUIVALENT


def test_a_weight_changed_after_the_export_is_named():
    state = weights()
    state["fc2.weight"][1, 3] *= 1.01
    report = check(exported(state))
    assert report.verdict is normswap.Verdict.DIFFERENT
    assert codes(report) == ["weight", "layer"]
    weight, layer = report.source.findings
    assert weight.place == "fc2.weight"
    assert "1 of 96 elements differ, most at [1, 3]" in weight.message
    assert layer.place == "fc2"
    assert "(Gemm /fc2/Gemm in the file)" in layer.message


def test_one_that_no_output_shows_is_named_too():
    """A unit that is never on: its weights may be anything, and are still not those trained."""
    module, state = FakeModule(), weights()
    for each in (module.state, state):
        each["fc1.weight"][5], each["fc1.bias"][5] = 0, -1
    state["fc2.weight"][0, 5] += 1
    report = check(exported(state), module)
    assert report.verdict is normswap.Verdict.DIFFERENT
    assert codes(report) == ["weight"]
    assert not any(output.judgement.verdict.exit_code for output in report.outputs)


def test_other_weights_altogether_are_said_once():
    report = check(exported(weights(seed=1)))
    assert codes(report).count("weight") == 3  # a vector always is another times factors
    many = {f"layer{n}.weight": weights(seed=n)["fc1.weight"] for n in range(9)}
    module = FakeModule()
    module.state |= many
    report = check(exported(weights(seed=1) | many), module)
    assert report.verdict is normswap.Verdict.DIFFERENT
    assert report.source.layers_right == 0


def test_outputs_in_another_order_are_named():
    report = check(exported(order=("z", "y")))
    assert codes(report)[:2] == ["outputs", "outputs"]
    assert "output 0 of the file, 'z', is output 1 of the module" in report.reasons[0]


def test_a_file_that_trains_is_named():
    report = check(exported(drop=True))
    assert codes(report)[0] == "mode"
    assert report.source.findings[0].place == "Dropout /drop/Dropout"
    assert "normswap recalibrate --freeze" in report.reasons[0]


def test_a_module_that_trains_is_named_though_the_file_is_right():
    report = check(exported(), FakeModule(training=("bn1 (BatchNorm2d)",)))
    assert report.verdict is normswap.Verdict.DIFFERENT
    assert codes(report) == ["mode"]
    assert "bn1 (BatchNorm2d) depends on the other samples of the batch" in report.reasons[0]
    assert "the file is equal to the module in inference mode: call .eval()" in report.reasons[0]


def test_a_size_that_was_written_into_the_file_is_found():
    model = exported()
    reshape = onnx.helper.make_node("Reshape", ["y", "fixed"], ["reshaped"], name="baked")
    model.graph.node.append(reshape)
    shape = np.array([2, 4], np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(shape, "fixed"))
    model.graph.output[0].name = "reshaped"
    report = check(model)
    assert codes(report) == ["sizes"]
    assert "axis 0 of input 'x' open (size 2 changed to " in report.reasons[0]


def test_sizes_that_the_module_does_not_take_are_no_fault():
    report = check(exported(), FakeModule(refuses=lambda x: len(x) == 3))
    assert report.verdict is normswap.Verdict.EQUIVALENT
    assert 3 not in {case.shapes["x"][0] for case in report.cases}


@pytest.mark.parametrize(
    ("model", "example", "said"),
    [
        (exported(width=IN + 1), np.ones((2, IN), np.float32), "input 'x' of the file is float32["),
        (exported(), np.ones((2, IN), np.int64), "the module was given int64[2,6]"),
        (exported(order=("y",)), None, "the module returns 2 tensors, but the file has 1 (y)"),
    ],
)
def test_a_wrong_file_is_said_before_it_is_run(model, example, said):
    report = check(model, FakeModule(example=example))
    assert report.verdict is normswap.Verdict.DIFFERENT
    assert codes(report)[-1] == "interface"
    assert said in " ".join(report.reasons)
    assert report.outputs == ()


def test_an_example_is_run_as_it_is():
    example = np.full((4, IN), 0.5, np.float32)
    report = check(exported(), FakeModule(example=example, named="state.0"))
    assert report.verdict is normswap.Verdict.EQUIVALENT
    assert "the example" in {case.name for case in report.cases}
    assert {case.shapes["x"][0] for case in report.cases} == {4, 1, 3}


def test_a_module_that_refuses_its_own_example_is_misused():
    module = FakeModule(example=np.ones((2, IN), np.float32), refuses=lambda x: True)
    with pytest.raises(
        normswap.UsageError, match="does not accept the arguments that its factory returned"
    ):
        check(exported(), module)


def test_half_precision_is_judged_by_its_own_rounding():
    half = {name: value.astype(np.float16).astype(np.float32) for name, value in weights().items()}
    report = check(as_half(half))
    assert report.verdict is normswap.Verdict.EQUIVALENT
    half["fc2.weight"][2] *= 1.25
    report = check(as_half(half))
    assert report.verdict is normswap.Verdict.DIFFERENT
    assert report.source.findings[-1].place == "fc2"


def as_half(state):
    """Return a file in float16 between inputs and outputs in float32."""
    from onnx import TensorProto, helper, numpy_helper

    model = exported(state)
    graph = model.graph
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in graph.node:
        node.input[:] = ["half" if name == "x" else name for name in node.input]
        node.output[:] = [f"{n}16" if n in {"y", "z"} else n for n in node.output]
    casts = [helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16)]
    casts += [helper.make_node("Cast", [f"{n}16"], [n], to=TensorProto.FLOAT) for n in "yz"]
    graph.node.insert(0, casts[0])
    graph.node.extend(casts[1:])
    return model


def test_without_the_arbiter_the_noise_of_the_module_decides():
    options = CheckOptions(arbiter=False)
    assert check(exported(), options=options).verdict is normswap.Verdict.EQUIVALENT
    state = weights()
    state["fc2.bias"] *= np.float32(1.1)
    report = check(exported(state), options=options)
    assert report.verdict is normswap.Verdict.DIFFERENT
    assert {o.judgement.basis for o in report.outputs if o.name == "y"} == {"noise floor"}


def test_every_format_tells_the_layer():
    from normswap.testing import told

    state = weights()
    state["fc1.weight"][0, 0] += 1
    report = check(exported(state))
    for form in ("text", "markdown", "github", "junit", "sarif", "json"):
        assert "fc1.weight" in told(report, form)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--module", "a:b", "m.onnx", "n.onnx"), "--module takes the place of the second model"),
        (("--module", "a:b", "m.onnx", "--require", "proved"), "so --module can't be used"),
        (("--module", "a:b"), "No model was given to check"),
    ],
)
def test_what_makes_no_sense_beside_a_module_is_refused(arguments, said):
    done = invoke("check", *arguments)
    assert (done.code, said in done.err) == (2, True)


def test_without_torch_it_is_said_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    done = invoke("check", "--module", "nets:make", "m.onnx")
    assert (done.code, "pip install torch" in done.err) == (4, True)
    with pytest.raises(normswap.RunError, match="needs torch"):
        normswap.check_module(object(), exported())
