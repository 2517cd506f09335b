"""Where constants hide, and what only looks like one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.suite.registry import fold, keep, policy

if TYPE_CHECKING:
    from benchmarks.suite.net import Net


def ints(net: Net, *values: int) -> str:
    return net.const(np.int64(values))


def finish(net: Net, w: str, parameters: Any = None, b: str = "", *, width: int = 4) -> None:
    """Conv with weight `w` (6, 4, 3, 3), BN, Relu."""
    y = net.op("Conv", net.input(), w, *([b] if b else []))
    net.output(net.op("Relu", net.bn(y, 6, parameters=parameters)), shape=(2, 6, 4, width))


@fold("Constant nodes, all of them", vary={"opset": (9, 17)})
def constant_nodes(net: Net) -> None:
    w, b = net.const(net.random(6, 4, 3, 3), node=True), net.const(net.random(6), node=True)
    finish(net, w, [net.const(p, node=True) for p in net.statistics(6)], b)


@fold("value_floats, a list")
def value_floats(net: Net) -> None:
    parameters = [net.op("Constant", value_floats=[float(v) for v in p]) for p in net.statistics(6)]
    finish(net, net.weight(6, 4, 3, 3), parameters)


@fold("value_float, a scalar: expanded to the channels")
def value_float(net: Net) -> None:
    parameters = []
    for value in (-1.5, 0.25, 0.5, 0.7):
        scalar = net.op("Constant", value_float=value)
        parameters.append(net.op("Expand", scalar, ints(net, 6)))
    finish(net, net.weight(6, 4, 3, 3), parameters)


@fold("value_ints and value_int: the shape that the weight is given, an axis")
def value_ints(net: Net) -> None:
    w = net.op("Reshape", net.weight(6, 36), net.op("Constant", value_ints=[6, 4, 3, 3]))
    scale, B, mean, var = net.statistics(6)
    axis = net.op("Unsqueeze", net.op("Constant", value_int=0), net.op("Constant", value_ints=[0]))
    B2 = net.op("Squeeze", net.const(B[None]), axis)
    finish(net, w, (scale, B2, mean, var))


@fold("value_floats and value_float as an elementwise constant behind the Conv")
def value_float_elementwise(net: Net) -> None:
    y = net.op("Mul", net.conv(net.input(), 4, 6), net.op("Constant", value_float=-1.25))
    net.output(net.op("Relu", net.bn(y, 6)))


def sparse(values: np.ndarray, *, name: str = "") -> onnx.SparseTensorProto:
    flat = values.ravel()
    indices = np.flatnonzero(flat)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(flat[indices], name),
        numpy_helper.from_array(indices.astype(np.int64)),
        values.shape,
    )


@fold("sparse_value: zeros that aren't written down")
def sparse_constant(net: Net) -> None:
    weight = net.random(6, 4, 3, 3)
    weight[np.abs(weight) < 0.8] = 0
    finish(net, net.op("Constant", sparse_value=sparse(weight)))


@fold("a sparse initializer", full_check=False)
def sparse_initializer(net: Net) -> None:
    weight = net.random(6, 4, 3, 3)
    weight[np.abs(weight) < 0.8] = 0
    net.sparse_initializers.append(sparse(weight, name="w"))
    finish(net, "w")


@fold("Identity of Identity of an initializer")
def identity_chain(net: Net) -> None:
    w = net.op("Identity", net.op("Identity", net.weight(6, 4, 3, 3)))
    finish(net, w, [net.op("Identity", net.const(p)) for p in net.statistics(6)])


@fold("weights stored in half, cast at run time", vary={"stored": (np.float16, np.float64)})
def cast(net: Net, stored: Any) -> None:
    w = net.op("Cast", net.weight(6, 4, 3, 3, dtype=stored), to=1)
    finish(net, w, [net.op("Cast", net.const(p.astype(stored)), to=1) for p in net.statistics(6)])


@fold(
    "the weight is laid out at run time",
    vary={
        "op": (
            "Reshape",
            "Transpose",
            "Squeeze",
            "Unsqueeze",
            "Slice",
            "Concat",
            "Gather",
            "Expand",
        )
    },
)
def laid_out(net: Net, op: str) -> None:
    if op == "Reshape":
        w = net.op("Reshape", net.weight(6, 36), ints(net, 6, 4, 3, -1))
    elif op == "Transpose":
        w = net.op("Transpose", net.weight(3, 3, 4, 6), perm=[3, 2, 0, 1])
    elif op == "Squeeze":
        w = net.op("Squeeze", net.weight(6, 1, 4, 3, 3), ints(net, 1))
    elif op == "Unsqueeze":
        w = net.op("Unsqueeze", net.weight(6, 4, 3), ints(net, 3))
    elif op == "Slice":
        w = net.op("Slice", net.weight(8, 4, 3, 3), ints(net, 1), ints(net, 7), ints(net, 0))
    elif op == "Concat":
        w = net.op("Concat", net.weight(2, 4, 3, 3), net.weight(4, 4, 3, 3), axis=0)
    elif op == "Gather":
        w = net.op("Gather", net.weight(8, 4, 3, 3), ints(net, 5, 1, 0, 7, 7, 2), axis=0)
    else:
        w = net.op("Expand", net.weight(6, 1, 3, 1), ints(net, 6, 4, 3, 3))
    finish(net, w, width=6 if op == "Unsqueeze" else 4)


@fold("weight normalization: g * v / |v|")
def weight_normalization(net: Net) -> None:
    v = net.weight(6, 4, 3, 3)
    norm = net.op("ReduceL2", v, axes=[1, 2, 3], keepdims=1)
    finish(net, net.op("Mul", net.weight(6, 1, 1, 1), net.op("Div", v, norm)))


@fold("PyTorch's Linear without bias: Transpose of the weight, MatMul")
def transposed_linear(net: Net) -> None:
    w = net.op("Transpose", net.weight(6, 5), perm=[1, 0])
    y = net.op("MatMul", net.input("x", (3, 5)), w)
    net.output(net.op("Relu", net.bn(y, 6)))


@fold("ConstantOfShape, with a value and with none", vary={"value": (None, 1.5)})
def constant_of_shape(net: Net, value: float | None) -> None:
    scale, B, mean, var = net.statistics(6)
    attributes = {} if value is None else {"value": numpy_helper.from_array(np.float32([value]))}
    constant = net.op("ConstantOfShape", ints(net, 6), **attributes)
    parameters = (scale, B, constant, var) if value is None else (scale, B, mean, constant)
    finish(net, net.weight(6, 4, 3, 3), parameters)


@fold("the shape of the weight, taken from the weight itself")
def shape_of_constant(net: Net) -> None:
    w = net.weight(6, 4, 3, 3)
    count = net.op("Slice", net.op("Shape", w), ints(net, 0), ints(net, 1))
    zeros = net.op("ConstantOfShape", count)
    scale, B, _, var = net.statistics(6)
    finish(net, w, (scale, B, zeros, var))


@fold("a Reshape whose target is computed from constants")
def computed_reshape_target(net: Net) -> None:
    target = net.op("Concat", ints(net, 0), ints(net, 6), ints(net, -1), axis=0)
    y = net.op("Reshape", net.conv(net.input(), 4, 6), target)
    net.output(net.op("Relu", net.bn(y, 6)))


@fold("PyTorch's x.view(x.size(0), 6, -1): the batch is read from x at run time, the channel isn't")
def reshape_target_from_input(net: Net) -> None:
    x = net.input("x", ("N", 4, 6, 6), sizes=(2, 4, 6, 6))
    batch = net.op("Gather", net.op("Shape", x), net.const(np.int64(0)), axis=0)
    batch = net.op("Unsqueeze", batch, ints(net, 0))
    target = net.op("Concat", batch, ints(net, 6), ints(net, -1), axis=0)
    y = net.op("Reshape", net.conv(x, 4, 6), target)
    net.output(net.op("Relu", net.bn(y, 6)), shape=("N", 6, None))


@fold(
    "the data stands in float_data instead of raw_data",
    vary={"dtype": (np.float32, np.float16)},
    tolerance=2e-2,
)
def typed_data(net: Net) -> None:
    weight = net.random(6, 4, 3, 3)
    kind = TensorProto.FLOAT if net.dtype == np.float32 else TensorProto.FLOAT16
    proto = helper.make_tensor("w", kind, weight.shape, weight.ravel())
    net.initializers.append(proto)
    finish(net, "w")


@fold("weights in a file beside the model", external=True)
def external_data(net: Net) -> None:
    finish(net, net.weight(6, 4, 3, 3), b=net.weight(6))


@fold("the weights of a ConvTranspose are transposed, those of a Gemm cast and transposed")
def computed_linear_weights(net: Net) -> None:
    w = net.op("Transpose", net.op("Cast", net.weight(6, 5, dtype=np.float16), to=1))
    y = net.op("Gemm", net.input("x", (3, 5)), w, net.op("Neg", net.weight(6)))
    net.output(net.op("Relu", net.bn(y, 6)))


@fold("elementwise constants that are computed")
def computed_elementwise(net: Net) -> None:
    k = net.op("Unsqueeze", net.op("Sqrt", net.op("Abs", net.weight(6))), ints(net, 1, 2))
    net.output(net.op("Relu", net.bn(net.op("Mul", net.conv(net.input(), 4, 6), k), 6)))


@fold("a computed weight with a second user, which keeps its value")
def computed_and_shared(net: Net) -> None:
    w = net.op("Mul", net.weight(4, 4, 3, 3), net.const(np.float32(0.5)))
    x = net.input()
    y = net.op("Relu", net.bn(net.op("Conv", x, w, pads=[1] * 4), 4))
    net.output(net.op("Conv", y, w))


@fold(
    "IR 3: every initializer is listed as an input, and a constant all the same",
    opset=8,
    ir_version=3,
)
def initializers_listed_as_inputs(net: Net) -> None:
    w = net.weight(6, 4, 3, 3)
    finish(net, w)
    for proto in net.initializers:
        net.inputs.append(helper.make_tensor_value_info(proto.name, proto.data_type, proto.dims))


@keep(
    "IR 4+: an initializer that's an input is a default which a caller may override",
    vary={"which": ("weight", "scale")},
)
def overridable_initializer(net: Net, which: str) -> None:
    finish(net, net.weight(6, 4, 3, 3))
    proto = net.initializers[0 if which == "weight" else 1]
    net.inputs.append(helper.make_tensor_value_info(proto.name, proto.data_type, proto.dims))


@policy("an Identity of an input with a default: still the caller's")
def overridable_through_identity(net: Net) -> None:
    w = net.weight(6, 4, 3, 3)
    finish(net, net.op("Identity", w))
    proto = net.initializers[0]
    net.inputs.append(helper.make_tensor_value_info(proto.name, proto.data_type, proto.dims))


@keep(
    "random numbers are no constants, whatever the seed",
    runs_in="nothing",
    vary={"op": ("RandomNormal", "RandomNormalLike")},
)
def random_weight(net: Net, op: str) -> None:
    if op == "RandomNormal":
        w = net.op("RandomNormal", shape=[6, 4, 3, 3])
    else:
        w = net.op("RandomNormalLike", net.weight(6, 4, 3, 3))
    finish(net, w)


@keep("the mean is computed from the input")
def statistics_from_the_input(net: Net) -> None:
    x = net.input()
    y = net.conv(x, 4, 4)
    scale, B, _, var = net.statistics(4)
    mean = net.op("ReduceMean", x, axes=[0, 2, 3], keepdims=0)
    net.output(net.op("Relu", net.bn(y, 4, parameters=(scale, B, mean, var))))


@keep("one part of the weight is an input (a hypernetwork)")
def weight_partly_dynamic(net: Net) -> None:
    w = net.op("Concat", net.weight(4, 4, 3, 3), net.input("v", (2, 4, 3, 3)), axis=0)
    finish(net, w)


@keep("which of two weights is used is decided at run time")
def weight_chosen_at_run_time(net: Net) -> None:
    c = net.input("c", (), np.bool_, feed=True)
    finish(net, net.op("Where", c, net.weight(6, 4, 3, 3), net.weight(6, 4, 3, 3)))
