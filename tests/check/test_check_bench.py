from dataclasses import replace

from normswap.check.bench import _fallback
from normswap.check.observe import fallback_notes
from normswap.check.report import RunReport

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
RUN = RunReport("original", "onnxruntime", CUDA, (CUDA, CPU), (), (), 0, 0, 0, None, "1.32")


def test_nodes_that_another_provider_got_are_named_once():
    levels = [{CUDA: ["Conv a"], CPU: ["Shape s", "Gather g"]}, {CUDA: [], CPU: ["Gather g"]}]
    assert _fallback(CUDA, levels) == ("Shape s", "Gather g")
    assert _fallback(CPU, [{CPU: ["Conv a"]}]) == ()


def test_a_runtime_that_does_not_tell_is_not_taken_for_one_without_fallback():
    assert _fallback(CUDA, [{CUDA: ["Conv a"]}, None]) is None


def test_a_fallback_is_noted():
    assert fallback_notes(RUN) == fallback_notes(replace(RUN, fallback=None)) == []
    (note,) = fallback_notes(replace(RUN, fallback=("Shape s", "Gather g")))
    assert note == (
        "2 nodes of the original model ran on the CPU instead of CUDAExecutionProvider: "
        "Shape s, Gather g"
    )
