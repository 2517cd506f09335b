"""The committed models are what models/README.md says they are."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

MODELS = Path(__file__).parents[2] / "models"

BATCH_NORMS = {
    "digits_resnet": 8,
    "digits_resnet_training": 8,
    "mlp": 4,
    "partial": 10,
    "separable": 8,
    "unet": 12,
}

SHAPES = {
    "digits_resnet": (2, 1, 8, 8),
    "digits_resnet_training": (2, 1, 8, 8),
    "mlp": (3, 8, 8),
    "partial": (2, 3, 32, 32),
    "separable": (5, 3, 32, 32),
    "unet": (1, 3, 20, 36),
}


def run(name, inputs):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        str(MODELS / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: inputs})


def batch_norms(name):
    model = onnx.load(MODELS / f"{name}.onnx")
    return [n for n in model.graph.node if n.op_type == "BatchNormalization"]


def constants(name):
    model = onnx.load(MODELS / f"{name}.onnx")
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def test_every_model_is_listed():
    # Beside them lies what people make of them, as the README's first command does: x.folded.onnx.
    own = [path for path in MODELS.glob("*.onnx") if "." not in path.stem]
    assert {path.stem for path in own} == set(BATCH_NORMS)


@pytest.mark.parametrize("name", BATCH_NORMS)
def test_valid(name):
    onnx.checker.check_model(str(MODELS / f"{name}.onnx"), full_check=True)


@pytest.mark.parametrize(("name", "count"), BATCH_NORMS.items())
def test_keeps_its_batch_norms(name, count):
    assert len(batch_norms(name)) == count


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_outputs_are_finite_and_depend_on_the_input(name, shape):
    rng = np.random.default_rng(0)
    first, second = (run(name, rng.normal(size=shape).astype(np.float32)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.isfinite(a).all()
        assert np.abs(a - b).max() > 1e-3


@pytest.mark.parametrize("name", ["digits_resnet", "mlp"])
def test_classifies_digits_it_was_never_shown(name):
    data = np.load(MODELS / "digits_test.npz")
    images, labels = data["image"], data["labels"]
    assert images.shape == (540, 1, 8, 8)
    assert images.dtype == np.float32
    (logits,) = run(name, images if name == "digits_resnet" else images[:, 0])
    assert (logits.argmax(1) == labels).mean() > 0.97


def test_the_test_images_are_keyed_by_the_input_name():
    model = onnx.load(MODELS / "digits_resnet.onnx")
    assert model.graph.input[0].name in np.load(MODELS / "digits_test.npz")


@pytest.mark.parametrize("name", ["partial", "separable", "unet"])
def test_made_up_statistics_are_not_trivial(name):
    values = constants(name)
    scales = np.concatenate([values[n.input[1]] for n in batch_norms(name)])
    means = np.concatenate([values[n.input[3]] for n in batch_norms(name)])
    assert 0.05 < (scales < 0).mean() < 0.4
    assert (scales == 0).sum() >= 3
    assert np.abs(means).mean() > 0.05


def test_only_the_training_export_has_training_batch_norms():
    for name in BATCH_NORMS:
        training = {
            a.i for n in batch_norms(name) for a in n.attribute if a.name == "training_mode"
        }
        assert training == ({1} if name.endswith("training") else {0})


def test_the_folder_stays_small():
    assert sum(path.stat().st_size for path in MODELS.iterdir() if path.is_file()) < 800_000
