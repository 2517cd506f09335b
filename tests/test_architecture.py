"""Imports go one way; a reader who knows the order knows where to look."""

import ast
from pathlib import Path

import pytest

import normswap

ROOT = Path(normswap.__file__).parent

LAYERS = [
    ["errors"],
    ["dtypes", "finite", "lifetime", "locks", "undisturbed"],
    ["scratch", "semantics"],
    ["model"],
    ["folding.reasons"],
    ["folding.affine", "folding.expressions", "folding.precision"],
    ["folding.answers", "folding.edits", "folding.plan"],
    ["folding.legacy"],
    ["folding.evaluate"],
    ["folding.sizes"],
    ["folding.trust"],
    ["folding.shapes"],
    ["folding.graph"],
    ["folding.mode", "folding.names", "folding.removal"],
    ["folding.draft"],
    ["folding.batchnorm", "folding.decomposed", "folding.functions", "folding.quantized"],
    ["folding.soundness"],
    ["folding.operators", "folding.normalization"],
    ["folding.route"],
    ["folding.branches", "folding.leftover"],
    ["folding.planner"],
    ["folding.apply", "folding.residual"],
    ["check"],
    ["pipeline"],
    ["groupnorm"],
    ["report"],
    ["cli"],
    ["__main__"],
]
"""Every module, lowest first; a module imports from lower layers and from its own package only."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def layer(parts):
    """Return the layer of a module: its package, or its place in the folding."""
    return ".".join(parts[:2]) if parts[0] == "folding" else parts[0]


MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def imports(path):
    """Yield the normswap modules that a file imports at run time, with whether at its top."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    hints = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in hints:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("normswap"):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("normswap"))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_one_way(path):
    if path.name == "__init__.py" and path.parts[:-1] in ((), ("folding",)):
        return
    own = layer(path.with_suffix("").parts)
    assert own in LEVEL, f"{path} has no layer"
    for module in imports(path):
        parts = module.split(".")
        if len(parts) == 1:
            continue  # the version
        other = layer(parts[1:])
        if other != own:
            assert LEVEL[other] < LEVEL[own], f"{path} imports {module}"


def test_only_the_edge_of_the_program_knows_click():
    for path in MODULES:
        if path.parts[0] != "cli":
            assert "import click" not in (ROOT / path).read_text(encoding="utf-8"), path


def test_the_library_never_prints():
    for path in MODULES:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [call for call in calls if getattr(call, "id", "") == "print"], path


def test_the_public_names_are_there():
    for name in normswap.__all__:
        assert getattr(normswap, name) is not None
    assert set(normswap.__all__) <= set(dir(normswap))
    with pytest.raises(AttributeError):
        _ = normswap.nothing
