"""The models of ``models/``, folded: the same answers, and the plan that their README promises."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support.folding import assert_same_function, count

import normswap

MODELS = Path(__file__).parents[2] / "models"

KEPT = {
    "digits_resnet": {},
    "unet": {},
    "mlp": {},
    "separable": {},
    "partial": {
        "/norm_image/BatchNormalization": "graph-input",
        "/dense.0/dense.0.0/BatchNormalization": "several-readers",
        "/dense.1/dense.1.0/BatchNormalization": "several-readers",
        "/norm_signed/BatchNormalization": "negative-scale",
        "/norm_feature/BatchNormalization": "graph-output",
    },
    "digits_resnet_training": dict.fromkeys(
        [
            node.name
            for node in onnx.load(MODELS / "digits_resnet_training.onnx").graph.node
            if node.op_type == "BatchNormalization"
        ],
        "training-mode",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_plan_is_what_the_readme_says(name, tmp_path):
    source, target = MODELS / f"{name}.onnx", tmp_path / "folded.onnx"
    plan = normswap.fold(source, target).report.plan
    assert {entry.site.node: entry.reason.value for entry in plan.kept} == KEPT[name]
    original, folded = onnx.load(source), onnx.load(target)
    assert count(folded) == len(KEPT[name])
    assert count(original) == len(plan.folded) + len(plan.kept)
    assert target.stat().st_size <= source.stat().st_size
    if not name.endswith("training"):
        assert_same_function(original, folded, sizes={"height": 16, "width": 24}, seeds=(0,))


def test_the_digits_are_read_as_well_as_before(tmp_path):
    source, target = MODELS / "digits_resnet.onnx", tmp_path / "folded.onnx"
    normswap.fold(source, target)
    with np.load(MODELS / "digits_test.npz") as data:
        images, labels = data["image"], data["labels"]
    answers = []
    for path in (source, target):
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {"image": images})[0].argmax(axis=1))
    before, after = answers
    assert (before == labels).mean() > 0.97
    assert (before == after).all()
    assert count(onnx.load(target)) == 0
