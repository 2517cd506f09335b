"""What a rewrite did in one place: the operators there and around, before and after.

Most of a network is the same few places over and over. Those that look alike are one picture.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from normswap.report.wiring import Tensor, Wired, Wiring

    Names = Mapping[tuple[str, str], "Role"]

Role = Literal["gone", "takes", "passes", "new", "around", "more"]
"""What became of an operator: it went; it took constants in; it is on the way; it is new; it is
beside that. ``more`` stands for several that are not drawn."""

BESIDE = 3
"""Neighbours on either side of a tensor that are drawn."""

GRAVEST: tuple[Role, ...] = ("gone", "takes", "passes", "new", "around", "more")
"""Of what several places say of one operator, the first is true."""

LARGEST = 28
"""Operators that a picture can have."""

MOST = 100
"""Kinds of places that are drawn; a page of more would be large, and nobody looks through them."""


@dataclass(frozen=True, slots=True)
class Box:
    """An operator of a picture."""

    op: str
    role: Role


@dataclass(frozen=True, slots=True)
class Scene:
    """Operators, and which of them reads what another makes, by their numbers."""

    boxes: tuple[Box, ...]
    wires: tuple[tuple[int, int], ...]

    @property
    def summary(self) -> str:
        """What it shows, in a line: what comes before, what it is about, and what comes after."""
        inside = {n for n, box in enumerate(self.boxes) if box.role not in ("around", "more")}
        above = [self.boxes[a].op for a, b in self.wires if a not in inside and b in inside]
        below = [self.boxes[b].op for a, b in self.wires if a in inside and b not in inside]
        counts = Counter(self.boxes[n].op for n in sorted(inside))
        core = " · ".join(f"{count} {op}" if count > 1 else op for op, count in counts.items())
        parts = (" + ".join(dict.fromkeys(ops)) for ops in (above, [core], below))
        return " → ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class PicturedPlace:
    """Where something was done.

    Attributes
    ----------
    names : dict
        What became of the operators of the model before, by graph and name.
    labels : tuple of (tuple of str)
        What the list of the places says of it; none where it only joins others.
    after : dict
        What became of the operators of the model after it, where that is known by their names.
    """

    names: Names
    labels: tuple[tuple[str, ...], ...] = ()
    after: Names = field(default_factory=dict)


@dataclass(slots=True)
class Kind:
    """Places that look alike, before and after: how many, and what is said of them."""

    before: Scene
    after: Scene | None
    count: int = 0
    labels: list[tuple[str, ...]] = field(default_factory=list)


def kinds_of(
    places: Iterable[PicturedPlace], before: Wiring, after: Wiring | None, *, planned: bool = False
) -> list[Kind]:
    """Return how places look, the most frequent look first, at most so many as are drawn.

    Parameters
    ----------
    places : iterable of PicturedPlace
        Those that have an operator in common are one.
    before, after : Wiring
        None where there is no such model.
    planned : bool
        Whether what a plan takes away may be left out of the picture before, where there is no
        model after it.
    """
    found: dict[tuple[Scene, Scene | None], Kind] = {}
    old, new = _Names(before), None if after is None else _Names(after)
    for place in _joined(list(places)):
        core = old.numbers(place.names)
        if not core or len(core) > LARGEST:
            continue
        if new is not None:
            core = _with_vanished(core, old, new)
        scene = _scene(before, core)
        if new is not None:
            there = _counterpart(place, core, old, new)
            then = _scene(new.wiring, there) if there else None
        else:
            then = _without(scene) if planned else None
        kind = found.setdefault((scene, then), Kind(scene, then))
        kind.count += 1
        kind.labels += place.labels
    return sorted(found.values(), key=lambda kind: -kind.count)[:MOST]


def _joined(places: list[PicturedPlace]) -> Iterator[PicturedPlace]:
    """Yield places, those that have operators in common as one, unless that is too large."""
    root = list(range(len(places)))

    def first(number: int) -> int:
        while root[number] != number:
            root[number] = number = root[root[number]]
        return number

    owner: dict[tuple[str, str], int] = {}
    for number, place in enumerate(places):
        for name in place.names:
            one, other = sorted((first(owner.setdefault(name, number)), first(number)))
            root[other] = one
    groups: dict[int, list[PicturedPlace]] = {}
    for number, place in enumerate(places):
        groups.setdefault(first(number), []).append(place)
    for group in groups.values():
        if len(group) == 1:
            whole = group[0]
        else:
            names: dict[tuple[str, str], Role] = {}
            for name, role in (item for place in group for item in place.names.items()):
                names[name] = min(role, names.get(name, role), key=GRAVEST.index)
            after = {name: role for place in group for name, role in place.after.items()}
            whole = PicturedPlace(names, tuple(label for p in group for label in p.labels), after)
        if len(whole.names) <= LARGEST and whole.labels:
            yield whole
        else:
            yield from (place for place in group if place.labels)


class _Names:
    """A wiring, and its nodes by their names."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.by_name: dict[tuple[str, str], int] = {}
        for number, node in enumerate(wiring.nodes):
            self.by_name.setdefault(node.title, number)
        # A node without a name goes by its output, which another operator may make after a rewrite.
        self.known = {(node.op, node.title) for node in wiring.nodes}
        self.tensors = wiring.makers.keys() | wiring.readers.keys()

    def numbers(self, names: Names) -> dict[int, Role]:
        """Return what became of nodes, by their numbers."""
        return {self.by_name[name]: role for name, role in names.items() if name in self.by_name}


