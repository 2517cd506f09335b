"""Where the boxes and wires of a picture go: layers from top to bottom, few wires crossing.

Grandalf lays it out (Sugiyama et al., 1981); the template draws what comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grandalf.graphs import Edge, Graph, Vertex
from grandalf.layouts import SugiyamaLayout, VertexViewer

if TYPE_CHECKING:
    from normswap.report.pages.neighbourhood import Box, Scene

HEIGHT, LETTER, PADDING, LEAST = 30, 7.6, 26, 84
"""Of a box, of a letter in it and beside its text, and how wide it is at least, in pixels."""

BETWEEN, GAP, MARGIN = 18, 22, 4
"""Pixels between boxes of a layer, between layers, and around the picture."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A box, by its centre and width."""

    box: Box
    x: float
    y: float
    width: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture, in pixels; its wires are SVG paths."""

    width: float
    height: float
    boxes: tuple[Drawn, ...]
    wires: tuple[str, ...]


def draw(scene: Scene) -> Drawing:
    """Lay a scene out."""
    vertices = [Vertex(number) for number in range(len(scene.boxes))]
    for vertex, box in zip(vertices, scene.boxes, strict=True):
        vertex.view = VertexViewer(max(LEAST, LETTER * len(box.op) + PADDING), HEIGHT)
    edges = [Edge(vertices[a], vertices[b]) for a, b in scene.wires]
    ways: dict[tuple[int, int], list[tuple[float, float]]] = {}
    left = 0.0
    for part in Graph(vertices, edges).C:
        layout = SugiyamaLayout(part)
        layout.xspace, layout.yspace = BETWEEN, GAP
        layout.init_all()
        layout.draw(8)
        inside = list(part.sV)
        shift = left + MARGIN - min(v.view.xy[0] - v.view.w / 2 for v in inside)
        for edge in part.sE:
            ways[edge.v[0].data, edge.v[1].data] = _way(layout, edge, shift)
        for vertex in inside:
            vertex.view.xy = (vertex.view.xy[0] + shift, vertex.view.xy[1] + MARGIN)
        left = max(v.view.xy[0] + v.view.w / 2 for v in inside) + BETWEEN
    drawn = tuple(
        Drawn(box, vertex.view.xy[0], vertex.view.xy[1], vertex.view.w)
        for vertex, box in zip(vertices, scene.boxes, strict=True)
    )
    wires = []
    for a, b in scene.wires:
        start, end = drawn[a], drawn[b]
        points = [
            (start.x, start.y + HEIGHT / 2),
            *ways.get((a, b), []),
            (end.x, end.y - HEIGHT / 2),
        ]
        wires.append(_path(points))
    width = max((d.x + d.width / 2 for d in drawn), default=0.0)
    beside = [x for way in ways.values() for x, _ in way]
    height = max((d.y for d in drawn), default=0.0) + HEIGHT / 2
    return Drawing(max([width, *beside]) + MARGIN, height + MARGIN, drawn, tuple(wires))


def _way(layout: Any, edge: Any, shift: float) -> list[tuple[float, float]]:
    """Return the points by which a wire passes the layers between its ends."""
    controls = layout.ctrls.get(edge)
    if not controls:
        return []
    ranks = sorted(rank for rank in controls if controls[rank] not in edge.v)
    points = (controls[rank].view.xy for rank in ranks)
    return [(x + shift, y + MARGIN) for x, y in points]


def _path(points: list[tuple[float, float]]) -> str:
    """Return a smooth line that leaves and arrives upright."""
    (x, y), *rest = points
    path = f"M{x:.0f} {y:.0f}"
    for px, py in rest:
        half = (y + py) / 2
        path += f"C{x:.0f} {half:.0f} {px:.0f} {half:.0f} {px:.0f} {py:.0f}"
        x, y = px, py
    return path
