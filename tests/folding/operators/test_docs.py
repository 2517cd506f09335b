"""The page of operators, the operators, and their tests name the same things."""

import re
from pathlib import Path

import pytest

from normswap.folding.operators import Operator, registry
from normswap.graph.reasons import Blocked

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")


def rows():
    """Yield operators, file, and what the row says of up and down."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        link = re.fullmatch(r"\[(\w+\.py)\]\((\S+)\)", cells[1]) if len(cells) == 5 else None
        if link:
            yield re.findall(r"`(\w+)`", cells[0]), link, cells[2], cells[3]


def file_of(operator):
    return type(operator).__module__.rpartition(".")[2] + ".py"


def test_every_operator_has_one_row_and_every_row_an_operator():
    documented = [op for ops, *_ in rows() for op in ops]
    assert sorted(documented) == sorted(op for domain, op in registry() if not domain)


def test_rows_name_the_file():
    for ops, link, _, _ in rows():
        assert (ROOT / "docs" / link[2]).is_file()
        for op in ops:
            assert link[1] == file_of(registry()["", op])


@pytest.mark.parametrize("direction", ["up", "down"])
def test_what_blocks_always_is_said_to(direction):
    for ops, _, up, down in rows():
        for op in ops:
            answers = getattr(type(registry()["", op]), direction)
            inherited = answers is getattr(Operator, direction)
            assert inherited == ((up if direction == "up" else down) == "blocks"), op


@pytest.mark.parametrize("file", sorted({file_of(operator) for operator in registry().values()}))
def test_every_file_has_a_test_of_all_its_operators(file):
    test = Path(__file__).parent / f"test_{file}"
    assert test.is_file()
    text = test.read_text(encoding="utf-8")
    for (_, op), operator in registry().items():
        if file_of(operator) == file:
            assert re.search(rf"\b{op}\b", text), f"{op} in {test.name}"


def test_tests_have_traps():
    for file in {file_of(operator) for operator in registry().values()}:
        text = (Path(__file__).parent / f"test_{file}").read_text(encoding="utf-8")
        assert "check_kept" in text, file


def test_operators_have_a_name_for_what_they_say():
    from normswap.graph.network import Graph, Node, Value

    graph = Graph("", 17)
    node = Node(0, "Relu", "", "", {}, graph, outputs=[Value("y", graph)])
    for ask in (Operator().up, Operator().down):
        with pytest.raises(Blocked, match="Relu y"):
            ask(node, 0, None)
