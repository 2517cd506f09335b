"""Places before and after: what is around them, nodes without names, bodies, and how many."""

import onnx
import pytest
from support.build import Builder

from normswap.report.formats.html.drawing import draw
from normswap.report.pages.neighbourhood import BESIDE, LARGEST, PicturedPlace, kinds_of
from normswap.report.wiring import wiring_of

C = 4


def wiring(b):
    return wiring_of(b.model().SerializeToString())


def places(*names):
    return [PicturedPlace({("", name): "gone"}, ((name,),)) for name in names]


def shown(scene):
    """Return the boxes of a scene with their roles, and which operators its wires join."""
    boxes = [f"{box.op} {box.role}" for box in scene.boxes]
    ends = {(scene.boxes[a].op, scene.boxes[b].op) for a, b in scene.wires}
    return boxes, ends


def test_what_reads_and_feeds_a_place_is_around_it():
    b = Builder(17)
    x = b.node("Relu", b.input("N", C, 4, 4))
    y = b.bn(x, C, name="bn")
    for _ in range(BESIDE + 2):
        b.output(b.node("Tanh", y))
    b.output(b.node("Add", x, x))  # is no neighbour of the place
    (kind,) = kinds_of(places("bn"), wiring(b), None)
    boxes, ends = shown(kind.before)
    assert boxes == [
        "Relu around",
        "BatchNormalization gone",
        *["Tanh around"] * BESIDE,
        "2 more more",
    ]
    assert ends == {
        ("Relu", "BatchNormalization"),
        ("BatchNormalization", "Tanh"),
        ("BatchNormalization", "2 more"),
    }
    assert kind.after is None


def test_constants_that_are_computed_are_none_of_it():
    b = Builder(17)
    shape = b.node("Constant", value=onnx.numpy_helper.from_array(b.rng.normal(size=3)))
    scale = b.node("Abs", b.node("Cast", shape, to=1))
    b.output(b.node("Mul", b.input("N", 3), scale, name="mul"))
    (kind,) = kinds_of(places("mul"), wiring(b), None)
    assert shown(kind.before)[0] == ["input around", "Mul gone", "output around"]


def chain(*, before, names=True):
    b = Builder(17)
    x = b.node("Relu", b.input("N", C, 4, 4), out="r", name="" if not names else None)
    if before:
        x = b.bn(x, C, name="bn", out="y")
    else:
        x = b.node("Mul", x, b.normal(C, 1, 1), out="m")
        x = b.node("Add", x, b.normal(C, 1, 1), out="y")
    b.output(b.node("Tanh", x, out="z"))
    model = b.model()
    if not names:
        for node in model.graph.node:
            node.name = ""
    return wiring_of(model.SerializeToString())


@pytest.mark.parametrize("names", [True, False])
def test_new_operators_are_found_between_the_same_tensors(names):
    old, new = (chain(before=before, names=names) for before in (True, False))
    (kind,) = kinds_of(places("bn" if names else "y"), old, new)
    boxes, ends = shown(kind.after)
    assert boxes == ["Relu around", "Mul new", "Add new", "Tanh around"]
    assert ends == {("Relu", "Mul"), ("Mul", "Add"), ("Add", "Tanh")}


def test_a_body_has_its_own_names():
    then = Builder(17)
    then.output(then.node("Relu", then.bn("x", C, name="bn"), out="t"))
    body = onnx.helper.make_graph(then.nodes, "b", [], then.outputs, then.initializers)
    x = onnx.helper.make_tensor_value_info("x", 1, [1, C])
    cond = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
    choice = onnx.helper.make_node("If", ["c"], ["y"], "if", then_branch=body, else_branch=body)
    y = onnx.helper.make_tensor_value_info("y", 1, None)
    graph = onnx.helper.make_graph([choice], "g", [x, cond], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    found = wiring_of(model.SerializeToString())
    assert {node.graph for node in found.nodes} == {"", "if.then_branch", "if.else_branch"}
    inside = PicturedPlace({("if.then_branch", "bn"): "gone"}, (("bn",),))
    (kind,) = kinds_of([inside], found, None)
    assert shown(kind.before)[0][:2] == ["input around", "BatchNormalization gone"]


def test_places_with_an_operator_in_common_are_one_unless_that_is_too_large():
    b = Builder(17)
    x = b.input("N", C)
    names = [f"n{number}" for number in range(LARGEST + 5)]
    for name in names:
        x = b.node("Tanh", x, name=name)
    b.output(x)
    found = wiring(b)

    def place(start, end):
        return PicturedPlace(
            {("", name): "passes" for name in names[start:end]}, ((f"{start}:{end}",),)
        )

    (kind,) = kinds_of([place(0, 2), place(1, 3)], found, None)
    assert (kind.count, kind.labels) == (1, [("0:2",), ("1:3",)])
    assert shown(kind.before)[0] == ["input around", *["Tanh passes"] * 3, "Tanh around"]
    kinds = kinds_of([place(1, 20), place(19, 30), place(0, len(names))], found, None)
    assert [kind.labels for kind in kinds] == [[("1:20",)], [("19:30",)]]


def test_a_drawing_holds_its_boxes_apart():
    b = Builder(17)
    a = b.node("Abs", b.input("N", C, 4, 4))
    y = b.bn(a, C, name="bn")
    b.output(b.node("Add", b.node("Relu", y), a, name="add"))
    core = {("", "bn"): "gone", ("", "add"): "passes"}
    (kind,) = kinds_of([PicturedPlace(core, (("bn",),))], wiring(b), None)
    drawing = draw(kind.before)
    spans = [(d.x - d.width / 2, d.x + d.width / 2, d.y) for d in drawing.boxes]
    for at, (left, right, y) in enumerate(spans):
        assert 0 <= left < right <= drawing.width
        for other_left, other_right, other_y in spans[at + 1 :]:
            assert abs(y - other_y) > 30 or right < other_left or other_right < left
    assert len(drawing.wires) == len(kind.before.wires)
    assert draw(kind.before) == drawing
