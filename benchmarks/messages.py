"""Every message of the package in one list.

    python -m benchmarks.messages [FOLDER]
    python -m benchmarks.messages [FOLDER] --since REVISION

The second lists those that went and those that came since a revision of the repository.

A message is a text in the code that a person may be shown: with a blank in it, and no docstring.
They are found in the syntax tree, so none is missed for being long or put together; what is filled
in stands in braces. In front of each is what it is for, where the code says so: an error, a tip,
a reason, the help of an option, or other words.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = Path(__file__).resolve().parent.parent
PACKAGE = "normswap"

KINDS = {"tip": "tip", "help": "help", "epilog": "help", "metavar": "help"}
"""What a keyword argument is for."""


def messages(code: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the kind and the text of each message of a file."""
    yield from _inside(ast.parse(code), "text")


def present(under: str) -> dict[str, str]:
    """Return the code of the package as it is, by path from the repository's folder on."""
    paths = sorted((HOME / under).rglob("*.py")) or [HOME / under]
    return {path.relative_to(HOME).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def former(under: str, revision: str) -> dict[str, str]:
    """Return the same as of a revision of the repository."""
    command = ["git", "-C", str(HOME), "archive", "--format=tar", revision, PACKAGE]
    archive = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for each in files:
            file = files.extractfile(each)
            if file is not None and each.name.startswith(under) and each.name.endswith(".py"):
                found[each.name] = file.read().decode()
    return found


def _inside(node: ast.AST, kind: str) -> Iterator[tuple[int, str, str]]:
    text = _text(node)
    if text is not None:
        if " " in text.strip() and any(c.isalpha() for c in text):
            yield node.lineno, kind, " ".join(text.split())
        return
    for child in _children(node):
        yield from _inside(child, _kind(node, child, kind))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a node is made of, but docstrings and annotations."""
    body = getattr(node, "body", None)
    documentation = body[0] if isinstance(body, list) and body and _is_text(body[0]) else None
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            # A text that stands alone is what a constant before it is documented by.
            if isinstance(child, ast.AST) and child is not documentation and not _is_text(child):
                yield child


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _kind(node: ast.AST, child: ast.AST, kind: str) -> str:
    """Return what a part of a node is for."""
    if isinstance(node, ast.keyword):
        return KINDS.get(node.arg or "", kind)
    if isinstance(node, ast.Raise):
        return "error"
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in {"Blocked", "Block", "blocked"}:
            return "reason"
        if name.endswith("Error"):
            return "tip" if isinstance(child, ast.keyword) and child.arg == "tip" else "error"
    return kind


def _text(node: ast.AST) -> str | None:
    """Return a text as it reads; None if a node is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = (_text(part) or "" for part in node.values)
        return "".join(parts)
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None or right is None else left + right
    return None


def main() -> None:
    """Print them, file by file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("under", nargs="?", default="", metavar="FOLDER")
    parser.add_argument("--since", metavar="REVISION")
    given = parser.parse_args()
    under = f"{PACKAGE}/{given.under}".rstrip("/")
    if given.since:
        _compare(former(under, given.since), present(under))
        return
    for path, code in present(under).items():
        found = list(messages(code))
        if found:
            print(f"\n{path}")
        for line, kind, text in found:
            print(f"{line:6} {kind:6} {text}")


def _compare(before: dict[str, str], after: dict[str, str]) -> None:
    """Print what went and what came, file by file; what has moved to another file is neither."""
    counts = [
        Counter(text for code in codes.values() for _, _, text in messages(code))
        for codes in (before, after)
    ]
    changes = {"-": (before, counts[0] - counts[1]), "+": (after, counts[1] - counts[0])}
    for path in sorted({*before, *after}):
        lines = [
            f"{sign} {text}"
            for sign, (codes, changed) in changes.items()
            for _, _, text in messages(codes.get(path, ""))
            if text in changed
        ]
        if lines:
            print(f"\n{path}", *lines, sep="\n")
    print(f"\n{changes['-'][1].total()} went, {changes['+'][1].total()} came")


if __name__ == "__main__":
    main()
