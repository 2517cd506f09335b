"""A proof is made again from its cut points, and from nothing else."""

import dataclasses

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.build import Builder
from support.folding import fold_model

from normswap.inputs.signature import drawing_alike, read_signature
from normswap.proof.files import prove_files, sides_of
from normswap.proof.flattening import flattened
from normswap.proof.identity import node_names, tensor_names
from normswap.proof.result import Cut, Means, Standing
from normswap.proof.retrace import retrace


def network(seed=0):
    b = Builder(17, seed=seed)
    x = b.conv(b.input("N", 3, 8, 8), 3, 5, pads=[1] * 4, out="c1")
    x = b.node("Relu", b.bn(x, 5, out="n1"), out="r1")
    x = b.bn(b.conv(x, 5, 5, out="c2"), 5, out="n2")
    b.output(b.node("Sigmoid", x, out="y"))
    return b.model()


def signatures(a, b, folder):
    for name, model in (("a", a), ("b", b)):
        onnx.save(model, folder / f"{name}.onnx")
    return drawing_alike(*(read_signature(folder / f"{name}.onnx") for name in "ab"))


def searched(a, b, folder):
    """Return what a search finds of two models, and the models as sides."""
    read = signatures(a, b, folder)
    return prove_files(*read), sides_of(*read)[:2]


def cuts_of(proof):
    return {region.cut.tensor: region.cut for region in proof.regions}


@pytest.fixture
def folded(tmp_path):
    return searched(network(), fold_model(network())[0], tmp_path)


def test_what_a_search_found_is_found_without_it(folded):
    proof, sides = folded
    assert proof.is_whole
    traced = retrace(*sides, cuts_of(proof))
    assert not traced.refused
    assert [output.standing for output in traced.outputs] == [Standing.PROVED]
    assert (traced.values, traced.identical) == (proof.values, proof.identical)
    assert [region.floors for region in traced.regions] == [r.floors for r in proof.regions]
    assert [region.means for region in traced.regions] == [Means.MAPS] * 2


@pytest.mark.parametrize("without", [0, 1])
def test_without_a_cut_point_nothing_is_proved(folded, without):
    proof, sides = folded
    cuts = cuts_of(proof)
    del cuts[proof.regions[without].cut.tensor]
    traced = retrace(*sides, cuts)
    assert [output.standing for output in traced.outputs] == [Standing.OPEN]


def test_the_same_model_needs_no_cut_points(tmp_path):
    proof, sides = searched(network(), network(), tmp_path)
    assert proof.is_whole
    traced = retrace(*sides, {})
    assert [output.standing for output in traced.outputs] == [Standing.IDENTICAL]
    assert traced.identical == traced.values


def test_a_cut_point_of_what_is_identical_says_nothing(tmp_path):
    _, sides = searched(network(), network(), tmp_path)
    flat = sides[1].flat
    number, frontier = flat.named["n1"], (flat.named["x"],)
    traced = retrace(*sides, {number: Cut(number, number, frontier)})
    assert traced.regions == ()
    assert [output.standing for output in traced.outputs] == [Standing.IDENTICAL]


def wrong_pair(cut, a, b):
    return dataclasses.replace(cut, original=a.flat.named["c1"])


def an_input(cut, a, b):
    return dataclasses.replace(cut, original=a.flat.named["x"])


def no_frontier(cut, a, b):
    return dataclasses.replace(cut, frontier=())


def itself(cut, a, b):
    return dataclasses.replace(cut, frontier=(cut.tensor,))


@pytest.mark.parametrize("lie", [wrong_pair, an_input, no_frontier, itself])
def test_a_wrong_cut_point_is_refused_with_a_reason(folded, lie):
    proof, sides = folded
    cuts = cuts_of(proof)
    first = proof.regions[0].cut
    cuts[first.tensor] = lie(first, *sides)
    traced = retrace(*sides, cuts)
    assert traced.refused[cuts[first.tensor]]
    assert [output.standing for output in traced.outputs] == [Standing.OPEN]


def test_an_unproved_frontier_is_none(folded):
    """What begins with a tensor that is not known to be equal shows nothing."""
    proof, sides = folded
    first, second = (region.cut for region in proof.regions)
    traced = retrace(*sides, {second.tensor: second})
    assert "not known" in traced.refused[second]
    assert traced.regions == ()
    assert first.tensor in second.frontier or second.frontier


def test_an_integer_is_no_cut_point(tmp_path):
    models = []
    for low in (0, 1):
        b = Builder(17)
        x = b.node("Cast", b.input("N", 4), to=TensorProto.INT64, out="i")
        y = b.node("Add", x, b.const(low), out="y")
        b.output(y, elem_type=TensorProto.INT64)
        models.append(b.model())
    _, sides = searched(*models, tmp_path)
    numbers = [side.flat.named["y"] for side in sides]
    cut = Cut(numbers[1], numbers[0], (sides[1].flat.named["x"],))
    traced = retrace(*sides, {cut.tensor: cut})
    assert "float" in traced.refused[cut]


def test_names_are_of_one_tensor_each():
    """Two calls of one function, and a tensor that is called as the second one would be."""
    b = Builder(17)
    x = b.input("N", 4)
    made = [b.node("F", x, domain="own") for _ in range(2)]
    b.output(b.node("Sum", *made, b.node("Neg", x, out="h in F #2"), out="y"))
    inner = [helper.make_node("Abs", ["x"], ["h"]), helper.make_node("Exp", ["h"], ["z"])]
    opsets = [helper.make_opsetid("", 17)]
    b.functions.append(helper.make_function("own", "F", ["x"], ["z"], inner, opsets))
    b.extra_opsets.append(helper.make_opsetid("own", 1))
    model = b.model()
    for node in model.graph.node:
        node.name = ""
    flat = flattened(model)
    names = tensor_names(flat)
    assert len(names) == len(flat.names) == len(set(names))
    assert {"x", "y", "h in F", "h in F #2", "h in F #2 #2"} <= set(names)
    assert len(set(node_names(flat))) == len(flat.nodes)
    assert {"Abs h in F", "Abs h in F #2"} <= set(node_names(flat))


def test_what_is_off_by_little_within_a_region_is_not_hidden(tmp_path):
    """Driven as one region the two are within rounding; the Conv in it is not."""
    models = []
    for factor in (1.0, 1 + 3e-6):
        b = Builder(17)
        x = b.conv(b.input("N", 8, 6, 6), 8, 8, out="c")
        b.output(b.node("GlobalAveragePool", b.node("Softmax", x, axis=1, out="s"), out="y"))
        model = b.model()
        weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
        array = numpy_helper.to_array(weight).copy()
        array[0, 0, 0, 0] *= factor
        weight.CopyFrom(numpy_helper.from_array(array, weight.name))
        models.append(model)
    proof, sides = searched(*models, tmp_path)
    assert not proof.is_whole
    numbers = [side.flat.named["y"] for side in sides]
    cut = Cut(numbers[1], numbers[0], (sides[1].flat.named["x"],))
    traced = retrace(*sides, {cut.tensor: cut})
    assert (
        traced.refused[cut]
        == "a tensor in its region differs slightly, and the region may hide that"
    )
