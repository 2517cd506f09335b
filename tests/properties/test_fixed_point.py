"""A fold of what a fold has made finds nothing, in any form, wherever the graph is."""

import numpy as np
import onnx
import pytest
from onnx import helper
from support.build import Builder
from support.folding import assert_same_function, fold_model
from support.graphs import live_ops
from support.random_graphs import Choices, random_graph
from support.random_scopes import in_if

C = 6
FORMS = ["keep", "affine", "normalize"]


def settled(model, **options):
    """Fold a model and assert that a second time changes nothing; return what comes out."""
    folded, plan = fold_model(model, **options)
    onnx.checker.check_model(folded)
    again, second = fold_model(folded, **options)
    assert not second.edits, [entry.site.node for entry in second.folded]
    assert not second.folded
    assert again == folded
    return folded, plan


@pytest.mark.parametrize("merge_branches", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_random_graphs(form, merge_branches):
    rng = np.random.default_rng(FORMS.index(form) * 2 + merge_branches)
    choose = Choices(lambda below: int(rng.integers(below)))
    for seed in range(30):
        model, _ = random_graph(choose, nodes=12, seed=seed)
        made = {name for node in model.graph.node for name in node.output}
        settled(model, leftover=form, merge_branches=merge_branches)
        if seed % 3 == 0 and all(info.name in made for info in model.graph.output):
            settled(in_if(model), leftover=form, merge_branches=merge_branches)


def behind_a_matmul(b, x):
    """A BatchNormalization that goes down into a constant of the arithmetic behind it."""
    y = b.node("MatMul", b.bn(b.node("Relu", x), C, positive=True), b.normal(C, 1, 2))
    y = b.node("Sub", b.node("Neg", b.node("Add", b.normal(C, 1, 1), y)), b.normal(C, 1, 1))
    return [b.node("Mul", b.const(b.rng.uniform(1, 2, (C, 1, 1))), y)]


def behind_a_split(b, x):
    """Two that stay, of which the second can go into what the first becomes."""
    sizes = b.const(np.array([1, 2], dtype=np.int64))
    first, second = b.node(
        "Split", b.bn(b.node("Relu", x), C, positive=True), sizes, axis=2, outputs=2
    )
    return [first, b.bn(second, C, positive=True)]


def between_arithmetic(b, x):
    y = b.node("Mul", b.node("Sigmoid", x), b.const(b.rng.uniform(1, 2, (C, 1, 1))))
    y = b.bn(b.node("Add", y, b.normal(1)), C, positive=True)
    y = b.node("Div", b.node("Sub", y, b.normal(C, 1, 1)), b.const(b.rng.uniform(1, 2, (1, 1))))
    return [b.node("Sigmoid", b.node("Mul", y, b.normal(1)))]


def one_after_another(b, x):
    y = b.bn(b.node("Sigmoid", x), C)
    y = b.node("LayerNormalization", y, b.normal(1), b.normal(1))
    y = b.bn(b.node("Relu", b.bn(y, C)), C)
    return [b.node("Sigmoid", y), b.node("Neg", y)]


MAKERS = [behind_a_matmul, behind_a_split, between_arithmetic, one_after_another]


def in_main(maker):
    b = Builder()
    for name in maker(b, b.input(1, C, 3, 1)):
        b.output(name)
    return b.model()


def in_function(maker):
    """The same in a function, half of whose weights the call gives."""
    inner = in_main(maker).graph
    given = list(inner.initializer)[::2]
    own = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in list(inner.initializer)[1::2]
    ]
    inputs = ["x", *(tensor.name for tensor in given)]
    outputs = [info.name for info in inner.output]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function(
        "local", "Whole", inputs, outputs, [*own, *inner.node], imports[:1]
    )
    call = helper.make_node("Whole", inputs, outputs, "call", domain="local")
    graph = helper.make_graph([call], "g", list(inner.input), list(inner.output), given)
    return helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=8)


@pytest.mark.parametrize("merge_branches", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("where", ["main", "body", "function"])
def test_made(where, maker, form, merge_branches):
    main = in_main(maker)
    model = {"main": lambda: main, "body": lambda: in_if(main)}.get(
        where, lambda: in_function(maker)
    )()
    folded, _ = settled(model, leftover=form, merge_branches=merge_branches)
    assert_same_function(model, folded)


def test_arithmetic_that_has_become_shorter():
    folded, plan = settled(in_main(behind_a_matmul))
    assert live_ops(folded) == ["Relu", "MatMul", "Add"]
    assert len(plan.folded) == 2
    assert not plan.kept


def test_a_form_that_takes_in_what_the_node_could_not():
    folded, plan = settled(in_main(behind_a_split), leftover="affine")
    assert live_ops(folded) == ["Relu", "Mul", "Add", "Split"]
    # Both are told as what the model has, whatever they have become meanwhile.
    assert {entry.site.op for entry in (*plan.folded, *plan.kept)} == {"BatchNormalization"}
    (kept,) = plan.kept
    assert kept.form == "affine"
    assert len(plan.folded) == 1


def test_what_the_model_has_not_is_not_told():
    _, plan = settled(in_main(between_arithmetic), leftover="affine")
    names = {node.name for node in in_main(between_arithmetic).graph.node}
    assert {entry.site.node for entry in (*plan.folded, *plan.kept)} <= names
