from support.build import Builder
from support.linting import found


def test_what_draws_and_what_only_may():
    b = Builder(17)
    x = b.node("Dropout", b.input(2, 3), b.const(0.5), b.const(True), name="drops")
    x = b.node("Dropout", x, b.const(0.5), name="passes")
    b.output(b.node("Add", x, b.node("RandomNormal", shape=[2, 3], name="noise"), out="y"))
    assert found(b.model(), "NS103") == {
        "drops": "Dropout in training mode drops values at random",
        "noise": "RandomNormal draws random numbers",
    }
