"""Model-local functions for tests, in a few words."""

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from support.folding import assert_same_function, count, fold_model


def constant(b, array):
    tensor = numpy_helper.from_array(np.asarray(array, np.float32))
    name = b.name("c")
    return name, helper.make_node("Constant", [], [name], value=tensor)


class Body:
    """A function under construction; its constants are Constant nodes."""

    def __init__(self, b, name, inputs, *, domain="local", attributes=(), defaults=(), overload=""):
        self.b, self.name, self.inputs, self.domain = b, name, list(inputs), domain
        self.attributes, self.defaults, self.overload = list(attributes), list(defaults), overload
        self.nodes = []

    def const(self, array):
        name, node = constant(self.b, array)
        self.nodes.append(node)
        return name

    def node(self, op, *inputs, domain="", outputs=1, refers=None, **attrs):
        names = [self.b.name(op.lower()) for _ in range(outputs)]
        node = helper.make_node(op, list(inputs), names, domain=domain, **attrs)
        for attribute, (source, kind) in (refers or {}).items():
            node.attribute.append(AttributeProto(name=attribute, ref_attr_name=source, type=kind))
        self.nodes.append(node)
        return names[0] if outputs == 1 else names

    def bn(self, x, channels, **options):
        parameters = [self.const(v) for v in self.b.statistics(channels)]
        return self.node("BatchNormalization", x, *parameters, **options)

    def conv(self, x, channels_in, channels, **attrs):
        w = self.const(self.b.rng.normal(size=(channels, channels_in, 3, 3)))
        return self.node("Conv", x, w, **attrs)

    def returns(self, *outputs):
        imports = [helper.make_opsetid("", self.b.opset), helper.make_opsetid("local", 1)]
        function = helper.make_function(
            self.domain,
            self.name,
            self.inputs,
            list(outputs),
            self.nodes,
            imports,
            self.attributes,
            self.defaults,
        )
        if self.overload:
            function.overload = self.overload
        self.b.functions.append(function)
        if all(item.domain != self.domain for item in self.b.extra_opsets):
            self.b.extra_opsets.append(helper.make_opsetid(self.domain, 1))
        return function


def folds(b, *, left=0):
    model = b.model()
    folded, plan = fold_model(model)
    onnx.checker.check_model(folded, full_check=True)
    assert count(folded) == left
    assert_same_function(model, folded)
    again, second = fold_model(folded)
    assert not second.folded
    assert again == folded
    return folded, plan


def names(model):
    return [function.name for function in model.functions]
