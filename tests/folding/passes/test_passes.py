"""A pass is a file and a line; what it did can be taken back, records and all."""

import ast
import inspect
import pkgutil

from support.build import Builder

from normswap.folding import division, passes, planner
from normswap.folding.draft import Draft
from normswap.folding.edits import Specialise
from normswap.folding.passes.dividing import LAYER, divide
from normswap.folding.passes.finding import find
from normswap.folding.passes.routes import fold_along_routes
from normswap.folding.plan import Folded, Kept
from normswap.graph.build import build_network
from normswap.model import load


def a_draft():
    b = Builder()
    x = b.node("Softmax", b.input(1, 4, 5, 5))
    y = b.bn(b.conv(x, 4, 4), 4)
    b.output(b.node("Sigmoid", y)).output(b.bn(x, 4))
    return Draft(build_network(load(b.model().SerializeToString())))


def test_the_planners_list_every_pass():
    modules = set()
    for function in (planner.make_plan, planner.settled, division.plan_division):
        known = inspect.getmodule(function)
        tree = ast.parse(inspect.getsource(function))
        listed = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        homes = {getattr(getattr(known, name, None), "__module__", "") for name in listed}
        modules |= {home for home in homes if home.startswith(passes.__name__)}
    assert {module.rpartition(".")[2] for module in modules} == {
        module.name for module in pkgutil.iter_modules(passes.__path__)
    }


def test_records_are_taken_back_with_the_edits():
    draft = a_draft()
    (graph,) = draft.network.graphs
    assert not find(draft, graph)
    before, mark = dict(draft.records[graph]), draft.mark()
    assert fold_along_routes(draft, graph)
    assert [type(record.fate) for record in draft.records[graph].values()] == [Kept, Folded]
    draft.rollback(mark)
    assert draft.records[graph] == before
    assert {record.fate for record in before.values()} == {None}
    draft.rollback(0)
    assert not draft.records
    assert not draft.begun
    assert not draft.edits


def test_a_pass_says_whether_it_has_edited_anything():
    draft = a_draft()
    (graph,) = draft.network.graphs
    find(draft, graph)
    assert [fold_along_routes(draft, graph) for _ in range(2)] == [True, False]


def test_what_is_not_there_may_be_noted_and_taken_back():
    draft = a_draft()
    mark = draft.mark()
    draft.note(draft.merged, 1, ("a",))
    inner = draft.mark()
    draft.note(draft.merged, 1, ("a", "b"))
    draft.commit([Specialise(3, 0, 7)])
    assert draft.specialised == {3: 7}
    draft.rollback(inner)
    assert (draft.merged, draft.specialised) == ({1: ("a",)}, {})
    draft.rollback(mark)
    assert not draft.merged


def test_a_division_is_taken_back():
    draft = a_draft()
    (graph,) = draft.network.graphs
    find(draft, graph)
    before, mark = [(node.key, list(node.inputs)) for node in graph.nodes], draft.mark()
    numbers = {node.key for node in graph.nodes if node.op == "BatchNormalization"}
    for number in numbers:
        draft.nodes[number].attrs[LAYER] = number
    assert divide(draft, graph, wanted=numbers, sealed=numbers)
    assert set(draft.divided.values()) == numbers
    assert len(graph.nodes) == len(before) + 2
    assert all(draft.nodes[number].opaque for number in numbers)
    draft.rollback(mark)
    assert [(node.key, list(node.inputs)) for node in graph.nodes] == before
    assert not draft.divided
    assert not any(node.opaque for node in graph.nodes)
