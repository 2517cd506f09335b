"""How often two networks are right."""

import numpy as np
import onnx
import pytest
from support.build import Builder

from normswap.errors import DataError
from normswap.groupnorm.accuracy import measure_accuracy
from normswap.inputs.data import open_data
from normswap.inputs.signature import read_signature
from normswap.progress import silent

RNG = np.random.default_rng(0)


class Network:
    """Runs a function of x."""

    def __init__(self, **outputs):
        self.outputs = outputs

    def run(self, feeds, names):
        return {name: self.outputs[name](feeds["x"]) for name in names}


def accuracy(labels, batches, *networks):
    return measure_accuracy(*networks, batches, labels, [*networks[0].outputs], silent)


def batches_of(x, size):
    return [{"x": x[at : at + size]} for at in range(0, len(x), size)]


def test_scores_and_classes():
    x = RNG.normal(size=(10, 4)).astype(np.float32)
    labels = x.argmax(axis=1)
    scores = Network(features=lambda x: x[:, :, None], scores=lambda x: x)
    wrong = Network(features=lambda x: x[:, :, None], scores=lambda x: -x)
    found = accuracy(labels, batches_of(x, 4), scores, wrong)
    assert (found.output, found.original, found.swapped, found.labels) == ("scores", 1.0, 0.0, 10)
    classes = Network(classes=lambda x: x.argmax(axis=1)[:, None])
    assert accuracy(labels, batches_of(x, 4), classes, classes).original == 1.0


def test_pixels():
    x = RNG.normal(size=(3, 4, 5, 5)).astype(np.float32)
    labels = x.argmax(axis=1)
    labels[0, 0, 0] += 1
    network = Network(map=lambda x: x)
    found = accuracy(labels, batches_of(x, 2), network, network)
    assert found.labels == 75
    assert found.original == pytest.approx(74 / 75)


def test_labels_that_name_no_class():
    x = RNG.normal(size=(3, 4, 5, 5)).astype(np.float32)
    labels = x.argmax(axis=1)
    labels[0, 0, :2], labels[2, 4, 4] = 255, -1
    network, wrong = Network(map=lambda x: x), Network(map=lambda x: -x)
    found = accuracy(labels, batches_of(x, 2), network, wrong)
    assert (found.original, found.swapped, found.labels, found.left_out) == (1.0, 0.0, 72, 3)
    with pytest.raises(DataError, match=r"from 4 to 7, and none .*: output 'map' has 4"):
        accuracy(x.argmax(axis=1) + 4, batches_of(x, 2), network, network)
    classes = Network(classes=lambda x: x[:, 0, 0, 0].astype(int) * 0 - 1)
    assert accuracy(np.full(3, -1), batches_of(x, 2), classes, classes).original == 1.0


def test_no_output_that_tells_them():
    x = np.zeros((2, 4), np.float32)
    network = Network(y=lambda x: x[:, :1], z=lambda x: x[None])
    with pytest.raises(
        DataError, match=r"shape \[2\] for a batch; its outputs are y \[2, 1\], z \[1, 2, 4\]"
    ):
        accuracy(np.zeros(2, int), batches_of(x, 2), network, network)


@pytest.fixture(params=["N", 4])
def signature(request, tmp_path):
    b = Builder()
    b.output(b.node("Relu", b.input(request.param, 3)))
    onnx.save(b.model(), tmp_path / "model.onnx")
    return read_signature(tmp_path / "model.onnx")


@pytest.mark.parametrize("samples", [None, 7])
@pytest.mark.parametrize("named", [True, False])
def test_labels_follow_the_batches(signature, samples, named):
    sizes = (6, 5)
    values = np.arange(sum(sizes))
    parts = np.split(values, [sizes[0]])
    sets = [{"x": np.repeat(part[:, None], 3, 1), "truth": part} for part in parts]
    data = open_data(sets, signature, samples=samples)
    labels = data.labels("truth" if named else values)
    fed = np.concatenate([feeds["x"][:, 0] for feeds in data])
    assert (labels == fed).all()
    free = signature.inputs[0].shape[0] == "N"
    assert len(labels) == (samples or 11 if free else {None: 8, 7: 4}[samples])
    assert ("truth" in "".join(data.notes)) is not named


def test_labels_that_do_not_fit(signature):
    data = open_data({"x": np.zeros((8, 3)), "few": np.zeros(3)}, signature)
    for labels, message in (
        ("few", "does not have one label for each of the 8"),
        ("none", "has no array 'none'"),
        (np.zeros(3), "There are only 3 labels, and more samples"),
        (np.zeros(9), "There are 9 labels for the 8 samples"),
        (np.array([*range(7), 0.5]), r"are of float64, such as 0\.5, and no class numbers"),
        (np.array([*range(7), np.inf]), r"such as inf, and no class numbers"),
        (np.array([*"abcdefgh"]), "such as a, and no class numbers"),
    ):
        with pytest.raises(DataError, match=message):
            data.labels(labels)
