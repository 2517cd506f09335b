"""The pictures of the pages: ``python docs/generate/pictures.py`` draws them anew.

They are files, which GitHub shows as images, in the colours of the reader's system. The site lays
them into its pages, where they have the colours of the page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
IMAGE = re.compile(r'<img alt="([^"]*)" src="([^"]*\.svg)"\s*/?>')
STYLE = re.compile(r"<style>.*?</style>\n?", re.DOTALL)

HEAD = """<svg class="drawing" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
width="{width}" height="{height}" role="img" aria-label="{label}" style="max-width: 100%; \
height: auto" font-family="system-ui, sans-serif" font-size="13" fill="currentColor">
<style>
.drawing {{ color: #24292f }}
@media (prefers-color-scheme: dark) {{ .drawing {{ color: #e6edf3 }} }}
</style>
"""

TAKEN = "#4c6ef5"
"""What is normalized together, or rewritten."""

SAME = "#2f9e44"
"""What is the same in both."""


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Lay the pictures into a page, without colours of their own."""
    folder = (DOCS / page.file.src_uri).parent

    def laid(found: re.Match[str]) -> str:
        path = folder / found[2]
        if not path.is_file() or 'class="drawing"' not in (text := path.read_text("utf-8")):
            return found[0]
        return STYLE.sub("", text)

    return IMAGE.sub(laid, content)


class Drawing:
    """Shapes of an SVG."""

    def __init__(self, width: int, height: int, label: str) -> None:
        self.parts = [HEAD.format(width=width, height=height, label=label)]

    def add(self, tag: str, text: str = "", **attributes: object) -> None:
        """Add an element; an underscore in a name is a hyphen."""
        named = "".join(f' {key.replace("_", "-")}="{v}"' for key, v in attributes.items())
        self.parts.append(f"<{tag}{named}>{text}</{tag}>\n" if text else f"<{tag}{named}/>\n")

    def text(self, x: float, y: float, text: str, **attributes: object) -> None:
        """Add text, in the middle of x unless it says otherwise."""
        self.add("text", text, **{"x": x, "y": y, "text_anchor": "middle", **attributes})

    def box(self, x: float, y: float, title: str, formula: str, colour: str = "") -> None:
        """Add an operator: its name, and what it does."""
        fill = {"fill": colour, "fill_opacity": 0.16} if colour else {"fill": "none"}
        stroke = colour or "currentColor"
        shape = {"x": x - 76, "y": y, "width": 152, "height": 46, "rx": 7}
        self.add("rect", **shape, **fill, stroke=stroke, stroke_width=1.5)
        self.text(x, y + 19, title, font_weight=600)
        self.text(x, y + 36, formula, font_size=12, opacity=0.85)

    def arrow(self, x: float, top: float, bottom: float) -> None:
        """Add an arrow downwards."""
        self.add("path", d=f"M{x} {top}V{bottom - 6}", stroke="currentColor", fill="none")
        self.add("path", d=f"M{x - 4} {bottom - 8}L{x} {bottom}L{x + 4} {bottom - 8}z")

    def save(self, name: str) -> None:
        """Write it."""
        text = "".join(self.parts) + "</svg>\n"
        (DOCS / "explanation" / name).write_text(text, encoding="utf-8")


N, C, P = 4, 6, 4
U = 22

SETS = {
    "Batch (BN)": (range(N), range(1, 2)),
    "Layer (LN)": (range(1), range(C)),
    "Instance (IN)": (range(1), range(1, 2)),
    "Group (GN)": (range(1), range(3)),
}
"""Samples and channels that are taken together, and all pixels of these; sample 0 is in front."""


def axes() -> None:
    """Draw a tensor four times, with one set of elements that is normalized together."""
    drawing = Drawing(820, 196, "Which elements BN, LN, IN and GN take together")
    for number, (title, (samples, channels)) in enumerate(SETS.items()):
        left, top = 30 + 200 * number, 68

        def corner(
            n: float, c: float, p: float, left: int = left, top: int = top
        ) -> tuple[float, float]:
            return left + U * c + 10 * n, top + U * p - 8 * n

        def face(*corners: tuple[float, float], taken: bool) -> None:
            points = " ".join(f"{x:g},{y:g}" for x, y in corners)
            fill = {"fill": TAKEN, "fill_opacity": 0.75} if taken else {"fill": "none"}
            drawing.add(
                "polygon", points=points, **fill, stroke="currentColor", stroke_opacity=0.55
            )

        for n in range(N):
            for c in range(C):
                quad = (n, c, 0), (n, c + 1, 0), (n + 1, c + 1, 0), (n + 1, c, 0)
                face(*(corner(*at) for at in quad), taken=n in samples and c in channels)
            for p in range(P):
                quad = (n, C, p), (n, C, p + 1), (n + 1, C, p + 1), (n + 1, C, p)
                face(*(corner(*at) for at in quad), taken=n in samples and C - 1 in channels)
        for c in range(C):
            for p in range(P):
                quad = (0, c, p), (0, c + 1, p), (0, c + 1, p + 1), (0, c, p + 1)
                face(*(corner(*at) for at in quad), taken=0 in samples and c in channels)
        drawing.text(left + 84, 18, title, font_weight=600, font_size=14)
        drawing.text(left + U * C / 2, top + U * P + 18, "C", font_style="italic")
        drawing.text(left - 14, top + U * P / 2 + 4, "H·W", font_style="italic", font_size=11)
        drawing.text(left + U * C + 34, top + U * P - 8, "N", font_style="italic")
    drawing.save("axes.svg")


def fold() -> None:
    """Draw a Conv with a BatchNormalization behind it, and the Conv that they become."""
    drawing = Drawing(560, 236, "A Conv and the BatchNormalization behind it become one Conv")
    for x in (110, 430):
        drawing.text(x, 16, "x", font_style="italic")
        drawing.arrow(x, 22, 44)
    drawing.box(110, 44, "Conv", "W * x + b")
    drawing.arrow(110, 90, 112)
    drawing.box(110, 112, "BatchNormalization", "s · z + t", TAKEN)
    drawing.arrow(110, 158, 180)
    drawing.box(110, 180, "Relu", "max(0, y)")
    drawing.add("path", d="M212 118H318", stroke=TAKEN, stroke_width=2, fill="none")
    drawing.add("path", d="M318 112L330 118L318 124z", fill=TAKEN)
    drawing.text(270, 106, "fold", fill=TAKEN, font_weight=600)
    drawing.text(270, 140, "the same function", font_size=12, opacity=0.85)
    drawing.box(430, 44, "Conv", "(sW) * x + (sb + t)", TAKEN)
    drawing.arrow(430, 90, 180)
    drawing.box(430, 180, "Relu", "max(0, y)")
    drawing.save("fold.svg")


def regions() -> None:
    """Draw two networks, and the regions in which they are compared."""
    drawing = Drawing(640, 396, "Two networks, cut where their tensors agree")
    original = ["Conv", "BatchNormalization", "Relu", "Conv", "BatchNormalization"]
    formulas = ["W * x + b", "s · z + t", "max(0, y)", "V * r + d", "u · z + v"]
    drawing.text(150, 16, "before", font_weight=600)
    drawing.text(490, 16, "after", font_weight=600)
    for number, (title, formula) in enumerate(zip(original, formulas, strict=True)):
        colour = "" if title == "Relu" else TAKEN
        drawing.box(150, 40 + 68 * number, title, formula, colour)
        drawing.arrow(150, 18 + 68 * number + (4 if number == 0 else 0), 40 + 68 * number)
    for top, formula in ((74, "(sW) * x + (sb + t)"), (278, "(uV) * r + (ud + v)")):
        drawing.box(490, top, "Conv", formula, TAKEN)
    drawing.box(490, 176, "Relu", "max(0, y)")
    drawing.arrow(490, 22, 74)
    drawing.arrow(490, 120, 176)
    drawing.arrow(490, 222, 278)
    for x in (150, 490):
        drawing.add("path", d=f"M{x} {358 if x == 150 else 324}V384", stroke="currentColor")
    for top, bottom, said in ((34, 160, "same map: proved"), (238, 364, "same map: proved")):
        for x in (150, 490):
            drawing.add(
                "rect",
                x=x - 90,
                y=top,
                width=180,
                height=bottom - top,
                rx=10,
                fill="none",
                stroke=TAKEN,
                stroke_dasharray="5 4",
            )
        middle = (top + bottom) / 2
        drawing.add("path", d=f"M240 {middle}H400", stroke=TAKEN, stroke_dasharray="5 4")
        drawing.text(320, middle - 8, said, fill=TAKEN, font_weight=600)
    for y, said in ((28, "the same input"), (168, "the same tensor"), (230, "identical"), (374, "the same output")):  # fmt: skip  # noqa: E501
        for x in (150, 490):
            drawing.add("circle", cx=x, cy=y, r=4.5, fill=SAME)
        drawing.add("path", d=f"M160 {y}H480", stroke=SAME, stroke_width=1.5)
        drawing.text(320, y - 6, said, fill=SAME, font_size=12)
    drawing.save("regions.svg")


if __name__ == "__main__":
    axes()
    fold()
    regions()
