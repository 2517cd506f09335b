"""What changed between two models: nodes, attributes, constants and names."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import onnx

from normswap.diff.changes import (
    AttributeChange,
    ConstantChange,
    NodeChange,
    constant_changes,
    node_changes,
    title,
)
from normswap.diff.pairs import Pairs
from normswap.errors import ExitCode, ModelError, UsageError
from normswap.inputs.signature import drawing_alike, read_signature
from normswap.model.sources import name_of
from normswap.plain import AsDict
from normswap.progress import Progress, silent
from normswap.proof.files import sides_of
from normswap.proof.flat import NONE, NotFlatError
from normswap.workflows.check import file_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from normswap.inputs.signature import Signature
    from normswap.model.sources import Source
    from normswap.proof.numbering import Side


@dataclass(frozen=True, slots=True)
class Renamed:
    """What is the same and is called otherwise.

    Attributes
    ----------
    kind : str
        ``node``, ``tensor``, ``input`` or ``output``.
    """

    kind: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class DiffReport(AsDict):
    """What changed between two models.

    Attributes
    ----------
    before, after : str
        The models.
    head : tuple of AttributeChange
        IR version, opsets, exporter and metadata.
    interface : tuple of AttributeChange
        Inputs and outputs: types and shapes; empty on the side that lacks one.
    gone, new : tuple of str
        Nodes without a counterpart: operator, and name or name of the output.
    changed : tuple of NodeChange
    constants : tuple of ConstantChange
    renamed : tuple of Renamed
    nodes : int
        How many nodes are unchanged, including what they read.
    same_function : bool
        Whether the outputs are the same function of the inputs because they come from identical
        operators on identical constants. Models can be equal in other ways, which is for
        :func:`normswap.check` to decide.
    """

    before: str
    after: str
    head: tuple[AttributeChange, ...]
    interface: tuple[AttributeChange, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]
    changed: tuple[NodeChange, ...]
    constants: tuple[ConstantChange, ...]
    renamed: tuple[Renamed, ...]
    nodes: int
    same_function: bool

    SCHEMA: ClassVar[str] = "normswap/diff/1"
    TOLD = ("differs", "exit_code")

    @property
    def differs(self) -> bool:
        """Whether anything but names and the head is different."""
        parts = (self.interface, self.gone, self.new, self.changed, self.constants)
        return any(parts) or not self.same_function

    @property
    def exit_code(self) -> ExitCode:
        """As ``diff`` has it: 1 where they differ."""
        return ExitCode.FINDINGS if self.differs else ExitCode.OK


def diff(before: Source, after: Source, *, progress: Progress = silent) -> DiffReport:
    """List what changed between two models, node by node.

    Nothing is run. Subgraphs and functions are expanded, and Identity nodes are ignored. Nodes that
    compute the same function of the inputs are the same, whatever their names.

    Parameters
    ----------
    before, after : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        See :func:`normswap.fold`.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    DiffReport

    Raises
    ------
    ModelError
        If a model is unreadable or invalid.

    Examples
    --------
    >>> import normswap
    >>> folded = normswap.fold("models/partial.onnx", check=None).model
    >>> report = normswap.diff("models/partial.onnx", folded)
    >>> len(report.gone), report.new, report.gone[0]
    (5, (), 'BatchNormalization /stem/stem.1/BatchNormalization')
    """
    with ExitStack() as stack:
        paths = [stack.enter_context(file_of(model)) for model in (before, after)]
        progress("reading the models")
        first, second = (
            replace(read_signature(path), called=name_of(model))
            for path, model in zip(paths, (before, after), strict=True)
        )
        first, second = drawing_alike(first, second)
        progress("comparing")
        try:
            a, b, _ = sides_of(first, second)
        except (NotFlatError, UsageError) as error:
            told = f"{first.name} and {second.name} can't be compared: {error}"
            raise ModelError(told) from error
        inputs = _renamed_inputs(first, second)
        b.flat.inputs = {inputs.get(name, name): n for name, n in b.flat.inputs.items()}
        pairs = Pairs(a, b)
        outputs = _renamed_outputs(a, b)
        changed = tuple(node_changes(a, b, pairs))
        constants = tuple(constant_changes(a, b, pairs))
        touched = {*(each.after for each in changed), *(each.read_by for each in constants)}
        return DiffReport(
            before=first.title,
            after=second.title,
            head=tuple(_head(*paths)),
            interface=tuple(_interface(first, second, inputs, outputs)),
            gone=tuple(map(title, pairs.gone())),
            new=tuple(map(title, pairs.new())),
            changed=changed,
            constants=constants,
            renamed=(
                *(Renamed("input", old, new) for new, old in inputs.items()),
                *(Renamed("output", old, new) for new, old in outputs.items()),
                *_renamed(a, b, pairs, outputs),
            ),
            nodes=len(pairs.nodes) - len(touched),
            same_function=_kinds(a) == _kinds(b, outputs),
        )


def _kinds(side: Side, names: dict[str, str] | None = None) -> dict[str, int]:
    """Return the classes of the outputs by their names, or those that they had."""
    return {(names or {}).get(name, name): side.classes[n] for name, n in side.flat.outputs}


def _renamed_inputs(first: Signature, second: Signature) -> dict[str, str]:
    """Return what inputs were called: of one type and shape, in the order of those left over."""
    before = {port.name: port for port in first.inputs}
    after = {port.name: port for port in second.inputs}
    lost = [port for name, port in before.items() if name not in after]
    found = {}
    for name, port in after.items():
        if name in before:
            continue
        same = next((old for old in lost if (old.kind, str(old)) == (port.kind, str(port))), None)
        if same is not None:
            lost.remove(same)
            found[name] = same.name
    return found


def _renamed_outputs(a: Side, b: Side) -> dict[str, str]:
    """Return what outputs were called that are the same function."""
    before, after = dict(a.flat.outputs), dict(b.flat.outputs)
    lost = {name: a.classes[number] for name, number in before.items() if name not in after}
    found = {}
    for name, number in after.items():
        if name in before:
            continue
        same = next((old for old, kind in lost.items() if kind == b.classes[number]), None)
        if same is not None:
            del lost[same]
            found[name] = same
    return found


def _renamed(a: Side, b: Side, pairs: Pairs, outputs: dict[str, str]) -> Iterator[Renamed]:
    """Yield the nodes and tensors that have partners of other names."""
    told = {*a.flat.inputs, *outputs, *outputs.values()}
    for node in b.flat.nodes:
        partner = pairs.nodes.get(node.index)
        if partner is None:
            continue
        old = a.flat.nodes[partner]
        if old.proto.name != node.proto.name:
            yield Renamed("node", title(old), title(node))
        for before, after in zip(old.outputs, node.outputs, strict=False):
            if NONE in {before, after}:
                continue
            names = a.flat.names[before], b.flat.names[after]
            if names[0] != names[1] and not told & {*names}:
                yield Renamed("tensor", *names)
    alike: dict[int, set[str]] = {}
    for number in a.flat.tensors:
        alike.setdefault(a.classes[number], set()).add(a.flat.names[number])
    for number in b.flat.tensors:
        name, called = b.flat.names[number], alike.get(b.classes[number])
        if called and name not in called:
            yield Renamed("tensor", min(called), name)


def _interface(
    first: Signature, second: Signature, inputs: dict[str, str], outputs: dict[str, str]
) -> Iterator[AttributeChange]:
    for what, before, after, names in (
        ("input", first.inputs, second.inputs, inputs),
        ("output", first.outputs, second.outputs, outputs),
    ):
        old = {port.name: port for port in before}
        new = {names.get(port.name, port.name): port for port in after}
        for name in dict.fromkeys((*old, *new)):
            found = (ports.get(name) for ports in (old, new))
            was, now = ("" if port is None else f"{port.kind} {port}" for port in found)
            if was != now:
                yield AttributeChange(f"{what} {name}", was, now)
        if list(old) != list(new) and old.keys() == new.keys():
            yield AttributeChange(f"order of {what}s", ", ".join(old), ", ".join(new))


def _head(before: Path, after: Path) -> Iterator[AttributeChange]:
    heads = [_head_of(path) for path in (before, after)]
    for name in dict.fromkeys((*heads[0], *heads[1])):
        was, now = (head.get(name, "") for head in heads)
        if was != now:
            yield AttributeChange(name, was, now)


def _head_of(path: Path) -> dict[str, str]:
    model = onnx.load(str(path), load_external_data=False)
    found = {"IR version": str(model.ir_version)}
    found |= {f"opset {i.domain or 'ai.onnx'}": str(i.version) for i in model.opset_import}
    found["exporter"] = f"{model.producer_name} {model.producer_version}".strip()
    found |= {f"metadata {item.key}": item.value for item in model.metadata_props}
    found["functions"] = str(len(model.functions))
    return found
