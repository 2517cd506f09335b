from support.build import Builder
from support.linting import found


def model(ir_version):
    b = Builder(17)
    b.output(b.conv(b.input(1, 3, 5, 5), 3, 4, bias=False, out="y"))
    (weight,) = b.initializers
    if ir_version >= 4:
        b.input(*weight.dims, name=weight.name)
    return b.model(ir_version=ir_version)


def test_weights_that_a_caller_may_replace():
    assert found(model(8), "NS104") == {"": "1 weight is a graph input too: k_1"}


def test_in_ir_version_3_they_are_constants():
    assert found(model(3), "NS104") == {}
