import pytest
from support.build import Builder
from support.linting import found


@pytest.mark.parametrize(
    ("opset", "options", "told"),
    [
        (11, {}, "opset 11 is older than the limit, 13"),
        (13, {}, None),
        (13, {"min_opset": 18}, "opset 13 is older than the limit, 18"),
        (11, {"min_opset": 7}, None),
    ],
)
def test_by_opset(opset, options, told):
    b = Builder(opset)
    b.output(b.node("Relu", b.input(1, 3), out="y"))
    assert found(b.model(), "NS401", **options) == ({"": told} if told else {})
