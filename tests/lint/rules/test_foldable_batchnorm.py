from support.build import Builder
from support.linting import found


def test_what_folds_and_what_does_not():
    b = Builder(17)
    x = b.bn(b.conv(b.input(1, 3, 5, 5), 3, 4, name="c"), 4, name="folds")
    b.output(b.bn(b.node("Sigmoid", x), 4, name="stays", out="y"))
    assert found(b.model(), "NS101") == {
        "folds": "BatchNormalization can be folded exactly into Conv c",
    }