def _with_vanished(core: dict[int, Role], old: _Names, new: _Names) -> dict[int, Role]:
    """Return a place with what has gone beside it, such as the sum of branches that are one now."""
    found = dict(core)
    pending = [n for number in core for n in _beside(old.wiring, old.wiring.nodes[number])]
    while pending:
        number = pending.pop()
        node = old.wiring.nodes[number]
        if number in found or (node.op, node.title) in new.known:
            continue
        found[number] = "gone"
        if len(found) > LARGEST:
            return core
        pending += _beside(old.wiring, node)
    return found


def _counterpart(
    place: PicturedPlace, core: Mapping[int, Role], old: _Names, new: _Names
) -> dict[int, Role]:
    """Return the operators of the rewritten model that stand where others were.

    They are those of the same names, and all that makes what the place gave, up to the tensors
    that came into it.
    """
    found: dict[int, Role] = {}
    for name, role in (place.after or place.names).items():
        number = new.by_name.get(name)
        if number is not None:
            # A node of the name of one that went is another operator, in its place.
            found[number] = "new" if role == "gone" else role
    if place.after:
        return found
    nodes, wiring = old.wiring.nodes, new.wiring
    # Of two without a name, one may go by another name now, that of the tensor that it makes.
    unnamed = {
        nodes[number].op: role
        for number, role in core.items()
        if role != "gone" and nodes[number].title not in new.by_name
    }
    pending = [tensor for number in core for tensor in nodes[number].outputs]
    seen = set(pending)
    while pending and len(found) <= LARGEST:
        number = wiring.makers.get(pending.pop(), -1)
        if number < 0:
            continue
        node = wiring.nodes[number]
        if number not in found:
            if (node.op, node.title) in old.known and not any(
                old.wiring.makers.get(tensor) in core for tensor in node.outputs
            ):
                continue
            found[number] = unnamed.pop(node.op, "new")
        inside = [
            tensor
            for tensor in node.inputs
            if tensor not in old.tensors or old.wiring.makers.get(tensor) in core
        ]
        pending += [tensor for tensor in inside if tensor not in seen]
        seen.update(inside)
    return found if len(found) <= LARGEST else {}


def _readers(wiring: Wiring, tensor: Tensor) -> list[int]:
    return wiring.readers.get(tensor, [])


def _beside(wiring: Wiring, node: Wired) -> list[int]:
    makers = [wiring.makers[tensor] for tensor in node.inputs if tensor in wiring.makers]
    return makers + [n for tensor in node.outputs for n in _readers(wiring, tensor)]


def _scene(wiring: Wiring, core: Mapping[int, Role]) -> Scene:
    """Return operators with those around them, in the order in which they are met from the top."""
    above: list[int] = []
    below: list[int] = []
    takes: list[int] = []  # operators that read an input of the model
    ends: list[tuple[Box, int]] = []  # what stands behind an operator, beside operators
    for number in sorted(core):
        node = wiring.nodes[number]
        makers = [wiring.makers.get(tensor) for tensor in node.inputs]
        takes += [number for maker in makers if maker is None]
        above += [maker for maker in makers if maker is not None and maker not in core]
        for tensor in node.outputs:
            readers = [n for n in _readers(wiring, tensor) if n not in core]
            below += readers[:BESIDE]
            if len(readers) > BESIDE:
                ends.append((Box(f"{len(readers) - BESIDE} more", "more"), number))
            if tensor in wiring.outputs:
                ends.append((Box("output", "around"), number))
    order = list(dict.fromkeys([*above, *sorted(core), *below]))
    place = {number: len(takes) + at for at, number in enumerate(order)}
    boxes = [Box("input", "around") for _ in takes]
    boxes += [Box(wiring.nodes[n].op, core.get(n, "around")) for n in order]
    boxes += [box for box, _ in ends]
    wires = {(at, place[number]): None for at, number in enumerate(takes)}
    for number in order:
        for tensor in wiring.nodes[number].inputs:
            maker = wiring.makers.get(tensor)
            if maker in place and (number in core or maker in core):
                wires[place[maker], place[number]] = None
    for at, (_, number) in enumerate(ends, len(takes) + len(order)):
        wires[place[number], at] = None
    return Scene(tuple(boxes), tuple(wires))


def _without(scene: Scene) -> Scene:
    """Return a scene without what is to go, whose readers then read what it read."""
    wires = list(scene.wires)
    for number, box in enumerate(scene.boxes):
        if box.role == "gone":
            sources = [a for a, b in wires if b == number]
            targets = [b for a, b in wires if a == number]
            wires = [(a, b) for a, b in wires if number not in (a, b)]
            wires += [(a, b) for a in sources for b in targets]
    left = [number for number, box in enumerate(scene.boxes) if box.role != "gone"]
    place = {number: at for at, number in enumerate(left)}
    boxes = tuple(scene.boxes[number] for number in left)
    return Scene(boxes, tuple(dict.fromkeys((place[a], place[b]) for a, b in wires)))


def roles(
    before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]
) -> tuple[Names, Names]:
    """Return what became of the operators of a region, whose names are known in both models."""
    both = set(before) & set(after)
    old: dict[tuple[str, str], Role] = {n: "takes" if n in both else "gone" for n in before}
    new: dict[tuple[str, str], Role] = {n: "takes" if n in both else "new" for n in after}
    return old, new


def left_out(places: Iterable[PicturedPlace], kinds: Iterable[Kind]) -> int:
    """Return how many things that are told of places are in no picture."""
    told = sum(len(place.labels) for place in places)
    return told - sum(len(kind.labels) for kind in kinds)
