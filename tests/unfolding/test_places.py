"""Behind which linear layers a BatchNormalization belongs."""

import numpy as np
import pytest
from support.build import Builder

from normswap.graph.build import build_network
from normswap.model import load
from normswap.unfolding.layers import HandedConstants, find_layers
from normswap.unfolding.places import EXPLANATIONS, Omission, PlaceRule


class Net(Builder):
    """Layers with the names by which they are asked for; an image of 4 channels comes in."""

    def conv2d(self, x, name, *, out=4, size=4, kernel=1, bias=True, **attrs):
        inputs = [x, self.normal(out, size, kernel, kernel)]
        inputs += [self.normal(out)] if bias else []
        return self.node("Conv", *inputs, name=name, pads=[kernel // 2] * 4, **attrs)

    def linear(self, x, name, *, out=4, size=4):
        product = self.node("MatMul", x, self.normal(size, out), name=name)
        return self.node("Add", product, self.normal(out), name=f"{name}.bias")

    def relu(self, x):
        return self.node("Relu", x)

    def silu(self, x):
        return self.node("Mul", x, self.node("Sigmoid", x))

    def layer_norm(self, x):
        return self.node("LayerNormalization", x, self.normal(4), self.normal(4), axis=-1)

    def found(self, y):
        self.output(y, None)
        model = load(self.model().SerializeToString())
        network = build_network(model)
        constants = HandedConstants(model, network)
        layers = find_layers(network, constants)
        rule = PlaceRule(network, layers, constants)
        return {layer.node.name: rule.apart(layer) for layer in layers.values()}


@pytest.fixture
def net():
    return Net(17)


def image(net):
    return net.input("N", 4, 8, 8)


def tokens(net):
    return net.input("N", 9, 4)


def head(net, x):
    return net.linear(net.node("Flatten", net.node("GlobalAveragePool", x)), "head")


def test_hidden_layers_have_one_and_the_answer_has_none(net):
    x = net.conv2d(image(net), "first")
    y = net.conv2d(net.silu(x), "second")
    y = net.conv2d(net.relu(net.node("Add", y, x)), "bottleneck")
    y = net.conv2d(y, "pointwise", kernel=3)
    y = net.conv2d(net.relu(net.node("MaxPool", y, kernel_shape=[2, 2])), "out")
    found = net.found(net.node("Sigmoid", y))
    assert found == dict.fromkeys(("first", "second", "bottleneck", "pointwise")) | {
        "out": Omission.OUTPUT
    }


def test_squeeze_and_excite_and_heads(net):
    x = net.relu(net.conv2d(image(net), "conv"))
    pooled = net.node("GlobalAveragePool", x)
    gate = net.conv2d(net.relu(net.conv2d(pooled, "reduce")), "expand")
    x = net.node("Mul", x, net.node("HardSigmoid", gate))
    found = net.found(head(net, net.relu(net.conv2d(x, "last"))))
    pooled = dict.fromkeys(("reduce", "expand", "head"), Omission.POOLED)
    assert found == {"conv": None, "last": None} | pooled


def test_what_is_pooled_and_spread_over_the_map_again_has_one(net):
    x = net.relu(net.conv2d(image(net), "conv"))
    y = net.relu(net.conv2d(net.node("GlobalAveragePool", x), "context"))
    sizes = net.const(np.array([1, 1, 8, 8], np.float32))
    y = net.node("Concat", x, net.node("Resize", y, "", sizes), axis=1)
    found = net.found(net.conv2d(net.relu(net.conv2d(y, "merge", size=8)), "out"))
    assert found == {"conv": None, "context": None, "merge": None, "out": Omission.OUTPUT}


@pytest.mark.parametrize("op", ["GlobalMaxPool", "GlobalAveragePool"])
@pytest.mark.parametrize("gates", [False, True])
def test_layers_go_on_behind_a_maximum_but_for_a_gate(net, op, gates):
    x = net.relu(net.conv2d(image(net), "conv"))
    y = net.conv2d(net.relu(net.conv2d(net.node(op, x), "fc1")), "fc2")
    y = net.node("Mul", x, net.node("Sigmoid", y)) if gates else net.relu(y)
    found = net.found(net.conv2d(y, "out"))
    pooled = None if op == "GlobalMaxPool" and not gates else Omission.POOLED
    assert (found["fc1"], found["fc2"]) == (pooled, pooled)
    assert found["conv"] is None


@pytest.mark.parametrize("kind", ["scaled", "not scaled", "activated"])
def test_a_block_with_a_layer_scale_has_one_at_its_depthwise_layer(net, kind):
    x = net.relu(net.conv2d(image(net), "stem"))
    y = net.conv2d(x, "depthwise", kernel=3, size=1, group=4)
    y = net.relu(y) if kind == "activated" else y
    y = net.conv2d(net.relu(net.conv2d(y, "fc1")), "fc2")
    y = y if kind == "not scaled" else net.node("Mul", y, net.normal(4, 1, 1))
    found = net.found(net.conv2d(net.relu(net.node("Add", x, y)), "out"))
    block = Omission.LAYER_SCALE if kind == "scaled" else None
    assert found == {"stem": None, "depthwise": None, "fc1": block, "fc2": block} | {
        "out": Omission.OUTPUT
    }


@pytest.mark.parametrize("late", [1, 3])
def test_the_last_is_as_most_layers_like_it_are(net, late):
    y = image(net)
    for number in range(4):
        y = net.relu(net.conv2d(y, f"conv{number}", kernel=3))
        y = net.bn(y, 4) if number < late else y
    found = net.found(head(net, y))
    assert found["conv3"] is (Omission.AFTER_ACTIVATION if late == 3 else None)


def test_attention_and_the_block_of_a_layer_norm(net):
    x = tokens(net)
    y = net.layer_norm(x)
    q, k, v = (net.linear(y, name) for name in "qkv")
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 2, 1]))
    y = net.linear(net.node("MatMul", net.node("Softmax", scores), v), "proj")
    x = net.node("Add", x, y)
    y = net.linear(net.node("Gelu" if net.opset > 19 else "Relu", net.linear(x, "in")), "mlp")
    found = net.found(net.linear(net.relu(net.node("Add", x, y)), "out"))
    attention = dict.fromkeys(("q", "k", "v", "proj"), Omission.ATTENTION)
    assert found == attention | {"in": None, "mlp": None, "out": Omission.OUTPUT}


