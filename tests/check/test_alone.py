"""What a proof says where neither model is run, and when that is all there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.check_models import conv_bn, one_node, save, tensor

from normswap.check import memory
from normswap.check.alone import concluded
from normswap.check.memory import shortage, weights
from normswap.check.options import CheckOptions, Tolerance
from normswap.check.report import from_dict
from normswap.check.verdict import Verdict
from normswap.errors import UsageError
from normswap.inputs.signature import read_signature
from normswap.proof.result import Output, Proof, Region, Standing, Witness
from normswap.runtime import child
from normswap.workflows.check import check
from normswap.workflows.fold import fold

OPEN = Output("y", Standing.OPEN, "a region has too many nodes")
NEAR = Region("y", "y", ("x",), ("Conv c",), ("Conv c",), is_apart=True, is_near=True)
FAR = replace(NEAR, is_near=False, before=("Conv c", "Relu r"))


@pytest.mark.parametrize(
    ("proof", "verdict", "why"),
    [
        (Proof((Output("y", Standing.PROVED),)), "equivalent", None),
        (Proof((Output("y", Standing.IDENTICAL),)), "equivalent", None),
        (Proof(reason="a function calls itself"), "inconclusive", "nothing is proved"),
        (Proof((OPEN,)), "inconclusive", "too many nodes"),
        (Proof((OPEN,), witness=Witness("y", 0.1, 1.0, is_plain=True)), "different", "up to 0.1"),
        (Proof((OPEN,), witness=Witness("y", 1e-7, 1.0, is_plain=False)), "inconclusive", "many"),
        (Proof((Output("y", Standing.APART),), apart=(NEAR,)), "inconclusive", "not proved"),
        # Of regions, how much less than whole models are off by is no question: what is plain is.
        *(
            (
                Proof(
                    (Output("y", Standing.APART), Output("z", Standing.PROVED)),
                    apart=(region,),
                    witness=Witness("y", 1e-7, 1.0, is_plain=plain),
                ),
                "different" if plain else "inconclusive",
                "up to 1e-07" if plain else "not proved",
            )
            for region in (NEAR, FAR)
            for plain in (True, False)
        ),
    ],
)
def test_a_verdict_by_proof_alone(proof, verdict, why):
    found, reasons = concluded(proof)
    assert found.value == verdict
    assert (why is None) is not reasons
    assert why is None or why in " ".join(reasons)


@pytest.fixture
def nothing_runs(own_processes, monkeypatch):
    def started(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(child.subprocess, "Popen", started)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(("scale", "verdict"), [(1.0, "equivalent"), (1.001, "different")])
def test_depth_proof_runs_nothing(tmp_path, scale, verdict):
    paths = [
        save(tmp_path / "a.onnx", conv_bn(side=6)),
        save(tmp_path / "b.onnx", conv_bn(side=6, folded=True, scale=scale)),
    ]
    report = check(*paths, "proof")
    assert report.verdict.value == verdict
    assert report.is_by_proof_alone
    assert (report.outputs, report.cases, report.depth) == ((), (), "proof")
    assert report.rejudged({"": Tolerance(atol=1e9)}).verdict is report.verdict
    assert from_dict(report.to_dict()) == report


@pytest.mark.usefixtures("nothing_runs")
def test_a_fold_by_proof_alone(tmp_path):
    path = save(tmp_path / "a.onnx", conv_bn())
    report = fold(path, tmp_path / "b.onnx", check="proof").report
    assert report.check is not None
    assert report.check.is_proved
    assert report.residuals == ()  # each constant was read and compared by the proof


@pytest.mark.parametrize(
    "more", [{"self_test": 2}, {"provider": "cuda"}, {"value_ranges": {"x": (0.0, 1.0)}}]
)
def test_what_needs_a_run_is_refused(more):
    with pytest.raises(UsageError, match=f"'{next(iter(more))}' has no effect"):
        CheckOptions(depth="proof", **more)


def test_models_that_do_not_fit_are_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "weights", lambda _: 1 << 50)
    paths = [
        save(tmp_path / "a.onnx", conv_bn(side=6)),
        save(tmp_path / "b.onnx", conv_bn(side=6, folded=True)),
    ]
    report = check(*paths, CheckOptions(memory_limit=1 << 40))
    assert report.verdict is Verdict.EQUIVALENT
    assert report.is_proved
    assert report.is_by_proof_alone
    assert any(note.startswith("neither model was run") for note in report.notes)


def test_what_fits(tmp_path, monkeypatch):
    big = tensor("w", np.ones((300, 400), np.float32))
    model = read_signature(save(tmp_path / "a.onnx", one_node("MatMul", ("N", 300), weights=[big])))
    assert weights(model) == 300 * 400 * 4
    meminfo, group = tmp_path / "meminfo", tmp_path / "group"
    group.mkdir()
    monkeypatch.setattr("normswap.runtime.memory._MEMORY", meminfo)
    monkeypatch.setattr("normswap.runtime.memory._GROUP", group)
    monkeypatch.setattr(memory, "weights", lambda _: 3 << 30)
    assert shortage(model, model, CheckOptions()) == ""  # nobody tells
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable: 8388608 kB\n")
    assert shortage(model, model, CheckOptions()) == ""
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5\n")
    assert shortage(model, model, CheckOptions()) == ""
    (group / "memory.max").write_text(f"{5 << 30}\n")
    assert "needs about 6.0 GiB of memory, and only 5.0 GiB are free" in shortage(
        model, model, CheckOptions()
    )
    assert "and only 1.0 GiB are" in shortage(model, model, CheckOptions(memory_limit=1 << 30))
