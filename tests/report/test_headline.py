"""What stands in the line of a model among many, and what two models are called."""

import pytest
from support.build import Builder

import normswap
from normswap.report.headline import headline
from normswap.report.standing import names_of

C = 4


@pytest.fixture(scope="module")
def model():
    b = Builder(17)
    x = b.bn(b.input("N", C, 4, 4), C)
    x = b.bn(b.conv(b.node("Sigmoid", x), C, C), C)
    b.output(b.bn(b.node("Sigmoid", x), C, training_mode=1, out="y"), ("N", C, 4, 4))
    return b.model()


def test_a_fold_says_why_something_is_kept(model):
    told = "1 folded, 2 kept (1 graph-input, 1 training-mode)"
    assert headline(normswap.plan(model)) == told
    assert headline(normswap.plan(model, fail_on=["training"])).startswith(f"{told}; 1 training; ")


def test_a_lint_names_its_rules(model):
    told = "1 NS101 foldable-batchnorm, 1 NS102 training-mode"
    assert headline(normswap.lint(model, select=["NS1"])) == told


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (("old/a.onnx", "new/b.onnx"), ("a.onnx", "b.onnx")),
        (("old/a.onnx", "new/a.onnx"), ("old/a.onnx", "new/a.onnx")),
        (("old/a.onnx", "old/a.onnx"), ("a.onnx", "a.onnx")),
    ],
)
def test_models_of_one_name_are_called_by_their_folders(models, names):
    assert names_of(*models) == names
