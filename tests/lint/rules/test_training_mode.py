from support.build import Builder
from support.linting import found


def test_training_in_either_way_of_saying_so():
    b = Builder(17)
    x = b.bn(b.input(2, 3, 5, 5), 3, name="trains", training_mode=1)
    b.output(b.bn(x, 3, name="infers", training_mode=0, out="y"), (2, 3, 5, 5))
    assert found(b.model(), "NS102") == {"trains": "training_mode=1"}


def test_a_weight_that_is_standardized_does_not_train():
    b = Builder(17)
    rows = b.bn(b.normal(1, 4, 27), 4, name="standardizes", training_mode=1)
    weight = b.node("Reshape", rows, b.const([4, 3, 3, 3]))
    b.output(b.node("Conv", b.input(1, 3, 5, 5), weight, out="y"), (1, 4, 3, 3))
    assert found(b.model(), "NS102") == {}
