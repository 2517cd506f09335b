"""BatchNormalizations in the bodies of If, Loop and Scan, where outer tensors are in sight."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.build import Builder
from support.folding import check_folds, check_kept, count, fold_model

from normswap.graph.reasons import Reason

C = 4
info = helper.make_tensor_value_info


class Scoped(Builder):
    """A builder that can build bodies, with constants inside or outside of them."""

    def body(self, name, build, *, inputs=(), local=True):
        """Build a graph; its constants are its own, or those of the main graph."""
        outer = self.nodes, self.initializers
        self.nodes = []
        if local:
            self.initializers = []
        outputs = build()
        graph = helper.make_graph(
            self.nodes, name, list(inputs), outputs, self.initializers if local else []
        )
        self.nodes = outer[0]
        if local:
            self.initializers = outer[1]
        return graph

    def branches(self, condition, then, other, *, local=True, out=None):
        graphs = {}
        for name, build in (("then", then), ("else", other)):

            def filled(build=build, name=name):
                return [info(self.node("Identity", build(), out=self.name(name)), 1, None)]

            graphs[f"{name}_branch"] = self.body(name, filled, local=local)
        return self.node("If", condition, out=out, **graphs)


def scoped(**options):
    b = Scoped(**options)
    return b, b.input(2, C, 6, 6), b.input(name="condition", elem_type=TensorProto.BOOL)


def conv_bn(b, x, **options):
    return b.bn(b.conv(x, C, C, pads=[1] * 4, **options), C)


@pytest.mark.parametrize("local", [True, False], ids=["own weights", "outer weights"])
@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_both_branches(local, opset):
    b, x, condition = scoped(opset=opset)
    y = b.branches(condition, lambda: conv_bn(b, x), lambda: conv_bn(b, x), local=local)
    b.output(y)
    _, plan = check_folds(b.model())
    assert {entry.site.graph.rpartition(".")[2] for entry in plan.folded} == {
        "then_branch",
        "else_branch",
    }


def test_weights_shared_by_both_branches_and_the_main_graph():
    b, x, condition = scoped()
    w, bias = b.normal(C, C, 3, 3, name="w"), b.normal(C, name="b")

    def conv():
        return b.node("Conv", x, w, bias, pads=[1] * 4)

    y = b.branches(condition, lambda: b.bn(conv(), C), lambda: b.node("Relu", conv()))
    b.output(b.node("Add", y, b.bn(conv(), C)))
    folded, _ = check_folds(b.model())
    assert {"w", "b"} <= {tensor.name for tensor in folded.graph.initializer}


def test_nested():
    b, x, condition = scoped()

    def inner():
        return b.branches(condition, lambda: conv_bn(b, x), lambda: conv_bn(b, x))

    b.output(b.branches(condition, inner, lambda: conv_bn(b, x)))
    _, plan = check_folds(b.model())
    assert max(entry.site.graph.count("/") for entry in plan.folded) == 1


def test_equal_names_in_two_bodies():
    b, x, condition = scoped()

    def branch():
        w = b.normal(C, C, 3, 3, name="w")
        return b.bn(b.node("Conv", x, w, pads=[1] * 4), C)

    b.output(b.branches(condition, branch, branch))
    check_folds(b.model())


def test_constant_nodes_of_the_outer_graph():
    b, x, condition = scoped()
    value = onnx.numpy_helper.from_array(b.rng.normal(size=(C, C, 3, 3)).astype(np.float32))
    w = b.node("Constant", value=value)
    y = b.branches(
        condition,
        lambda: b.bn(b.node("Conv", x, w, pads=[1] * 4), C),
        lambda: b.node("Conv", x, w, pads=[1] * 4),
    )
    b.output(y)
    check_folds(b.model())


def test_weight_that_only_a_body_reads_and_a_caller_may_override():
    b, x, condition = scoped()
    w = b.normal(C, C, 3, 3, name="w")
    b.inputs.append(info("w", TensorProto.FLOAT, (C, C, 3, 3)))
    y = b.branches(
        condition, lambda: b.bn(b.node("Conv", x, w, pads=[1] * 4), C), lambda: b.node("Neg", x)
    )
    b.output(y)
    check_kept(b.model(), Reason.OVERRIDABLE, tensor="w")
    assert count(fold_model(b.model(), assume_constant=True)[0]) == 0


@pytest.mark.parametrize("local", [True, False], ids=["own weights", "outer weights"])
@pytest.mark.parametrize("ir_version", [3, 4, 8])
def test_loop(local, ir_version):
    b = Scoped(opset=8 if ir_version == 3 else 13)
    x = b.input(2, C, 6, 6)

    def step():
        keep = b.node("Identity", "go")
        return [
            info(keep, TensorProto.BOOL, ()),
            info(b.node("Tanh", conv_bn(b, "state")), 1, (2, C, 6, 6)),
        ]

    inputs = [
        info("i", TensorProto.INT64, ()),
        info("go", TensorProto.BOOL, ()),
        info("state", 1, (2, C, 6, 6)),
    ]
    body = b.body("body", step, inputs=inputs, local=local and ir_version > 3)
    trips, go = b.const(np.array(3)), b.const(np.array(True))
    b.output(b.node("Loop", trips, go, x, body=body), (2, C, 6, 6))
    check_folds(b.model(ir_version=ir_version))


def test_scan():
    b = Scoped()
    elements, state = b.input(5, 3, C), b.input(3, C, name="h")

    def step():
        y = b.node("Gemm", "element", b.normal(C, C), b.normal(C))
        y = b.node("Tanh", b.node("Add", b.bn(y, C), "state"))
        return [info(y, 1, (3, C)), info(b.node("Identity", y), 1, (3, C))]

    inputs = [info("state", 1, (3, C)), info("element", 1, (3, C))]
    body = b.body("body", step, inputs=inputs)
    ends = b.node("Scan", state, elements, outputs=2, body=body, num_scan_inputs=1)
    b.output(ends[0]).output(ends[1])
    check_folds(b.model())


def test_decomposed_in_a_body():
    b, x, condition = scoped()

    def then():
        y = b.node("Mul", b.conv(x, C, C, pads=[1] * 4), b.normal(C, 1, 1))
        return b.node("Add", y, b.normal(C, 1, 1))

    b.output(b.branches(condition, then, lambda: b.node("Neg", x)))
    folded, plan = check_folds(b.model())
    assert [entry.site.op for entry in plan.folded] == ["Mul+Add"]
    assert count(folded, "Mul") == 0


def test_batchnorm_in_front_of_a_conv_in_a_body():
    b, x, condition = scoped()
    b.output(b.branches(condition, lambda: b.conv(b.bn(x, C), C, C), lambda: b.conv(x, C, C)))
    check_folds(b.model())


def test_value_info_of_a_body_goes_with_its_tensor():
    b, x, condition = scoped()
    names = []

    def then():
        names.append(b.conv(x, C, C, pads=[1] * 4))
        return b.bn(names[0], C)

    y = b.branches(condition, then, lambda: b.node("Neg", x))
    body = next(a.g for a in b.nodes[-1].attribute if a.name == "then_branch")
    body.value_info.append(info(names[0], 1, (2, C, 6, 6)))
    b.output(y)
    folded, _ = check_folds(b.model())
    body = next(a.g for a in folded.graph.node[-1].attribute if a.name == "then_branch")
    assert not body.value_info


# Look-alikes


def test_tensor_of_the_outer_graph_is_not_changed_for_a_body():
    b, x, condition = scoped()
    y = b.conv(x, C, C)
    b.output(b.branches(condition, lambda: b.bn(y, C), lambda: b.node("Neg", y)))
    check_kept(b.model(), Reason.OUTER_SCOPE, tensor=y)


@pytest.mark.parametrize("deep", [False, True])
def test_tensor_that_a_body_captures(deep):
    b, x, condition = scoped()
    y = b.conv(x, C, C)
    z = b.bn(y, C)

    def reads():
        return b.node("Sigmoid", y)

    def nested():
        return b.branches(condition, reads, lambda: b.node("Neg", y))

    end = b.branches(condition, nested if deep else reads, lambda: b.node("Neg", y))
    b.output(b.node("Add", z, end))
    check_kept(b.model(), Reason.CAPTURED, tensor=y)


def test_result_that_a_body_captures_keeps_its_name():
    b, x, condition = scoped()
    z = b.bn(b.conv(x, C, C), C)
    end = b.branches(condition, lambda: b.node("Sigmoid", z), lambda: b.node("Neg", z))
    b.output(b.node("Add", z, end))
    check_folds(b.model())


def test_captured_batchnorm_does_not_go_down():
    b, x, condition = scoped()
    y = b.bn(x, C)
    end = b.branches(condition, lambda: b.node("Sigmoid", y), lambda: b.node("Neg", y))
    b.output(b.conv(y, C, C)).output(end)
    check_kept(b.model(), Reason.CAPTURED, tensor=y)


def test_weight_that_a_loop_carries():
    b = Scoped(opset=13)
    x = b.input(2, C, 6, 6)

    def step():
        y = b.node("Tanh", b.bn(b.node("Conv", "state", "w"), C))
        half = b.node("Mul", "w", b.const(np.asarray(0.5)))
        keep = b.node("Identity", "go")
        shapes = [(keep, TensorProto.BOOL, ()), (y, 1, (2, C, 6, 6)), (half, 1, (C, C, 1, 1))]
        return [info(*shape) for shape in shapes]

    inputs = [
        info("i", TensorProto.INT64, ()),
        info("go", TensorProto.BOOL, ()),
        info("state", 1, (2, C, 6, 6)),
        info("w", 1, (C, C, 1, 1)),
    ]
    body = b.body("body", step, inputs=inputs)
    trips, go = b.const(np.array(3)), b.const(np.array(True))
    ends = b.node("Loop", trips, go, x, b.normal(C, C, 1, 1), outputs=2, body=body)
    b.output(ends[0], (2, C, 6, 6))
    check_kept(b.model(), Reason.NOT_CONSTANT, tensor="w")


def test_statistics_that_are_scanned():
    b = Scoped()
    means, state = b.input(5, C), b.input(3, C, name="h")

    def step():
        scale, bias, _, var = (b.const(v) for v in b.statistics(C))
        y = b.node("Gemm", "state", b.normal(C, C))
        y = b.node("Tanh", b.node("BatchNormalization", y, scale, bias, "mean", var))
        return [info(y, 1, (3, C))]

    inputs = [info("state", 1, (3, C)), info("mean", 1, (C,))]
    body = b.body("body", step, inputs=inputs)
    b.output(b.node("Scan", state, means, body=body, num_scan_inputs=1))
    check_kept(b.model(), Reason.NOT_CONSTANT, tensor="mean")
