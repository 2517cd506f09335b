"""Plots as SVG, made by pygal; the page has its colours, and shows nothing of pygal's own.

What pygal puts beside the picture for its script from the network, and its styles, are taken out;
what it notes of each point becomes a title, which a browser shows.
"""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pygal

if TYPE_CHECKING:
    from normswap.report.pages.page import Plot

# pygal puts itself among what is asked at every import, for plugins that nobody has here, and in
# a way that Python warns of.
sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != "pygal"]

HEIGHT, WIDTH = 230, 920
LEAST, BROAD = 240, 44
"""Pixels: the height and width of a plot, how broad it is at least, and for each point at most."""

LABELS = 12
"""Points that have their number below them, at most."""

UNSEEN = {"defs", "desc", "title", "titles", "text-overlay", "tooltip-overlay"}
"""Elements, and classes of elements, that a page has no use for."""

POSITIONS = {"x", "y", "cx", "cy", "width", "height", "d", "transform"}

_LONG = re.compile(r"(\.\d)\d+")

COMMON: dict[str, Any] = {
    "css": [],
    "js": [],
    "disable_xml_declaration": True,
    "height": HEIGHT,
    "margin": 6,
    "margin_top": 12,
    "spacing": 8,
    "show_legend": False,
    "show_minor_x_labels": False,
    "max_scale": 6,
    "min_scale": 3,
}


def svg_of(plot: Plot) -> str:
    """Return a plot as an SVG element, for a page with its style."""
    bars = len(plot.series) == 1
    kind = pygal.Bar if bars else pygal.Line
    width = min(WIDTH, LEAST + BROAD * len(plot.points))
    chart = kind(width=width, **COMMON, **({} if bars else {"stroke": False, "dots_size": 3}))
    numbers = [str(number) for number in range(1, len(plot.points) + 1)]
    chart.x_labels = numbers
    step = max(1, math.ceil(len(numbers) / LABELS))
    chart.x_labels_major = [n for n in numbers if n == "1" or int(n) % step == 0]
    for series in plot.series:
        chart.add(
            series.name,
            [
                None if value is None else {"value": value, "label": f"{point}: {value:.3g}"}
                for point, value in zip(plot.points, series.values, strict=True)
            ],
        )
    if plot.limit is not None and bars:
        chart.range = (0, max([plot.limit, *(v for v in plot.series[0].values if v is not None)]))
    chart.add_xml_filter(_tidied)
    return str(chart.render(is_unicode=True))


def _tidied(root: ET.Element) -> ET.Element:
    """Return a picture with nothing in it but what is seen."""
    root.attrib.pop("id", "")
    root.set("width", root.get("viewBox", "").split()[2])
    root.attrib["aria-hidden"] = "true"  # the figure says what it shows, and a table has it
    for parent in list(root.iter()):
        labels = [e.text for e in parent if e.tag == "desc" and e.get("class") == "label"]
        for child in list(parent):
            classes = set(str(child.get("class", "")).split())
            if callable(child.tag) or child.tag in UNSEEN or classes & UNSEEN:
                parent.remove(child)
            elif labels and classes & {"rect", "dot"}:
                child.set("data-name", labels[0] or "")
    for each in root.iter():
        for name in POSITIONS & each.attrib.keys():
            each.set(name, _LONG.sub(r"\1", each.attrib[name]))
        if "data-name" in each.attrib:
            ET.SubElement(each, "title").text = each.attrib.pop("data-name")
    return root
