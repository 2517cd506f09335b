"""What a model is: where it comes from, how large it is, and every normalization in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from normswap.errors import ExitCode
from normswap.inputs.signature import Port, ports_of
from normswap.inspection.size import Work, parameters, work_of_model
from normswap.inspection.subject import Subject
from normswap.inspection.traces import traces
from normswap.model import load
from normswap.plain import AsDict
from normswap.progress import Progress, silent
from normswap.workflows.outlook import NOTHING, Outlook, freezable

if TYPE_CHECKING:
    from normswap.inspection.layers import InspectedLayer
    from normswap.model.sources import Source


@dataclass(frozen=True, slots=True)
class InspectReport(AsDict):
    """A description of a model.

    Attributes
    ----------
    source : str
        What was read.
    size : int
        Bytes, external data included.
    ir_version : int
    opsets : dict of str to int
        Version of every operator set, by domain; ``ai.onnx`` is ONNX's own.
    exporter : str
        Name and version of what wrote the model; empty if the model does not say.
    graph_inputs, graph_outputs : tuple of Port
        Without optional inputs, which have a default.
    parameters : int
        Number of values in its constants, except shapes and indices.
    work : Work
        Multiply-adds.
    operators : dict of str to int
        How many there are of each, including subgraphs and functions, the most frequent first;
        names from other domains include the domain.
    functions : int
    layers : tuple of InspectedLayer
        The normalizations: BatchNormalization, GroupNormalization, LayerNormalization,
        InstanceNormalization, RMSNormalization, LRN and similar ones, and arithmetic that counts as
        a BatchNormalization.
    traces : tuple of str
        Signs that it was folded already.
    outlook : Outlook
        What is left to do, for tips; not part of the JSON.
    """

    source: str
    size: int
    ir_version: int
    opsets: dict[str, int]
    exporter: str
    graph_inputs: tuple[Port, ...]
    graph_outputs: tuple[Port, ...]
    parameters: int
    work: Work
    operators: dict[str, int]
    functions: int
    layers: tuple[InspectedLayer, ...]
    traces: tuple[str, ...]
    outlook: Outlook = field(default=NOTHING, repr=False)

    SCHEMA: ClassVar[str] = "normswap/inspect/1"
    TOLD = ("foldable", "looks_folded", "exit_code")

    @property
    def foldable(self) -> int:
        """How many normalizations a fold removes."""
        return sum(layer.fold == "foldable" for layer in self.layers)

    @property
    def looks_folded(self) -> bool:
        """Whether it looks as if it was folded before: nothing is left to fold, and names tell."""
        return bool(self.traces) and not self.foldable

    @property
    def exit_code(self) -> ExitCode:
        """To look at a model finds nothing wrong with it."""
        return ExitCode.OK


def inspect(model: Source, *, progress: Progress = silent) -> InspectReport:
    """Describe a model: its origin, size and operators, and every normalization in it.

    Nothing is run. For every BatchNormalization, the report says whether a fold can remove it, or
    why not, and whether its scale and statistics look healthy.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        See :func:`normswap.fold`.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    InspectReport

    Raises
    ------
    ModelError
        If the model is unreadable, invalid or unsupported.

    Examples
    --------
    >>> import normswap
    >>> report = normswap.inspect("models/separable.onnx")
    >>> report.opsets, report.parameters, report.work.macs
    ({'ai.onnx': 17}, 9748, 868320)
    >>> layer = report.layers[0]
    >>> layer.op, layer.channels, layer.mode, layer.fold
    ('BatchNormalization', 16, 'inference', 'foldable')
    """
    progress("reading the model")
    loaded = load(model)
    subject = Subject(loaded)
    count = parameters(loaded)
    ports = ports_of(loaded.proto.graph)
    progress("planning")
    layers = subject.layers
    progress("counting")
    nodes = subject.network.nodes()
    counts = Counter(f"{node.domain}.{node.op}" if node.domain else node.op for node in nodes)
    return InspectReport(
        source=loaded.name,
        size=loaded.size,
        ir_version=loaded.ir_version,
        opsets={item.domain or "ai.onnx": int(item.version) for item in loaded.proto.opset_import},
        exporter=" ".join(
            part for part in (loaded.proto.producer_name, loaded.proto.producer_version) if part
        ),
        graph_inputs=ports[0],
        graph_outputs=ports[1],
        parameters=count,
        work=work_of_model(loaded, subject.network, ports[0]),
        operators=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        functions=len(loaded.proto.functions),
        layers=layers,
        traces=traces(subject.network),
        outlook=Outlook(freezable(loaded)) if subject.training else NOTHING,
    )
