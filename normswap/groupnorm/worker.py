"""The process of a :class:`~normswap.groupnorm.session.Session`: one model, run on request."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import onnx
import onnxruntime as ort

from normswap.check import providers
from normswap.groupnorm.frames import Arrays, receive, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "default": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_SILENT = 4
_REMEMBERED = 4  # sessions that are kept: a loop over batches asks for the same few again


class Network:
    """A model of which any part can be run.

    onnxruntime executes all of a graph, whichever outputs are asked for. So the part that is asked
    for is cut out: the nodes that the outputs depend on, back to the tensors that are fed.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        available = ort.get_available_providers()
        self.provider = providers.full_name(request["provider"], available)
        if self.provider not in available:
            raise RuntimeError(
                f"the execution provider {request['provider']!r} is not available here; this "
                f"onnxruntime offers {', '.join(available)}"
            )
        path = Path(request["model"])
        self.folder = str(path.parent.resolve())
        self.model = onnx.load(str(path), load_external_data=False)
        self.level = LEVELS[request["level"]]
        self.threads = request["threads"]
        self.types: dict[str, int] = dict(request["taps"])
        graph = self.model.graph
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self.inputs = {value.name: value for value in graph.input}
        self.outputs = {value.name: value for value in graph.output}
        self.frame = onnx.ModelProto(ir_version=self.model.ir_version, graph={"name": "part"})
        self.frame.opset_import.extend(self.model.opset_import)
        self.frame.functions.extend(self.model.functions)
        self.sessions: dict[tuple[Any, ...], tuple[ort.InferenceSession, list[str]]] = {}

    def run(self, outputs: Sequence[str], feeds: Arrays) -> Arrays:
        """Compute some tensors from others."""
        names = list(outputs) or list(self.outputs)
        key = (tuple(names), tuple(sorted(feeds)))
        if key not in self.sessions:
            while len(self.sessions) >= _REMEMBERED:
                del self.sessions[next(iter(self.sessions))]
            part, needed = self._part(names, feeds)
            self.sessions[key] = self._load(part), needed
        session, needed = self.sessions[key]
        values = session.run(names, {name: feeds[name] for name in needed})
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    def _part(self, outputs: Sequence[str], feeds: Arrays) -> tuple[onnx.ModelProto, list[str]]:
        pending, seen = list(outputs), set(outputs)
        nodes: set[int] = set()
        while pending:
            name = pending.pop()
            node = self.producers.get(name)
            if name in feeds or node is None or id(node) in nodes:
                continue
            nodes.add(id(node))
            for source in _reads(node):
                if source not in seen:
                    seen.add(source)
                    pending.append(source)
        part = onnx.ModelProto()
        part.CopyFrom(self.frame)
        graph = part.graph
        graph.node.extend(node for node in self.model.graph.node if id(node) in nodes)
        graph.initializer.extend(t for n, t in self.initializers.items() if n in seen)
        graph.sparse_initializer.extend(t for n, t in self.sparse.items() if n in seen)
        needed = [name for name in feeds if name in seen]
        for name, value in self.inputs.items():
            if name in seen and (name in feeds or name in self.initializers):
                graph.input.append(value)
        graph.input.extend(
            _info(name, onnx.helper.np_dtype_to_tensor_dtype(feeds[name].dtype))
            for name in needed
            if name not in self.inputs
        )
        graph.output.extend(
            self.outputs.get(name) or _info(name, self.types[name]) for name in outputs
        )
        return part, needed

    def _load(self, model: onnx.ModelProto) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = _SILENT
        options.graph_optimization_level = self.level
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", self.folder
        )
        chosen: list[Any] = [(self.provider, providers.settings(self.provider, {}))]
        if self.provider != "CPUExecutionProvider":
            chosen.append("CPUExecutionProvider")
        return ort.InferenceSession(model.SerializeToString(), options, providers=chosen)


def _info(name: str, data_type: int) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, data_type, None)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, and what the subgraphs in its attributes may capture."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield from _reads(inner)
            yield from (value.name for value in body.output)


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer requests until the other side is gone."""
    network: Network | None = None
    while True:
        try:
            request, arrays = receive(source)
        except EOFError:
            return
        try:
            if network is None:
                network = Network(request)
                send(target, {})
            else:
                send(target, {}, network.run(request["outputs"], arrays))
        except Exception as error:  # noqa: BLE001 - onnxruntime raises many; the parent tells it
            send(target, {"error": " ".join(str(error).split())})


def main() -> None:
    """Serve on standard input and output, which nothing else may write to."""
    ort.set_default_logger_severity(_SILENT)
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, channel)


if __name__ == "__main__":
    main()
