from dataclasses import replace

from normswap.check.executions import provider_notes
from normswap.check.report import RunReport
from normswap.check.runner import _fallback

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
RAN = ("original", "onnxruntime", CUDA, (CUDA, CPU), (), (), 0, 0, 0, None, "1.32")
RUN = RunReport(*RAN, arithmetic="TF32 off")


def test_nodes_that_another_provider_got_are_named_once():
    levels = [{CUDA: ["Conv a"], CPU: ["Shape s", "Gather g"]}, {CUDA: [], CPU: ["Gather g"]}]
    assert _fallback(CUDA, levels) == ("Shape s", "Gather g")
    assert _fallback(CPU, [{CPU: ["Conv a"]}]) == ()


def test_a_runtime_that_does_not_tell_is_not_taken_for_one_without_fallback():
    assert _fallback(CUDA, [{CUDA: ["Conv a"]}, None]) is None


def test_a_fallback_is_noted():
    ran = "the original model ran in CUDAExecutionProvider, onnxruntime 1.32: TF32 off"
    assert provider_notes(RUN) == [ran]
    nodes = ("Shape s", "Gather g")
    assert provider_notes(replace(RUN, fallback=nodes)) == [
        ran,
        "2 nodes of the original model did not run in CUDAExecutionProvider: Shape s, Gather g",
    ]


def test_many_nodes_are_counted_and_a_few_named():
    nodes = tuple(f"Shape {n}" for n in range(20))
    assert provider_notes(replace(RUN, fallback=nodes))[1].endswith("Shape 7 and 12 more")


def test_nobody_can_tell_is_another_thing_than_none():
    (_, note) = provider_notes(replace(RUN, fallback=None))
    assert "does not report which nodes" in note
