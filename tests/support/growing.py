"""Graphs of one kind and any size, for what must grow no faster than they do."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

C = 2
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


class Layers:
    """Nodes and constants of a graph; as a model they are neither checked nor inferred upon."""

    def __init__(self, first: int = 0) -> None:
        self.rng = np.random.default_rng(first)
        self.nodes, self.constants, self.count = [], [], first

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def const(self, array, dtype="float32") -> str:
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def node(self, op, *inputs, **attributes) -> str:
        name = self.name()
        self.nodes.append(helper.make_node(op, inputs, [name], f"n_{name}", **attributes))
        return name

    def parameters(self) -> list[str]:
        """Of a Conv and of a BatchNormalization behind it."""
        rng = self.rng
        arrays = [rng.normal(size=(C, C, 1, 1)), rng.normal(size=C), *statistics(rng, C)]
        return [self.const(array) for array in arrays]

    def conv(self, x, channels=C) -> str:
        weight = self.const(self.rng.normal(size=(C, channels, 1, 1)))
        return self.node("Conv", x, weight, self.const(self.rng.normal(size=C)))

    def bn(self, x, channels=C) -> str:
        constants = [self.const(array) for array in statistics(self.rng, channels)]
        return self.node("BatchNormalization", x, *constants)

    def graph(self, result: str, inputs=(), name="graph"):
        outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)]
        return helper.make_graph(self.nodes, name, inputs, outputs, self.constants)

    def model(self, result: str, functions=()):
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, C, 3, 3])
        flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
        graph = self.graph(result, [x, flag])
        return helper.make_model(
            graph, opset_imports=OPSETS, functions=list(functions), ir_version=8
        )


def statistics(rng, channels):
    small, near_one = rng.normal(size=(2, channels)) * 0.1, rng.uniform(0.9, 1.1, (2, channels))
    return near_one[0], small[0], small[1], near_one[1]


def chain(size):
    """Conv, BatchNormalization, Conv, ..."""
    g, y = Layers(), "x"
    for _ in range(size):
        y = g.bn(g.conv(y))
    return g.model(y)


def sums(size):
    """A Conv of the input is added, and a BatchNormalization follows."""
    g = Layers()
    y = g.conv("x")
    for _ in range(size):
        y = g.bn(g.node("Add", y, g.conv("x")))
    return g.model(y)


def sums_without_a_route(size):
    """The same behind an operator that takes nothing in: one is left."""
    g = Layers()
    y = g.node("Sigmoid", "x")
    for _ in range(size):
        y = g.bn(g.node("Add", y, g.conv("x")))
    return g.model(y)


def residuals(size):
    """Blocks of two layers and what comes around them."""
    g = Layers()
    y = g.conv("x")
    for _ in range(size // 2):
        y = g.node("Add", y, g.bn(g.conv(g.node("Relu", g.bn(g.conv(y))))))
    return g.model(y)


def one_sum(size):
    """All layers in one Sum, with a BatchNormalization behind it."""
    g = Layers()
    return g.model(g.bn(g.node("Sum", *(g.bn(g.conv("x")) for _ in range(size)))))


def one_concat(size):
    """All Convs in one Concat, with a BatchNormalization behind it."""
    g = Layers()
    y = g.node("Concat", *(g.conv("x") for _ in range(size)), axis=1)
    return g.model(g.bn(y, size * C))


def concats(size):
    """A Conv beside its input, a BatchNormalization over both."""
    g = Layers()
    y = g.conv("x")
    for _ in range(size):
        y = g.conv(g.bn(g.node("Concat", y, g.conv(y), axis=1), 2 * C), 2 * C)
    return g.model(y)


def kept(size):
    """Nothing but normalizations that stay."""
    g, y = Layers(), "x"
    for _ in range(size):
        y = g.bn(g.node("Sigmoid", y))
    return g.model(y)


def heads(size):
    """All layers read one tensor."""
    g = Layers()
    x = g.conv("x")
    return g.model(g.node("Sum", *(g.node("Relu", g.bn(x)) for _ in range(size))))


def noted(size):
    """Layers behind an operator that ONNX does not know: the file alone says their sizes."""
    g = Layers()
    y = g.node("Strange", "x", domain="own")
    for _ in range(size):
        y = g.bn(g.conv(y))
    model = g.model(y)
    model.graph.value_info.extend(
        helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [1, C, 3, 3])
        for node in g.nodes[:-1]
    )
    return model


def scopes(size):
    """An If after the other, with a layer in each branch."""
    g, y = Layers(), "x"
    for number in range(size // 2):
        inner = [Layers(1_000_000 + 100 * (2 * number + side)) for side in range(2)]
        graphs = [layers.graph(layers.bn(layers.conv(y)), name=g.name()) for layers in inner]
        y = g.node("If", "flag", then_branch=graphs[0], else_branch=graphs[1])
    return g.model(y)


def nested(size):
    """Layers in Ifs in Ifs, 8 deep."""
    depth, outside = 8, "x"
    inner = None
    for level in reversed(range(depth)):
        graphs = []
        for side in range(2):
            layers = Layers(1_000_000 * (2 * level + side + 1))
            y = outside
            for _ in range(size // (2 * depth)):
                y = layers.bn(layers.conv(y))
            if inner is not None and side == 0:
                y = layers.node("If", "flag", then_branch=inner[0], else_branch=inner[1])
            graphs.append(layers.graph(y, name=f"level{level}_{side}"))
        inner = graphs
    g = Layers()
    return g.model(g.node("If", "flag", then_branch=inner[0], else_branch=inner[1]))


def calls(size):
    """Calls of one function, each with parameters of its own."""
    names = ["a", "w", "k", "s", "b", "m", "v"]
    body = [
        helper.make_node("Conv", ["a", "w", "k"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
    ]
    layer = helper.make_function("own", "Layer", names, ["y"], body, OPSETS[:1])
    g, y = Layers(), "x"
    for _ in range(size):
        y = g.node("Layer", y, *g.parameters(), domain="own")
    return g.model(y, [layer])


def functions(size):
    """A function for every layer, with its parameters in it."""
    g, y, made = Layers(), "x", []
    for number in range(size):
        inner = Layers(number)
        result = inner.bn(inner.conv("a"))
        constants = [helper.make_node("Constant", [], [c.name], value=c) for c in inner.constants]
        nodes = [*constants, *inner.nodes]
        name = f"Layer{number}"
        made.append(helper.make_function("own", name, ["a"], [result], nodes, OPSETS[:1]))
        y = g.node(name, y, domain="own")
    return g.model(y, made)


KINDS = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        chain,
        sums,
        sums_without_a_route,
        residuals,
        one_sum,
        one_concat,
        concats,
        kept,
        heads,
        noted,
        scopes,
        nested,
        calls,
        functions,
    )
}
"""Every kind by its name: a function of how many layers there are to be."""
