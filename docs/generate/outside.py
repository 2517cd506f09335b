"""What pages link to outside of docs/ comes along, so that no link of the site is dead.

In the repository a page links to ``../benchmarks/RESULTS-FOLD.md``, or to a file of code, as GitHub
shows them. The site has a copy of each under ``repository/``: Markdown is a page, code is
shown as a page. Sections of the README that the site has pages of are linked to these.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
HOME = "repository"
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
README = {
    "#exit-codes": "reference/exit-codes.md",
    "#why-a-batchnormalization-is-kept": "reference/reasons.md",
}
"""Sections of the README by the pages that say the same."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to, and what that links to."""
    waiting = [
        (file.src_uri, f"docs/{file.src_uri}")
        for file in files.documentation_pages()
        if (ROOT / "docs" / file.src_uri).is_file()
    ]
    while waiting:
        _, place = waiting.pop()
        for target, anchor in LINK.findall((ROOT / place).read_text(encoding="utf-8")):
            found = _outside(place, target, anchor)
            if found is None or not (ROOT / found).exists():
                continue  # which the strict build tells
            uri = _uri(found)
            if files.get_file_from_path(uri) is None:
                files.append(_file(config, uri, found))
                if found.endswith(".md"):
                    waiting.append((uri, found))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that leave docs/ go to the copies."""
    del config, files
    uri = page.file.src_uri
    if uri.startswith(f"{HOME}/"):
        page.meta["search"] = {"exclude": True}
        place = uri.removeprefix(f"{HOME}/")
    else:
        place = f"docs/{uri}"

    def relinked(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        outside = _outside(place, target, anchor)
        if outside is None:
            inside = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
            if uri.startswith(HOME) and inside.startswith("docs/"):
                return _relative(inside.removeprefix("docs/"), uri) + anchor
            return found[0]
        if outside == "README.md" and anchor in README:
            return _relative(README[anchor], uri)
        return _relative(_uri(outside), uri) + anchor

    return LINK.sub(relinked, markdown)


def _outside(place: str, target: str, anchor: str) -> str | None:
    """Return what a link of a file leads to, where that is not in docs/."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
    if path.startswith(("docs/", "..")) or (path == "README.md" and anchor in README):
        return path if path == "README.md" else None
    return path


def _uri(path: str) -> str:
    return f"{HOME}/{path if path.endswith(('.md', '.svg', '.png')) else f'{path}.md'}"


def _file(config: MkDocsConfig, uri: str, path: str) -> File:
    if uri == f"{HOME}/{path}":
        return File.generated(config, uri, abs_src_path=str(ROOT / path))
    if (ROOT / path).is_dir():
        names = sorted(each.name for each in (ROOT / path).iterdir() if each.name[0] not in "._")
        return File.generated(
            config, uri, content=f"# {path}\n\n" + "\n".join(f"- `{n}`" for n in names)
        )
    language = {"py": "python", "yml": "yaml", "toml": "toml"}.get(path.rpartition(".")[2], "text")
    code = (ROOT / path).read_text(encoding="utf-8")
    return File.generated(
        config, uri, content=f"# {Path(path).name}\n\n````{language} title='{path}'\n{code}````\n"
    )


def _relative(uri: str, page: str) -> str:
    return posixpath.relpath(uri, posixpath.dirname(page) or ".")
