"""What the steps write: sections in Markdown, each a file that grows line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from normswap.runtime.providers import full_name

if TYPE_CHECKING:
    from pathlib import Path

    from normswap.runtime.survey import Survey


class Section:
    """A section of the page, on disk line by line."""

    def __init__(self, folder: Path, name: str, title: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name}.md"
        self._path.write_text(f"## {title}\n", encoding="utf-8")

    def text(self, paragraph: str) -> None:
        """Write a paragraph."""
        self._add(f"\n{paragraph}\n")

    def table(self, header: list[str]) -> None:
        """Begin a table."""
        self._add(f"\n{_line(header)}{'|' + '---|' * len(header)}\n")

    def row(self, cells: list[str]) -> None:
        """Write a row of the table that was begun last."""
        self._add(_line(cells))
        print(*cells, sep="  ", flush=True)

    def _add(self, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def page(folder: Path, steps: list[str], state: Survey, provider: str) -> str:
    """Return the sections that are there as one page."""
    status = state.status(provider)
    packages = ", ".join(f"{name} {version}" for name, version in state.packages.items())
    built_for = f", built for CUDA {state.cuda}" if state.cuda else ""
    parts = [
        f"# Measured on {provider}\n",
        (
            f"{full_name(provider)} on device {status.device or 'the CPU'}; {packages}{built_for}; "
            f"onnx {onnx.__version__}. Made by `python -m benchmarks.cuda`. "
            "TF32 is off but where it says otherwise.\n"
        ),
    ]
    paths = [folder / f"{step}.md" for step in steps]
    parts += [path.read_text(encoding="utf-8") for path in paths if path.exists()]
    return "\n".join(parts)
