"""Imports go one way; a reader who knows the order knows where to look."""

import ast
import functools
import re
from pathlib import Path

import pytest

import normswap

ROOT = Path(normswap.__file__).parent

FLOORS = [
    ["spelling"],
    ["errors", "version"],
    ["bodies", "dtypes", "files", "findings", "plain", "progress"],
    ["finite", "order"],
    ["semantics"],
    ["model"],
    ["graph"],
    ["runtime"],
    ["inputs"],
    ["proof"],
    ["check"],
    ["source"],
    ["folding", "permuting"],
    ["groupnorm"],
    ["unfolding"],
    ["diff", "inspection"],
    ["lint"],
    ["workflows"],
    ["fleet"],
    ["report"],
    ["cli", "testing"],
    ["__main__"],
]
"""Every module or package, lowest first; each imports from lower floors and from itself only."""

LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@functools.cache
def tree_of(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@functools.cache
def imports(module):
    """Return the modules that one imports, at its top, in a function or for its types."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found.add(inner if inner in MODULES else node.module)
    return (found & MODULES.keys()) - {module}


def circles(edges):
    """Return the strongly connected components of several nodes (Tarjan, 1972)."""
    order, low, stack, found = {}, {}, [], []

    def visit(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            component = set()
            while node not in component:
                component.add(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return found


def test_circles_are_found():
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a", "f"}, "f": {"e"}}
    assert circles(edges) == [["b", "c"], ["e", "f"]]


def test_no_module_imports_itself_by_a_detour():
    assert circles({module: imports(module) for module in MODULES}) == []


def floor(module):
    return LEVEL[module.split(".")[1]]


@pytest.mark.parametrize("module", [module for module in MODULES if module != "normswap"])
def test_imports_go_down(module):
    package = module.split(".")[1]
    assert package in LEVEL, f"{module} has no floor"
    up = [
        other
        for other in sorted(imports(module))
        if other != "normswap"  # the version
        and other.split(".")[1] != package
        and floor(other) >= floor(module)
    ]
    assert not up, f"{module} imports {', '.join(up)}"


def test_every_floor_is_there():
    assert LEVEL.keys() == {module.split(".")[1] for module in MODULES if module != "normswap"}


def test_only_the_edge_of_the_program_knows_click():
    for module, path in MODULES.items():
        if not module.startswith("normswap.cli"):
            assert "import click" not in path.read_text(encoding="utf-8"), module


def test_the_library_never_prints():
    for module in MODULES:
        calls = [node.func for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]
        assert not [call for call in calls if getattr(call, "id", "") == "print"], module


def test_the_public_names_are_there():
    for name in normswap.__all__:
        assert getattr(normswap, name) is not None
    assert set(normswap.__all__) <= set(dir(normswap))
    with pytest.raises(AttributeError):
        _ = normswap.nothing


def names_of(module):
    """Return what a module defines or imports at its top."""
    found = set()
    for node in tree_of(module).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Import() | ast.ImportFrom():
                found.update(name.asname or name.name for name in node.names)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def test_docstrings_refer_to_what_is_there():
    missing = []
    for module, path in MODULES.items():
        for name in re.findall(r":\w+:`~?(normswap[\w.]*)`", path.read_text(encoding="utf-8")):
            parts = name.split(".")
            home = next(
                home
                for end in range(len(parts), 0, -1)
                if (home := ".".join(parts[:end])) in MODULES
            )
            rest = name.removeprefix(home).lstrip(".").split(".")[0]
            known = {*names_of(home), *(normswap.__all__ if home == "normswap" else ())}
            if rest and rest not in known:
                missing.append((module, name))
    assert not missing