@pytest.mark.parametrize("decomposed", [False, True])
def test_layer_norm_networks_have_none(net, decomposed):
    x = tokens(net)
    if decomposed:
        centred = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
        square = net.node("ReduceMean", net.node("Mul", centred, centred), axes=[-1])
        y = net.node("Div", centred, net.node("Sqrt", square))
    else:
        y = net.layer_norm(x)
    y = net.linear(net.relu(net.linear(y, "fc1")), "fc2")
    y = net.layer_norm(net.linear(net.node("Add", x, y), "embed"))
    found = net.found(net.relu(y))
    assert found == {
        "fc1": Omission.LAYER_NORM,
        "fc2": Omission.LAYER_NORM,
        "embed": Omission.NORMALIZED,
    }


def test_pre_activation_keeps_its_own(net):
    x = net.conv2d(image(net), "stem")
    y = net.conv2d(net.relu(net.bn(x, 4)), "conv1")
    y = net.node("Add", x, net.conv2d(net.relu(y), "conv2"))
    found = net.found(net.conv2d(net.relu(net.bn(y, 4)), "out"))
    normalized = dict.fromkeys(("stem", "conv2"), Omission.NORMALIZED)
    assert found == normalized | {"conv1": None, "out": Omission.OUTPUT}


def test_a_batchnorm_behind_the_activation_is_the_layers(net):
    y = net.bn(net.relu(net.conv2d(image(net), "conv")), 4)
    y = net.bn(net.relu(net.conv2d(y, "next")), 4)
    assert net.found(y) == dict.fromkeys(("conv", "next"), Omission.NORMALIZED)


def test_a_layer_without_bias_never_had_one(net):
    y = net.relu(net.conv2d(image(net), "plain", bias=False))
    assert net.found(net.relu(net.conv2d(y, "conv")))["plain"] is Omission.NO_BIAS


@pytest.mark.parametrize("op", ["Relu", "Tanh", "Softmax"])
def test_features_are_no_answer(net, op):
    found = net.found(net.node(op, net.conv2d(image(net), "conv")))
    assert found == {"conv": None if op == "Relu" else Omission.OUTPUT}


def test_weights_that_are_computed_make_no_layer(net):
    x = image(net)
    assert net.found(net.relu(net.node("Conv", x, net.input(4, 4, 1, 1, name="w")))) == {}


def test_every_reason_has_words():
    assert EXPLANATIONS.keys() == set(Omission)
